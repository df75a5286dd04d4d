//! A multilayer perceptron with packed weights: what serves the ranker on the CPU.
//!
//! Each output starts at its bias and takes one fused multiply-add per input, in input order. Kernels differ only in
//! how many rows and outputs they hold in registers at once, so the bits never depend on batch or instruction set.

use crate::Isa;

/// Outputs per panel of packed weights.
pub(crate) const PANEL: usize = 32;
/// Rows whose activations are kept in cache between layers.
const BLOCK: usize = 64;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MlpError {
    #[error("layer {layer} has {weights} weights and {biases} biases, expected {outputs} outputs of {inputs} inputs")]
    Shape { layer: usize, weights: usize, biases: usize, outputs: usize, inputs: usize },
    #[error("layer {0} has a weight that is not finite")]
    NotFinite(usize),
    #[error("a perceptron needs inputs and at least one layer")]
    Empty,
}

/// A dense layer: `weights[o * inputs + i]`, as candle's `Linear` keeps them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Packed layers, relu between them. The last one also reads the inputs themselves (after the hidden units): a linear
/// model beside the deep one.
#[derive(Debug, Clone)]
pub struct Mlp {
    inputs: usize,
    layers: Vec<Packed>,
}

#[derive(Debug, Clone)]
struct Packed {
    inputs: usize,
    outputs: usize,
    /// Panel by panel; in a panel a row of [`PANEL`] outputs per input. Padding is zero.
    weights: Vec<f32>,
    /// Padded to whole panels.
    bias: Vec<f32>,
}

impl Packed {
    fn panels(&self) -> usize {
        self.bias.len() / PANEL
    }
}

impl Mlp {
    /// Packs the layers. The last one's inputs are the units of the layer before it, then the model's inputs; with a
    /// single layer only the latter.
    pub fn new(inputs: usize, layers: &[Layer]) -> Result<Self, MlpError> {
        if inputs == 0 || layers.is_empty() {
            return Err(MlpError::Empty);
        }
        let mut width = inputs;
        let mut packed = Vec::with_capacity(layers.len());
        for (at, layer) in layers.iter().enumerate() {
            let last = at + 1 == layers.len();
            let reads = if last && at > 0 { width + inputs } else { width };
            let outputs = layer.bias.len();
            if outputs == 0 || layer.weights.len() != outputs * reads {
                let (weights, biases) = (layer.weights.len(), layer.bias.len());
                return Err(MlpError::Shape { layer: at, weights, biases, outputs, inputs: reads });
            }
            if !layer.weights.iter().chain(&layer.bias).all(|w| w.is_finite()) {
                return Err(MlpError::NotFinite(at));
            }
            packed.push(pack(layer, reads));
            width = outputs;
        }
        Ok(Self { inputs, layers: packed })
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Runs `rows` (row-major, [`Mlp::inputs`] wide); `out` receives [`Mlp::outputs`] numbers a row. Rows beyond what
    /// `out` holds are ignored.
    pub fn forward(&self, rows: &[f32], out: &mut [f32]) {
        self.forward_on(Isa::detect(), rows, out);
    }

    /// The same on a given instruction set, for tests and benchmarks; falls back to the widest the CPU has.
    pub fn forward_on(&self, isa: Isa, rows: &[f32], out: &mut [f32]) {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::detect() };
        let mut here = Vec::new();
        let mut next = Vec::new();
        let blocks = rows.chunks(BLOCK * self.inputs).zip(out.chunks_mut(BLOCK * self.outputs()));
        for (block, out) in blocks {
            let count = (block.len() / self.inputs).min(out.len() / self.outputs());
            let block = &block[..count * self.inputs];
            here.clear();
            here.extend_from_slice(block);
            for (at, layer) in self.layers.iter().enumerate() {
                let last = at + 1 == self.layers.len();
                let reads_inputs = at + 2 == self.layers.len();
                let stride = layer.panels() * PANEL;
                next.clear();
                next.resize(count * stride, 0.0);
                run(isa, layer, &here, count, &mut next);
                if last {
                    for (to, from) in out.chunks_exact_mut(layer.outputs).zip(next.chunks_exact(stride)) {
                        to.copy_from_slice(&from[..layer.outputs]);
                    }
                    break;
                }
                here.clear();
                for (from, input) in next.chunks_exact(stride).zip(block.chunks_exact(self.inputs)) {
                    here.extend(from[..layer.outputs].iter().map(|&x| if x > 0.0 { x } else { 0.0 }));
                    if reads_inputs {
                        here.extend_from_slice(input);
                    }
                }
            }
        }
    }
}

fn pack(layer: &Layer, inputs: usize) -> Packed {
    let outputs = layer.bias.len();
    let panels = outputs.div_ceil(PANEL);
    let mut weights = vec![0.0; panels * inputs * PANEL];
    for (o, row) in layer.weights.chunks_exact(inputs).enumerate() {
        for (i, &weight) in row.iter().enumerate() {
            weights[(o / PANEL * inputs + i) * PANEL + o % PANEL] = weight;
        }
    }
    let mut bias = layer.bias.clone();
    bias.resize(panels * PANEL, 0.0);
    Packed { inputs, outputs, weights, bias }
}

/// `out[r * stride + o]` for every row and padded output of the layer.
fn run(isa: Isa, layer: &Packed, rows: &[f32], count: usize, out: &mut [f32]) {
    let stride = layer.panels() * PANEL;
    assert!(rows.len() >= count * layer.inputs && out.len() >= count * stride, "the caller sized the buffers");
    for panel in 0..layer.panels() {
        let weights = &layer.weights[panel * layer.inputs * PANEL..(panel + 1) * layer.inputs * PANEL];
        let bias = &layer.bias[panel * PANEL..(panel + 1) * PANEL];
        let tile = crate::tile::Tile { rows, inputs: layer.inputs, weights, bias, stride, column: panel * PANEL };
        crate::tile::run(isa, &tile, count, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    fn numbers(seed: u64, n: usize, scale: f32) -> Vec<f32> {
        let mut state = seed | 1;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * scale
            })
            .collect()
    }

    fn layers(seed: u64, widths: &[usize]) -> Vec<Layer> {
        (1..widths.len())
            .map(|at| {
                let reads = widths[at - 1] + if at + 1 == widths.len() && at > 1 { widths[0] } else { 0 };
                let scale = 2.0 / (reads as f32).sqrt();
                Layer {
                    weights: numbers(seed + at as u64 * 977, widths[at] * reads, scale),
                    bias: numbers(seed + at as u64 * 131, widths[at], 0.5),
                }
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_row_has_the_same_bits_in_every_batch_and_on_every_instruction_set(
            seed in any::<u64>(), inputs in 1usize..70, hidden in 1usize..80, outputs in 1usize..5, count in 1usize..150,
        ) {
            let model = Mlp::new(inputs, &layers(seed, &[inputs, hidden, 33, outputs])).unwrap();
            let rows = numbers(seed ^ 5, inputs * count, 4.0);
            let mut all = vec![0.0; outputs * count];
            model.forward(&rows, &mut all);
            for &isa in Isa::available() {
                for batch in [1, 3, 8, count] {
                    let mut out = vec![0.0; outputs * count];
                    for (x, y) in rows.chunks(batch * inputs).zip(out.chunks_mut(batch * outputs)) {
                        model.forward_on(isa, x, y);
                    }
                    let same = all.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
                    prop_assert!(same, "{isa:?} in batches of {batch}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_candle() {
        let widths = [96, 128, 64, 3];
        let count = 500;
        let parts = layers(42, &widths);
        let model = Mlp::new(widths[0], &parts).unwrap();
        let rows = numbers(7, widths[0] * count, 4.0);
        let mut ours = vec![0.0; 3 * count];
        model.forward(&rows, &mut ours);

        let cpu = &Device::Cpu;
        let input = Tensor::from_slice(&rows, (count, widths[0]), cpu).unwrap();
        let mut x = input.clone();
        for (at, layer) in parts.iter().enumerate() {
            if at == 2 {
                x = Tensor::cat(&[&x, &input], 1).unwrap();
            }
            let outputs = layer.bias.len();
            let weights = Tensor::from_slice(&layer.weights, (outputs, layer.weights.len() / outputs), cpu).unwrap();
            let bias = Tensor::from_slice(&layer.bias, outputs, cpu).unwrap();
            x = x.matmul(&weights.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            if at < 2 {
                x = x.relu().unwrap();
            }
        }
        let theirs: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} and {b}");
        }
    }

    #[test]
    fn wrong_shapes_are_named() {
        let bad = Layer { weights: vec![0.0; 5], bias: vec![0.0; 2] };
        assert!(matches!(Mlp::new(3, &[bad]), Err(MlpError::Shape { layer: 0, weights: 5, .. })));
        let nan = Layer { weights: vec![f32::NAN; 3], bias: vec![0.0] };
        assert_eq!(Mlp::new(3, &[nan]).unwrap_err(), MlpError::NotFinite(0));
        assert_eq!(Mlp::new(3, &[]).unwrap_err(), MlpError::Empty);
    }
}
