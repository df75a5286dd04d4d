//! Training of the two towers: the next item of a visitor under a softmax over the whole catalogue.
//!
//! candle holds the tables, multiplies, differentiates and steps (AdamW). Only the softmax is differentiated by hand:
//! in candle's graph it takes a dozen passes over a batch-by-catalogue matrix, and then most of the time.

use crate::progress::Progress;
use crate::tower::{CONTEXT_ROWS, TowerSection, context_rows};
use crate::train::timeline::Timeline;
use crate::train::{TrainConfig, TrainError};
use attune_domain::WINDOW_EVENTS;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// The towers' tables while they are trained.
#[derive(Debug, Clone)]
pub(crate) struct Towers {
    pub(crate) items: usize,
    pub(crate) latent: usize,
    pub(crate) inputs: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) section: TowerSection,
}

/// A next-item example: visitor, step to predict.
pub(crate) type Example = (u32, u32);

/// Steps of each visitor's range that are to be predicted, whether they have a past or not.
pub(crate) fn examples(lines: &[Timeline], range: impl Fn(usize) -> std::ops::Range<usize>) -> Vec<Example> {
    let mut found = Vec::new();
    for (user, line) in lines.iter().enumerate() {
        let steps = range(user).filter(|&k| line.steps[k].target);
        found.extend(steps.map(|k| (user as u32, k as u32)));
    }
    found
}

/// What does not change during a training.
pub(crate) struct Course<'a> {
    pub(crate) lines: &'a [Timeline],
    /// Rows of the attribute table per visitor.
    pub(crate) attributes: &'a [Vec<usize>],
    pub(crate) config: &'a TrainConfig,
    pub(crate) progress: &'a dyn Progress,
}

struct Tables {
    inputs: Var,
    outputs: Var,
    bias: Var,
    context: Var,
    attributes: Var,
}

/// A batch in the shape the tables are read in. Rows without an event point at row 0 with weight 0.
#[derive(Default)]
struct Batch {
    rows: Vec<u32>,
    weights: Vec<f32>,
    context: Vec<u32>,
    attributes: Vec<u32>,
    targets: Vec<u32>,
}

impl Towers {
    /// Runs `epochs` passes; returns the mean loss of the last one.
    pub(crate) fn train(
        &mut self,
        course: &Course,
        mut examples: Vec<Example>,
        epochs: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<f64, TrainError> {
        let config = course.config;
        let (n, latent) = (self.items, self.latent);
        let cpu = &Device::Cpu;
        let attribute_rows = self.section.attributes.len() / latent;
        let tables = Tables {
            inputs: Var::from_slice(&self.inputs, (n, latent), cpu)?,
            outputs: Var::from_slice(&self.outputs, (n, latent), cpu)?,
            bias: Var::from_slice(&self.bias, n, cpu)?,
            context: Var::from_slice(&self.section.context, (CONTEXT_ROWS, latent), cpu)?,
            attributes: Var::from_slice(&self.section.attributes, (attribute_rows, latent), cpu)?,
        };
        let mut vars = vec![tables.inputs.clone(), tables.outputs.clone(), tables.bias.clone(), tables.context.clone()];
        if attribute_rows > 0 {
            vars.push(tables.attributes.clone());
        }
        let params = ParamsAdamW {
            lr: config.learning_rate,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            weight_decay: config.weight_decay,
        };
        let mut optimiser = AdamW::new(vars, params)?;
        let per_epoch = examples.len().min(config.examples_per_epoch);
        let batches = per_epoch.div_ceil(config.batch);
        course.progress.stage("towers", (epochs * batches) as u64);
        let mut mean = f64::NAN;
        for epoch in 0..epochs {
            examples.shuffle(rng);
            let mut loss = 0.0;
            for (at, chunk) in examples[..per_epoch].chunks(config.batch).enumerate() {
                let batch = self.batch(course, chunk, rng);
                loss += step(&tables, &batch, latent, &mut optimiser)?;
                let done = (epoch * batches + at + 1) as u64;
                course.progress.tick(done, &format!("loss {:.3}", loss / ((at + 1) * config.batch) as f64));
            }
            mean = loss / per_epoch.max(1) as f64;
        }
        self.inputs = tables.inputs.flatten_all()?.to_vec1()?;
        self.outputs = tables.outputs.flatten_all()?.to_vec1()?;
        self.bias = tables.bias.to_vec1()?;
        self.section.context = tables.context.flatten_all()?.to_vec1()?;
        self.section.attributes = tables.attributes.flatten_all()?.to_vec1()?;
        Ok(mean)
    }

    fn batch(&self, course: &Course, chunk: &[Example], rng: &mut ChaCha8Rng) -> Batch {
        let mut batch = Batch::default();
        let keep = 1.0 - course.config.dropout;
        for &(user, k) in chunk {
            let (line, k) = (&course.lines[user as usize], k as usize);
            let past = &line.steps[k.saturating_sub(WINDOW_EVENTS)..k];
            for (age, step) in past.iter().rev().enumerate() {
                let kept = rng.random::<f32>() < keep;
                let weight = self.section.recency[age] * self.section.kinds[step.event.kind.code() as usize];
                batch.rows.push(step.event.item.0);
                batch.weights.push(if kept { weight / keep } else { 0.0 });
            }
            batch.rows.resize(batch.rows.len() + WINDOW_EVENTS - past.len(), 0);
            batch.weights.resize(batch.rows.len(), 0.0);
            batch.context.extend(context_rows(line.steps[k].context).map(|row| row as u32));
            batch.attributes.extend(course.attributes[user as usize].iter().map(|&row| row as u32));
            batch.targets.push(line.steps[k].event.item.0);
        }
        batch
    }
}

/// One step of the optimiser; returns the batch's summed loss.
fn step(tables: &Tables, batch: &Batch, latent: usize, optimiser: &mut AdamW) -> Result<f64, TrainError> {
    let cpu = &Device::Cpu;
    let m = batch.targets.len();
    let weights = Tensor::from_slice(&batch.weights, (m, 1, WINDOW_EVENTS), cpu)?;
    let rows = Tensor::from_slice(&batch.rows, batch.rows.len(), cpu)?;
    let gathered = tables.inputs.index_select(&rows, 0)?.reshape((m, WINDOW_EVENTS, latent))?;
    let mut users = weights.matmul(&gathered)?.reshape((m, latent))?;
    for (table, picks) in [(&tables.context, &batch.context), (&tables.attributes, &batch.attributes)] {
        if !picks.is_empty() {
            let rows = table.index_select(&Tensor::from_slice(picks, picks.len(), cpu)?, 0)?;
            users = (users + rows.reshape((m, picks.len() / m, latent))?.sum(1)?)?;
        }
    }
    // The softmax's own gradient, in one pass over the logits and outside candle's graph: with respect to users,
    // outputs and bias. The graph then carries the users' part on to the tables they were gathered from.
    let (outputs, seen) = (tables.outputs.as_detached_tensor(), users.detach());
    let n = outputs.dim(0)?;
    let bias: Vec<f32> = tables.bias.to_vec1()?;
    let mut gradient: Vec<f32> = seen.matmul(&outputs.t()?)?.flatten_all()?.to_vec1()?;
    let mut bias_gradient = vec![0.0; n];
    let mut loss = 0.0;
    for (row, &target) in gradient.chunks_exact_mut(n).zip(&batch.targets) {
        row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b);
        loss += softmax_gradient(row, target as usize, 1.0 / m as f32);
        bias_gradient.iter_mut().zip(row.iter()).for_each(|(sum, g)| *sum += g);
    }
    let gradient = Tensor::from_vec(gradient, (m, n), cpu)?;
    let users_gradient = gradient.matmul(&outputs)?;
    let outputs_gradient = gradient.t()?.matmul(&seen)?;
    let mut gradients = (users * users_gradient)?.sum_all()?.backward()?;
    gradients.insert(tables.outputs.as_tensor(), outputs_gradient);
    gradients.insert(tables.bias.as_tensor(), Tensor::from_vec(bias_gradient, n, cpu)?);
    optimiser.step(&gradients)?;
    Ok(loss)
}

/// Turns logits into the gradient of the cross entropy, times `scale`; returns the cross entropy.
fn softmax_gradient(row: &mut [f32], target: usize, scale: f32) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let wanted = row[target] - most;
    row.iter_mut().for_each(|x| *x = fast_exp(*x - most));
    let sum: f64 = row.chunks(1024).map(|part| f64::from(part.iter().sum::<f32>())).sum();
    let share = scale / sum as f32;
    row.iter_mut().for_each(|x| *x *= share);
    row[target] -= scale;
    sum.ln() - f64::from(wanted)
}

/// e to the x for x <= 0, within a relative 5e-6, in a form the compiler vectorises.
#[inline(always)]
fn fast_exp(x: f32) -> f32 {
    let x = x.max(-87.0) * std::f32::consts::LOG2_E;
    // Adding 1.5 * 2^23 rounds to an integer, whose bits are then the exponent.
    let shifted = x + 12_582_912.0;
    let f = (x - (shifted - 12_582_912.0)) * std::f32::consts::LN_2;
    let p = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0)))));
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_exponential_is_close() {
        for i in 0..2000 {
            let x = -i as f32 * 0.04;
            let exact = f64::from(x).exp();
            assert!((f64::from(fast_exp(x)) - exact).abs() < exact * 5e-6, "{x}");
        }
        assert!(fast_exp(-1e9) < 1e-37);
    }

    #[test]
    fn gradient_sums_to_nothing_and_pulls_the_target() {
        let mut row = vec![0.3, -1.0, 2.0, 0.0];
        let exact: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
        let loss = softmax_gradient(&mut row, 1, 1.0);
        let total: f64 = exact.iter().sum();
        assert!((loss + (exact[1] / total).ln()).abs() < 1e-5);
        assert!(row.iter().sum::<f32>().abs() < 1e-6 && row[1] < 0.0);
        assert!((f64::from(row[2]) - exact[2] / total).abs() < 1e-6);
    }
}
