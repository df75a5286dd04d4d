//! Training of the ranker: a linear model beside a small perceptron, one output per head.
//!
//! Rows come from each visitor's newest events, which the towers have not seen by then, so that the ranker learns how
//! far a tower's opinion can be trusted on what is new. Where slates were logged, rows are impressions, with the slot
//! as a feature; elsewhere each positive stands against sampled negatives, and no calibration is claimed.

use crate::features::{RankerSection, UserSide};
use crate::progress::Progress;
use crate::train::TrainError;
use attune_domain::ItemIx;
use attune_inference::Layer;
use candle_core::{D, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

pub(crate) const HIDDEN: [usize; 2] = [128, 64];
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

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Validation {
    pub(crate) rows: u64,
    pub(crate) log_loss: f64,
    pub(crate) calibration_error: Option<f64>,
    pub(crate) auc: Option<f64>,
}

struct Scaling {
    low: Vec<f32>,
    high: Vec<f32>,
    mean: Vec<f32>,
    /// 1 / standard deviation; 0 where a feature never varied, so that it stays without effect.
    inverse: Vec<f32>,
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
    let inverse = square
        .iter()
        .map(|s| (s / n).sqrt())
        .map(|d| if d > 1e-6 { (1.0 / d) as f32 } else { 0.0 })
        .collect();
    Scaling { low, high, mean: mean.into_iter().map(|m| m as f32).collect(), inverse }
}

struct Network {
    vars: Vec<Var>,
    heads: usize,
}

impl Network {
    /// The deep part starts silent; the click head starts as `slope` times the taste logit.
    fn new(
        inputs: usize,
        heads: usize,
        slope: f32,
        bias: &[f32],
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, TrainError> {
        let cpu = &Device::Cpu;
        let mut vars = Vec::new();
        let mut reads = inputs;
        for units in HIDDEN {
            let bound = (6.0 / reads as f32).sqrt();
            let weights: Vec<f32> =
                (0..units * reads).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect();
            vars.push(Var::from_slice(&weights, (units, reads), cpu)?);
            vars.push(Var::zeros(units, candle_core::DType::F32, cpu)?);
            reads = units;
        }
        let mut last = vec![0.0; heads * (reads + inputs)];
        last[reads] = slope;
        vars.push(Var::from_slice(&last, (heads, reads + inputs), cpu)?);
        vars.push(Var::from_slice(bias, heads, cpu)?);
        Ok(Self { vars, heads })
    }

    fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let dense = |x: &Tensor, at: usize| {
            x.matmul(&self.vars[at].t()?)?.broadcast_add(&self.vars[at + 1])
        };
        let hidden = dense(&dense(input, 0)?.relu()?, 2)?.relu()?;
        dense(&Tensor::cat(&[&hidden, input], 1)?, 4)
    }

    fn weights(&self) -> candle_core::Result<Vec<Vec<f32>>> {
        self.vars.iter().map(|var| var.flatten_all()?.to_vec1()).collect()
    }
}

/// Cross entropy of logits with targets, stable for any logit (candle's own gives NaN once a sigmoid saturates).
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let tail = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (logits.relu()? - (logits * targets)?)? + tail
}

/// Learns from `rows`; every tenth group is kept for choosing the pass and for validation.
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
    let held = (groups.len() / 10).max(1).min(groups.len() - 1);
    let (held, mut learn) = (groups[..held].to_vec(), groups[held..].to_vec());

    let share =
        |of: &[f32]| (of.iter().sum::<f32>() / of.len().max(1) as f32).clamp(1e-6, 1.0 - 1e-6);
    let logit = |p: f32| (p / (1.0 - p)).ln();
    let bias: Vec<f32> = heads
        .iter()
        .map(|&head| match head {
            "click" if evidence == Evidence::Impressions => logit(share(&rows.clicked)),
            "conversion" => logit(share(&rows.converted)),
            "dwell" => {
                let seen: Vec<f32> = rows.dwell.iter().copied().filter(|&d| d >= 0.0).collect();
                seen.iter().sum::<f32>() / seen.len().max(1) as f32
            }
            _ => 0.0,
        })
        .collect();
    // One unit of the standardised taste logit is one standard deviation of it.
    let deviation = if scaling.inverse[0] > 0.0 { 1.0 / scaling.inverse[0] } else { 0.0 };
    let slope = match evidence {
        Evidence::SampledNegatives => deviation,
        Evidence::Impressions => deviation * 0.5,
    };
    let network = Network::new(rows.width, heads.len(), slope, &bias, rng)?;
    let params =
        ParamsAdamW { lr: LEARNING_RATE, weight_decay: WEIGHT_DECAY, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(network.vars.clone(), params)?;
    let batches = learn.len().div_ceil(BATCH_GROUPS);
    progress.stage("ranker", (epochs * batches) as u64);
    let mut best =
        (loss_of(&network, rows, &scaling, &held, evidence, &heads)?, network.weights()?);
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
    let mut layers = fold(best.1, &scaling, rows.width, network.heads);
    let (fit, check) = held.split_at(held.len() / 2);
    recalibrate(&mut layers, rows, &scaling, fit, evidence)?;
    let section = section(&scaling, layers)?;
    let validation = validate(&section, rows, check, evidence, heads.len());
    Ok(Trained { section, heads, validation })
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

fn section(scaling: &Scaling, layers: Vec<Layer>) -> Result<RankerSection, TrainError> {
    RankerSection::new(scaling.low.clone(), scaling.high.clone(), scaling.mean.clone(), layers)
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
        input.extend(
            raw.iter().zip(&scaling.mean).zip(&scaling.inverse).map(|((x, m), i)| (x - m) * i),
        );
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
            (shifted.broadcast_sub(&norm)? * hits)?
                .sum_all()?
                .affine(-1.0 / groups.len() as f64, 0.0)?
        }
    };
    if let Some(at) = heads.iter().position(|&h| h == "conversion") {
        let logits = outputs.narrow(1, at, 1)?.squeeze(1)?;
        loss = (loss + cross_entropy(&logits, &target(&rows.converted)?)?.mean_all()?)?;
    }
    if let Some(at) = heads.iter().position(|&h| h == "dwell") {
        let seen = Tensor::from_iter(
            picks.iter().map(|&row| if rows.dwell[row] >= 0.0 { 1f32 } else { 0.0 }),
            cpu,
        )?;
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
        let loss: f32 =
            batch_loss(network, rows, scaling, chunk, evidence, heads)?.detach().to_scalar()?;
        sum += f64::from(loss) * chunk.len() as f64;
    }
    Ok(sum / groups.len().max(1) as f64)
}

/// Moves the standardisation into the weights that read raw features.
fn fold(weights: Vec<Vec<f32>>, scaling: &Scaling, inputs: usize, heads: usize) -> Vec<Layer> {
    let mut layers: Vec<Layer> = weights
        .chunks_exact(2)
        .map(|pair| Layer { weights: pair[0].clone(), bias: pair[1].clone() })
        .collect();
    let mut absorb = |layer: usize, reads: usize, first: usize| {
        let Layer { weights, bias } = &mut layers[layer];
        for (row, bias) in weights.chunks_exact_mut(reads).zip(bias) {
            let mut shift = 0.0f64;
            for ((weight, inverse), mean) in
                row[first..].iter_mut().zip(&scaling.inverse).zip(&scaling.mean)
            {
                *weight *= inverse;
                shift += f64::from(*weight) * f64::from(*mean);
            }
            *bias -= shift as f32;
        }
    };
    absorb(0, inputs, 0);
    absorb(2, HIDDEN[1] + inputs, HIDDEN[1]);
    debug_assert_eq!(layers[2].bias.len(), heads);
    layers
}

/// Click logits of groups' rows, with their labels.
fn click_logits(
    section: &RankerSection,
    rows: &Rows,
    groups: &[usize],
    heads: usize,
) -> Vec<(f32, f32)> {
    let mut found = Vec::new();
    for &group in groups {
        let range = rows.group(group);
        let mut out = vec![0.0; range.len() * heads];
        section
            .model
            .forward(&rows.features[range.start * rows.width..range.end * rows.width], &mut out);
        found.extend(out.iter().step_by(heads).copied().zip(rows.clicked[range].iter().copied()));
    }
    found
}

/// Platt scaling of the click head, folded into its weights: slope and intercept where impressions were logged, the
/// intercept alone elsewhere.
fn recalibrate(
    layers: &mut [Layer],
    rows: &Rows,
    scaling: &Scaling,
    groups: &[usize],
    evidence: Evidence,
) -> Result<(), TrainError> {
    let heads = layers[2].bias.len();
    let points = click_logits(&section(scaling, layers.to_vec())?, rows, groups, heads);
    let (slope, intercept) = platt(&points, evidence == Evidence::Impressions);
    let reads = layers[2].weights.len() / heads;
    layers[2].weights[..reads].iter_mut().for_each(|w| *w *= slope);
    layers[2].bias[0] = layers[2].bias[0] * slope + intercept;
    Ok(())
}

/// Newton's method on the cross entropy of `slope * logit + intercept`; (1, 0) where there is nothing to fit.
fn platt(points: &[(f32, f32)], with_slope: bool) -> (f32, f32) {
    let hits: f32 = points.iter().map(|p| p.1).sum();
    if hits < 5.0 || hits > points.len() as f32 - 5.0 {
        return (1.0, 0.0);
    }
    let (mut a, mut b) = (1.0f64, 0.0f64);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-6, 0.0, 1e-6);
        for &(x, y) in points {
            let x = f64::from(x);
            let p = 1.0 / (1.0 + (-(a * x + b)).exp());
            let (error, weight) = (p - f64::from(y), p * (1.0 - p));
            ga += error * x;
            gb += error;
            haa += weight * x * x;
            hab += weight * x;
            hbb += weight;
        }
        let (da, db) = if with_slope {
            let det = haa * hbb - hab * hab;
            if det.abs() < 1e-12 {
                break;
            }
            ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det)
        } else {
            (0.0, gb / hbb)
        };
        a -= da.clamp(-0.5, 0.5);
        b -= db.clamp(-2.0, 2.0);
        if da.abs() + db.abs() < 1e-9 {
            break;
        }
    }
    if a > 0.05 && a.is_finite() && b.is_finite() { (a as f32, b as f32) } else { (1.0, 0.0) }
}

fn validate(
    section: &RankerSection,
    rows: &Rows,
    groups: &[usize],
    evidence: Evidence,
    heads: usize,
) -> Validation {
    let mut points = click_logits(section, rows, groups, heads);
    if points.is_empty() {
        return Validation::default();
    }
    let n = points.len() as f64;
    let chance = |x: f32| f64::from(attune_inference::sigmoid(x)).clamp(1e-9, 1.0 - 1e-9);
    let log_loss = points
        .iter()
        .map(|&(x, y)| if y > 0.5 { -chance(x).ln() } else { -(1.0 - chance(x)).ln() })
        .sum::<f64>()
        / n;
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let error = points.chunks(points.len().div_ceil(10)).map(|bin| {
        (bin.iter().map(|&(x, _)| chance(x)).sum::<f64>()
            - bin.iter().map(|p| f64::from(p.1)).sum::<f64>())
        .abs()
            / n
    });
    Validation {
        rows: points.len() as u64,
        log_loss,
        calibration_error: (evidence == Evidence::Impressions).then(|| error.sum()),
        auc: auc(&points),
    }
}

/// Area under the curve; `points` ascending by score. Ties count half. None where all labels are the same.
fn auc(points: &[(f32, f32)]) -> Option<f64> {
    let hits: f64 = points.iter().map(|p| f64::from(p.1)).sum();
    let misses = points.len() as f64 - hits;
    let (mut sum, mut below, mut at) = (0.0, 0.0, 0);
    while at < points.len() {
        let ties = points[at..].iter().take_while(|p| p.0 == points[at].0).count();
        let up: f64 = points[at..at + ties].iter().map(|p| f64::from(p.1)).sum();
        sum += up * (below + (ties as f64 - up) / 2.0);
        below += ties as f64 - up;
        at += ties;
    }
    (hits > 0.0 && misses > 0.0).then(|| sum / (hits * misses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(auc(&[(0.1, 0.0), (0.2, 1.0)]), Some(1.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.2, 0.0)]), Some(0.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.1, 0.0)]), Some(0.5));
        assert_eq!(auc(&[(0.1, 1.0)]), None);
    }

    #[test]
    fn platt_scaling_recovers_a_known_distortion() {
        // Labels follow sigmoid(0.5 x - 1) exactly: at each x, that share of 1000 points is positive.
        let mut points = Vec::new();
        for step in -20..=20 {
            let x = step as f32 * 0.3;
            let p = 1.0 / (1.0 + (-(0.5 * x - 1.0)).exp());
            points.extend(
                (0..1000).map(|i| (x, if (i as f32 + 0.5) / 1000.0 < p { 1.0 } else { 0.0 })),
            );
        }
        let (a, b) = platt(&points, true);
        assert!((a - 0.5).abs() < 0.01 && (b + 1.0).abs() < 0.02, "{a} {b}");
        assert_eq!(platt(&points[..3], true), (1.0, 0.0));
    }
}
