//! Items, and the catalogue as a pure function of the item-updates log.

use crate::{ItemId, ItemIx, UnixMillis};
use std::collections::HashMap;

pub const MAX_CATEGORIES: usize = 32;
pub const MAX_ATTRIBUTES: usize = 64;

/// What the shop says about an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub id: ItemId,
    pub title: String,
    /// Most significant first, at most [`MAX_CATEGORIES`].
    pub categories: Vec<String>,
    /// Name and value, sorted by name, at most [`MAX_ATTRIBUTES`].
    pub attributes: Vec<(String, String)>,
    /// Minor currency units.
    pub price: Option<i64>,
    pub created_at: Option<UnixMillis>,
    pub available: bool,
}

/// One record of the item-updates log. `ix` is assigned by the log's one writer.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemUpdate {
    pub ix: ItemIx,
    pub item: Item,
}

/// All items by dense number. Numbers are never reused; a withdrawn item stays, unavailable.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    items: Vec<Item>,
    by_id: HashMap<ItemId, ItemIx>,
    /// Updates applied: the next offset of the item-updates log.
    next_offset: u64,
}

impl Catalogue {
    /// Applies the next record of the log. A record already applied is ignored; a gap is refused with the offset that
    /// was expected.
    pub fn apply(&mut self, offset: u64, update: ItemUpdate) -> Result<(), u64> {
        if offset < self.next_offset {
            return Ok(());
        }
        if offset > self.next_offset || update.ix.index() > self.items.len() {
            return Err(self.next_offset);
        }
        self.next_offset += 1;
        match self.items.get_mut(update.ix.index()) {
            Some(slot) => *slot = update.item,
            None => {
                self.by_id.insert(update.item.id.clone(), update.ix);
                self.items.push(update.item);
            }
        }
        Ok(())
    }

    pub fn get(&self, ix: ItemIx) -> Option<&Item> {
        self.items.get(ix.index())
    }

    pub fn find(&self, id: &str) -> Option<ItemIx> {
        ItemId::new(id).ok().and_then(|id| self.by_id.get(&id).copied())
    }

    pub fn is_available(&self, ix: ItemIx) -> bool {
        self.get(ix).is_some_and(|item| item.available)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }
}
