//! Drift from the training, counted anew from each page and what its visitor had done before it.
//!
//! The platform does not look at pages that it comes to late, so a number may differ as one of other pages would: by
//! the standard error over pages. And it reads a visitor's state a little after the page, when what the page led to may
//! have pushed the oldest events out: so a number may differ by as much as that would change it for all pages.

use super::Window;
use super::truth::{Seen, Shown, Truth};
use attune_domain::{Context, ItemIx, RequestId, StateVersion, Uid, UserState, UserWindow};
use attune_model::{FIXED_COORDINATES, UserInput, feature_names};
use std::collections::{BTreeMap, HashMap};

/// Slots of a page.
type Slots = Vec<(ItemIx, u8)>;

/// What the pages of a window were made from.
struct Pages<'a> {
    seen: &'a Seen<'a>,
    /// Of pages whose visitors had one.
    embeddings: Vec<Vec<f64>>,
    /// Of each feature and page, how many of its values are in each bin of the training.
    features: BTreeMap<&'a str, Vec<Vec<f64>>>,
}

/// Drift of the embeddings, and of each feature, in the pages of a window.
pub(super) fn recounted<'a>(
    seen: &'a Seen<'a>,
    shown: &[Shown<'_>],
    window: Window,
) -> (Truth, impl Iterator<Item = (&'a str, Truth)>) {
    let [before, after] = Pages::read(seen, shown, window);
    let widened =
        |truth: Truth, after: Truth| Truth { error: truth.error.max((after.value - truth.value).abs()), ..truth };
    let embedding = widened(before.embedding_drift(), after.embedding_drift());
    let names = seen.serving.bundle.histograms().keys();
    let features =
        names.map(move |name| (name.as_str(), widened(before.feature_drift(name), after.feature_drift(name))));
    (embedding, features)
}

impl<'a> Pages<'a> {
    /// With the visitors' states as they were when the pages were made, and without what each page pushed out.
    fn read(seen: &'a Seen<'a>, shown: &[Shown<'_>], window: Window) -> [Self; 2] {
        let mut slots: HashMap<RequestId, Slots> = HashMap::new();
        for shown in shown.iter().filter(|shown| window.has(shown.at, seen.until)) {
            let position = u8::try_from(shown.slot.position).unwrap_or(u8::MAX);
            slots.entry(shown.request).or_default().push((shown.event.item, position));
        }
        let mut ends: HashMap<RequestId, [usize; 2]> = HashMap::new();
        for (n, event) in seen.log.iter().enumerate() {
            event.request_id.into_iter().for_each(|request| ends.entry(request).or_insert([n; 2])[1] = n);
        }
        let mut states: HashMap<Uid, UserState> = HashMap::new();
        let mut pages = [(); 2].map(|()| Self { seen, embeddings: Vec::new(), features: BTreeMap::new() });
        for (n, event) in seen.log.iter().enumerate() {
            let state = states.entry(event.uid).or_default();
            let page = event.request_id.and_then(|request| Some((request, slots.get(&request)?)));
            if let Some((request, slots)) = page
                && ends[&request][0] == n
            {
                pages[0].look(request, state, slots);
            }
            state.apply(StateVersion { epoch: 0, next_offset: n as u64 + 1 }, event);
            if let Some((request, slots)) = page
                && ends[&request][1] == n
            {
                pages[1].look(request, state, slots);
            }
        }
        pages
    }

    fn look(&mut self, request: RequestId, state: &UserState, slots: &Slots) {
        let Some(page) = self.seen.visits.pages.get(&request) else { return };
        let (bundle, items) = (&self.seen.serving.bundle, &self.seen.serving.items);
        let (attributes, now) = (self.seen.world.attributes(page.user), request.unix_millis());
        let events = state.window.events().iter().filter(|event| event.occurred_at < now).copied().collect();
        let window = UserWindow::from_parts(events, Vec::new());
        let mut vector = vec![0.0; bundle.dim()];
        bundle.window_vector(items, &window, &attributes, &mut vector);
        if !window.is_empty() {
            let embedding = &vector[..vector.len() - FIXED_COORDINATES];
            self.embeddings.push(embedding.iter().map(|x| f64::from(*x)).collect());
        }

        let mut bins: BTreeMap<&'a str, Vec<f64>> = BTreeMap::new();
        let mut add = |name: &str, value: f32| {
            if let Some((name, histogram)) = bundle.histograms().get_key_value(name) {
                let bins = bins.entry(name).or_insert_with(|| vec![0.0; histogram.shares.len()]);
                bins[histogram.bounds.partition_point(|bound| *bound <= value)] += 1.0;
            }
        };
        bundle.add_context(Context::DEFAULT, &mut vector);
        let input = UserInput { window: &window, attributes: &attributes, context: Context::DEFAULT, now };
        bundle.feature_rows(items, &input, &vector, slots, |row| {
            feature_names().zip(row).filter(|(_, value)| value.is_finite()).for_each(|(name, value)| add(name, *value));
            for (name, place) in bundle.attribute_values(&attributes) {
                place.into_iter().for_each(|place| add(name, place as f32));
            }
        });
        bins.into_iter().for_each(|(name, bins)| self.features.entry(name).or_default().push(bins));
    }

    /// Cosine distance of the mean embedding from that of the training.
    fn embedding_drift(&self) -> Truth {
        let trained: Vec<f64> = self.seen.serving.bundle.manifest().mean_vector.iter().map(|x| f64::from(*x)).collect();
        let sum: Vec<f64> = (0..trained.len()).map(|n| self.embeddings.iter().map(|page| page[n]).sum()).collect();
        let (own, other) = (dot(&sum, &sum).sqrt(), dot(&trained, &trained).sqrt());
        let cosine = dot(&sum, &trained) / (own * other);
        // Its gradient over the sum, page by page.
        let moved = |page: &Vec<f64>| (dot(page, &trained) / other - cosine * dot(page, &sum) / own) / own;
        let error = self.embeddings.iter().map(|page| moved(page).powi(2)).sum::<f64>().sqrt();
        Truth { value: 1.0 - cosine, error }
    }

    /// Kullback-Leibler divergence from the training in nats, half a value added to each bin.
    fn feature_drift(&self, name: &str) -> Truth {
        let trained = &self.seen.serving.bundle.histograms()[name].shares;
        let pages = self.features.get(name).map_or(&[][..], Vec::as_slice);
        let counts: Vec<f64> = (0..trained.len()).map(|bin| pages.iter().map(|page| page[bin]).sum()).collect();
        let total: f64 = counts.iter().sum();
        let shares: Vec<f64> = counts.iter().map(|count| (count + 0.5) / (total + counts.len() as f64 / 2.0)).collect();
        let slopes: Vec<f64> = shares.iter().zip(trained).map(|(now, then)| (now / then.max(1e-6)).ln()).collect();
        let value = dot(&shares, &slopes);
        // Its gradient over the counts, page by page.
        let moved = |page: &Vec<f64>| (dot(page, &slopes) - value * page.iter().sum::<f64>()) / total;
        Truth { value, error: pages.iter().map(|page| moved(page).powi(2)).sum::<f64>().sqrt() }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
