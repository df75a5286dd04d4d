//! What retrieval derives from one bundle and one catalogue: the vector index, the words, the newest items.
//!
//! Always holds: a view is for one model version; it may lag the catalogue by the time it takes to derive it, so what
//! may be shown is decided by the catalogue of the moment, never by the view.

use crate::index::{Bitmap, IndexConfig, SnapshotError, VectorIndex, WriteError};
use crate::text::TextIndex;
use attune_domain::{Catalogue, ItemIx};
use attune_serving::Serving;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Items kept in the order of newness.
const FRESH_ITEMS: usize = 512;

pub struct View {
    pub serving: Arc<Serving>,
    pub index: Arc<VectorIndex>,
    pub text: Arc<TextIndex>,
    /// Newest first.
    pub fresh: Vec<ItemIx>,
    /// By item number, for filtered searches.
    pub available: Bitmap,
}

impl View {
    /// Derives a view, keeping the index of `before` when it is for the same model. A new model's index comes from its
    /// snapshot when there is a good one, otherwise from the item table, to be searched exactly until it is merged.
    /// Blocks for as long as it takes to read and write the vectors.
    pub fn derive(
        serving: Arc<Serving>,
        before: Option<&View>,
        config: &IndexConfig,
        snapshots: Option<&Path>,
    ) -> Result<Self, WriteError> {
        let (dim, vectors) = (serving.items.dim(), serving.items.vectors());
        let kept = before.filter(|view| view.serving.bundle.version() == serving.bundle.version());
        let index = match kept {
            Some(view) => Arc::clone(&view.index),
            None => {
                let stored = snapshots.map(|folder| snapshot_path(folder, &serving));
                let stored = stored.and_then(|path| VectorIndex::load(&path, config.clone()).ok());
                match stored.filter(|index| index.dim() == dim) {
                    Some(index) => Arc::new(index),
                    None => Arc::new(VectorIndex::seeded(dim, config.clone(), vectors)?),
                }
            }
        };
        index.reconcile(vectors)?;
        Ok(Self {
            index,
            text: Arc::new(TextIndex::new(serving.catalogue.items())),
            fresh: newest(&serving.catalogue, serving.bundle.trained_items()),
            available: (0u32..).zip(serving.available.iter()).filter(|(_, there)| **there).map(|(ix, _)| ix).collect(),
            serving,
        })
    }
}

/// Snapshots of other models that stay, for the way back.
const SNAPSHOTS_KEPT: usize = 3;

impl View {
    /// Writes the index's snapshot, and removes those of models not used for long.
    pub fn save_index(&self, folder: &Path) -> Result<(), SnapshotError> {
        self.index.save(&snapshot_path(folder, &self.serving))?;
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        let mut snapshots: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == SNAPSHOT_EXTENSION))
            .filter_map(|path| Some((path.metadata().and_then(|meta| meta.modified()).ok()?, path)))
            .collect();
        snapshots.sort_unstable();
        let superfluous = snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        for (_, path) in snapshots.into_iter().take(superfluous) {
            // One that cannot be removed now is tried again after the next merge.
            _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

const SNAPSHOT_EXTENSION: &str = "index";

/// Where the index of this model is kept between runs.
fn snapshot_path(folder: &Path, serving: &Serving) -> PathBuf {
    folder.join(format!("{}.{SNAPSHOT_EXTENSION}", serving.bundle.version()))
}

/// Items the model was not trained on come first, then by the shop's date, then by number; the newest first in each.
fn newest(catalogue: &Catalogue, trained: usize) -> Vec<ItemIx> {
    let mut items: Vec<_> = (0u32..)
        .zip(catalogue.items())
        .filter(|(_, item)| item.available)
        .map(|(ix, item)| (ix as usize >= trained, item.created_at, ix))
        .collect();
    items.sort_unstable_by(|a, b| b.cmp(a));
    items.into_iter().take(FRESH_ITEMS).map(|(_, _, ix)| ItemIx(ix)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::{Id, Item, ItemUpdate};

    #[test]
    fn new_in_the_catalogue_comes_before_newly_made() {
        let mut catalogue = Catalogue::default();
        for (ix, (created_at, available)) in
            [(Some(5), true), (Some(9), true), (None, true), (Some(1), true), (Some(2), false)].into_iter().enumerate()
        {
            let item = Item {
                id: Id::new(&ix.to_string()).unwrap(),
                title: String::new(),
                categories: Vec::new(),
                attributes: Vec::new(),
                price: None,
                created_at,
                available,
            };
            catalogue.apply(ix as u64, ItemUpdate { ix: ItemIx(ix as u32), item }).unwrap();
        }
        assert_eq!(newest(&catalogue, 3), [3, 1, 0, 2].map(ItemIx), "withdrawn items are not news");
    }
}
