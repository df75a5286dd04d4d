//! What a visitor's page was made from: the embedding and the features, for a sample of requests.
//!
//! The age of an embedding when it was read is the time since the newest event that it lacked then, and 0 where it lacked
//! none: so it tells of the pipeline, and not of how long a visitor was away. Events are compared by their offsets with
//! the state's version; the state is read a little after the page, so an age below this consumer's own delay shows as 0.
//! Features are those of what was shown, in its place, from the visitor's events before the page; the page's context is
//! not known here, nor the oldest events of a full window, where what the page led to is in it already.

use super::export::Observed;
use attune_domain::{Context, ItemIx, LoggedEvent, RequestId, Uid, UnixMillis, UserAttributes, UserState, UserWindow};
use attune_insight::{Baselines, EmbeddingRead, FeatureBaseline, FeatureValue, Insight};
use attune_model::{Bundle, FIXED_COORDINATES, UserInput, feature_names};
use attune_serving::Serving;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Pages this old are not looked at: their visitors have gone on.
const FRESH_MS: UnixMillis = 60_000;
/// Visitors, and pages, in a generation of what is remembered.
const VISITORS: usize = 32_768;
const PAGES: usize = 8_192;
/// Acceptances remembered of a visitor.
const ACCEPTANCES: usize = 4;

pub(crate) struct Reads {
    one_in: u64,
    newest: Recent<Uid, [Acceptance; ACCEPTANCES]>,
    pages: Recent<RequestId, ()>,
    /// Of the batch under way.
    batch: BTreeMap<RequestId, Page>,
    /// Place in the baselines of each column of a feature row, and of each user attribute.
    places: Vec<Option<u16>>,
    attributes: HashMap<String, u16>,
}

/// Events of a visitor that were accepted together: when, and the offset after the last of them.
#[derive(Debug, Clone, Copy, Default)]
struct Acceptance {
    at: UnixMillis,
    next_offset: u64,
}

struct Page {
    uid: Uid,
    /// Not the rest of one that the batch before began.
    is_first: bool,
    shown: Vec<(ItemIx, u8)>,
}

/// Two generations of a map, the older of which is forgotten when the younger is full.
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: std::hash::Hash + Eq, V: Clone + Default> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn entry(&mut self, key: K) -> &mut V {
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.get(&key).cloned();
        self.young.entry(key).or_insert_with(|| known.unwrap_or_default())
    }
}

impl Reads {
    pub(crate) fn new(one_in: u64) -> Self {
        Self {
            one_in,
            newest: Recent::new(VISITORS),
            pages: Recent::new(PAGES),
            batch: BTreeMap::new(),
            places: Vec::new(),
            attributes: HashMap::new(),
        }
    }

    /// Baselines of a model.
    pub(crate) fn baselines(&mut self, bundle: &Bundle) -> Baselines {
        let histograms = bundle.histograms();
        let mut features = Vec::new();
        let mut place = |name: &str| {
            let histogram = histograms.get(name)?;
            let (bounds, shares) = (histogram.bounds.clone(), histogram.shares.clone());
            features.push(FeatureBaseline { name: name.to_owned(), bounds, shares });
            u16::try_from(features.len() - 1).ok()
        };
        self.places = feature_names().map(&mut place).collect();
        let none = UserAttributes::default();
        let named = bundle.attribute_values(&none);
        self.attributes = named.filter_map(|(name, _)| Some((name.to_owned(), place(name)?))).collect();
        Baselines { features, embedding: bundle.manifest().mean_vector.clone() }
    }

    /// Notes an event; what was shown of a sampled page waits for [`Reads::look`].
    pub(crate) fn note(&mut self, offset: u64, event: &LoggedEvent, now: UnixMillis) {
        let fresh = now.saturating_sub(event.accepted_at) <= FRESH_MS;
        if !fresh || event.imported {
            return;
        }
        let shown = event.kind == attune_domain::EventKind::Impression;
        if let (Some(request), Some(slot), true) = (event.request_id, event.decided, shown) {
            let sampled = xxhash_rust::xxh3::xxh3_64(&request.0).is_multiple_of(self.one_in);
            if sampled {
                let pages = &mut self.pages;
                let page = self.batch.entry(request).or_insert_with(|| {
                    let is_first = pages.get(&request).is_none();
                    pages.entry(request);
                    Page { uid: event.uid, is_first, shown: Vec::new() }
                });
                page.shown.push((event.item, u8::try_from(slot.position).unwrap_or(u8::MAX)));
            }
        }
        let newest = self.newest.entry(event.uid);
        if newest[0].at != event.accepted_at {
            newest.rotate_right(1);
            newest[0].at = event.accepted_at;
        }
        newest[0].next_offset = offset + 1;
    }

    /// Looks at the pages of the batch.
    pub(crate) fn look(
        &mut self,
        insight: &mut Insight,
        observed: &mut Observed,
        serving: &Serving,
        visitors: &HashMap<Uid, UserState>,
    ) {
        for (request, page) in std::mem::take(&mut self.batch) {
            let Some(state) = visitors.get(&page.uid) else { continue };
            let at = request.unix_millis();
            let events = state.window.events().iter().filter(|event| event.occurred_at < at).copied().collect();
            let window = UserWindow::from_parts(events, Vec::new());
            let (bundle, items) = (&serving.bundle, &serving.items);
            let input =
                UserInput { window: &window, attributes: &state.attributes, context: Context::DEFAULT, now: at };
            let mut vector = vec![0.0; bundle.dim()];
            bundle.window_vector(items, &window, &state.attributes, &mut vector);
            if page.is_first {
                let embedding = &vector[..vector.len() - FIXED_COORDINATES];
                let (age, segment) = (self.age(&page.uid, state, at), window.segment());
                let found = (!window.is_empty()).then_some((age, embedding));
                if found.is_some() {
                    observed.freshness(segment, age);
                }
                let visitor = crate::processors::insight::visitor(page.uid);
                insight.embedding(&EmbeddingRead { at, visitor, segment, found });
                if let Some(stated_at) = state.attributes_at {
                    let age = Duration::from_millis(at.saturating_sub(stated_at).max(0).unsigned_abs());
                    let stated = bundle.attribute_values(&state.attributes).filter(|(_, place)| *place != Some(0));
                    stated.for_each(|(name, _)| observed.feature_age(name, age));
                }
            }
            bundle.add_context(Context::DEFAULT, &mut vector);
            let stated: Vec<FeatureValue> = bundle
                .attribute_values(&state.attributes)
                .filter_map(|(name, place)| {
                    let value = place.map(|place| place as f32);
                    Some(FeatureValue { feature: *self.attributes.get(name)?, value, unseen: value.is_none() })
                })
                .collect();
            bundle.feature_rows(items, &input, &vector, &page.shown, |row| {
                let value = |(place, &value): (&Option<u16>, &f32)| {
                    Some(FeatureValue { feature: (*place)?, value: Some(value), unseen: false })
                };
                let mut values: Vec<FeatureValue> = self.places.iter().zip(row).filter_map(value).collect();
                values.extend(&stated);
                insight.features(at, &values);
            });
        }
    }

    /// Time since the newest event before `at` that the state lacks.
    fn age(&self, uid: &Uid, state: &UserState, at: UnixMillis) -> Duration {
        let accepted = self.newest.get(uid).into_iter().flatten();
        let newest = accepted.filter(|a| a.next_offset > 0 && a.at < at).max_by_key(|a| a.at);
        match newest {
            Some(newest) if newest.next_offset > state.version.next_offset => {
                Duration::from_millis(u64::try_from(at - newest.at).unwrap_or(0))
            }
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let visitors = self.newest.young.capacity() + self.newest.old.capacity();
        let pages = self.pages.young.capacity() + self.pages.old.capacity();
        visitors * (size_of::<(Uid, [Acceptance; ACCEPTANCES])>() + 1) + pages * (size_of::<RequestId>() + 1)
    }
}
