//! A process of its own begins: the bundle from its folder, the catalogue from the owner of the log.

use crate::{CatalogueError, Serving, ServingError, load_catalogue};
use attune_model::{Bundle, BundleError};
use attune_storage::EventLog;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two attempts to reach the owner of the log.
const RETRY: Duration = Duration::from_millis(500);

/// Why a process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("load bundle")]
    Bundle(#[from] BundleError),
    #[error("read the catalogue")]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The log's owner did not answer; the same start may succeed later.
    #[error("the owner of the event log did not answer in time")]
    Away,
}

/// Loads the bundle, then reads the catalogue, waiting up to `patience` for the log's owner.
pub async fn open(bundle: &Path, log: &dyn EventLog, patience: Duration) -> Result<Serving, OpenError> {
    let bundle = Arc::new(Bundle::load(bundle)?);
    let reading = async {
        loop {
            match load_catalogue(log).await {
                Err(CatalogueError::Storage(error)) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
                Ok(catalogue) => match Serving::new(Arc::clone(&bundle), catalogue) {
                    // The log is still being filled.
                    Err(ServingError::Shorter { .. }) => {}
                    opened => return Ok(opened?),
                },
            }
            sleep(RETRY).await;
        }
    };
    timeout(patience, reading).await.map_err(|_| OpenError::Away)?
}
