//! What a process needs in memory to speak about items: one bundle, and the catalogue as it stands.
//!
//! Always holds: a [`Serving`] is immutable and consistent, so a request that pins one sees one bundle and one catalogue
//! from start to end; the catalogue is a pure function of the item-updates log, so every process that applied the same
//! offsets has the same.

#![warn(clippy::disallowed_macros)]

mod follow;
mod open;

pub use follow::{CatalogueError, follow, load_catalogue, replay_catalogue};
pub use open::{OpenError, open};

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
    /// Primary category by item number; `u16::MAX` for none.
    pub categories: Arc<[u16]>,
    /// Item ids as JSON strings, by item number.
    pub id_texts: Arc<IdTexts>,
}

/// Every item's id as a JSON string, in one piece of memory, so that writing a list of items follows no pointers.
#[derive(Debug, Default)]
pub struct IdTexts {
    text: Vec<u8>,
    /// Where each item's text ends.
    ends: Vec<u32>,
}

impl IdTexts {
    fn of(catalogue: &Catalogue) -> Self {
        let mut all = Self::default();
        for item in catalogue.items() {
            // Writing a string to a vector cannot fail.
            let _written = serde_json::to_writer(&mut all.text, item.id.as_str()).is_ok();
            all.ends.push(all.text.len() as u32);
        }
        all
    }

    /// With its quotes; `None` for a number the catalogue does not have.
    pub fn get(&self, item: ItemIx) -> Option<&[u8]> {
        let end = *self.ends.get(item.index())?;
        let start = item.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start as usize..end as usize)
    }
}

/// The bundle was trained on another catalogue than the one in the log.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("the bundle was trained on {trained} items, the catalogue has {found}")]
    Shorter { trained: usize, found: usize },
    #[error("the bundle was trained on another catalogue")]
    OtherItems,
}

impl Serving {
    pub fn new(bundle: Arc<Bundle>, catalogue: Catalogue) -> Result<Self, ServingError> {
        let trained = bundle.trained_items();
        if catalogue.len() < trained {
            return Err(ServingError::Shorter { trained, found: catalogue.len() });
        }
        if !bundle.fits(catalogue.items()) {
            return Err(ServingError::OtherItems);
        }
        let items = Arc::new(ItemTable::new(&bundle, catalogue.items()));
        Ok(Self::derive(bundle, items, catalogue))
    }

    /// The same bundle over a catalogue that has seen more of the log. Records already applied are skipped; a gap
    /// is refused with the offset that is expected next.
    pub fn with_updates(&self, updates: Vec<(u64, ItemUpdate)>) -> Result<Self, u64> {
        let mut catalogue = Catalogue::clone(&self.catalogue);
        for (offset, update) in updates {
            catalogue.apply(offset, update)?;
        }
        let items = Arc::new(self.items.extended(&self.bundle, catalogue.items()));
        Ok(Self::derive(Arc::clone(&self.bundle), items, catalogue))
    }

    fn derive(bundle: Arc<Bundle>, items: Arc<ItemTable>, catalogue: Catalogue) -> Self {
        Self {
            available: catalogue.items().iter().map(|item| item.available).collect(),
            categories: (0..items.len() as u32).map(|ix| items.category(ItemIx(ix))).collect(),
            id_texts: Arc::new(IdTexts::of(&catalogue)),
            bundle,
            items,
            catalogue: Arc::new(catalogue),
        }
    }

    pub fn is_available(&self, item: ItemIx) -> bool {
        self.available.get(item.index()).copied().unwrap_or(false)
    }
}
