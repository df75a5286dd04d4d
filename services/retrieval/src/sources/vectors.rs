//! Sources that search the vector index.

use super::{Ask, CandidateSource, Look, SourceError, Work};
use crate::index::{Bitmap, Query, SearchError, VectorIndex};
use attune_decision::SourceKind;
use attune_domain::ItemIx;
use attune_serving::Serving;
use std::collections::HashSet;

/// Items whose vector agrees most with the visitor's.
pub struct Neighbours;

impl CandidateSource for Neighbours {
    fn kind(&self) -> SourceKind {
        SourceKind::Neighbours
    }

    fn work(&self) -> Work {
        Work::Heavy
    }

    fn searches_index(&self) -> bool {
        true
    }

    fn is_asked(&self, ask: &Ask) -> bool {
        !ask.user_vector.is_empty()
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        search(look, &look.ask.user_vector, look.ask.limit)
    }
}

/// Recent items whose neighbours are looked up.
const RECENT_ITEMS: usize = 5;

/// Items like the last few the visitor was interested in, the newest of them first.
pub struct SimilarToRecent;

impl CandidateSource for SimilarToRecent {
    fn kind(&self) -> SourceKind {
        SourceKind::SimilarToRecent
    }

    fn work(&self) -> Work {
        Work::Heavy
    }

    fn searches_index(&self) -> bool {
        true
    }

    fn is_asked(&self, ask: &Ask) -> bool {
        !ask.recent.is_empty()
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        let limit = look.ask.limit;
        let recent = &look.ask.recent[..look.ask.recent.len().min(RECENT_ITEMS)];
        let mut taken: HashSet<ItemIx> = recent.iter().copied().collect();
        let mut lists = Vec::with_capacity(recent.len());
        for item in recent {
            lists.push(alike(look, *item, limit.div_ceil(recent.len()))?.into_iter());
        }
        let mut merged = Vec::new();
        while merged.len() < limit && !lists.is_empty() {
            lists.retain_mut(|list| match list.find(|item| taken.insert(*item)) {
                Some(item) if merged.len() < limit => {
                    merged.push(item);
                    true
                }
                _ => false,
            });
        }
        Ok(merged)
    }
}

/// Items like the one the page is about.
pub struct Related;

impl CandidateSource for Related {
    fn kind(&self) -> SourceKind {
        SourceKind::Related
    }

    fn work(&self) -> Work {
        Work::Heavy
    }

    fn searches_index(&self) -> bool {
        true
    }

    fn is_asked(&self, ask: &Ask) -> bool {
        ask.item.is_some()
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        match look.ask.item {
            Some(item) => alike(look, item, look.ask.limit),
            None => Ok(Vec::new()),
        }
    }
}

/// What [`Neighbours`] finds in the index's generation of the moment: for replay.
pub fn neighbours_of(
    serving: &Serving,
    index: &VectorIndex,
    vector: &[f32],
    k: usize,
) -> Result<Vec<ItemIx>, SearchError> {
    let available: Bitmap =
        (0u32..).zip(serving.available.iter()).filter(|(_, there)| **there).map(|(ix, _)| ix).collect();
    let query = Query { vector, k, ef: None, allow: Some(&available), late: &|| false };
    let hits = index.search(&query)?;
    Ok(hits.into_iter().map(|hit| ItemIx(hit.id)).filter(|item| serving.is_available(*item)).collect())
}

fn search(look: &Look<'_>, vector: &[f32], k: usize) -> Result<Vec<ItemIx>, SourceError> {
    let query = Query { vector, k, ef: None, allow: Some(&look.view.available), late: look.late };
    let hits = look.generation.search(look.view.index.config(), &query)?;
    Ok(hits.into_iter().map(|hit| ItemIx(hit.id)).filter(|item| look.is_available(*item)).collect())
}

/// Items looked at for each one given: inner product finds them, the angle orders them.
const WIDER: usize = 4;

/// Items of the same taste as `item`, without it, by cosine (the length of `item` itself changes no order). The inner product alone would favour what everybody likes, the angle
/// alone what hardly anybody rated: so the best by inner product, ordered by angle.
fn alike(look: &Look<'_>, item: ItemIx, k: usize) -> Result<Vec<ItemIx>, SourceError> {
    let items = &look.view.serving.items;
    if item.index() >= items.len() {
        return Ok(Vec::new());
    }
    let latent = items.dim() - attune_model::FIXED_COORDINATES.min(items.dim());
    let mut taste = items.vector(item).to_vec();
    taste[latent..].fill(0.0);
    let mut found = search(look, &taste, k * WIDER + 1)?;
    found.retain(|other| *other != item);
    let numbers: Vec<u32> = found.iter().map(|other| other.0).collect();
    let mut products = vec![0.0; numbers.len()];
    attune_inference::gather_dot(items.vectors(), items.dim(), &taste, &numbers, &mut products);
    let mut by_angle: Vec<(f32, ItemIx)> = found
        .into_iter()
        .zip(products)
        .map(|(other, product)| (product / items.lengths()[other.index()].max(f32::MIN_POSITIVE), other))
        .collect();
    let better = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if k < by_angle.len() && k > 0 {
        by_angle.select_nth_unstable_by(k - 1, better);
    }
    by_angle.truncate(k);
    by_angle.sort_unstable_by(better);
    Ok(by_angle.into_iter().map(|(_, other)| other).collect())
}
