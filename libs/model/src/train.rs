//! Training: a data set to a bundle. Deterministic for a seed.

mod calibration;
mod content;
mod describe;
mod factorise;
mod finish;
mod grouping;
mod linear;
mod logistic;
mod network;
mod ranking;
mod sampling;
mod timeline;
mod towers;

pub(crate) use timeline::{likes, window_event};

use crate::FIXED_COORDINATES;
use crate::bundle::{Bundle, BundleError};
use crate::content::ContentSection;
use crate::features::width;
use crate::items::ItemTable;
use crate::progress::Progress;
use crate::schema::FeatureSchema;
use crate::tower::{CONTEXT_ROWS, TowerSection, attribute_rows};
use attune_dataset::Dataset;
use attune_domain::{EventKind, WINDOW_EVENTS};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use ranking::Evidence;
use serde::{Deserialize, Serialize};
use timeline::{Cut, Timeline};
use towers::{Course, Towers};

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("config {field}: {reason}")]
    Config { field: &'static str, reason: String },
    #[error("the data cannot be trained on: {0}")]
    Data(String),
    #[error("training failed: {0}")]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What a training run may be told. Part of the manifest, so of the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    pub seed: u64,
    /// Stands in the manifest; the clock is not read.
    pub created_at: i64,
    /// Of user and item vectors, the two fixed coordinates included; a multiple of 16.
    pub dim: usize,
    /// Passes of the two towers over all but each visitor's newest events.
    pub tower_epochs: usize,
    /// Passes over everything, after the ranker has learnt from the newest events.
    pub final_epochs: usize,
    pub ranker_epochs: usize,
    /// Next-item examples a pass takes at most.
    pub examples_per_epoch: usize,
    /// Rows the ranker learns from at most.
    pub ranker_rows: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of window events left out at random.
    pub dropout: f32,
    /// Events after which an event's weight has fallen to 1/e.
    pub recency_events: f32,
    /// Ridge penalty of the factorisation the towers start from.
    pub ridge: f64,
    /// Taste clusters, the one for visitors without events included.
    pub clusters: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            created_at: 0,
            dim: 128,
            tower_epochs: 3,
            final_epochs: 1,
            ranker_epochs: 3,
            examples_per_epoch: 200_000,
            ranker_rows: 300_000,
            batch: 512,
            learning_rate: 2e-3,
            weight_decay: 1e-4,
            dropout: 0.2,
            recency_events: 10.0,
            ridge: 200.0,
            clusters: 32,
        }
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), TrainError> {
        let wrong = |field, reason: &str| Err(TrainError::Config { field, reason: reason.to_owned() });
        if !self.dim.is_multiple_of(16) || !(16..=1024).contains(&self.dim) {
            return wrong("dim", "must be a multiple of 16 between 16 and 1024");
        }
        if self.batch == 0 || self.batch > 4096 {
            return wrong("batch", "must be between 1 and 4096");
        }
        if !(2..=1024).contains(&self.clusters) {
            return wrong("clusters", "must be between 2 and 1024");
        }
        if !(0.0..0.95).contains(&self.dropout) {
            return wrong("dropout", "must be at least 0 and below 0.95");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate < 1.0) {
            return wrong("learning_rate", "must be above 0 and below 1");
        }
        if !(0.0..1.0).contains(&self.weight_decay) {
            return wrong("weight_decay", "must be at least 0 and below 1");
        }
        if !(self.recency_events > 0.0 && self.recency_events.is_finite()) {
            return wrong("recency_events", "must be above 0");
        }
        if !(self.ridge > 0.0 && self.ridge.is_finite()) {
            return wrong("ridge", "must be above 0");
        }
        if self.examples_per_epoch == 0 || self.ranker_rows < 1000 {
            return wrong("ranker_rows", "must be at least 1000, and examples_per_epoch at least 1");
        }
        Ok(())
    }
}

/// Weight of an event in the user vector by its kind.
fn kind_weights() -> Vec<f32> {
    let weight = |kind: &EventKind| match kind {
        EventKind::Impression => 0.0,
        EventKind::Click | EventKind::Like => 1.0,
        EventKind::Conversion => 1.5,
        EventKind::Dwell => 0.3,
        EventKind::Hide => -0.5,
    };
    EventKind::ALL.iter().map(weight).collect()
}

/// Trains a bundle. The same data and config give the same bundle on the same CPU.
pub fn train(data: &Dataset, config: &TrainConfig, progress: &dyn Progress) -> Result<Bundle, TrainError> {
    config.check()?;
    let lines = timeline::timelines(data);
    let targets = lines.iter().flat_map(|l| &l.steps).filter(|s| s.target).count();
    if data.items.len() < 2 || targets < 20 {
        return Err(TrainError::Data(format!(
            "{} has {} items and {targets} first interactions, at least 2 and 20 are needed",
            data.name,
            data.items.len()
        )));
    }
    if data.attributes.len() != data.users.len() {
        return Err(TrainError::Data("attributes must be parallel to users".into()));
    }
    let shown: usize = lines.iter().map(|l| l.shown.len()).sum();
    let evidence = if shown >= 1000 { Evidence::Impressions } else { Evidence::SampledNegatives };
    let schema = describe::schema(data);
    let attributes: Vec<Vec<usize>> = data.attributes.iter().map(|a| attribute_rows(&schema, a).collect()).collect();
    let course = Course { lines: &lines, attributes: &attributes, config, progress };
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);

    let cut = match evidence {
        Evidence::Impressions => Timeline::cut_by_slates,
        Evidence::SampledNegatives => Timeline::cut_by_steps,
    };
    let cuts: Vec<Cut> = lines.iter().map(cut).collect();
    let head = heads_of(&lines, &cuts);
    let head_counts = describe::count(&head, data.items.len());
    let mut towers = start(&head, &head_counts.interactions, &schema, config, progress, &mut rng);
    let examples = towers::examples(&lines, |user| 0..cuts[user].steps);
    let mut tower_examples = examples.len().min(config.examples_per_epoch) as u64;
    let mut tower_loss = towers.train(&course, examples, config.tower_epochs, &mut rng)?;

    let mut content = ContentSection::new(describe::vocabulary(&data.items));
    let own = finish::rows(&towers, &head_counts, &mut content, &data.items);
    let table = ItemTable::from_sections(config.dim, &own, &content, &data.items);
    let sampler = sampling::Sampler {
        lines: &lines,
        cuts: &cuts,
        attributes: &data.attributes,
        schema: &schema,
        tower: &towers.section,
        table: &table,
        progress,
        limit: config.ranker_rows,
    };
    let (rows, tail) = sampler.rows(width(&schema), evidence, &mut rng);
    if rows.groups.len() < 2 {
        return Err(TrainError::Data(format!("{} has too few visitors with a history for the ranker", data.name)));
    }
    let ranker = ranking::train(&rows, evidence, config.ranker_epochs, progress, &mut rng)?;

    if config.final_epochs > 0 {
        let examples = towers::examples(&lines, |user| 0..lines[user].steps.len());
        tower_examples = examples.len().min(config.examples_per_epoch) as u64;
        tower_loss = towers.train(&course, examples, config.final_epochs, &mut rng)?;
    }
    let finish = finish::Finish {
        data,
        lines: &lines,
        schema,
        config,
        evidence,
        towers,
        content,
        rows,
        tail,
        ranker,
        tower_loss,
        tower_examples,
        progress,
    };
    finish.bundle(&mut rng)
}

/// The histories cut to what the towers see first.
fn heads_of(lines: &[Timeline], cuts: &[Cut]) -> Vec<Timeline> {
    let head = |(line, cut): (&Timeline, &Cut)| Timeline {
        steps: line.steps[..cut.steps].to_vec(),
        shown: line.shown[..cut.shown].to_vec(),
    };
    lines.iter().zip(cuts).map(head).collect()
}

/// Scale of the starting logits; a softmax wants them larger than a regression on zeros and ones gives.
const START_SCALE: f32 = 8.0;

fn start(
    head: &[Timeline],
    interactions: &[u32],
    schema: &FeatureSchema,
    config: &TrainConfig,
    progress: &dyn Progress,
    rng: &mut ChaCha8Rng,
) -> Towers {
    progress.stage("factorise", 1);
    let items = interactions.len();
    let latent = config.dim - FIXED_COORDINATES;
    let histories: Vec<Vec<u32>> =
        head.iter().map(|line| line.steps.iter().filter(|s| s.target).map(|s| s.event.item.0).collect()).collect();
    let mut factors = factorise::factorise(&histories, items, latent, config.ridge, rng);
    for value in factors.inputs.iter_mut().chain(&mut factors.outputs) {
        *value *= START_SCALE.sqrt();
    }
    let raw: Vec<f32> = interactions.iter().map(|&n| 0.5 * (n as f32 + 0.5).ln()).collect();
    let mean = raw.iter().sum::<f32>() / items as f32;
    let values: usize = schema.attribute_columns().map(|(_, values)| values.len()).sum();
    progress.tick(1, "");
    Towers {
        items,
        latent,
        inputs: factors.inputs,
        outputs: factors.outputs,
        bias: raw.iter().map(|b| b - mean).collect(),
        section: TowerSection {
            recency: (0..WINDOW_EVENTS).map(|age| (-(age as f32) / config.recency_events).exp()).collect(),
            kinds: kind_weights(),
            context: vec![0.0; CONTEXT_ROWS * latent],
            attributes: vec![0.0; values * latent],
        },
    }
}
