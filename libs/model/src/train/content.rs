//! Ridge regression from content tokens to trained rows, for items nobody touched.

use crate::content::{ContentSection, width};
use crate::items::ItemSection;
use crate::train::linear::invert;
use crate::{FIXED_COORDINATES, tower::add_scaled};
use attune_domain::Item;

const RIDGE: f64 = 3.0;
/// Interactions at which an item's own row weighs as much as its content's in the fit.
const TRUST: f32 = 3.0;

/// Fits the section's weights to the rows of items with events, busier items weighing more.
pub(crate) fn fit(section: &mut ContentSection, own: &ItemSection, items: &[Item], interactions: &[u32], dim: usize) {
    let latent = dim - FIXED_COORDINATES;
    let (tokens, width) = (section.vocabulary.tokens.len() + 1, width(dim));
    let mut gram = vec![0.0f64; tokens * tokens];
    let mut targets = vec![0.0f64; tokens * width];
    for (ix, item) in items.iter().enumerate().filter(|(ix, _)| interactions[*ix] > 0) {
        let count = interactions[ix] as f32;
        let weight = f64::from(count / (count + TRUST));
        let rows = section.rows(item);
        let target: Vec<f32> = row_of(own, ix, latent, dim);
        for &a in &rows {
            rows.iter().for_each(|&b| gram[a * tokens + b] += weight);
            let to = &mut targets[a * width..(a + 1) * width];
            to.iter_mut().zip(&target).for_each(|(t, &x)| *t += weight * f64::from(x));
        }
    }
    // The constant is hardly penalised, so that shrinking the rest leaves the mean row.
    (0..tokens).for_each(|t| gram[t * tokens + t] += if t == 0 { 1e-3 } else { RIDGE });
    section.weights = vec![0.0; tokens * width];
    let Some(inverse) = invert(gram, tokens) else { return };
    for (to, from) in section.weights.chunks_exact_mut(width).zip(inverse.chunks_exact(tokens)) {
        let mut sum = vec![0.0f64; width];
        for (&share, target) in from.iter().zip(targets.chunks_exact(width)) {
            sum.iter_mut().zip(target).for_each(|(s, t)| *s += share * t);
        }
        to.iter_mut().zip(&sum).for_each(|(t, &s)| *t = s as f32);
    }
}

fn row_of(own: &ItemSection, ix: usize, latent: usize, dim: usize) -> Vec<f32> {
    let mut row = own.inputs[ix * latent..(ix + 1) * latent].to_vec();
    row.extend_from_slice(&own.vectors[ix * dim..(ix + 1) * dim]);
    row.push(own.base_logits[ix]);
    row
}

/// Moves rows towards what their content says, the more the fewer events they have.
pub(crate) fn shrink(
    own: &mut ItemSection,
    section: &ContentSection,
    items: &[Item],
    interactions: &[u32],
    trust: f32,
    dim: usize,
) {
    let latent = dim - FIXED_COORDINATES;
    let blend = |to: &mut [f32], from: &[f32], keep: f32| {
        to.iter_mut().for_each(|x| *x *= keep);
        add_scaled(to, 1.0 - keep, from);
    };
    for (ix, item) in items.iter().enumerate() {
        let count = interactions[ix] as f32;
        let keep = count / (count + trust);
        if keep > 0.99 {
            continue;
        }
        let content = section.row(item, dim);
        blend(&mut own.inputs[ix * latent..(ix + 1) * latent], &content.input, keep);
        blend(&mut own.vectors[ix * dim..(ix + 1) * dim], &content.vector, keep);
        blend(&mut own.base_logits[ix..ix + 1], &[content.base_logit], keep);
    }
}
