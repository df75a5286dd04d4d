//! Posterior sums in Redis: each partition's in a hash, under a tag that says which batch they are of.
//!
//! The tag is `half_life_ms consumer next_offset time`, and no two batches have the same. A writer adds in its own memory
//! and writes what changed, if the tag is still the one that its sums are of: so the sums have the same bits as in every
//! other back-end, and the script needs no floats. Sums of another half-life are restated by the partition's next writer
//! and with its batch: they keep what they are worth then. Until that, readers take them for what they are worth.

use super::keys::Base;
use super::link::Link;
use crate::decay::{Decay, Decayed, Posteriors, SumKey};
use crate::{PosteriorChange, StorageError};
use attune_domain::{ItemIx, PosteriorSnapshot, UnixMillis};
use fred::types::Value;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use std::time::Duration;

/// The field of the tag. Items have four bytes.
const TAG: &str = "@";
/// How many partitions are read at a time.
const READS: usize = 8;

/// What the script makes a tag of, of sums that are put back.
pub(super) fn tag_of_restored(half_life_ms: u64, token: u64) -> String {
    format!("{half_life_ms} restored {token}")
}

/// What the script makes a tag of.
pub(super) fn tag(consumer: &str, next_offset: u64, decay: Decay) -> String {
    format!("{} {consumer} {next_offset}", decay.half_life_ms())
}

fn half_life_of(tag: &str) -> Option<Decay> {
    let ms = tag.split_once(' ')?.0.parse().ok()?;
    Some(Decay::new(Duration::from_millis(ms)))
}

/// A partition's sums and their tag, empty where there are none.
#[derive(Default)]
pub(super) struct PartitionSums {
    pub(super) tag: String,
    sums: Posteriors,
    /// All of them are to be written.
    restated: bool,
}

impl PartitionSums {
    pub(super) async fn load(
        link: &Link,
        base: &Base,
        partition: u16,
        decay: Decay,
        now: UnixMillis,
    ) -> Result<Self, StorageError> {
        let fields = link.ask("HGETALL", base.slot, vec![base.key("sums")]).await?;
        Self::read(fields, partition, decay, now).ok_or_else(|| StorageError::corrupt("posterior sums"))
    }

    fn read(fields: Value, partition: u16, decay: Decay, now: UnixMillis) -> Option<Self> {
        let mut read = Self::default();
        for (field, value) in pairs(fields)? {
            match field.as_bytes()? {
                field if field == TAG.as_bytes() => read.tag = value.as_string()?,
                field => {
                    let item = ItemIx(u32::from_be_bytes(field.try_into().ok()?));
                    read.sums.0.insert((item, partition), Decayed::from_bytes(value.as_bytes()?)?);
                }
            }
        }
        if read.tag.is_empty() {
            return read.sums.0.is_empty().then_some(read);
        }
        let stored = half_life_of(&read.tag)?;
        if stored != decay {
            read.restated = true;
            for sum in read.sums.0.values_mut() {
                *sum = sum.under(stored, decay, now);
            }
        }
        Some(read)
    }

    /// The sums to write.
    pub(super) fn changed(
        &self,
        decay: Decay,
        partition: u16,
        changes: &[PosteriorChange],
    ) -> BTreeMap<SumKey, Decayed> {
        let changed = self.sums.changed(decay, partition, changes);
        if !self.restated {
            return changed;
        }
        let mut all = self.sums.0.clone();
        all.extend(changed);
        all
    }

    /// They were written.
    pub(super) fn advance(&mut self, tag: String, written: BTreeMap<SumKey, Decayed>) {
        self.tag = tag;
        self.restated = false;
        self.sums.0.extend(written);
    }
}

/// An item's sum as it is kept.
type Kept = (ItemIx, [u8; Decayed::BYTES]);

/// Sums as they are kept, with their half-life.
pub(super) fn kept(fields: Value, decay: Decay) -> Option<(u64, Vec<Kept>)> {
    let mut half_life = None;
    let mut sums = Vec::new();
    for (field, value) in pairs(fields)? {
        match field.as_bytes()? {
            field if field == TAG.as_bytes() => half_life = half_life_of(&value.as_string()?),
            field => {
                sums.push((ItemIx(u32::from_be_bytes(field.try_into().ok()?)), value.as_bytes()?.try_into().ok()?))
            }
        }
    }
    match half_life {
        None if !sums.is_empty() => None,
        half_life => Some((half_life.unwrap_or(decay).half_life_ms() as u64, sums)),
    }
}

/// The answer to HGETALL, by either protocol.
fn pairs(fields: Value) -> Option<Vec<(Value, Value)>> {
    match fields {
        Value::Map(map) => Some(map.inner().into_iter().map(|(key, value)| (key.into(), value)).collect()),
        Value::Array(list) => {
            let mut list = list.into_iter();
            Some(std::iter::from_fn(|| list.next().zip(list.next())).collect())
        }
        _ => None,
    }
}

/// What a reader knows of the sums of all partitions. A partition is read again when its tag has changed, all of it:
/// some 40 bytes for each item with evidence.
#[derive(Default)]
pub(super) struct ReadSums {
    tags: Vec<String>,
    sums: Posteriors,
}

impl ReadSums {
    pub(super) async fn refresh(
        &mut self,
        link: &Link,
        bases: &[Base],
        decay: Decay,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        self.tags.resize(bases.len(), String::new());
        let tags = futures::future::try_join_all(bases.iter().map(|base| async move {
            let tag = link.ask("HGET", base.slot, vec![base.key("sums"), Value::from_static_str(TAG)]).await?;
            Ok::<_, StorageError>(tag.as_string().unwrap_or_default())
        }));
        let tags = tags.await?;
        let is_moved = |&partition: &u16| tags[usize::from(partition)] != self.tags[usize::from(partition)];
        let moved: Vec<u16> = (0u16..).take(bases.len()).filter(is_moved).collect();
        let reads: Vec<_> = moved
            .iter()
            .map(|&partition| PartitionSums::load(link, &bases[usize::from(partition)], partition, decay, now))
            .collect();
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect().await?;
        for (partition, read) in moved.into_iter().zip(read) {
            self.sums.0.retain(|&(_, of), _| of != partition);
            self.sums.0.extend(read.sums.0);
            self.tags[usize::from(partition)] = read.tag;
        }
        Ok(())
    }

    pub(super) fn snapshot(&self, decay: Decay, now: UnixMillis) -> PosteriorSnapshot {
        self.sums.snapshot(decay, now)
    }
}
