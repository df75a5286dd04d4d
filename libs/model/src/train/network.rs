//! The ranker's network in training, and as layers.

use crate::features::POSITION;
use crate::train::TrainError;
use crate::train::calibration::Correction;
use crate::train::ranking::Scaling;
use attune_inference::Layer;
use candle_core::{Device, Tensor, Var};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

const HIDDEN: [usize; 2] = [128, 64];

/// Where a head's output starts: its bias, and its weights of the standardised taste logit and slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    pub(crate) bias: f32,
    pub(crate) taste: f32,
    pub(crate) position: f32,
}

pub(crate) struct Network {
    pub(crate) vars: Vec<Var>,
    /// 0 for the slot, 1 for what the deep part reads.
    deep: Tensor,
}

impl Network {
    /// The deep part starts silent.
    pub(crate) fn new(inputs: usize, starts: &[Start], rng: &mut ChaCha8Rng) -> Result<Self, TrainError> {
        let heads = starts.len();
        let cpu = &Device::Cpu;
        let mut vars = Vec::new();
        let mut reads = inputs;
        for units in HIDDEN {
            let bound = (6.0 / reads as f32).sqrt();
            let mut weights: Vec<f32> = (0..units * reads).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect();
            if vars.is_empty() {
                weights.iter_mut().skip(POSITION).step_by(inputs).for_each(|w| *w = 0.0);
            }
            vars.push(Var::from_slice(&weights, (units, reads), cpu)?);
            vars.push(Var::zeros(units, candle_core::DType::F32, cpu)?);
            reads = units;
        }
        let mut last = vec![0.0; heads * (reads + inputs)];
        for (row, start) in last.chunks_exact_mut(reads + inputs).zip(starts) {
            (row[reads], row[reads + POSITION]) = (start.taste, start.position);
        }
        vars.push(Var::from_slice(&last, (heads, reads + inputs), cpu)?);
        let bias: Vec<f32> = starts.iter().map(|start| start.bias).collect();
        vars.push(Var::from_slice(&bias, heads, cpu)?);
        let deep: Vec<f32> = (0..inputs).map(|at| if at == POSITION { 0.0 } else { 1.0 }).collect();
        Ok(Self { vars, deep: Tensor::from_vec(deep, inputs, cpu)? })
    }

    pub(crate) fn forward(&self, input: &Tensor) -> candle_core::Result<Tensor> {
        let dense = |x: &Tensor, at: usize| x.matmul(&self.vars[at].t()?)?.broadcast_add(&self.vars[at + 1]);
        let deep = input.broadcast_mul(&self.deep)?;
        let hidden = dense(&dense(&deep, 0)?.relu()?, 2)?.relu()?;
        dense(&Tensor::cat(&[&hidden, input], 1)?, 4)
    }

    pub(crate) fn weights(&self) -> candle_core::Result<Vec<Vec<f32>>> {
        self.vars.iter().map(|var| var.flatten_all()?.to_vec1()).collect()
    }
}

/// Moves the standardisation into the weights that read raw features.
pub(crate) fn fold(weights: Vec<Vec<f32>>, scaling: &Scaling, inputs: usize) -> Vec<Layer> {
    let mut layers: Vec<Layer> =
        weights.chunks_exact(2).map(|pair| Layer { weights: pair[0].clone(), bias: pair[1].clone() }).collect();
    let mut absorb = |layer: usize, reads: usize, first: usize| {
        let Layer { weights, bias } = &mut layers[layer];
        for (row, bias) in weights.chunks_exact_mut(reads).zip(bias) {
            let mut shift = 0.0f64;
            for ((weight, inverse), mean) in row[first..].iter_mut().zip(&scaling.inverse).zip(&scaling.mean) {
                *weight *= inverse;
                shift += f64::from(*weight) * f64::from(*mean);
            }
            *bias -= shift as f32;
        }
    };
    absorb(0, inputs, 0);
    absorb(2, HIDDEN[1] + inputs, HIDDEN[1]);
    layers
}

/// Moves the correction into the weights of the click head, which is the first.
pub(crate) fn correct(last: &mut Layer, found: Correction) {
    let reads = last.weights.len() / last.bias.len();
    last.weights[..reads].iter_mut().for_each(|w| *w *= found.slope as f32);
    last.weights[HIDDEN[1] + POSITION] = found.position as f32;
    last.bias[0] = last.bias[0] * found.slope as f32 + found.intercept as f32;
}
