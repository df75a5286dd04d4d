//! Visitors as the origin sees them: state from the feature store, and the view an edge keeps.

use crate::level::Ladder;
use crate::page::{self, PageRequest};
use crate::{OriginError, Parts};
use attune_decision::{CohortKey, ScoredItems};
use attune_domain::{Context, Level, LevelReason, LoggedEvent, RequestId, StateVersion, Uid, UnixMillis, UserState};
use attune_model::{Presence, UserInput};
use attune_proto::state::v1 as wire;
use attune_rpc::Scope;
use attune_serving::Serving;
use attune_storage::{StorageError, USER_EVENTS_CONSUMER};
use attune_telemetry::Name;
use std::sync::Arc;
use std::time::Duration;

/// The last state seen of each visitor, for the time the feature store is away.
pub(crate) struct Snapshots(moka::sync::Cache<Uid, Arc<UserState>>);

impl Snapshots {
    pub(crate) fn new(capacity: u64) -> Self {
        let policy = moka::policy::EvictionPolicy::lru();
        Self(moka::sync::Cache::builder().max_capacity(capacity).eviction_policy(policy).build())
    }

    pub(crate) fn forget(&self, uid: &Uid) {
        self.0.invalidate(uid);
    }
}

/// A visitor's state from the store, at least as new as `min_offset` where that comes in time.
pub(crate) async fn load(
    parts: &Parts,
    uid: Uid,
    min_offset: u64,
    max: Duration,
) -> Result<Arc<UserState>, StorageError> {
    let read = async {
        if min_offset > 0 {
            // Waiting leaves room for the read itself.
            parts.features.wait_applied(USER_EVENTS_CONSUMER, min_offset, max / 2).await?;
        }
        parts.features.load_users(&[uid]).await
    };
    let mut states = tokio::time::timeout(max, read).await.map_err(|_| StorageError::Unavailable)??;
    let state = Arc::new(states.pop().unwrap_or_default());
    parts.views.0.insert(uid, Arc::clone(&state));
    Ok(state)
}

/// Views that have the states alone, in the order of `uids`.
pub(crate) async fn states(parts: &Parts, uids: &[Uid], max: Duration) -> Result<Vec<wire::UserView>, StorageError> {
    let model_version = parts.serving.load().bundle.version().to_string();
    let read = parts.features.load_users(uids);
    let states = tokio::time::timeout(max, read);
    let states = states.await.map_err(|_| StorageError::Unavailable)??;
    let view = |state: &UserState| wire::UserView {
        state: Some(state.into()),
        own: None,
        own_version: None,
        model_version: model_version.clone(),
    };
    Ok(states.iter().map(view).collect())
}

/// Applies events that the edge knows to be durable and the state may lack.
fn overlay(state: &mut Arc<UserState>, pending: &[(u64, LoggedEvent)]) {
    for (next_offset, event) in pending {
        let version = StateVersion { epoch: 0, next_offset: *next_offset };
        if version > state.version {
            Arc::make_mut(state).apply(version, event);
        }
    }
}

/// The `context.build` stage. Also says whether the state is the store's own rather than a substitute.
pub(crate) async fn build_context(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    request: &PageRequest,
    ladder: &mut Ladder,
) -> (Arc<UserState>, bool) {
    let max = parts.config.deadlines.context.get();
    let read = async |scope: Scope| {
        let loaded = load(parts, request.uid, request.min_offset, max).await;
        let empty = UserState::default();
        let state = loaded.as_deref().unwrap_or(&empty);
        let input = UserInput {
            window: &state.window,
            attributes: &state.attributes,
            context: request.context,
            now: request.now,
        };
        let presence = serving.bundle.feature_presence(&input);
        parts.metrics.features_read(&presence);
        scope.span.set("feature_count", presence.len());
        scope.span.set("features_missing", presence.iter().filter(|(_, read)| *read == Presence::Missing).count());
        // An attribute that is not there, or not known, is read by the row that stands for nobody in particular.
        let mut read = serving.bundle.attribute_values(&state.attributes);
        let default = read.find(|(_, place)| place.is_none_or(|place| place == 0)).map(|(name, _)| name);
        drop(read);
        scope.span.set("default_path", default.is_some());
        if let Some(name) = default.and_then(Name::new) {
            scope.span.set("default_feature", &name);
        }
        loaded
    };
    let loaded = parts.stages.run(scope, "context.build", max, read).await;
    let known = loaded.is_ok();
    let mut state = match loaded {
        Ok(state) => state,
        Err(_) => {
            let snapshot = parts.views.0.get(&request.uid);
            let level =
                if snapshot.is_some() || !request.pending.is_empty() { Level::Stale } else { Level::CohortFavourites };
            ladder.fall(level, LevelReason::StateUnavailable);
            snapshot.unwrap_or_default()
        }
    };
    overlay(&mut state, &request.pending);
    if known && state.version.next_offset < request.min_offset {
        ladder.fall(Level::Stale, LevelReason::StateBehind);
    }
    (state, known)
}

/// The cohort an edge will look the visitor up under: by the part of the user vector that the state alone decides.
pub(crate) fn cohort(serving: &Serving, state: &UserState, context: Context) -> CohortKey {
    let mut vector = vec![0.0; serving.bundle.dim()];
    serving.bundle.window_vector(&serving.items, &state.window, &state.attributes, &mut vector);
    CohortKey { cluster: serving.bundle.cohorts().assign(&vector), geo: context.geo, page: context.page }
}

/// A visitor's state and own list, as an edge keeps them. The list is empty where a service it needs is away.
pub(crate) async fn build(
    parts: &Parts,
    scope: &Scope,
    uid: Uid,
    min_offset: u64,
    now: UnixMillis,
) -> Result<wire::UserView, OriginError> {
    let serving = parts.serving.load_full();
    let state = load(parts, uid, min_offset, parts.config.deadlines.context.get()).await?;
    let own = if state.window.is_empty() {
        ScoredItems::default()
    } else {
        own_list(parts, scope, &serving, uid, &state, now).await
    };
    Ok(to_wire(&serving, &state, &own))
}

async fn own_list(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    uid: Uid,
    state: &UserState,
    now: UnixMillis,
) -> ScoredItems {
    let request = PageRequest {
        uid,
        context: Context::DEFAULT,
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
    let input = UserInput { window: &state.window, attributes: &state.attributes, context: request.context, now };
    let user_vector = serving.bundle.user_vector(&serving.items, &input);
    let cluster = serving.bundle.cohorts().assign(&user_vector);
    let mut ladder = Ladder::TOP;
    let retrieved = page::retrieve(parts, scope, serving, &request, state, &user_vector, cluster, &mut ladder).await;
    let inputs = page::MissInputs {
        serving,
        state,
        sources: &retrieved.sources,
        item: None,
        candidates: parts.config.candidates,
    };
    let (items, reasons) = page::miss_candidates(&inputs);
    let Some(scores) = page::rank(parts, scope, serving, &request, state, &items).await else {
        return ScoredItems::default();
    };
    let dots = page::dots(serving, &user_vector, &items);
    page::own_list(serving, parts.config.own_items, &items, &scores, &dots, &reasons)
}

pub(crate) fn to_wire(serving: &Serving, state: &UserState, own: &ScoredItems) -> wire::UserView {
    wire::UserView {
        state: Some(state.into()),
        own: Some(own.into()),
        own_version: Some(state.version.into()),
        model_version: serving.bundle.version().to_string(),
    }
}
