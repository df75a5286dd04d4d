//! Rows of every item of the catalogue under one bundle.
//!
//! Always holds: the first `trained_items` rows are the bundle's own; every later row is computed from the item's
//! content alone, so it is the same whether the table was built at once or extended.

use crate::FIXED_COORDINATES;
use crate::bundle::Bundle;
use crate::content::{ContentRow, ContentSection};
use crate::sections::{Malformed, Stored, Tensors};
use attune_domain::{Item, ItemIx};
use attune_inference::CompactRows;
use std::sync::Arc;

/// What training counted about an item.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ItemStats {
    /// ln(1 + interactions).
    pub(crate) popularity: f32,
    /// ln(1 + interactions of the newest tenth of the training events).
    pub(crate) recent_popularity: f32,
    /// Shrunk share of likes among interactions.
    pub(crate) like_rate: f32,
    /// Shrunk clicks per impression, where impressions were logged, else 0.
    pub(crate) click_rate: f32,
    /// Shrunk mean of ln(1 + dwell seconds), else 0.
    pub(crate) dwell: f32,
}

/// Content of an item as the ranker reads it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ItemContent {
    /// Dense codes of known categories, most significant first.
    pub(crate) categories: Box<[u16]>,
    pub(crate) created_at: Option<i64>,
    /// ln(1 + price in minor units).
    pub(crate) price: Option<f32>,
}

const GUESSED_BASE_RATE: f32 = 0.05;

/// Item vectors and what else is looked up per item. Cheap to clone and to extend.
#[derive(Debug, Clone)]
pub struct ItemTable {
    dim: usize,
    trained: usize,
    vectors: Vec<f32>,
    compact: CompactRows,
    /// Of the vectors without their fixed coordinates.
    lengths: Vec<f32>,
    inputs: Vec<f32>,
    base_rates: Vec<f32>,
    stats: Vec<ItemStats>,
    content: Vec<Arc<ItemContent>>,
    /// Categories that training knew.
    categories: usize,
}

impl ItemTable {
    /// `items` in dense order; the first [`Bundle::trained_items`] must be those the bundle was trained with
    /// ([`Bundle::catalogue_hash`]), otherwise rows would stand for the wrong items.
    pub fn new(bundle: &Bundle, items: &[Item]) -> Self {
        Self::from_sections(bundle.dim(), &bundle.items, &bundle.content, items)
    }

    /// The table for a catalogue that begins with this one's items; only what was appended is computed.
    pub fn extended(&self, bundle: &Bundle, items: &[Item]) -> Self {
        let mut table = self.clone();
        table.append(&bundle.items, &bundle.content, items);
        table
    }

    pub(crate) fn from_sections(dim: usize, own: &ItemSection, content: &ContentSection, items: &[Item]) -> Self {
        let mut table = Self {
            dim,
            trained: own.base_logits.len(),
            vectors: Vec::with_capacity(items.len() * dim),
            compact: CompactRows::new(dim, FIXED_COORDINATES),
            lengths: Vec::with_capacity(items.len()),
            inputs: Vec::with_capacity(items.len() * (dim - FIXED_COORDINATES)),
            base_rates: Vec::with_capacity(items.len()),
            stats: Vec::with_capacity(items.len()),
            content: Vec::with_capacity(items.len()),
            categories: content.vocabulary.categories.len(),
        };
        table.append(own, content, items);
        table
    }

    fn append(&mut self, own: &ItemSection, content: &ContentSection, items: &[Item]) {
        let latent = self.dim - FIXED_COORDINATES;
        for (ix, item) in items.iter().enumerate().skip(self.len()) {
            if ix < self.trained {
                self.vectors.extend_from_slice(&own.vectors[ix * self.dim..(ix + 1) * self.dim]);
                self.inputs.extend_from_slice(&own.inputs[ix * latent..(ix + 1) * latent]);
                self.base_rates.push(attune_inference::sigmoid(own.base_logits[ix]));
                self.stats.push(own.stats[ix]);
            } else {
                let ContentRow { vector, input, base_logit, stats } = content.row(item, self.dim);
                self.vectors.extend_from_slice(&vector);
                self.inputs.extend_from_slice(&input);
                self.base_rates.push(attune_inference::sigmoid(base_logit));
                self.stats.push(stats);
            }
            let vector = &self.vectors[ix * self.dim..];
            self.compact.push(vector);
            self.lengths.push(attune_inference::dot(&vector[..latent], &vector[..latent]).sqrt());
            self.content.push(Arc::new(content.read(item)));
        }
    }

    pub fn len(&self) -> usize {
        self.content.len()
    }

    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The item's vector. Panics when the item is not in the table.
    pub fn vector(&self, ix: ItemIx) -> &[f32] {
        &self.vectors[ix.index() * self.dim..(ix.index() + 1) * self.dim]
    }

    /// All vectors, row-major.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// The vectors as the edge scores them, a byte a coordinate.
    pub fn compact(&self) -> &CompactRows {
        &self.compact
    }

    /// Length of each item's vector without its fixed coordinates, which are biases and say nothing of taste.
    pub fn lengths(&self) -> &[f32] {
        &self.lengths
    }

    /// The model's mean predicted click probability of the item over training visitors: the prior mean of its
    /// posterior. A guess where the item is not in the table.
    pub fn base_rate(&self, ix: ItemIx) -> f32 {
        self.base_rates.get(ix.index()).copied().unwrap_or(GUESSED_BASE_RATE)
    }

    /// [`base_rate`](Self::base_rate) of each of these.
    pub fn base_rates_of(&self, items: &[u32]) -> Vec<f32> {
        items.iter().map(|&item| self.base_rate(ItemIx(item))).collect()
    }

    pub fn base_rates(&self) -> &[f32] {
        &self.base_rates
    }

    /// Dense code of the item's primary category; `u16::MAX` where it has none that training knew.
    pub fn category(&self, ix: ItemIx) -> u16 {
        self.content(ix).and_then(|content| content.categories.first().copied()).unwrap_or(u16::MAX)
    }

    /// ln(1 + interactions in training): the item's score under the popularity baseline. A guess from its content for an
    /// item that training did not see; 0 where the item is not in the table.
    pub fn popularity(&self, ix: ItemIx) -> f32 {
        self.stats(ix).map_or(0.0, |stats| stats.popularity)
    }

    /// The row an event about the item adds to a user vector.
    pub(crate) fn input(&self, ix: ItemIx) -> Option<&[f32]> {
        let latent = self.dim - FIXED_COORDINATES;
        let from = ix.index().checked_mul(latent)?;
        self.inputs.get(from..from.checked_add(latent)?)
    }

    pub(crate) fn content(&self, ix: ItemIx) -> Option<&ItemContent> {
        self.content.get(ix.index()).map(Arc::as_ref)
    }

    pub(crate) fn categories(&self) -> usize {
        self.categories
    }

    pub(crate) fn stats(&self, ix: ItemIx) -> Option<&ItemStats> {
        self.stats.get(ix.index())
    }
}

impl ItemStats {
    pub(crate) const COLUMNS: usize = 5;

    pub(crate) fn columns(&self) -> [f32; Self::COLUMNS] {
        [self.popularity, self.recent_popularity, self.like_rate, self.click_rate, self.dwell]
    }

    /// `columns` has [`Self::COLUMNS`] values.
    pub(crate) fn from_columns(columns: &[f32]) -> Self {
        Self {
            popularity: columns[0],
            recent_popularity: columns[1],
            like_rate: columns[2],
            click_rate: columns[3],
            dwell: columns[4],
        }
    }
}

/// Rows of the items that training saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ItemSection {
    pub(crate) vectors: Vec<f32>,
    pub(crate) inputs: Vec<f32>,
    pub(crate) base_logits: Vec<f32>,
    pub(crate) stats: Vec<ItemStats>,
}

impl ItemSection {
    pub(crate) fn encode(&self, dim: usize) -> Result<Vec<u8>, Malformed> {
        let n = self.base_logits.len();
        let stats: Vec<f32> = self.stats.iter().flat_map(ItemStats::columns).collect();
        let mut tensors = Tensors::default();
        tensors.put("vectors", &[n, dim], &self.vectors);
        tensors.put("inputs", &[n, dim - FIXED_COORDINATES], &self.inputs);
        tensors.put("base_logits", &[n], &self.base_logits);
        tensors.put("stats", &[n, ItemStats::COLUMNS], &stats);
        tensors.encode()
    }

    pub(crate) fn decode(bytes: &[u8], n: usize, dim: usize) -> Result<Self, Malformed> {
        let stored = Stored::decode(bytes)?;
        let stats = stored.take("stats", n * ItemStats::COLUMNS)?;
        Ok(Self {
            vectors: stored.take("vectors", n * dim)?,
            inputs: stored.take("inputs", n * (dim - FIXED_COORDINATES))?,
            base_logits: stored.take("base_logits", n)?,
            stats: stats.chunks_exact(ItemStats::COLUMNS).map(ItemStats::from_columns).collect(),
        })
    }
}
