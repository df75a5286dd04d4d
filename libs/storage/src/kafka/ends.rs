//! How far partitions are known to reach: a reader below that waits for the record, which is there, to come.

use crate::{Topic, partition_of};
use parking_lot::Mutex;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Ends(Mutex<HashMap<(Topic, u16), u64>>);

impl Ends {
    pub(super) fn reach(&self, topic: Topic, end: u64) {
        let mut ends = self.0.lock();
        let known = ends.entry((topic, partition_of(end))).or_default();
        *known = end.max(*known);
    }

    /// Whether a record is known to stand at this offset, or after it.
    pub(super) fn is_below(&self, topic: Topic, offset: u64) -> bool {
        self.0.lock().get(&(topic, partition_of(offset))).is_some_and(|&end| offset < end)
    }
}
