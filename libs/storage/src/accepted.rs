//! When events were accepted, and the first offset from a time on.
//!
//! Acceptance is near enough in order: concurrent events may stand a moment apart from it, and a search ends at one of
//! them.

use crate::{Bounds, Record, StorageError, Topic};
use attune_domain::UnixMillis;
use attune_proto::state::v1 as wire;
use attune_proto::state::v1::user_record::Record as Kind;
use prost::Message as _;

/// Only events tell when they were accepted.
pub(crate) fn check_topic(topic: Topic) -> Result<(), StorageError> {
    match topic {
        Topic::UserEvents => Ok(()),
        _ => Err(StorageError::invalid("topic", "must be user-events, whose records tell when they were accepted")),
    }
}

pub(crate) fn no_partition(partition: u16) -> StorageError {
    StorageError::invalid("partition", format!("{partition} is not one of the topic's"))
}

/// None where the record is empty or cannot be read.
pub(crate) fn accepted_at(record: &Record) -> Option<UnixMillis> {
    match wire::UserRecord::decode(record.value.clone()).ok()?.record? {
        Kind::Event(event) => Some(event.accepted_at),
        Kind::Erased(erased) => Some(erased.at),
    }
}

/// By bisection. A record without a time counts with the next that has one.
pub(crate) fn first_from(
    bounds: Bounds,
    at: UnixMillis,
    mut time_at: impl FnMut(u64) -> Result<Option<UnixMillis>, StorageError>,
) -> Result<u64, StorageError> {
    let (mut low, mut high) = (bounds.start, bounds.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut probe = middle;
        let mut time = None;
        while probe < high && time.is_none() {
            time = time_at(probe)?;
            probe += 1;
        }
        match time {
            Some(time) if time < at => low = probe,
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_the_first_that_is_not_before(times in prop::collection::vec(prop::option::of(0i64..50), 0..60), at in -1i64..52) {
            let mut sorted: Vec<i64> = times.iter().flatten().copied().collect();
            sorted.sort_unstable();
            let mut sorted = sorted.into_iter();
            let times: Vec<_> = times.iter().map(|time| time.and_then(|_| sorted.next())).collect();
            let bounds = Bounds { start: 7, end: 7 + times.len() as u64 };
            let found = first_from(bounds, at, |offset| Ok(times[(offset - 7) as usize])).unwrap();
            let before = times.iter().rposition(|time| time.is_some_and(|time| time < at)).map_or(0, |place| place + 1);
            // Records without a time just before the first one go either way.
            let after = times.iter().position(|time| time.is_some_and(|time| time >= at)).unwrap_or(times.len());
            prop_assert!((before as u64 + 7..=after as u64 + 7).contains(&found), "{found} {before} {after}");
        }
    }
}
