//! Training of the ranker: a linear model beside a small perceptron, one output per head.
//!
//! Rows come from each visitor's newest events, which the towers have not seen by then, so that the ranker learns how
//! far a tower's opinion can be trusted on what is new. Where slates were logged, rows are impressions, with the slot
//! as a feature; elsewhere each positive stands against sampled negatives, and no calibration is claimed.
//! Always holds: the slot adds to a logit and changes nothing else of it, so that what is learnt in every slot is known
//! of the first, where each item is asked for.

use crate::features::{POSITION, UserSide};
use crate::progress::Progress;
use crate::ranker::RankerSection;
use crate::train::TrainError;
use crate::train::calibration::{Correction, Judged, Validation};
use crate::train::logistic::{Point, logistic};
use crate::train::network::{Network, Start, correct, fold};
use attune_domain::ItemIx;
use attune_inference::Layer;
use candle_core::{D, Device, Tensor};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

const LEARNING_RATE: f64 = 1e-3;
const WEIGHT_DECAY: f64 = 1e-2;
const HUBER_DWELL: f32 = 0.5;
/// Groups in a batch.
const BATCH_GROUPS: usize = 32;

/// Rows of one decision: shown slates, or a positive and its sampled negatives.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) width: usize,
    pub(crate) features: Vec<f32>,
    pub(crate) clicked: Vec<f32>,
    pub(crate) converted: Vec<f32>,
    /// ln(1 + seconds), or negative where there was no dwell.
    pub(crate) dwell: Vec<f32>,
    /// First row of each group.
    pub(crate) groups: Vec<usize>,
}

/// How the rows came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    Impressions,
    SampledNegatives,
}

impl Rows {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.clicked.len()
    }

    pub(crate) fn open_group(&mut self) {
        self.groups.push(self.len());
    }

    pub(crate) fn push(
        &mut self,
        side: &UserSide,
        item: ItemIx,
        position: u8,
        clicked: bool,
        converted: bool,
        dwell: Option<f32>,
    ) {
        side.rows(&[item], position, &mut self.features);
        self.clicked.push(f32::from(u8::from(clicked)));
        self.converted.push(f32::from(u8::from(converted)));
        self.dwell.push(dwell.map_or(-1.0, attune_inference::ln_1p));
    }

    fn group(&self, at: usize) -> std::ops::Range<usize> {
        self.groups[at]..self.groups.get(at + 1).copied().unwrap_or(self.len())
    }

    pub(crate) fn positives(&self, of: &[f32]) -> u64 {
        of.iter().filter(|&&x| x > 0.5).count() as u64
    }
}

/// A trained ranker and how well it did on groups it did not learn from.
pub(crate) struct Trained {
    pub(crate) section: RankerSection,
    pub(crate) heads: Vec<&'static str>,
    pub(crate) validation: Validation,
}

pub(crate) struct Scaling {
    low: Vec<f32>,
    high: Vec<f32>,
    pub(crate) mean: Vec<f32>,
    /// 1 / standard deviation; 0 where a feature never varied, so that it stays without effect.
    pub(crate) inverse: Vec<f32>,
}

fn scaling(rows: &Rows) -> Scaling {
    let (w, n) = (rows.width, rows.len().max(1) as f64);
    let (mut low, mut high) = (vec![f32::INFINITY; w], vec![f32::NEG_INFINITY; w]);
    let (mut sum, mut square) = (vec![0.0f64; w], vec![0.0f64; w]);
    for row in rows.features.chunks_exact(w) {
        for (at, &x) in row.iter().enumerate() {
            low[at] = low[at].min(x);
            high[at] = high[at].max(x);
            sum[at] += f64::from(x);
        }
    }
    let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
    for row in rows.features.chunks_exact(w) {
        row.iter().enumerate().for_each(|(at, &x)| square[at] += (f64::from(x) - mean[at]).powi(2));
    }
    let inverse =
        square.iter().map(|s| (s / n).sqrt()).map(|d| if d > 1e-6 { (1.0 / d) as f32 } else { 0.0 }).collect();
    Scaling { low, high, mean: mean.into_iter().map(|m| m as f32).collect(), inverse }
}

/// Cross entropy of logits with targets, stable for any logit (candle's own gives NaN once a sigmoid saturates).
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let tail = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (logits.relu()? - (logits * targets)?)? + tail
}

/// Learns from `rows`. Some groups are kept for choosing the pass, for calibration and for validation.
pub(crate) fn train(
    rows: &Rows,
    evidence: Evidence,
    epochs: usize,
    progress: &dyn Progress,
    rng: &mut ChaCha8Rng,
) -> Result<Trained, TrainError> {
    let scaling = scaling(rows);
    let heads = heads(rows, evidence);
    let mut groups: Vec<usize> = (0..rows.groups.len()).collect();
    groups.shuffle(rng);
    // Half of them calibrate the first slot and half check it, and a group has one row there.
    let share = match evidence {
        Evidence::Impressions => 5,
        Evidence::SampledNegatives => 10,
    };
    let held = (groups.len() / share).max(1).min(groups.len() - 1);
    let (held, mut learn) = (groups[..held].to_vec(), groups[held..].to_vec());
    let starts: Vec<Start> = heads.iter().map(|head| start(head, rows, &learn, &scaling, evidence)).collect();
    let network = Network::new(rows.width, &starts, rng)?;
    let params = ParamsAdamW { lr: LEARNING_RATE, weight_decay: WEIGHT_DECAY, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(network.vars.clone(), params)?;
    let batches = learn.len().div_ceil(BATCH_GROUPS);
    progress.stage("ranker", (epochs * batches) as u64);
    let mut best = (loss_of(&network, rows, &scaling, &held, evidence, &heads)?, network.weights()?);
    for epoch in 0..epochs {
        learn.shuffle(rng);
        for (at, chunk) in learn.chunks(BATCH_GROUPS).enumerate() {
            let loss = batch_loss(&network, rows, &scaling, chunk, evidence, &heads)?;
            optimiser.backward_step(&loss)?;
            progress.tick((epoch * batches + at + 1) as u64, "");
        }
        let loss = loss_of(&network, rows, &scaling, &held, evidence, &heads)?;
        progress.tick(((epoch + 1) * batches) as u64, &format!("held-out loss {loss:.4}"));
        if loss < best.0 {
            best = (loss, network.weights()?);
        }
    }
    let mut layers = fold(best.1, &scaling, rows.width);
    let (fit, check) = held.split_at(held.len() / 2);
    let trained = section(&scaling, layers.clone())?;
    let judged = |groups: &[usize]| first_slot(&trained, rows, groups, heads.len());
    let found = match evidence {
        Evidence::Impressions => Correction::of_impressions(&judged(&learn), &judged(fit)),
        Evidence::SampledNegatives => Correction::of_level(&judged(fit)),
    };
    if let Some(found) = found {
        correct(&mut layers[2], found);
    }
    let section = section(&scaling, layers)?;
    let position = section.click_weight(POSITION);
    let check = first_slot(&section, rows, check, heads.len());
    Ok(Trained { section, heads, validation: Validation::of(&check, position, evidence) })
}

/// Where a head starts. Clicks on logged slates start at the likeliest effect of taste and slot: training takes small
/// steps, and on a small log too few of them to reach what two columns tell at once.
fn start(head: &str, rows: &Rows, learn: &[usize], scaling: &Scaling, evidence: Evidence) -> Start {
    let share = |of: &[f32]| (of.iter().sum::<f32>() / of.len().max(1) as f32).clamp(1e-6, 1.0 - 1e-6);
    let logit = |p: f32| (p / (1.0 - p)).ln();
    // One unit of the standardised taste logit is one standard deviation of it.
    let deviation = if scaling.inverse[0] > 0.0 { 1.0 / scaling.inverse[0] } else { 0.0 };
    match head {
        "click" if evidence == Evidence::SampledNegatives => Start { taste: deviation, ..Start::default() },
        "click" => {
            let standard = |row: usize, at: usize| {
                let x = rows.features[row * rows.width + at];
                f64::from((x - scaling.mean[at]) * scaling.inverse[at])
            };
            let point = |row: usize| Point {
                columns: [1.0, standard(row, 0), standard(row, POSITION)],
                offset: 0.0,
                hit: rows.clicked[row] > 0.5,
            };
            let points: Vec<_> = learn.iter().flat_map(|&g| rows.group(g)).map(point).collect();
            let plain = [f64::from(logit(share(&rows.clicked))), f64::from(deviation * 0.5), 0.0];
            let found = logistic(&points, plain).unwrap_or(plain);
            let [bias, taste, position] = found.map(|x| x as f32);
            Start { bias, taste, position }
        }
        "conversion" => Start { bias: logit(share(&rows.converted)), ..Start::default() },
        _ => {
            let seen: Vec<f32> = rows.dwell.iter().copied().filter(|&d| d >= 0.0).collect();
            let bias = seen.iter().sum::<f32>() / seen.len().max(1) as f32;
            Start { bias, ..Start::default() }
        }
    }
}

/// Heads that the rows have data for, click first.
fn heads(rows: &Rows, evidence: Evidence) -> Vec<&'static str> {
    const LEAST: u64 = 50;
    let mut heads = vec!["click"];
    if evidence == Evidence::Impressions {
        if rows.positives(&rows.converted) >= LEAST {
            heads.push("conversion");
        }
        if rows.dwell.iter().filter(|&&d| d >= 0.0).count() as u64 >= LEAST {
            heads.push("dwell");
        }
    }
    heads
}

/// Whatever was logged, the first slot is where everything is asked for: no bound forbids it, and it explains nothing.
fn section(scaling: &Scaling, layers: Vec<Layer>) -> Result<RankerSection, TrainError> {
    let (mut low, mut mean) = (scaling.low.clone(), scaling.mean.clone());
    (low[POSITION], mean[POSITION]) = (0.0, 0.0);
    RankerSection::new(low, scaling.high.clone(), mean, layers)
        .map_err(|error| TrainError::Data(format!("the ranker did not converge: {}", error.0)))
}

fn batch_loss(
    network: &Network,
    rows: &Rows,
    scaling: &Scaling,
    groups: &[usize],
    evidence: Evidence,
    heads: &[&str],
) -> Result<Tensor, TrainError> {
    let cpu = &Device::Cpu;
    let picks: Vec<usize> = groups.iter().flat_map(|&g| rows.group(g)).collect();
    let mut input = Vec::with_capacity(picks.len() * rows.width);
    for &row in &picks {
        let raw = &rows.features[row * rows.width..(row + 1) * rows.width];
        input.extend(raw.iter().zip(&scaling.mean).zip(&scaling.inverse).map(|((x, m), i)| (x - m) * i));
    }
    let outputs = network.forward(&Tensor::from_vec(input, (picks.len(), rows.width), cpu)?)?;
    let target = |of: &[f32]| Tensor::from_iter(picks.iter().map(|&row| of[row]), cpu);
    let clicks = outputs.narrow(1, 0, 1)?.squeeze(1)?;
    let mut loss = match evidence {
        Evidence::Impressions => cross_entropy(&clicks, &target(&rows.clicked)?)?.mean_all()?,
        Evidence::SampledNegatives => {
            // Every group is one positive and as many negatives: a softmax over the group.
            let size = picks.len() / groups.len();
            let table = clicks.reshape((groups.len(), size))?;
            let hits = target(&rows.clicked)?.reshape((groups.len(), size))?;
            let most = table.max_keepdim(D::Minus1)?.detach();
            let shifted = table.broadcast_sub(&most)?;
            let norm = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
            (shifted.broadcast_sub(&norm)? * hits)?.sum_all()?.affine(-1.0 / groups.len() as f64, 0.0)?
        }
    };
    if let Some(at) = heads.iter().position(|&h| h == "conversion") {
        let logits = outputs.narrow(1, at, 1)?.squeeze(1)?;
        loss = (loss + cross_entropy(&logits, &target(&rows.converted)?)?.mean_all()?)?;
    }
    if let Some(at) = heads.iter().position(|&h| h == "dwell") {
        let seen = Tensor::from_iter(picks.iter().map(|&row| if rows.dwell[row] >= 0.0 { 1f32 } else { 0.0 }), cpu)?;
        let error = (outputs.narrow(1, at, 1)?.squeeze(1)? - target(&rows.dwell)?)?;
        let squared = (error.sqr()? * seen)?.sum_all()?;
        loss = (loss + squared.affine(f64::from(HUBER_DWELL) / picks.len() as f64, 0.0)?)?;
    }
    Ok(loss)
}

fn loss_of(
    network: &Network,
    rows: &Rows,
    scaling: &Scaling,
    groups: &[usize],
    evidence: Evidence,
    heads: &[&str],
) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    for chunk in groups.chunks(256) {
        let loss: f32 = batch_loss(network, rows, scaling, chunk, evidence, heads)?.detach().to_scalar()?;
        sum += f64::from(loss) * chunk.len() as f64;
    }
    Ok(sum / groups.len().max(1) as f64)
}

/// The groups' rows, asked as if each stood in the first slot.
fn first_slot(section: &RankerSection, rows: &Rows, groups: &[usize], heads: usize) -> Vec<Judged> {
    let mut found = Vec::new();
    for &group in groups {
        let range = rows.group(group);
        let mut features = rows.features[range.start * rows.width..range.end * rows.width].to_vec();
        let slots = features.iter_mut().skip(POSITION).step_by(rows.width);
        let positions: Vec<f32> = slots.map(std::mem::take).collect();
        let mut out = vec![0.0; range.len() * heads];
        section.model.forward(&features, &mut out);
        let logits = out.iter().step_by(heads);
        found.extend(logits.zip(positions).zip(&rows.clicked[range]).map(|((&logit, position), &clicked)| Judged {
            logit,
            position,
            clicked: clicked > 0.5,
        }));
    }
    found
}
