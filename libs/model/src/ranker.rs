//! The ranker's weights as a section of the bundle.

use crate::features::width;
use crate::manifest::Manifest;
use crate::sections::{Malformed, Stored, Tensors};
use attune_inference::{Layer, Mlp};

/// The ranker's weights. Normalisation is folded into them; raw features are clamped to what training saw.
#[derive(Debug, Clone)]
pub(crate) struct RankerSection {
    pub(crate) low: Vec<f32>,
    pub(crate) high: Vec<f32>,
    /// Training means of the features, for attribution.
    pub(crate) mean: Vec<f32>,
    layers: Vec<Layer>,
    pub(crate) model: Mlp,
}

impl RankerSection {
    pub(crate) fn new(low: Vec<f32>, high: Vec<f32>, mean: Vec<f32>, layers: Vec<Layer>) -> Result<Self, Malformed> {
        let model = Mlp::new(mean.len(), &layers).map_err(|error| Malformed(error.to_string()))?;
        if low.len() != mean.len() || high.len() != mean.len() || low.iter().zip(&high).any(|(l, h)| l > h) {
            return Err(Malformed("the bounds of the features do not fit".into()));
        }
        Ok(Self { low, high, mean, layers, model })
    }

    /// What a unit of the feature adds to the click logit beside the deep part.
    pub(crate) fn click_weight(&self, feature: usize) -> f32 {
        let last = &self.layers[self.layers.len() - 1];
        let reads = last.weights.len() / last.bias.len();
        last.weights[reads - self.mean.len() + feature]
    }

    pub(crate) fn clamp(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            for ((x, low), high) in row.iter_mut().zip(&self.low).zip(&self.high) {
                *x = x.clamp(*low, *high);
            }
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut tensors = Tensors::default();
        tensors.put("low", &[self.low.len()], &self.low);
        tensors.put("high", &[self.high.len()], &self.high);
        tensors.put("mean", &[self.mean.len()], &self.mean);
        tensors.put_numbers("units", &self.layers.iter().map(|l| l.bias.len() as u32).collect::<Vec<_>>());
        for (at, layer) in self.layers.iter().enumerate() {
            let outputs = layer.bias.len();
            tensors.put(&format!("layer{at}.weight"), &[outputs, layer.weights.len() / outputs], &layer.weights);
            tensors.put(&format!("layer{at}.bias"), &[outputs], &layer.bias);
        }
        tensors.encode()
    }

    pub(crate) fn decode(bytes: &[u8], manifest: &Manifest) -> Result<Self, Malformed> {
        let stored = Stored::decode(bytes)?;
        let inputs = width(&manifest.schema);
        let units = stored.take_numbers("units")?;
        if units.is_empty() || units.iter().any(|&n| n == 0 || n > 4096) {
            return Err(Malformed("units must be between 1 and 4096 in every layer".into()));
        }
        if units.last().map(|&n| n as usize) != Some(manifest.heads.len()) {
            return Err(Malformed("the last layer does not have one output per head".into()));
        }
        let mut layers = Vec::with_capacity(units.len());
        let mut before = inputs;
        for (at, &outputs) in units.iter().enumerate() {
            let outputs = outputs as usize;
            let reads = if at > 0 && at + 1 == units.len() { before + inputs } else { before };
            layers.push(Layer {
                weights: stored.take(&format!("layer{at}.weight"), outputs * reads)?,
                bias: stored.take(&format!("layer{at}.bias"), outputs)?,
            });
            before = outputs;
        }
        let (low, high) = (stored.take("low", inputs)?, stored.take("high", inputs)?);
        Self::new(low, high, stored.take("mean", inputs)?, layers)
    }
}
