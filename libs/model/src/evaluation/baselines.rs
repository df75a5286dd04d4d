//! What every figure stands beside.

use crate::train::likes;
use attune_dataset::Dataset;
use attune_domain::{ItemIx, UserWindow};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// The catalogue in random order, another one for every case.
pub fn random(items: usize, seed: u64, case: usize) -> Vec<ItemIx> {
    let mut order: Vec<ItemIx> = (0..items as u32).map(ItemIx).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (case as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    order
}

/// Items each visitor liked, without repeats.
fn histories(data: &Dataset) -> Vec<Vec<u32>> {
    let mut seen = HashSet::new();
    let mut lists = vec![Vec::new(); data.users.len()];
    for event in data.events.iter().filter(|e| likes(e.kind)) {
        if seen.insert((event.user, event.item)) {
            lists[event.user as usize].push(event.item.0);
        }
    }
    lists
}

fn descending(scores: &[f32]) -> Vec<ItemIx> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.into_iter().map(ItemIx).collect()
}

/// Items by the number of visitors who liked them.
#[derive(Debug, Clone)]
pub struct Popularity(Vec<ItemIx>);

impl Popularity {
    pub fn new(data: &Dataset) -> Self {
        let mut counts = vec![0.0; data.items.len()];
        histories(data).iter().flatten().for_each(|&item| counts[item as usize] += 1.0);
        Self(descending(&counts))
    }

    pub fn recommend(&self) -> &[ItemIx] {
        &self.0
    }
}

/// Item to item by cosine over visitors, each item keeping its nearest neighbours; a history's score for an item is
/// the sum over the history.
#[derive(Debug, Clone)]
pub struct ItemKnn {
    items: usize,
    neighbours: Vec<Vec<(u32, f32)>>,
}

impl ItemKnn {
    pub fn new(data: &Dataset, nearest: usize) -> Self {
        let items = data.items.len();
        let rows = histories(data);
        let mut users_of = vec![Vec::new(); items];
        for (user, row) in rows.iter().enumerate() {
            row.iter().for_each(|&item| users_of[item as usize].push(user));
        }
        let mut together = vec![0u32; items];
        let mut neighbours = Vec::with_capacity(items);
        for (item, users) in users_of.iter().enumerate() {
            let mut touched = Vec::new();
            for &other in users.iter().flat_map(|&user| &rows[user]) {
                if together[other as usize] == 0 {
                    touched.push(other);
                }
                together[other as usize] += 1;
            }
            let cosine = |other: u32| {
                let norm = (users.len() as f32 * users_of[other as usize].len() as f32).sqrt();
                together[other as usize] as f32 / norm
            };
            let mut list: Vec<(u32, f32)> =
                touched.iter().filter(|&&o| o as usize != item).map(|&o| (o, cosine(o))).collect();
            list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            list.truncate(nearest);
            neighbours.push(list);
            touched.iter().for_each(|&other| together[other as usize] = 0);
        }
        Self { items, neighbours }
    }

    /// Scores from the whole history (`seen`), best first.
    pub fn recommend(&self, history: &UserWindow) -> Vec<ItemIx> {
        let mut scores = vec![0.0; self.items];
        for seen in history.seen() {
            for &(other, close) in self.neighbours.get(seen.item.index()).map_or(&[][..], Vec::as_slice) {
                scores[other as usize] += close;
            }
        }
        descending(&scores)
    }
}
