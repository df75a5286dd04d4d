//! A partition's keys out of Redis by SCAN, and back by the script that also applies batches.
//!
//! A scan meets every key that is there from its beginning to its end, on one life of one server: a server that was
//! restarted or replaced meanwhile ends it.

use super::keys::{Base, bytes, text};
use super::link::Script;
use super::{APPLY, MAX_KEYS, RedisFeatureStore, adopt, offset, outcomes, state, sums};
use crate::checkpoints::restoring;
use crate::{
    Checkpoints, ExportCursor, PartitionTotals, Positions, Restoration, StorageError, StorePart, USER_EVENTS_CONSUMER,
    USER_UPDATES_CONSUMER, first_offset, partition_for,
};
use async_trait::async_trait;
use attune_domain::Uid;
use fred::types::Value;
use std::sync::LazyLock;

/// Families of an export: states and fences, then outcomes.
const VISITORS: u8 = 0;
const OUTCOMES: u8 = 1;
/// Sums of one command.
const MAX_SUMS: usize = 4_096;

static RESTORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("restore.lua")));
static TOTALS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("totals.lua")));

#[async_trait]
impl Checkpoints for RedisFeatureStore {
    async fn export(
        &self,
        partition: u16,
        from: &ExportCursor,
        max: usize,
    ) -> Result<(StorePart, Option<ExportCursor>), StorageError> {
        let base = self.base(partition)?;
        let exported = match from.family {
            VISITORS => self.export_visitors(base, &from.at, max).await?,
            _ => self.export_outcomes(base, &from.at, max).await?,
        };
        // Asked afterwards: a cursor of another life has shown itself by then.
        let life = self.life(base).await?;
        if !from.life.is_empty() && from.life != life {
            return Err(restoring(partition));
        }
        let (part, next) = exported;
        Ok((part, next.map(|(family, at)| ExportCursor { family, at, life })))
    }

    async fn totals(&self, partition: u16) -> Result<PartitionTotals, StorageError> {
        let base = self.base(partition)?;
        let consumers = vec![text(USER_EVENTS_CONSUMER), text(USER_UPDATES_CONSUMER)];
        let answer = self.bulk.run(&TOTALS, base.slot, Value::Bytes(base.text.clone()), consumers).await?;
        let [events, updates, fields] =
            <[Value; 3]>::try_from(answer.into_array()).map_err(|_| StorageError::corrupt("answer of the script"))?;
        let place = |value: &Value| match value {
            Value::Null => Ok(first_offset(partition)),
            value => offset(value).ok_or_else(|| StorageError::corrupt("progress")),
        };
        let positions = Positions { events: place(&events)?, updates: place(&updates)? };
        let (half_life_ms, sums) =
            sums::kept(fields, self.decay).ok_or_else(|| StorageError::corrupt("posterior sums"))?;
        Ok(PartitionTotals { positions, half_life_ms, sums })
    }

    async fn is_restoring(&self, partition: u16) -> Result<bool, StorageError> {
        let base = self.base(partition)?;
        let token = self.reads.ask("HGET", base.slot, vec![base.key("progress"), text("restoring")]).await?;
        Ok(!token.is_null())
    }

    async fn begin_restore(
        &self,
        partition: u16,
        expected: Positions,
        token: u64,
    ) -> Result<Restoration, StorageError> {
        let base = self.base(partition)?;
        adopt(&self.bulk, &self.options).await?;
        let restoration = Restoration { partition, token };
        self.step(&restoration, "begin", places(expected)).await?;
        self.written.lock().remove(&partition);
        let mut cursor = text("0");
        loop {
            let (next, keys) = self.scan(base, cursor, MAX_KEYS).await?;
            let names = keys.iter().filter_map(|key| Some(bytes(key.as_bytes()?.get(base.text.len()..)?)));
            let names: Vec<_> = names.collect();
            if !names.is_empty() {
                self.step(&restoration, "unlink", names).await?;
            }
            if is_over(&next) {
                return Ok(restoration);
            }
            cursor = next;
        }
    }

    async fn restore(&self, restoration: &Restoration, part: StorePart) -> Result<(), StorageError> {
        let strangers = part.users.iter().map(|(uid, _)| uid).chain(part.fences.iter().map(|(uid, _)| uid));
        let mut strangers =
            strangers.filter(|uid| partition_for(&uid.0, self.options.partitions) != restoration.partition);
        if strangers.next().is_some() {
            return Err(StorageError::invalid("users", "must be of the restored partition"));
        }
        let mut data = Vec::with_capacity(8 + 2 * part.users.len() + 2 * part.fences.len());
        data.push(text(part.fences.len()));
        for (uid, fence) in &part.fences {
            data.extend([bytes(&uid.0), bytes(&fence.to_be_bytes())]);
        }
        data.push(text(part.users.len()));
        for (uid, user) in &part.users {
            let state = user.as_ref().map(state::encode).unwrap_or_default();
            data.extend([bytes(&uid.0), Value::Bytes(state.into())]);
        }
        outcomes::args(&part.outcomes, &mut data);
        data.push(text(0));
        self.put(restoration, "", data).await
    }

    async fn end_restore(&self, restoration: &Restoration, totals: PartitionTotals) -> Result<(), StorageError> {
        let tag = sums::tag_of_restored(totals.half_life_ms, restoration.token);
        for sums in totals.sums.chunks(MAX_SUMS) {
            let mut data = vec![text(0), text(0), text(0), text(sums.len())];
            for (item, sum) in sums {
                data.extend([bytes(&item.0.to_be_bytes()), bytes(sum)]);
            }
            self.put(restoration, &tag, data).await?;
        }
        self.step(restoration, "end", places(totals.positions)).await
    }
}

/// What is to be read next, and where.
type Next = Option<(u8, Vec<u8>)>;

impl RedisFeatureStore {
    async fn export_visitors(&self, base: &Base, at: &[u8], max: usize) -> Result<(StorePart, Next), StorageError> {
        let cursor = if at.is_empty() { text("0") } else { bytes(at) };
        let (next, keys) = self.scan(base, cursor, max).await?;
        let mut part = StorePart::default();
        for keys in keys.chunks(MAX_KEYS) {
            let values = self.bulk.ask("MGET", base.slot, keys.to_vec()).await?.into_array();
            for (key, value) in keys.iter().zip(values) {
                let name = key.as_bytes().and_then(|key| key.get(base.text.len()..)).unwrap_or_default();
                let (family, uid) = name.split_at_checked(2).unwrap_or_default();
                let uid = Uid::from_slice(uid).ok_or_else(|| StorageError::corrupt("visitor's key"))?;
                // Nothing where it went after it was met.
                let Some(value) = value.as_bytes() else { continue };
                match family {
                    b"u:" => part.users.push((uid, Some(state::decode(value)?))),
                    _ => {
                        let fence = value.try_into().map_err(|_| StorageError::corrupt("fence"))?;
                        part.fences.push((uid, u64::from_be_bytes(fence)));
                    }
                }
            }
        }
        let next = match is_over(&next) {
            true => (OUTCOMES, Vec::new()),
            false => (VISITORS, next.as_bytes().unwrap_or_default().to_vec()),
        };
        Ok((part, Some(next)))
    }

    /// The cursor is a day and where its hash is being read; empty before the first day.
    async fn export_outcomes(&self, base: &Base, at: &[u8], max: usize) -> Result<(StorePart, Next), StorageError> {
        let stands = std::str::from_utf8(at).ok().and_then(|at| at.split_once(' '));
        let stands = stands.and_then(|(day, cursor)| Some((day.parse::<i64>().ok()?, cursor)));
        let (day, cursor) = match stands {
            Some((day, cursor)) => (Some(day), cursor),
            None => (self.day_after(base, None).await?, "0"),
        };
        let Some(day) = day else { return Ok((StorePart::default(), None)) };
        let args = vec![base.outcomes(day), text(cursor), text("COUNT"), text(max)];
        let (next, found) = page(self.bulk.ask("HSCAN", base.slot, args).await?, "HSCAN")?;
        let mut part = StorePart::default();
        for [request, packed] in found.as_chunks().0 {
            let outcomes = request.as_bytes().zip(packed.as_bytes());
            let outcomes = outcomes.and_then(|(request, packed)| outcomes::unpack(day, request, packed));
            part.outcomes.extend(outcomes.ok_or_else(|| StorageError::corrupt("outcomes"))?);
        }
        let next = match is_over(&next) {
            true => self.day_after(base, Some(day)).await?.map(|day| format!("{day} 0")),
            false => Some(format!("{day} {}", next.as_string().unwrap_or_default())),
        };
        Ok((part, next.map(|at| (OUTCOMES, at.into_bytes()))))
    }

    async fn day_after(&self, base: &Base, day: Option<i64>) -> Result<Option<i64>, StorageError> {
        let days = self.reads.ask("SMEMBERS", base.slot, vec![base.key("days")]).await?.into_array();
        let days = days.iter().filter_map(|day| day.as_i64().or_else(|| day.as_string()?.parse().ok()));
        Ok(days.filter(|&other| day.is_none_or(|day| other > day)).min())
    }

    /// A page of the partition's states and fences.
    async fn scan(&self, base: &Base, cursor: Value, max: usize) -> Result<(Value, Vec<Value>), StorageError> {
        let args = vec![cursor, text("MATCH"), base.visitors(), text("COUNT"), text(max)];
        page(self.bulk.ask("SCAN", base.slot, args).await?, "SCAN")
    }

    /// Another after each start of the server.
    async fn life(&self, base: &Base) -> Result<String, StorageError> {
        let info = self.reads.ask("INFO", base.slot, vec![text("server")]).await?.as_string().unwrap_or_default();
        let life = info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned());
        life.ok_or_else(|| StorageError::corrupt("answer to INFO"))
    }

    async fn put(&self, restoration: &Restoration, tag: &str, data: Vec<Value>) -> Result<(), StorageError> {
        let Restoration { partition, token } = *restoration;
        let (base, first) = (self.base(partition)?, text(first_offset(partition)));
        let mut args = vec![text(USER_EVENTS_CONSUMER), first.clone(), first.clone(), first];
        args.extend(self.lives());
        args.extend([text(""), text(tag), text(token)]);
        args.extend(data);
        let answer = self.bulk.run(&APPLY, base.slot, Value::Bytes(base.text.clone()), args).await?.into_array();
        done(partition, &answer, "applied")
    }

    async fn step(&self, restoration: &Restoration, step: &str, rest: Vec<Value>) -> Result<(), StorageError> {
        let Restoration { partition, token } = *restoration;
        let base = self.base(partition)?;
        let mut args = vec![text(step), text(token), text(first_offset(partition))];
        args.extend(rest);
        let answer = self.bulk.run(&RESTORE, base.slot, Value::Bytes(base.text.clone()), args).await?.into_array();
        done(partition, &answer, "done")
    }
}

fn places(positions: Positions) -> Vec<Value> {
    positions.by_consumer().into_iter().flat_map(|(consumer, offset)| [text(consumer), text(offset)]).collect()
}

fn done(partition: u16, answer: &[Value], word: &str) -> Result<(), StorageError> {
    match answer.first().and_then(Value::as_string) {
        Some(answer) if answer == word => Ok(()),
        Some(answer) if answer == "conflict" => Err(restoring(partition)),
        _ => Err(StorageError::corrupt("answer of the script")),
    }
}

fn is_over(cursor: &Value) -> bool {
    cursor.as_bytes() == Some(b"0")
}

/// A cursor and what was found.
fn page(answer: Value, command: &str) -> Result<(Value, Vec<Value>), StorageError> {
    let [next, found] = <[Value; 2]>::try_from(answer.into_array())
        .map_err(|_| StorageError::corrupt(format!("answer to {command}")))?;
    Ok((next, found.into_array()))
}
