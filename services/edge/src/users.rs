//! The visitors this edge has seen lately: state, own list, and what is known of newer versions.
//!
//! Always holds: an entry is immutable and swapped whole; events of this edge's own visitors are applied here after they
//! are durable, and stay applied when an older view arrives.

use crate::object::Object;
use crate::request::format_time;
use crate::score::Candidates;
use crate::sets::CandidateSet;
use arc_swap::ArcSwapOption;
use attune_decision::ScoredItems;
use attune_domain::{BySpread, LoggedEvent, StateVersion, Uid, UnixMillis, UserState};
use attune_proto::{convert, state::v1 as wire};
use attune_serving::Serving;
use parking_lot::Mutex;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

const LOCKS: usize = 64;
/// Events that wait for the next page; beyond it they are applied at once.
const MAX_UNSHOWN: usize = 16;
/// Events applied here that the origin's view may not reflect yet.
const MAX_PENDING: usize = 64;

/// What the edge holds about a visitor.
#[derive(Debug, Clone)]
pub(crate) struct UserEntry {
    pub(crate) state: UserState,
    pub(crate) state_object: Object,
    /// The part of the user vector that depends on the state alone.
    pub(crate) window_vector: Vec<f32>,
    pub(crate) cluster: u16,
    pub(crate) own: Arc<ScoredItems>,
    pub(crate) own_object: Object,
    /// The state's watermark as answers have it.
    pub(crate) watermark: Option<Arc<str>>,
    /// Newest version heard of, and since when the state is behind it.
    known: StateVersion,
    behind_since: Option<UnixMillis>,
    pub(crate) pending: Vec<(u64, LoggedEvent)>,
    /// Version of the newest view taken in: what an older one lacks is not pending any more.
    base: StateVersion,
    last_candidates: LastCandidates,
}

/// The candidates of the last hit, for the next one.
#[derive(Debug, Default)]
struct LastCandidates(ArcSwapOption<Held>);

#[derive(Debug)]
struct Held {
    /// What they were made of beside the entry: the catalogue's offset, the name of the cohort's set.
    of: (u64, [u8; 16]),
    candidates: Candidates,
}

/// A copy is made to be changed.
impl Clone for LastCandidates {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl UserEntry {
    pub(crate) fn new(serving: &Serving, state: UserState, own: Arc<ScoredItems>, own_object: Object) -> Self {
        let mut window_vector = vec![0.0; serving.bundle.dim()];
        serving.bundle.window_vector(&serving.items, &state.window, &state.attributes, &mut window_vector);
        Self {
            cluster: serving.bundle.cohorts().assign(&window_vector),
            window_vector,
            state_object: Object::new(wire::UserState::from(&state).encode_to_vec()),
            watermark: state.watermark.and_then(format_time).map(Arc::from),
            known: state.version,
            behind_since: None,
            own,
            own_object,
            pending: Vec::new(),
            base: StateVersion::default(),
            last_candidates: LastCandidates::default(),
            state,
        }
    }

    /// Hands the visitor's candidates to `decide`. From one page to the next they are mostly the same.
    pub(crate) fn with_candidates<T>(
        &self,
        serving: &Serving,
        set: &CandidateSet,
        decide: impl FnOnce(&Candidates) -> T,
    ) -> T {
        let of = (serving.catalogue.next_offset(), *set.object.hash());
        match &*self.last_candidates.0.load() {
            Some(held) if held.of == of => decide(&held.candidates),
            _ => {
                let candidates = Candidates::new(serving, &self.state, &self.window_vector, &self.own, &set.items);
                let decided = decide(&candidates);
                self.last_candidates.0.store(Some(Arc::new(Held { of, candidates })));
                decided
            }
        }
    }

    /// A visitor of whom nothing is known.
    pub(crate) fn empty(serving: &Serving) -> Self {
        Self::new(serving, UserState::default(), Arc::default(), Object::new(Vec::new()))
    }

    /// Whether the state has been behind its known version for longer than `limit`.
    pub(crate) fn is_behind(&self, now: UnixMillis, limit: Duration) -> bool {
        self.behind_since.is_some_and(|since| now - since > limit.as_millis() as i64)
    }
}

/// An entry, and durable events that it does not show yet: a visitor may act many times between two pages, and only a page
/// needs them applied.
#[derive(Clone)]
struct Visitor {
    entry: Arc<UserEntry>,
    unshown: Vec<(u64, LoggedEvent)>,
}

impl Visitor {
    fn shown(entry: UserEntry) -> Self {
        Self { entry: Arc::new(entry), unshown: Vec::new() }
    }

    /// All that the origin's view may not reflect yet.
    fn pending(&self) -> Vec<(u64, LoggedEvent)> {
        self.entry.pending.iter().chain(&self.unshown).cloned().collect()
    }

    /// The entry with its events applied.
    fn show(&self, serving: &Serving) -> UserEntry {
        let old = &self.entry;
        let mut state = old.state.clone();
        let mut pending = old.pending.clone();
        for (next_offset, event) in &self.unshown {
            let version = StateVersion { epoch: old.state.version.epoch, next_offset: *next_offset };
            if state.apply(version, event) {
                pending.push((*next_offset, event.clone()));
            }
        }
        if pending.len() > MAX_PENDING {
            // The origin has long had the oldest.
            pending.drain(..pending.len() - MAX_PENDING);
        }
        let mut entry = UserEntry::new(serving, state, Arc::clone(&old.own), old.own_object.clone());
        entry.known = entry.state.version.max(old.known);
        entry.behind_since = old.behind_since.filter(|_| entry.known > entry.state.version);
        (entry.pending, entry.base) = (pending, old.base);
        entry
    }
}

/// Visitors by pseudonym, least recently used out.
pub(crate) struct Users {
    entries: moka::sync::Cache<Uid, Arc<Visitor>, BySpread>,
    /// Offsets that the next answer of a visitor without an entry must reflect.
    awaited: moka::sync::Cache<Uid, u64>,
    locks: [Mutex<()>; LOCKS],
}

impl Users {
    pub(crate) fn new(capacity: u64, on_evicted: impl Fn(Uid) + Send + Sync + 'static) -> Self {
        let lru = moka::policy::EvictionPolicy::lru;
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(lru())
            .eviction_listener(move |uid: Arc<Uid>, _, cause| {
                if cause.was_evicted() {
                    on_evicted(*uid);
                }
            })
            .build_with_hasher(BySpread::default());
        let awaited = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(lru())
            .time_to_live(Duration::from_secs(600))
            .build();
        Self { entries, awaited, locks: std::array::from_fn(|_| Mutex::new(())) }
    }

    /// With every event applied that [`Users::apply`] was told of.
    pub(crate) fn get(&self, serving: &Serving, uid: &Uid) -> Option<Arc<UserEntry>> {
        let visitor = self.entries.get(uid)?;
        if visitor.unshown.is_empty() {
            return Some(Arc::clone(&visitor.entry));
        }
        self.locked(uid, || {
            let visitor = self.entries.get(uid)?;
            if visitor.unshown.is_empty() {
                return Some(Arc::clone(&visitor.entry));
            }
            let shown = Visitor::shown(visitor.show(serving));
            let entry = Arc::clone(&shown.entry);
            self.entries.insert(*uid, Arc::new(shown));
            Some(entry)
        })
    }

    pub(crate) fn holds(&self, uid: &Uid) -> bool {
        self.entries.contains_key(uid)
    }

    /// Offset the next answer must reflect, where this edge holds no entry.
    pub(crate) fn awaited(&self, uid: &Uid) -> u64 {
        self.awaited.get(uid).unwrap_or(0)
    }

    fn locked<T>(&self, uid: &Uid, change: impl FnOnce() -> T) -> T {
        let _lock = self.locks[uid.spread() as usize % LOCKS].lock();
        change()
    }

    /// Takes in a view from the origin. Gives whether the visitor is new to this edge.
    pub(crate) fn put_view(
        &self,
        serving: &Serving,
        uid: Uid,
        view: &wire::UserView,
        now: UnixMillis,
    ) -> Result<bool, convert::WireError> {
        let mut state = convert::user_state(view.state.as_ref())?;
        let same_model = view.model_version == *serving.bundle.version().0;
        let own = match &view.own {
            Some(own) if same_model && !own.items.is_empty() => Some(ScoredItems::try_from(own)?),
            _ => None,
        };
        Ok(self.locked(&uid, || {
            let old = self.entries.get(&uid);
            let mut base = state.version;
            let mut pending = old.as_ref().map(|old| old.pending()).unwrap_or_default();
            let old = old.as_ref().map(|old| &old.entry);
            match &old {
                // A view that is older than what is here brings a list at most.
                Some(old) if base < old.base || (pending.is_empty() && base < old.state.version) => {
                    if own.is_none() {
                        return false;
                    }
                    (state, base) = (old.state.clone(), old.base);
                    for (next_offset, event) in &pending {
                        state.apply(StateVersion { epoch: state.version.epoch, next_offset: *next_offset }, event);
                    }
                }
                _ => {
                    pending.retain(|(next_offset, _)| *next_offset > base.next_offset);
                    for (next_offset, event) in &pending {
                        state.apply(StateVersion { epoch: 0, next_offset: *next_offset }, event);
                    }
                }
            }
            let (own, own_object) = match (own, &old) {
                (Some(own), _) => {
                    let object = Object::new(own.encode());
                    (Arc::new(own), object)
                }
                (None, Some(old)) if same_model => (Arc::clone(&old.own), old.own_object.clone()),
                _ => (Arc::default(), Object::new(Vec::new())),
            };
            let mut entry = match &old {
                // Events of this edge's own visitors come back: nothing to compute again.
                Some(old) if Arc::ptr_eq(&old.own, &own) && old.state == state => UserEntry::clone(old),
                _ => UserEntry::new(serving, state, own, own_object),
            };
            (entry.pending, entry.base) = (pending, base);
            if let Some(old) = &old {
                entry.known = entry.known.max(old.known);
                entry.behind_since = (entry.known > entry.state.version).then(|| old.behind_since.unwrap_or(now));
            }
            self.awaited.invalidate(&uid);
            self.entries.insert(uid, Arc::new(Visitor::shown(entry)));
            old.is_none()
        }))
    }

    /// Notes durable events of a visitor, so that the next answer shows them.
    pub(crate) fn apply(&self, serving: &Serving, uid: Uid, events: &[(u64, LoggedEvent)]) {
        let newest = events.iter().map(|(next_offset, _)| *next_offset).max().unwrap_or(0);
        self.locked(&uid, || {
            let Some(old) = self.entries.get(&uid) else {
                self.awaited.insert(uid, newest.max(self.awaited(&uid)));
                return;
            };
            let mut visitor = Visitor::clone(&old);
            visitor.unshown.extend_from_slice(events);
            if visitor.unshown.len() > MAX_UNSHOWN {
                visitor = Visitor::shown(visitor.show(serving));
            }
            self.entries.insert(uid, Arc::new(visitor));
        });
    }

    /// Hears that a newer version exists somewhere.
    pub(crate) fn version_moved(&self, uid: Uid, version: StateVersion, now: UnixMillis) {
        self.locked(&uid, || {
            let Some(old) = self.entries.get(&uid) else { return };
            if version <= old.entry.known {
                return;
            }
            let mut entry = UserEntry::clone(&old.entry);
            entry.known = version;
            entry.behind_since = (version > entry.state.version).then(|| old.entry.behind_since.unwrap_or(now));
            self.entries.insert(uid, Arc::new(Visitor { entry: Arc::new(entry), unshown: old.unshown.clone() }));
        });
    }

    pub(crate) fn forget(&self, uid: &Uid) {
        self.entries.invalidate(uid);
        self.awaited.invalidate(uid);
    }

    /// Every visitor held now, to be followed again after a reconnect.
    pub(crate) fn all(&self) -> Vec<(Uid, StateVersion)> {
        self.entries.iter().map(|(uid, visitor)| (*uid, visitor.entry.state.version)).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.entry_count()
    }
}
