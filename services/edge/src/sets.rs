//! Candidate sets by cohort.

use crate::object::Object;
use attune_decision::{CohortKey, ScoredItems};
use attune_domain::{Level, LevelReason, UnixMillis};
use attune_proto::{convert::WireError, state::v1 as wire};
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A degraded set must not outlive what degraded it.
const DEGRADED_FRESH: Duration = Duration::from_secs(2);

/// A cohort's candidates as this edge holds them.
#[derive(Debug)]
pub(crate) struct CandidateSet {
    pub(crate) items: ScoredItems,
    pub(crate) object: Object,
    pub(crate) level: Level,
    pub(crate) reason: Option<LevelReason>,
    model_version: String,
    /// By this edge's clock.
    received_at: UnixMillis,
}

impl CandidateSet {
    /// A set that needs nobody: lists of the bundle, on the line of the two-tower score.
    pub(crate) fn of_favourites(items: ScoredItems, level: Level) -> Self {
        let object = Object::new(items.encode());
        Self { items, object, level, reason: None, model_version: String::new(), received_at: 0 }
    }

    fn age(&self, now: UnixMillis) -> Duration {
        Duration::from_millis(u64::try_from(now - self.received_at).unwrap_or(0))
    }
}

/// How usable a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Fresh,
    /// Usable, at level 1, while a new one is fetched.
    Stale,
}

pub(crate) struct Sets {
    entries: moka::sync::Cache<CohortKey, Arc<CandidateSet>, FxBuildHasher>,
    refreshing: Mutex<HashSet<CohortKey>>,
    fresh: Duration,
    stale: Duration,
}

impl Sets {
    pub(crate) fn new(capacity: u64, fresh: Duration, stale: Duration) -> Self {
        let policy = moka::policy::EvictionPolicy::lru();
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(policy)
            .build_with_hasher(FxBuildHasher);
        Self { entries, refreshing: Mutex::default(), fresh, stale }
    }

    /// The cohort's set, unless it is too old or of another model.
    pub(crate) fn get(
        &self,
        key: CohortKey,
        model_version: &str,
        now: UnixMillis,
    ) -> Option<(Arc<CandidateSet>, Freshness)> {
        let set = self.entries.get(&key).filter(|set| set.model_version == model_version)?;
        let fresh = if set.level == Level::Fresh { self.fresh } else { self.fresh.min(DEGRADED_FRESH) };
        match set.age(now) {
            age if age <= fresh => Some((set, Freshness::Fresh)),
            age if age <= fresh + self.stale => Some((set, Freshness::Stale)),
            _ => None,
        }
    }

    pub(crate) fn put(&self, set: &wire::CandidateSet, now: UnixMillis) -> Result<(), WireError> {
        let key = CohortKey::parse(&set.cohort).ok_or(WireError::new("candidate_set.cohort", "is malformed"))?;
        let items = set.items.as_ref().ok_or(WireError::new("candidate_set.items", "is missing"))?;
        let items = ScoredItems::try_from(items)?;
        let level = u8::try_from(set.level).ok().and_then(Level::from_code);
        let entry = CandidateSet {
            object: Object::new(items.encode()),
            items,
            level: level.ok_or(WireError::new("candidate_set.level", "unknown"))?,
            reason: LevelReason::parse(&set.level_reason),
            model_version: set.model_version.clone(),
            received_at: now,
        };
        if !entry.items.is_empty() {
            self.entries.insert(key, Arc::new(entry));
        }
        Ok(())
    }

    /// Whether the caller is the one to refresh this set; it must call [`Sets::refreshed`] afterwards.
    pub(crate) fn begin_refresh(&self, key: CohortKey) -> bool {
        self.refreshing.lock().insert(key)
    }

    pub(crate) fn refreshed(&self, key: CohortKey) {
        self.refreshing.lock().remove(&key);
    }

    /// Bytes of the sets held, for the cache's own metric.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|(_, set)| set.object.content().len() as u64 * 2).sum()
    }
}
