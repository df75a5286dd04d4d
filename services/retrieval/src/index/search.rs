//! Searching a sealed graph: greedy descent, then a beam over the lowest layer. Hot path.
//!
//! Always holds: no allocation besides the result once a thread's scratch is warm; every comparison is total, by score
//! and then by lower number, so the same segment and query give the same rows in the same order.

use super::kernel;
use super::segment::{Graph, NONE};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A row, or later an item, with its inner product. Greater is better: higher score, then lower number.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    pub score: f32,
    pub id: u32,
}

impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Hit {}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the `k` best, best first.
pub(super) fn top(mut hits: Vec<Hit>, k: usize) -> Vec<Hit> {
    if hits.len() > k {
        if k == 0 {
            return Vec::new();
        }
        hits.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
        hits.truncate(k);
    }
    hits.sort_unstable_by(|a, b| b.cmp(a));
    hits
}

/// What a thread reuses from search to search.
#[derive(Default)]
pub(super) struct Scratch {
    /// A row was visited in this search if its mark is the current epoch.
    visited: Vec<u32>,
    epoch: u32,
    candidates: BinaryHeap<Hit>,
    best: BinaryHeap<Reverse<Hit>>,
    picks: Vec<u32>,
    pub(super) scores: Vec<f32>,
}

impl Scratch {
    fn begin(&mut self, rows: usize) {
        if self.visited.len() < rows {
            self.visited.resize(rows, 0);
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.visited.fill(0);
            self.epoch = 1;
        }
        self.candidates.clear();
        self.best.clear();
    }

    fn visit(&mut self, row: u32) -> bool {
        let mark = &mut self.visited[row as usize];
        let new = *mark != self.epoch;
        *mark = self.epoch;
        new
    }
}

/// Nodes expanded between two looks at the deadline.
const EXPANSIONS_PER_CHECK: usize = 32;

pub(super) struct Beam<'a> {
    pub(super) rows: &'a [f32],
    pub(super) graph: &'a Graph,
    pub(super) query: &'a [f32],
    pub(super) late: &'a dyn Fn() -> bool,
}

impl Beam<'_> {
    /// `None` when it got late.
    pub(super) fn run(&self, ef: usize, rows: usize, scratch: &mut Scratch) -> Option<Vec<Hit>> {
        scratch.begin(rows);
        let entry = self.descend(scratch);
        scratch.visit(entry.id);
        scratch.candidates.push(entry);
        scratch.best.push(Reverse(entry));
        let width = self.graph.width;
        let mut expanded = 0;
        while let Some(candidate) = scratch.candidates.pop() {
            let full = scratch.best.len() >= ef;
            if full && scratch.best.peek().is_some_and(|worst| candidate < worst.0) {
                break;
            }
            if expanded % EXPANSIONS_PER_CHECK == 0 && (self.late)() {
                return None;
            }
            expanded += 1;
            scratch.picks.clear();
            for &next in &self.graph.links[candidate.id as usize * width..][..width] {
                if next == NONE {
                    break;
                }
                if scratch.visit(next) {
                    scratch.picks.push(next);
                }
            }
            scratch.scores.clear();
            kernel::gather(self.rows, self.query, &scratch.picks, &mut scratch.scores);
            for (&id, &score) in scratch.picks.iter().zip(&scratch.scores) {
                let hit = Hit { score, id };
                if scratch.best.len() < ef {
                    scratch.best.push(Reverse(hit));
                    scratch.candidates.push(hit);
                } else if let Some(mut worst) = scratch.best.peek_mut()
                    && hit > worst.0
                {
                    *worst = Reverse(hit);
                    scratch.candidates.push(hit);
                }
            }
        }
        let mut hits: Vec<Hit> = scratch.best.drain().map(|Reverse(hit)| hit).collect();
        hits.sort_unstable_by(|a, b| b.cmp(a));
        Some(hits)
    }

    /// The best row that greedy steps through the upper layers reach.
    fn descend(&self, scratch: &mut Scratch) -> Hit {
        let mut best = Hit { score: f32::NEG_INFINITY, id: self.graph.entry };
        scratch.scores.clear();
        kernel::gather(self.rows, self.query, &[best.id], &mut scratch.scores);
        best.score = scratch.scores[0];
        for layer in self.graph.upper.iter().rev() {
            while let Some(neighbours) = layer.get(&best.id) {
                scratch.scores.clear();
                kernel::gather(self.rows, self.query, neighbours, &mut scratch.scores);
                let step = neighbours.iter().zip(&scratch.scores).map(|(&id, &score)| Hit { score, id }).max();
                match step {
                    Some(step) if step > best => best = step,
                    _ => break,
                }
            }
        }
        best
    }
}
