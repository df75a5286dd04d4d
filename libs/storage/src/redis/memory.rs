//! What the store takes in Redis, by family of keys.
//!
//! Sums, outcomes and progress are few keys, and Redis is asked about each. States and fences are many: their number and
//! size are taken from a sample that walks on through the keys from call to call.

use super::keys::{Base, text};
use super::link::Link;
use crate::StorageError;
use fred::types::Value;
use fred::types::config::Server;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Keys looked at on each node in a call.
const SAMPLE: usize = 256;
const ASKS: usize = 64;

/// A family of keys: those of one purpose and one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RedisFamily {
    Users,
    Fences,
    Outcomes,
    Posteriors,
    Progress,
}

impl RedisFamily {
    pub const ALL: [Self; 5] = [Self::Users, Self::Fences, Self::Outcomes, Self::Posteriors, Self::Progress];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Fences => "fences",
            Self::Outcomes => "outcomes",
            Self::Posteriors => "posteriors",
            Self::Progress => "progress",
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct RedisMemory {
    /// Of the servers, with whatever else they hold.
    pub used_bytes: u64,
    /// In the order of [`RedisFamily::ALL`]: keys and bytes, estimated.
    pub families: Vec<(RedisFamily, RedisUse)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedisUse {
    pub keys: u64,
    pub bytes: u64,
}

/// Where the sample stands on each node.
#[derive(Default)]
pub(super) struct Sampler(Mutex<HashMap<String, String>>);

impl Sampler {
    pub(super) async fn measure(&self, link: &Link, prefix: &str, bases: &[Base]) -> Result<RedisMemory, StorageError> {
        let mut memory = RedisMemory::default();
        let mut uses: HashMap<RedisFamily, RedisUse> = HashMap::new();
        for node in link.nodes() {
            memory.used_bytes += used(link, &node).await?;
            for (family, estimate) in self.sample(link, &node, prefix).await? {
                let sum = uses.entry(family).or_default();
                (sum.keys, sum.bytes) = (sum.keys + estimate.keys, sum.bytes + estimate.bytes);
            }
        }
        for base in bases {
            for (family, bytes) in few(link, base).await? {
                let sum = uses.entry(family).or_default();
                (sum.keys, sum.bytes) = (sum.keys + 1, sum.bytes + bytes);
            }
        }
        let families = RedisFamily::ALL.map(|family| (family, uses.get(&family).copied().unwrap_or_default()));
        memory.families = families.to_vec();
        Ok(memory)
    }

    async fn sample(
        &self,
        link: &Link,
        node: &Server,
        prefix: &str,
    ) -> Result<Vec<(RedisFamily, RedisUse)>, StorageError> {
        let total = link.ask_node(node, "DBSIZE", Vec::new()).await?.as_u64().unwrap_or(0);
        let name = node.to_string();
        let cursor = self.0.lock().get(&name).cloned().unwrap_or_else(|| "0".to_owned());
        let args = vec![text(cursor), Value::from_static_str("COUNT"), text(SAMPLE)];
        let [next, keys] = <[Value; 2]>::try_from(link.ask_node(node, "SCAN", args).await?.into_array())
            .map_err(|_| StorageError::corrupt("answer to SCAN"))?;
        self.0.lock().insert(name, next.as_string().unwrap_or_else(|| "0".to_owned()));
        let keys = keys.into_array();
        let sampled = keys.len().max(1) as u64;
        let many = keys.into_iter().filter_map(|key| Some((family_of(prefix, key.as_bytes()?)?, key)));
        let sizes = futures::stream::iter(many)
            .map(|(family, key)| async move {
                let size = link.ask_node(node, "MEMORY", vec![Value::from_static_str("USAGE"), key]).await?;
                Ok::<_, StorageError>((family, size.as_u64().unwrap_or(0)))
            })
            .buffered(ASKS)
            .try_collect::<Vec<_>>()
            .await?;
        Ok([RedisFamily::Users, RedisFamily::Fences]
            .map(|family| {
                let sizes = sizes.iter().filter(|(of, _)| *of == family).map(|(_, size)| size);
                let (count, bytes) = (sizes.clone().count() as u64, sizes.sum::<u64>());
                (family, RedisUse { keys: count * total / sampled, bytes: bytes * total / sampled })
            })
            .to_vec())
    }
}

/// Of the families with a key for each visitor.
fn family_of(prefix: &str, key: &[u8]) -> Option<RedisFamily> {
    let rest = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"{p")?;
    let end = rest.windows(2).position(|pair| pair == b"}:")?;
    match rest.get(end + 2..end + 4)? {
        b"u:" => Some(RedisFamily::Users),
        b"f:" => Some(RedisFamily::Fences),
        _ => None,
    }
}

/// Sizes of a partition's few keys.
async fn few(link: &Link, base: &Base) -> Result<Vec<(RedisFamily, u64)>, StorageError> {
    let days = link.ask("SMEMBERS", base.slot, vec![base.key("days")]).await?.into_array();
    let mut keys = vec![
        (RedisFamily::Posteriors, base.key("sums")),
        (RedisFamily::Progress, base.key("progress")),
        (RedisFamily::Users, base.key("ends")),
        (RedisFamily::Outcomes, base.key("days")),
    ];
    let days = days.iter().filter_map(|day| day.as_i64().or_else(|| day.as_string()?.parse().ok()));
    keys.extend(days.map(|day| (RedisFamily::Outcomes, base.outcomes(day))));
    let mut sizes = Vec::with_capacity(keys.len());
    for (family, key) in keys {
        let args = vec![Value::from_static_str("USAGE"), key, Value::from_static_str("SAMPLES"), Value::from(20)];
        match link.ask("MEMORY", base.slot, args).await? {
            Value::Null => {}
            size => sizes.push((family, size.as_u64().unwrap_or(0))),
        }
    }
    Ok(sizes)
}

async fn used(link: &Link, node: &Server) -> Result<u64, StorageError> {
    let info = link.ask_node(node, "INFO", vec![Value::from_static_str("memory")]).await?;
    let info = info.as_string().unwrap_or_default();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    used.ok_or_else(|| StorageError::corrupt("answer to INFO"))
}
