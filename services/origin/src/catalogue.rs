//! The one writer of the item-updates log: numbers items, writes, and applies what it wrote.

use crate::OriginError;
use crate::log_records::{Accepted, append_items};
use attune_domain::{Item, ItemIx, ItemUpdate};
use attune_serving::SharedServing;
use attune_storage::{Clock, EventLog};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Serialises item updates, so that a number is given once.
pub struct CatalogueWriter {
    log: Arc<dyn EventLog>,
    serving: SharedServing,
    clock: Clock,
    writing: Mutex<()>,
}

impl CatalogueWriter {
    pub fn new(log: Arc<dyn EventLog>, serving: SharedServing, clock: Clock) -> Self {
        Self { log, serving, clock, writing: Mutex::new(()) }
    }

    /// Durable and applied here when it returns: the offset, and the item's number.
    pub async fn put(&self, item: Item, traceparent: String) -> Result<(u64, ItemIx), OriginError> {
        let _one_at_a_time = self.writing.lock().await;
        let catalogue = Arc::clone(&self.serving.load().catalogue);
        let ix = catalogue.find(item.id.as_str()).unwrap_or(ItemIx(catalogue.len() as u32));
        let update = ItemUpdate { ix, item };
        let offset = self.append(&update, &traceparent).await?;
        let next = self.serving.load().with_updates(vec![(offset, update)]);
        // A gap cannot be: this is the only writer, and it applies every record it writes.
        if let Ok(next) = next {
            self.serving.store(Arc::new(next));
        }
        Ok((offset, ix))
    }

    async fn append(&self, update: &ItemUpdate, traceparent: &str) -> Result<u64, OriginError> {
        let accepted = Accepted { at: (self.clock)(), imported: false };
        append_items(&*self.log, std::slice::from_ref(update), accepted, traceparent).await
    }

    /// Takes an item out of every answer. Its number and history stay.
    pub async fn withdraw(&self, id: &str, traceparent: String) -> Result<(u64, ItemIx), OriginError> {
        let catalogue = Arc::clone(&self.serving.load().catalogue);
        let ix = catalogue.find(id).ok_or(OriginError::UnknownItem)?;
        let item = catalogue.get(ix).cloned().ok_or(OriginError::UnknownItem)?;
        self.put(Item { available: false, ..item }, traceparent).await
    }
}
