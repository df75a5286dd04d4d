//! From a bundle's folder and the item-updates log to what serves.

use crate::{CatalogueError, Serving, ServingError, SharedServing, load_catalogue};
use arc_swap::ArcSwap;
use attune_model::{Bundle, BundleError};
use attune_storage::EventLog;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(200);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("load bundle")]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Serving(#[from] ServingError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("loading the bundle was cut off")]
    Cancelled,
}

/// Loads the bundle, then waits for the log's owner to be there and to hold the catalogue.
pub async fn open(bundle: &Path, log: &dyn EventLog) -> Result<SharedServing, OpenError> {
    let folder = bundle.to_owned();
    let loaded = tokio::task::spawn_blocking(move || Bundle::load(&folder));
    let bundle = Arc::new(loaded.await.map_err(|_| OpenError::Cancelled)??);
    loop {
        match load_catalogue(log).await {
            Ok(catalogue) => match Serving::new(Arc::clone(&bundle), catalogue) {
                Ok(serving) => return Ok(Arc::new(ArcSwap::from_pointee(serving))),
                // Still being filled.
                Err(ServingError::Shorter { .. }) => {}
                Err(other) => return Err(other.into()),
            },
            Err(CatalogueError::Storage(e)) if e.is_retryable() => {}
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(RETRY).await;
    }
}
