//! One immutable state of the index: sealed segments with their tombstones, and the exact buffer.
//!
//! Always holds: an id is live in at most one place; a search sees all of a generation or nothing of it.

use super::search::{Beam, Hit, Scratch, top};
use super::segment::Segment;
use super::{Bitmap, IndexConfig, SearchError, kernel};
use std::cell::RefCell;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) segment: Arc<Segment>,
    /// Rows that were deleted or are newer elsewhere.
    pub(super) dead: Arc<Bitmap>,
}

impl Live {
    pub(super) fn len(&self) -> usize {
        self.segment.len() - self.dead.len()
    }

    pub(super) fn live_row(&self, id: u32) -> Option<u32> {
        self.segment.local(id).filter(|&local| !self.dead.contains(local))
    }
}

/// Newest vectors, ascending by id, searched exactly.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffer {
    pub(super) ids: Vec<u32>,
    /// Number of the write that put the row here; tells a merge whether the row it sealed is still the newest.
    pub(super) seqs: Vec<u64>,
    pub(super) rows: Vec<f32>,
    /// Of each id and row, so that a write need not hash the whole buffer again.
    hashes: Vec<u64>,
}

fn row_hash(id: u32, row: &[f32]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    hasher.update(&id.to_le_bytes()).update(&bytes);
    hasher.finalize().as_bytes()[..8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl Buffer {
    /// `ids` ascending, each with a row of the same stride.
    pub(super) fn new(ids: Vec<u32>, rows: Vec<f32>) -> Self {
        let stride = rows.len().checked_div(ids.len()).unwrap_or(1).max(1);
        let hashes = ids.iter().zip(rows.chunks(stride)).map(|(&id, row)| row_hash(id, row)).collect();
        Self { seqs: vec![0; ids.len()], hashes, ids, rows }
    }

    pub(super) fn put(&mut self, id: u32, seq: u64, row: &[f32]) {
        let stride = row.len();
        let hash = row_hash(id, row);
        match self.ids.binary_search(&id) {
            Ok(at) => {
                self.seqs[at] = seq;
                self.hashes[at] = hash;
                self.rows[at * stride..][..stride].copy_from_slice(row);
            }
            Err(at) => {
                self.ids.insert(at, id);
                self.seqs.insert(at, seq);
                self.hashes.insert(at, hash);
                self.rows.splice(at * stride..at * stride, row.iter().copied());
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32, stride: usize) -> bool {
        let Ok(at) = self.ids.binary_search(&id) else {
            return false;
        };
        self.ids.remove(at);
        self.seqs.remove(at);
        self.hashes.remove(at);
        self.rows.drain(at * stride..(at + 1) * stride);
        true
    }
}

/// What to look for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Of the index's dimension.
    pub vector: &'a [f32],
    pub k: usize,
    /// Width of the beam; the index's own when absent, never below `k`.
    pub ef: Option<usize>,
    /// Only these ids may come back.
    pub allow: Option<&'a Bitmap>,
    /// Asked now and then; once true the search gives up.
    pub late: &'a dyn Fn() -> bool,
}

#[derive(Debug)]
pub struct Generation {
    pub(super) dim: usize,
    pub(super) segments: Vec<Live>,
    pub(super) buffer: Arc<Buffer>,
    hash: [u8; 16],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows that a scan gets through while the beam expands one node: it reads them in order, without heaps or marks.
const ROWS_PER_EXPANSION: usize = 8;
/// Rows scored between two looks at the deadline.
const ROWS_PER_CHECK: usize = 4_096;

impl Generation {
    pub(super) fn new(dim: usize, segments: Vec<Live>, buffer: Arc<Buffer>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for live in &segments {
            hasher.update(&live.segment.hash());
            hasher.update(&(live.dead.len() as u64).to_le_bytes());
            live.dead.iter().for_each(|row| _ = hasher.update(&row.to_le_bytes()));
        }
        buffer.hashes.iter().for_each(|hash| _ = hasher.update(&hash.to_le_bytes()));
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self { dim, segments, buffer, hash }
    }

    /// Live items.
    pub fn len(&self) -> usize {
        self.segments.iter().map(Live::len).sum::<usize>() + self.buffer.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that a graph covers.
    pub fn in_graphs(&self) -> usize {
        self.segments.iter().filter(|live| live.segment.has_graph()).map(Live::len).sum()
    }

    /// Names everything a search of this generation depends on.
    pub fn hash(&self) -> [u8; 16] {
        self.hash
    }

    /// The live vector of an item, padded.
    pub(super) fn row(&self, id: u32) -> Option<&[f32]> {
        let stride = kernel::stride(self.dim);
        match self.buffer.ids.binary_search(&id) {
            Ok(at) => Some(&self.buffer.rows[at * stride..][..stride]),
            Err(_) => self.segments.iter().find_map(|live| live.live_row(id).map(|local| live.segment.row(local))),
        }
    }

    /// Ascending.
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids = self.buffer.ids.clone();
        for live in &self.segments {
            ids.extend(
                (0..).zip(&live.segment.ids).filter(|(local, _)| !live.dead.contains(*local)).map(|(_, id)| *id),
            );
        }
        ids.sort_unstable();
        ids
    }

    /// The items with the greatest inner products, best first; ties by lower id.
    pub fn search(&self, config: &IndexConfig, query: &Query<'_>) -> Result<Vec<Hit>, SearchError> {
        self.collect(query, |live, padded, scratch| self.search_segment(config, query, live, padded, scratch))
    }

    /// The same by looking at every vector: the oracle.
    pub fn search_exact(&self, query: &Query<'_>) -> Result<Vec<Hit>, SearchError> {
        self.collect(query, |live, padded, scratch| scan_segment(query, live, padded, scratch))
    }

    fn collect(
        &self,
        query: &Query<'_>,
        mut segment: impl FnMut(&Live, &[f32], &mut Scratch) -> Result<Vec<Hit>, SearchError>,
    ) -> Result<Vec<Hit>, SearchError> {
        if query.vector.len() != self.dim {
            return Err(SearchError::Dimension { expected: self.dim, found: query.vector.len() });
        }
        let mut padded = Vec::with_capacity(kernel::stride(self.dim));
        kernel::push_row(&mut padded, query.vector);
        SCRATCH.with_borrow_mut(|scratch| {
            let allow = |id: u32| query.allow.is_none_or(|allow| allow.contains(id));
            let mut hits = scan(&self.buffer.ids, &self.buffer.rows, &padded, query, scratch, |_, id| allow(id))?;
            for live in &self.segments {
                hits.append(&mut segment(live, &padded, scratch)?);
            }
            Ok(top(hits, query.k))
        })
    }

    fn search_segment(
        &self,
        config: &IndexConfig,
        query: &Query<'_>,
        live: &Live,
        padded: &[f32],
        scratch: &mut Scratch,
    ) -> Result<Vec<Hit>, SearchError> {
        let rows = live.segment.len();
        let Some(graph) = &live.segment.graph else {
            return scan_segment(query, live, padded, scratch);
        };
        // Rows that can come back, among those the beam walks over.
        let allowed = query.allow.map_or(1.0, |allow| allow.len() as f32 / self.len().max(1) as f32).min(1.0);
        let share = allowed * live.len() as f32 / rows as f32;
        let wanted = query.ef.unwrap_or(config.ef).max(query.k);
        let ef = (wanted as f32 / share.max(f32::EPSILON)).ceil() as usize;
        if share < config.scan_below_share || ef.saturating_mul(ROWS_PER_EXPANSION) >= rows {
            return scan_segment(query, live, padded, scratch);
        }
        let beam = Beam { rows: &live.segment.rows, graph, query: padded, late: query.late };
        let mut hits = beam.run(ef, rows, scratch).ok_or(SearchError::Late)?;
        hits.retain_mut(|hit| {
            let row = hit.id;
            hit.id = live.segment.ids[row as usize];
            !live.dead.contains(row) && query.allow.is_none_or(|allow| allow.contains(hit.id))
        });
        if hits.len() < query.k {
            // The allowed items lie elsewhere than the share promised.
            return scan_segment(query, live, padded, scratch);
        }
        hits.truncate(query.k);
        Ok(hits)
    }
}

fn scan_segment(
    query: &Query<'_>,
    live: &Live,
    padded: &[f32],
    scratch: &mut Scratch,
) -> Result<Vec<Hit>, SearchError> {
    let segment = &live.segment;
    scan(&segment.ids, &segment.rows, padded, query, scratch, |local, id| {
        !live.dead.contains(local) && query.allow.is_none_or(|allow| allow.contains(id))
    })
}

fn scan(
    ids: &[u32],
    rows: &[f32],
    padded: &[f32],
    query: &Query<'_>,
    scratch: &mut Scratch,
    keep: impl Fn(u32, u32) -> bool,
) -> Result<Vec<Hit>, SearchError> {
    let mut hits = Vec::new();
    let mut local = 0;
    for (ids, rows) in ids.chunks(ROWS_PER_CHECK).zip(rows.chunks(ROWS_PER_CHECK * padded.len())) {
        if (query.late)() {
            return Err(SearchError::Late);
        }
        scratch.scores.clear();
        kernel::scan(rows, padded, &mut scratch.scores);
        for (&id, &score) in ids.iter().zip(&scratch.scores) {
            if keep(local, id) {
                hits.push(Hit { score, id });
            }
            local += 1;
        }
    }
    Ok(top(hits, query.k))
}
