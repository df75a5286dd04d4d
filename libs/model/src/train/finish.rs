//! From trained tables to a bundle: item rows, base rates, the edge's scorer, cohorts, histograms, metrics.

use crate::FIXED_COORDINATES;
use crate::attribution::FeatureGroup;
use crate::bundle::{Bundle, Parts, catalogue_hash};
use crate::content::ContentSection;
use crate::features::{COLUMNS, FIXED, UserSide};
use crate::histogram::{Histogram, Histograms};
use crate::items::{ItemSection, ItemTable};
use crate::manifest::{EdgeScorer, FORMAT, Head, Manifest, Metric};
use crate::progress::Progress;
use crate::schema::FeatureSchema;
use crate::tower::UserInput;
use crate::train::describe::{Counts, count};
use crate::train::ranking::{Evidence, Rows, Trained};
use crate::train::sampling::Tail;
use crate::train::timeline::Timeline;
use crate::train::towers::Towers;
use crate::train::{TrainConfig, TrainError, content, grouping};
use attune_dataset::Dataset;
use attune_domain::{Context, Item, ItemIx, UserWindow};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Visitors over whom base rates are averaged.
const BASE_VISITORS: usize = 64;
/// Weight of an item's content against its events, in events.
const CONTENT_TRUST: f32 = 0.5;
const BUCKETS: usize = 20;

/// Item rows of trained towers; fits the content section to them on the way. Base logits are still 0.
pub(crate) fn rows(towers: &Towers, counts: &Counts, section: &mut ContentSection, items: &[Item]) -> ItemSection {
    let dim = towers.latent + FIXED_COORDINATES;
    let popularity: Vec<f32> = counts.interactions.iter().map(|&n| (n as f32 + 0.5).ln()).collect();
    let mean = popularity.iter().sum::<f32>() / popularity.len() as f32;
    let mut vectors = Vec::with_capacity(items.len() * dim);
    for (ix, row) in towers.outputs.chunks_exact(towers.latent).enumerate() {
        vectors.extend_from_slice(row);
        // With the bias it makes a visitor without events see what is popular.
        vectors.extend([popularity[ix] - mean - towers.bias[ix], towers.bias[ix]]);
    }
    let mut own = ItemSection {
        vectors,
        inputs: towers.inputs.clone(),
        base_logits: vec![0.0; items.len()],
        stats: counts.stats.clone(),
    };
    section.unseen = counts.unseen;
    content::fit(section, &own, items, &counts.interactions, dim);
    content::shrink(&mut own, section, items, &counts.interactions, CONTENT_TRUST, dim);
    own
}

pub(crate) struct Finish<'a> {
    pub(crate) data: &'a Dataset,
    pub(crate) lines: &'a [Timeline],
    pub(crate) schema: FeatureSchema,
    pub(crate) config: &'a TrainConfig,
    pub(crate) evidence: Evidence,
    pub(crate) towers: Towers,
    pub(crate) content: ContentSection,
    pub(crate) rows: Rows,
    pub(crate) tail: Tail,
    pub(crate) ranker: Trained,
    pub(crate) tower_loss: f64,
    /// Examples that the loss is a mean over.
    pub(crate) tower_examples: u64,
    pub(crate) progress: &'a dyn Progress,
}

/// A training visitor as they stand after all events.
struct Visitor {
    user: usize,
    window: UserWindow,
    context: Context,
    now: i64,
}

impl Finish<'_> {
    pub(crate) fn bundle(mut self, rng: &mut ChaCha8Rng) -> Result<Bundle, TrainError> {
        let (items, dim) = (&self.data.items, self.config.dim);
        let counts = count(self.lines, items.len());
        let mut own = rows(&self.towers, &counts, &mut self.content, items);
        let table = ItemTable::from_sections(dim, &own, &self.content, items);
        let visitors = self.visitors();

        let (base_logits, edge) = self.base(&table, &visitors, rng);
        own.base_logits = base_logits;
        content::fit(&mut self.content, &own, items, &counts.interactions, dim);

        let vectors: Vec<Vec<f32>> = visitors.iter().map(|visitor| self.vector(&table, visitor, false)).collect();
        let cohorts = grouping::cohorts(&table, items, &counts.interactions, &vectors, self.config.clusters, rng);
        let manifest = Manifest {
            format: FORMAT,
            created_at: self.config.created_at,
            data: self.data.name.clone(),
            data_hash: data_hash(self.data),
            code_version: code_version(),
            config: self.config.clone(),
            dim,
            trained_items: items.len(),
            catalogue_hash: catalogue_hash(items),
            schema: self.schema.clone(),
            heads: self.heads(),
            edge,
            mean_vector: mean_vector(&vectors, dim - FIXED_COORDINATES),
            metrics: self.metrics(),
            sections: BTreeMap::new(),
        };
        let histograms = self.histograms();
        let parts = Parts {
            items: own,
            tower: self.towers.section,
            content: self.content,
            ranker: self.ranker.section,
            cohorts,
            histograms,
        };
        Ok(Bundle::assemble(manifest, parts)?)
    }

    fn visitors(&self) -> Vec<Visitor> {
        let lines = self.lines.iter().enumerate();
        let visitor = |(user, line): (usize, &Timeline)| {
            let last = line.steps.last()?;
            let window = line.window(line.steps.len());
            Some(Visitor { user, window, context: last.context, now: last.event.occurred_at })
        };
        lines.filter_map(visitor).collect()
    }

    fn vector(&self, table: &ItemTable, visitor: &Visitor, with_context: bool) -> Vec<f32> {
        let mut vector = vec![0.0; table.dim()];
        let attributes = &self.data.attributes[visitor.user];
        self.towers.section.window_vector(&self.schema, table, &visitor.window, attributes, &mut vector);
        if with_context {
            self.towers.section.add_context(visitor.context, &mut vector);
        }
        vector
    }

    /// Mean click chance per item (as a logit) over some visitors, and the line through (dot, click logit).
    fn base(&self, table: &ItemTable, visitors: &[Visitor], rng: &mut ChaCha8Rng) -> (Vec<f32>, EdgeScorer) {
        let stride = visitors.len().div_ceil(BASE_VISITORS).max(1);
        let sample: Vec<&Visitor> = visitors.iter().step_by(stride).collect();
        self.progress.stage("base rates", sample.len() as u64);
        let all: Vec<ItemIx> = (0..table.len() as u32).map(ItemIx).collect();
        let heads = self.ranker.heads.len();
        let mut sums = vec![0.0f64; table.len()];
        let mut line = Line::default();
        for (at, visitor) in sample.iter().enumerate() {
            let vector = self.vector(table, visitor, true);
            let attributes = &self.data.attributes[visitor.user];
            let input = UserInput { window: &visitor.window, attributes, context: visitor.context, now: visitor.now };
            let side = UserSide::new(&self.schema, table, &input, &vector);
            let mut points: Vec<(f32, f32)> = Vec::with_capacity(all.len());
            for chunk in all.chunks(512) {
                let mut features = Vec::with_capacity(chunk.len() * side.width());
                side.rows(chunk, 0, &mut features);
                self.ranker.section.clamp(&mut features);
                let dots: Vec<f32> = features.chunks_exact(side.width()).map(|row| row[0]).collect();
                let mut out = vec![0.0; chunk.len() * heads];
                self.ranker.section.model.forward(&features, &mut out);
                points.extend(dots.into_iter().zip(out.into_iter().step_by(heads)));
            }
            for (sum, &(_, logit)) in sums.iter_mut().zip(&points) {
                *sum += f64::from(attune_inference::sigmoid(logit));
            }
            // The edge scores candidates, so the line is fitted where candidates are: the best, and a few others.
            points.sort_by(|a, b| b.0.total_cmp(&a.0));
            points.iter().take(200).for_each(|&point| line.add(point));
            (0..50).for_each(|_| line.add(points[rng.random_range(0..points.len())]));
            self.progress.tick(at as u64 + 1, "");
        }
        let logit = |sum: f64| {
            let p = (sum / sample.len().max(1) as f64).clamp(1e-6, 1.0 - 1e-6);
            (p / (1.0 - p)).ln() as f32
        };
        (sums.into_iter().map(logit).collect(), line.fit())
    }

    fn heads(&self) -> Vec<Head> {
        let rows = &self.rows;
        let describe = |name: &&str| {
            let (trained_on, count) = match (self.evidence, *name) {
                (Evidence::SampledNegatives, _) => ("interactions against sampled negatives", rows.len() as u64),
                (_, "dwell") => ("dwell after logged clicks", rows.dwell.iter().filter(|&&d| d >= 0.0).count() as u64),
                _ => ("logged impressions", rows.len() as u64),
            };
            let calibrated = *name == "click" && self.ranker.validation.first_slot.holds();
            Head { name: (*name).to_owned(), trained_on: trained_on.to_owned(), rows: count, calibrated }
        };
        self.ranker.heads.iter().map(describe).collect()
    }

    fn metrics(&self) -> BTreeMap<String, Metric> {
        let mut metrics = BTreeMap::new();
        let mut put = |name: &str, value: Option<f64>, samples: u64| {
            if let Some(value) = value.filter(|v| v.is_finite() && samples > 0) {
                // JSON gives short numbers back as they were, and long ones only nearly.
                let value = (value * 1e9).round() / 1e9;
                metrics.insert(name.to_owned(), Metric { value, samples });
            }
        };
        let check = self.ranker.validation;
        put("tower.loss", Some(self.tower_loss), self.tower_examples);
        put(
            "tower.unseen_recall_at_100",
            Some(self.tail.found as f64 / self.tail.samples.max(1) as f64),
            self.tail.samples,
        );
        put("ranker.log_loss", Some(check.log_loss), check.rows);
        put("ranker.auc", check.auc, check.rows);
        put("ranker.calibration_error", check.calibration_error, check.rows);
        put("ranker.first_slot_calibration", check.first_slot.ratio(), check.first_slot.rows);
        metrics
    }

    fn histograms(&self) -> Histograms {
        let column = |at: usize| self.rows.features.iter().skip(at).step_by(self.rows.width).copied();
        let named = COLUMNS.iter().enumerate();
        let mut histograms: Histograms = named
            .filter(|(_, (_, group))| *group != FeatureGroup::Context)
            .filter_map(|(at, (name, _))| Some(((*name).to_owned(), Histogram::of(column(at), BUCKETS)?)))
            .collect();
        let mut first = FIXED;
        for (name, values) in self.schema.attribute_columns() {
            let counts: Vec<u64> =
                (first..first + values.len()).map(|at| column(at).filter(|&read| read > 0.0).count() as u64).collect();
            histograms.extend(Histogram::of_values(&counts).map(|histogram| (name.to_owned(), histogram)));
            first += values.len();
        }
        histograms
    }
}

fn mean_vector(vectors: &[Vec<f32>], latent: usize) -> Vec<f32> {
    if vectors.is_empty() {
        return Vec::new();
    }
    let mean = |at: usize| vectors.iter().map(|vector| f64::from(vector[at])).sum::<f64>() / vectors.len() as f64;
    (0..latent).map(|at| mean(at) as f32).collect()
}

/// Least squares through points.
#[derive(Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, (x, y): (f32, f32)) {
        let (x, y) = (f64::from(x), f64::from(y));
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Flat where the points do not rise: a score that fell with agreement would turn lists upside down.
    fn fit(&self) -> EdgeScorer {
        let variance = self.xx * self.n - self.x * self.x;
        let slope = if variance > 1e-9 { (self.xy * self.n - self.x * self.y) / variance } else { 0.0 }.max(1e-3);
        let intercept = (self.y - slope * self.x) / self.n.max(1.0);
        EdgeScorer { intercept: intercept as f32, slope: slope as f32 }
    }
}

/// Hash over items and events, not over pseudonyms: the same data under another subject key is the same data.
fn data_hash(data: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u32).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for item in &data.items {
        text(item.id.as_str());
        text(&item.title);
        item.categories.iter().for_each(|c| text(c));
        item.attributes.iter().for_each(|(n, v)| [n, v].iter().for_each(|t| text(t)));
        text(&format!("{:?} {:?} {}", item.price, item.created_at, item.available));
    }
    data.attributes.iter().flat_map(|a| &a.0).for_each(|(n, v)| [n, v].iter().for_each(|t| text(t)));
    for event in &data.events {
        hasher.update(&event.user.to_le_bytes());
        hasher.update(&event.item.0.to_le_bytes());
        hasher.update(&[
            event.kind.code(),
            event.context.page.code(),
            event.context.device.code(),
            event.context.geo.code(),
        ]);
        hasher.update(&event.occurred_at.to_le_bytes());
        hasher.update(&event.value.to_le_bytes());
        let slate = event.slate.map_or(u64::MAX, |s| u64::from(s.slate) << 8 | u64::from(s.position));
        hasher.update(&slate.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The crate's version, and a hash of what turns data into weights and windows into vectors.
fn code_version() -> String {
    const SOURCES: [&str; 14] = [
        include_str!("../features.rs"),
        include_str!("../tower.rs"),
        include_str!("../content.rs"),
        include_str!("../train.rs"),
        include_str!("calibration.rs"),
        include_str!("content.rs"),
        include_str!("describe.rs"),
        include_str!("factorise.rs"),
        include_str!("logistic.rs"),
        include_str!("network.rs"),
        include_str!("ranking.rs"),
        include_str!("sampling.rs"),
        include_str!("timeline.rs"),
        include_str!("towers.rs"),
    ];
    let mut hasher = blake3::Hasher::new();
    SOURCES.iter().for_each(|source| {
        hasher.update(source.as_bytes());
    });
    format!("{}-{}", env!("CARGO_PKG_VERSION"), &hasher.finalize().to_hex()[..16])
}
