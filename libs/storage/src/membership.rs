//! Which partitions are whose, among the consumers that share a log.
//!
//! A partition's effects are safe whatever is believed here: a store takes a batch only from where the partition's last
//! one ended. Membership keeps two consumers from doing the same work.

use crate::partition_of;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A consumer's place in its group. Dropping it leaves the group.
pub struct Membership {
    partitions: watch::Receiver<Vec<u16>>,
    applied: Applied,
    asked: bool,
}

/// How far a member has come, for those who watch its group from outside.
#[derive(Clone, Default)]
pub struct Applied(Arc<Mutex<BTreeMap<u16, u64>>>);

impl Applied {
    /// Everything before this offset, in its partition, has its effect.
    pub fn report(&self, next_offset: u64) {
        self.0.lock().insert(partition_of(next_offset), next_offset);
    }

    pub(crate) fn take(&self) -> BTreeMap<u16, u64> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Membership {
    /// The only member of a log with so many partitions.
    pub(crate) fn sole(partitions: usize) -> Self {
        let all = (0..partitions).filter_map(|p| u16::try_from(p).ok()).collect();
        Self::shared(watch::channel(all).1, Applied::default())
    }

    pub(crate) fn shared(partitions: watch::Receiver<Vec<u16>>, applied: Applied) -> Self {
        Self { partitions, applied, asked: false }
    }

    /// This member's partitions: at once when first asked, then whenever they have changed.
    pub async fn changed(&mut self) -> Vec<u16> {
        if std::mem::replace(&mut self.asked, true) && self.partitions.changed().await.is_err() {
            // Nobody will ever move a partition again.
            std::future::pending::<()>().await;
        }
        self.partitions.borrow_and_update().clone()
    }

    pub fn applied(&self) -> Applied {
        self.applied.clone()
    }
}
