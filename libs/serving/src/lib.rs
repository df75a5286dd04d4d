//! What a process needs in memory to speak about items: one bundle, and the catalogue as it stands.
//!
//! Always holds: a [`Serving`] is immutable and consistent, so a request that pins one sees one bundle and one catalogue
//! from start to end; the catalogue is a pure function of the item-updates log, so every process that applied the same
//! offsets has the same.

mod follow;

pub use follow::{CatalogueError, follow, load_catalogue, replay_catalogue};

use arc_swap::ArcSwap;
use attune_domain::{Catalogue, ItemIx, ItemUpdate};
use attune_model::{Bundle, ItemTable};
use std::sync::Arc;

/// The newest [`Serving`] of a process.
pub type SharedServing = Arc<ArcSwap<Serving>>;

/// One bundle and one catalogue, with what is derived from the two.
#[derive(Clone)]
pub struct Serving {
    pub bundle: Arc<Bundle>,
    pub items: Arc<ItemTable>,
    pub catalogue: Arc<Catalogue>,
    /// By item number, so that a filter is one load.
    pub available: Arc<[bool]>,
}

/// The bundle was trained on another catalogue than the one in the log.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("the bundle was trained on {trained} items, the catalogue has {found}")]
    Shorter { trained: usize, found: usize },
    #[error("the bundle was trained on another catalogue (hash {bundle}, found {found})")]
    OtherItems { bundle: String, found: String },
}

impl Serving {
    pub fn new(bundle: Arc<Bundle>, catalogue: Catalogue) -> Result<Self, ServingError> {
        let trained = bundle.trained_items();
        if catalogue.len() < trained {
            return Err(ServingError::Shorter { trained, found: catalogue.len() });
        }
        let found = attune_model::catalogue_hash(catalogue.items()[..trained].iter().map(|item| &item.id));
        if found != bundle.catalogue_hash() {
            return Err(ServingError::OtherItems { bundle: bundle.catalogue_hash().to_owned(), found });
        }
        let items = Arc::new(ItemTable::new(&bundle, catalogue.items()));
        Ok(Self { available: availability(&catalogue), bundle, items, catalogue: Arc::new(catalogue) })
    }

    /// The same bundle over a catalogue that has seen more of the log. Records already applied are skipped; a gap
    /// is refused with the offset that is expected next.
    pub fn with_updates(&self, updates: Vec<(u64, ItemUpdate)>) -> Result<Self, u64> {
        let mut catalogue = Catalogue::clone(&self.catalogue);
        for (offset, update) in updates {
            catalogue.apply(offset, update)?;
        }
        Ok(Self {
            bundle: Arc::clone(&self.bundle),
            items: Arc::new(self.items.extended(&self.bundle, catalogue.items())),
            available: availability(&catalogue),
            catalogue: Arc::new(catalogue),
        })
    }

    pub fn is_available(&self, item: ItemIx) -> bool {
        self.available.get(item.index()).copied().unwrap_or(false)
    }
}

fn availability(catalogue: &Catalogue) -> Arc<[bool]> {
    catalogue.items().iter().map(|item| item.available).collect()
}
