//! What impressions need to know of items: the catalogue as the log has it, and the live model where there is one.

use attune_decision::Policy;
use attune_domain::{ItemIx, PosteriorSnapshot, UnixMillis};
use attune_insight::{CatalogueItem, Posterior};
use attune_proto::{convert, state::v1 as wire};
use attune_serving::{Serving, SharedServing};
use attune_storage::{EventLog, StorageError, Topic};
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Base rate of an item that no model knows.
const GUESSED_BASE_RATE: f32 = 0.05;
/// Categories with a number of their own; the others share the next.
const MOST_CATEGORIES: usize = 4_094;
/// Arms with a number of their own, as many as there are values of the label `item_segment` but one.
pub(crate) const OTHER_ARM: u8 = 31;
const BATCH: usize = 4_096;

/// What is kept of an item: 24 bytes.
#[derive(Debug, Clone, Copy)]
struct Row {
    created_at: Option<UnixMillis>,
    /// `u16::MAX` for none.
    category: u16,
    available: bool,
}

/// Items, and the numbers of their categories.
///
/// Always holds: a category keeps its number, also through a checkpoint, so that what was counted under it stays its.
pub(crate) struct Items {
    rows: Vec<Row>,
    /// Of `item-updates`.
    next_offset: u64,
    serving: Option<SharedServing>,
    names: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Items {
    pub(crate) fn new(serving: Option<SharedServing>, names: Vec<String>) -> Self {
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { rows: Vec::new(), next_offset: 0, serving, names, numbers }
    }

    /// Applies the item updates that the log holds by now.
    pub(crate) async fn follow(&mut self, log: &dyn EventLog) -> Result<(), StorageError> {
        loop {
            let found = log.read(Topic::ItemUpdates, self.next_offset, BATCH, Duration::ZERO).await?;
            if found.is_empty() {
                return Ok(());
            }
            for (offset, record) in found {
                let update = wire::ItemUpdate::decode(record.value).ok();
                // The log has one writer, which checks what it writes; others stop before such a record as well.
                let Some(update) = update.and_then(|update| convert::item_update(&update).ok()) else { return Ok(()) };
                let item = &update.item;
                let category = self.category_of(item.categories.first());
                let row = Row { created_at: item.created_at, category, available: item.available };
                let at = update.ix.index();
                if at == self.rows.len() {
                    self.rows.push(row);
                } else if let Some(known) = self.rows.get_mut(at) {
                    *known = row;
                } else {
                    return Ok(());
                }
                self.next_offset = offset + 1;
            }
        }
    }

    fn category_of(&mut self, name: Option<&String>) -> u16 {
        let Some(name) = name else { return u16::MAX };
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.names.len() >= MOST_CATEGORIES {
            return MOST_CATEGORIES as u16;
        }
        let number = self.names.len() as u16;
        self.numbers.insert(name.clone(), number);
        self.names.push(name.clone());
        number
    }

    /// In the order of their numbers.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.as_ref().map(|serving| serving.load_full())
    }

    pub(crate) fn knows(&self, item: ItemIx) -> bool {
        item.index() < self.rows.len()
    }

    /// `u16::MAX` for none.
    pub(crate) fn category(&self, item: ItemIx) -> u16 {
        self.rows.get(item.index()).map_or(u16::MAX, |row| row.category)
    }

    /// How old the item was.
    pub(crate) fn age(&self, item: ItemIx, at: UnixMillis) -> Option<Duration> {
        let created = self.rows.get(item.index())?.created_at?;
        u64::try_from(at.saturating_sub(created)).ok().map(Duration::from_millis)
    }

    pub(crate) fn available(&self) -> Vec<CatalogueItem> {
        let available = |(number, row): (u32, &Row)| {
            row.available.then_some(CatalogueItem { item: ItemIx(number), created_at: row.created_at })
        };
        (0..).zip(&self.rows).filter_map(available).collect()
    }

    /// What the bandit believes of every available item, those that it has no evidence of included.
    pub(crate) fn posteriors(&self, snapshot: &PosteriorSnapshot) -> Vec<Posterior> {
        let serving = self.serving();
        let mut counts = snapshot.counts.iter().peekable();
        let mut posteriors = Vec::new();
        for (number, row) in (0..).map(ItemIx).zip(&self.rows) {
            while counts.next_if(|counts| counts.item < number).is_some() {}
            let (impressions, rewards) = match counts.next_if(|counts| counts.item == number) {
                Some(counts) => (counts.impressions.max(0.0), counts.rewards.clamp(0.0, counts.impressions.max(0.0))),
                None => (0.0, 0.0),
            };
            if !row.available {
                continue;
            }
            let base = serving.as_ref().map_or(GUESSED_BASE_RATE, |serving| serving.items.base_rate(number));
            // As `attune_inference::posterior_columns` has it.
            let prior = Policy::DEFAULT.prior_rewards;
            posteriors.push(Posterior {
                arm: arm_of(row.category),
                alpha: prior + rewards,
                beta: prior * (1.0 / base.clamp(0.005, 0.995) - 1.0) + impressions - rewards,
                impressions,
            });
        }
        posteriors
    }

    /// Name of an arm, as a label's value.
    pub(crate) fn arm_name(&self, arm: u8) -> &str {
        if arm == OTHER_ARM { "other" } else { self.names.get(usize::from(arm)).map_or("other", String::as_str) }
    }
}

/// Arms are the first categories, and one for all the others.
pub(crate) fn arm_of(category: u16) -> u8 {
    u8::try_from(category).map_or(OTHER_ARM, |arm| arm.min(OTHER_ARM))
}
