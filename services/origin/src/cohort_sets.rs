//! Candidate sets by cohort: built once for everybody who shares it, and kept while fresh.

use crate::level::Ladder;
use crate::page::{self, PageRequest};
use crate::{OriginConfig, Parts};
use attune_decision::{CohortKey, ScoredItems, merge};
use attune_domain::{Level, RequestId, Uid, UnixMillis, UserState};
use attune_proto::state::v1 as wire;
use attune_rpc::Scope;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A degraded set must not outlive what degraded it.
const DEGRADED_TTL: Duration = Duration::from_secs(2);

struct ByLevel {
    fresh: Duration,
}

impl moka::Expiry<CohortKey, Arc<wire::CandidateSet>> for ByLevel {
    fn expire_after_create(&self, _: &CohortKey, set: &Arc<wire::CandidateSet>, _: Instant) -> Option<Duration> {
        Some(if set.level == 0 { self.fresh } else { self.fresh.min(DEGRADED_TTL) })
    }
}

pub(crate) struct CohortSets(moka::future::Cache<CohortKey, Arc<wire::CandidateSet>>);

impl CohortSets {
    pub(crate) fn new(config: &OriginConfig) -> Self {
        let cache = moka::future::Cache::builder()
            .max_capacity(config.cohort_capacity)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .expire_after(ByLevel { fresh: config.cohort_ttl.get() })
            .build();
        Self(cache)
    }

    /// The cohort's set; callers that ask at once share one build.
    pub(crate) async fn get(
        &self,
        parts: &Parts,
        scope: &Scope,
        key: CohortKey,
        now: UnixMillis,
    ) -> Arc<wire::CandidateSet> {
        self.0.get_with(key, build(parts, scope, key, now)).await
    }
}

async fn build(parts: &Parts, scope: &Scope, key: CohortKey, now: UnixMillis) -> Arc<wire::CandidateSet> {
    let serving = parts.serving.load_full();
    let cohorts = serving.bundle.cohorts();
    let mut user_vector = cohorts.centroid(key.cluster).to_vec();
    serving.bundle.add_context(key.context(), &mut user_vector);
    let request = PageRequest {
        uid: Uid([0; 17]),
        context: key.context(),
        limit: 0,
        item: None,
        query: String::new(),
        request_id: RequestId::default(),
        now,
        seed: 0,
        holdout: false,
        pending: Vec::new(),
        min_offset: 0,
    };
    let nobody = UserState::default();
    let mut ladder = Ladder::TOP;
    let retrieved =
        page::retrieve(parts, scope, &serving, &request, &nobody, &user_vector, key.cluster, &mut ladder).await;
    let mut set = ScoredItems::default();
    let intercept = serving.bundle.edge().intercept;
    for (item, source) in merge(&retrieved.sources, parts.config.cohort_items) {
        if serving.is_available(item) && item.index() < serving.items.len() {
            // The line of the two-tower score itself: every visitor's own dot product moves it.
            set.items.push(item.0);
            set.offsets.push(intercept);
            set.reasons.push(page::reason_of(source));
        }
    }
    if set.is_empty() {
        ladder.fall(Level::GlobalFavourites, attune_domain::LevelReason::NoCandidates);
    }
    Arc::new(wire::CandidateSet {
        cohort: key.to_string(),
        model_version: serving.bundle.version().to_string(),
        items: Some((&set).into()),
        level: ladder.level.code().into(),
        level_reason: ladder.reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        built_at: now,
    })
}
