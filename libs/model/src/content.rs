//! What an item is, as numbers: categories, attributes, age and price; and vectors made from that alone.
//!
//! A ridge regression maps content tokens to the trained rows, so an item nobody touched gets the row that items like
//! it have on average.

use crate::FIXED_COORDINATES;
use crate::items::{ItemContent, ItemStats};
use crate::sections::{Malformed, Stored, Tensors};
use attune_domain::Item;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Tokens that training may learn; the most frequent ones.
pub(crate) const MAX_TOKENS: usize = 1024;
const MILLIS_PER_YEAR: i64 = 31_556_952_000;

/// Rows for an item from its content.
pub(crate) struct ContentRow {
    pub(crate) vector: Vec<f32>,
    pub(crate) input: Vec<f32>,
    pub(crate) base_logit: f32,
    pub(crate) stats: ItemStats,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vocabulary {
    /// Categories by dense code.
    pub(crate) categories: Vec<String>,
    /// Content tokens, in the order of their rows after the constant row.
    pub(crate) tokens: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ContentSection {
    pub(crate) vocabulary: Vocabulary,
    categories: HashMap<String, u16>,
    tokens: HashMap<String, usize>,
    /// Per token (the constant first): input row, vector row, base logit.
    pub(crate) weights: Vec<f32>,
    /// Stands for items without training events.
    pub(crate) unseen: ItemStats,
}

/// Width of a content token's row.
pub(crate) fn width(dim: usize) -> usize {
    (dim - FIXED_COORDINATES) + dim + 1
}

impl ContentSection {
    pub(crate) fn new(vocabulary: Vocabulary) -> Self {
        let categories = vocabulary.categories.iter().zip(0u16..).map(|(c, i)| (c.clone(), i)).collect();
        let tokens = vocabulary.tokens.iter().enumerate().map(|(i, t)| (t.clone(), i + 1)).collect();
        Self { vocabulary, categories, tokens, weights: Vec::new(), unseen: ItemStats::default() }
    }

    /// Rows of the weights that an item's content adds up; the constant row first.
    pub(crate) fn rows(&self, item: &Item) -> Vec<usize> {
        let mut rows = vec![0];
        rows.extend(tokens(item).iter().filter_map(|token| self.tokens.get(token).copied()));
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    pub(crate) fn row(&self, item: &Item, dim: usize) -> ContentRow {
        let width = width(dim);
        let mut sum = vec![0.0; width];
        for row in self.rows(item) {
            crate::tower::add_scaled(&mut sum, 1.0, &self.weights[row * width..(row + 1) * width]);
        }
        let latent = dim - FIXED_COORDINATES;
        ContentRow {
            input: sum[..latent].to_vec(),
            vector: sum[latent..latent + dim].to_vec(),
            base_logit: sum[width - 1],
            stats: self.unseen,
        }
    }

    /// The content as the ranker reads it.
    pub(crate) fn read(&self, item: &Item) -> ItemContent {
        ItemContent {
            categories: item.categories.iter().filter_map(|c| self.categories.get(c).copied()).collect(),
            created_at: created_at(item),
            price: item.price.map(|price| attune_inference::ln_1p(price.max(0) as f32)),
        }
    }

    pub(crate) fn encode(&self, dim: usize) -> Result<Vec<u8>, Malformed> {
        let mut tensors = Tensors::default();
        tensors.put("weights", &[self.vocabulary.tokens.len() + 1, width(dim)], &self.weights);
        tensors.put("unseen", &[5], &self.unseen.columns());
        tensors.encode()
    }

    pub(crate) fn decode(vocabulary: Vocabulary, bytes: &[u8], dim: usize) -> Result<Self, Malformed> {
        let stored = Stored::decode(bytes)?;
        let rows = vocabulary.tokens.len() + 1;
        if rows > MAX_TOKENS + 1 || vocabulary.categories.len() > MAX_TOKENS {
            return Err(Malformed(format!("more than {MAX_TOKENS} tokens or categories")));
        }
        let mut section = Self::new(vocabulary);
        section.weights = stored.take("weights", rows * width(dim))?;
        section.unseen = ItemStats::from_columns(&stored.take("unseen", 5)?);
        Ok(section)
    }
}

/// When the item appeared: what the shop says, or the year that its title ends in.
pub(crate) fn created_at(item: &Item) -> Option<i64> {
    item.created_at.or_else(|| title_year(&item.title).map(|year| (year - 1970) * MILLIS_PER_YEAR))
}

/// 1995 of `Toy Story (1995)`.
fn title_year(title: &str) -> Option<i64> {
    let digits = title.trim_end().strip_suffix(')')?.rsplit_once('(')?.1;
    let year: i64 = digits.parse().ok()?;
    (1850..2200).contains(&year).then_some(year)
}

/// Content tokens of an item, whether or not training knows them.
pub(crate) fn tokens(item: &Item) -> Vec<String> {
    let mut tokens: Vec<String> = item.categories.iter().map(|c| format!("category={c}")).collect();
    if let Some(first) = item.categories.first() {
        tokens.push(format!("primary={first}"));
    }
    tokens.extend(item.attributes.iter().map(|(name, value)| format!("{name}={value}")));
    if let Some(at) = created_at(item) {
        let year = 1970 + at.div_euclid(MILLIS_PER_YEAR);
        tokens.push(format!("decade={}", year.div_euclid(10)));
        tokens.push(format!("years={}", year.div_euclid(3)));
    }
    if let Some(price) = item.price {
        tokens.push(format!("price={}", price.max(1).ilog2()));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_in_the_title_counts_only_at_its_end() {
        assert_eq!(title_year("Toy Story (1995)"), Some(1995));
        assert_eq!(title_year("2001: A Space Odyssey (1968) "), Some(1968));
        assert_eq!(title_year("(500) Days of Summer"), None);
        assert_eq!(title_year("Room (99)"), None);
    }
}
