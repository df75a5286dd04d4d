//! Every partition of `user-events`, read side by side and merged by acceptance time.
//!
//! Always holds: while partitions are behind, records come in the order of their acceptance over all of them, so that
//! catching up moves the stream's time as living through it did; at the end of the log they come as they arrive.

use crate::records::{self, UserRecord};
use attune_domain::{LoggedEvent, UnixMillis};
use attune_storage::{Bounds, EventLog, Record, StorageError, Topic, partition_of};
use futures::future::select_all;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records read of a partition at once.
const BATCH: usize = 512;
const LOOK_AT_ENDS: Duration = Duration::from_millis(500);

/// A record, or the hole where one was erased or is none.
pub(crate) struct Taken {
    pub(crate) offset: u64,
    pub(crate) event: Option<Box<LoggedEvent>>,
}

struct Lane {
    next: u64,
    /// Where the partition ended when that was last asked.
    end: u64,
    read: VecDeque<Taken>,
}

pub(crate) struct Lanes {
    log: Arc<dyn EventLog>,
    lanes: Vec<Lane>,
    looked: Instant,
}

impl Lanes {
    /// Begins where `from` says for each partition.
    pub(crate) async fn start(log: Arc<dyn EventLog>, from: impl Fn(Bounds) -> u64) -> Result<Self, StorageError> {
        let bounds = log.partitions(Topic::UserEvents).await?;
        let lane = |bounds: Bounds| Lane { next: from(bounds), end: bounds.end, read: VecDeque::new() };
        Ok(Self { lanes: bounds.into_iter().map(lane).collect(), log, looked: Instant::now() })
    }

    /// Offset of the next record of each partition that [`Lanes::pop`] would give.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u64> {
        self.lanes.iter().map(|lane| lane.read.front().map_or(lane.next, |first| first.offset))
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.lanes.iter().all(|lane| lane.read.is_empty() && lane.next >= lane.end)
    }

    /// Reads what [`Lanes::pop`] needs; waits up to `wait` for any. Loses nothing when it is given up.
    pub(crate) async fn fill(&mut self, wait: Duration) -> Result<(), StorageError> {
        if self.looked.elapsed() >= LOOK_AT_ENDS {
            for (lane, bounds) in self.lanes.iter_mut().zip(self.log.partitions(Topic::UserEvents).await?) {
                lane.end = bounds.end;
            }
            self.looked = Instant::now();
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.read.is_empty() && lane.next < lane.end) {
            let found = self.log.read_at_leisure(Topic::UserEvents, lane.next, BATCH, Duration::ZERO).await?;
            if found.is_empty() {
                // The end was that of something not readable yet.
                lane.end = lane.next;
            }
            lane.take(found);
        }
        if self.lanes.iter().all(|lane| lane.read.is_empty()) {
            let reads =
                self.lanes.iter().map(|lane| self.log.read_at_leisure(Topic::UserEvents, lane.next, BATCH, wait));
            let found = select_all(reads).await.0?;
            if let Some(&(first, _)) = found.first()
                && let Some(lane) = self.lanes.get_mut(usize::from(partition_of(first)))
            {
                lane.take(found);
            }
        }
        Ok(())
    }

    /// The record accepted first; none where it is not known which that is before the next [`Lanes::fill`].
    pub(crate) fn pop(&mut self) -> Option<Taken> {
        if self.lanes.iter().any(|lane| lane.read.is_empty() && lane.next < lane.end) {
            return None;
        }
        // A hole has no time, so it goes at once.
        let accepted = |taken: &Taken| taken.event.as_ref().map_or(UnixMillis::MIN, |event| event.accepted_at);
        let first = self.lanes.iter_mut().filter(|lane| !lane.read.is_empty());
        first.min_by_key(|lane| lane.read.front().map(accepted))?.read.pop_front()
    }
}

impl Lane {
    fn take(&mut self, found: Vec<(u64, Record)>) {
        if let Some(&(last, _)) = found.last() {
            self.next = last + 1;
            self.end = self.end.max(self.next);
        }
        self.read.extend(found.into_iter().map(|(offset, record)| {
            let event = match records::user_record(&record.value) {
                Ok(UserRecord::Event(event)) => Some(event),
                // What cannot be read is put away by the other consumer.
                Ok(UserRecord::Erased(_)) | Err(_) => None,
            };
            Taken { offset, event }
        }));
    }
}
