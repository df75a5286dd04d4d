//! The vector index: maximum inner product over the catalogue's items.
//!
//! A small set of sealed segments, each with a graph in flat arrays; an exact buffer for what is newer; tombstones; a
//! background merge that swaps the result in at once; a checksummed snapshot.
//!
//! Always holds: a reader sees one whole generation; writers never wait for a merge; the buffer is bounded; what a
//! search returns is a function of the generation and the query; equal scores come in the order of ids.

mod bitmap;
mod generation;
mod kernel;
mod search;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;

pub use bitmap::Bitmap;
pub use generation::{Generation, Query};
pub use search::Hit;
pub use segment::{GraphParams, Segment};
pub use snapshot::SnapshotError;

use arc_swap::ArcSwap;
use generation::{Buffer, Live};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// Widest vector a snapshot may claim.
const MAX_DIM: usize = 65_536;

#[derive(Debug, Clone)]
pub struct IndexConfig {
    pub graph: GraphParams,
    /// Width of the beam when a query does not say.
    pub ef: usize,
    /// Below this share of rows that may come back, a segment is scanned instead.
    pub scan_below_share: f32,
    /// Buffered items that make a merge worth while.
    pub seal_at: usize,
    /// Buffered items at which writes are refused until a merge has run.
    pub buffer_max: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { graph: GraphParams::default(), ef: 200, scan_below_share: 0.1, seal_at: 1_024, buffer_max: 8_192 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    #[error("vector has {found} dimensions, the index has {expected}")]
    Dimension { expected: usize, found: usize },
    #[error("search ran past its deadline")]
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("vector of item {id} has {found} dimensions, the index has {expected}")]
    Dimension { id: u32, expected: usize, found: usize },
    #[error("vector of item {id} is not finite")]
    NotFinite { id: u32 },
    /// Nothing was written; a merge makes room.
    #[error("write buffer is full at {items} items")]
    BufferFull { items: usize },
}

/// A change to the index.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    Upsert(u32, &'a [f32]),
    Delete(u32),
}

impl Change<'_> {
    pub fn id(&self) -> u32 {
        match self {
            Self::Upsert(id, _) | Self::Delete(id) => *id,
        }
    }
}

pub struct VectorIndex {
    dim: usize,
    config: IndexConfig,
    current: ArcSwap<Generation>,
    /// Number of the last write; held while a generation is replaced.
    writes: Mutex<u64>,
    /// Held for the length of a merge.
    merging: Mutex<()>,
}

impl VectorIndex {
    pub fn new(dim: usize, config: IndexConfig) -> Self {
        Self::of(Generation::new(dim, Vec::new(), Arc::default()), config)
    }

    /// All items at once, searched exactly until [`Self::merge`] has built their graph. The vectors are row-major and
    /// belong to the items `0..`.
    pub fn seeded(dim: usize, config: IndexConfig, vectors: &[f32]) -> Result<Self, WriteError> {
        let (mut ids, mut rows) = (Vec::new(), Vec::new());
        for (id, vector) in (0..).zip(vectors.chunks(dim.max(1))) {
            check(dim, id, vector)?;
            ids.push(id);
            kernel::push_row(&mut rows, vector);
        }
        Ok(Self::of(Generation::new(dim, Vec::new(), Arc::new(Buffer::new(ids, rows))), config))
    }

    fn of(generation: Generation, config: IndexConfig) -> Self {
        Self {
            dim: generation.dim,
            config,
            current: ArcSwap::from_pointee(generation),
            writes: Mutex::new(0),
            merging: Mutex::new(()),
        }
    }

    /// Reads a snapshot. What it holds may be older than the item table: [`Self::reconcile`] afterwards.
    pub fn load(path: &Path, config: IndexConfig) -> Result<Self, SnapshotError> {
        Ok(Self::of(snapshot::load(path)?, config))
    }

    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        snapshot::save(&self.pin(), path)
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn config(&self) -> &IndexConfig {
        &self.config
    }

    /// The generation of this moment, for searches that have to agree with each other.
    pub fn pin(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>, SearchError> {
        self.current.load().search(&self.config, query)
    }

    /// Makes all changes visible in one step, in order; or none of them.
    pub fn write(&self, changes: &[Change<'_>]) -> Result<(), WriteError> {
        for change in changes {
            if let Change::Upsert(id, vector) = *change {
                check(self.dim, id, vector)?;
            }
        }
        let mut writes = self.writes.lock();
        let before = self.current.load_full();
        let mut buffer = Buffer::clone(&before.buffer);
        let mut segments = before.segments.clone();
        let mut padded = Vec::new();
        for change in changes {
            let id = change.id();
            for live in &mut segments {
                if let Some(row) = live.live_row(id) {
                    Arc::make_mut(&mut live.dead).insert(row);
                }
            }
            match *change {
                Change::Upsert(id, vector) => {
                    *writes += 1;
                    padded.clear();
                    kernel::push_row(&mut padded, vector);
                    buffer.put(id, *writes, &padded);
                }
                Change::Delete(id) => _ = buffer.remove(id, kernel::stride(self.dim)),
            }
        }
        // A seeded buffer may be larger than the bound; it may shrink, not grow.
        if buffer.ids.len() > self.config.buffer_max.max(before.buffer.ids.len()) {
            return Err(WriteError::BufferFull { items: before.buffer.ids.len() });
        }
        self.current.store(Arc::new(Generation::new(self.dim, segments, Arc::new(buffer))));
        Ok(())
    }

    /// Brings the index to exactly the items `0..` with these vectors: what a snapshot missed is written, what it has
    /// too much is removed. Returns the number of changes.
    pub fn reconcile(&self, vectors: &[f32]) -> Result<usize, WriteError> {
        let now = self.pin();
        let mut changes = Vec::new();
        let mut count = 0;
        for (id, vector) in (0..).zip(vectors.chunks(self.dim)) {
            count = id + 1;
            let same = now.row(id).is_some_and(|row| {
                row.iter().zip(vector).all(|(a, b)| a.to_bits() == b.to_bits()) && vector.len() == self.dim
            });
            if !same {
                changes.push(Change::Upsert(id, vector));
            }
        }
        changes.extend(now.ids().into_iter().filter(|id| *id >= count).map(Change::Delete));
        for part in changes.chunks(self.config.buffer_max.max(1)) {
            match self.write(part) {
                Err(WriteError::BufferFull { .. }) => {
                    self.merge();
                    self.write(part)?;
                }
                written => written?,
            }
        }
        Ok(changes.len())
    }

    pub fn needs_merge(&self) -> bool {
        let now = self.current.load();
        now.buffer.ids.len() >= self.config.seal_at.max(1) || now.segments.iter().any(mostly_dead)
    }

    pub fn is_merging(&self) -> bool {
        self.merging.is_locked()
    }

    /// Seals the buffer, together with the newest segments that are not much larger and those mostly dead, into one
    /// segment, and swaps it in. Blocks for CPU seconds; one at a time. Returns whether anything was merged.
    pub fn merge(&self) -> bool {
        let _one = self.merging.lock();
        let from = self.pin();
        let mut rows = from.buffer.ids.len();
        let mut taken = vec![false; from.segments.len()];
        for (take, live) in taken.iter_mut().zip(&from.segments).rev() {
            if mostly_dead(live) || live.len() <= rows * 2 {
                *take = true;
                rows += live.len();
            }
        }
        if rows == 0 && !taken.contains(&true) {
            return false;
        }
        let sealed = self.seal(&from, &taken);
        self.swap_in(&from, &taken, sealed);
        true
    }

    fn seal(&self, from: &Generation, taken: &[bool]) -> Segment {
        let mut parts: Vec<(u32, &[f32])> = Vec::new();
        let stride = kernel::stride(self.dim);
        parts.extend(from.buffer.ids.iter().copied().zip(from.buffer.rows.chunks(stride)));
        for (live, _) in from.segments.iter().zip(taken).filter(|(_, taken)| **taken) {
            let rows = (0..).zip(live.segment.ids.iter().copied().zip(live.segment.rows.chunks(stride)));
            parts.extend(rows.filter(|(local, _)| !live.dead.contains(*local)).map(|(_, part)| part));
        }
        parts.sort_unstable_by_key(|(id, _)| *id);
        let ids = parts.iter().map(|(id, _)| *id).collect();
        let rows = parts.iter().flat_map(|(_, row)| *row).copied().collect();
        Segment::build(self.dim, ids, rows, self.config.graph)
    }

    /// Replaces what was sealed, keeping every write that came while the graph was built.
    fn swap_in(&self, from: &Generation, taken: &[bool], sealed: Segment) {
        let _writes = self.writes.lock();
        let now = self.current.load_full();
        let mut buffer = Buffer::clone(&now.buffer);
        let mut dead = Bitmap::default();
        for (row, &id) in (0..).zip(&sealed.ids) {
            let sealed_seq = from.buffer.ids.binary_search(&id).ok().map(|at| from.buffer.seqs[at]);
            let newest_seq = now.buffer.ids.binary_search(&id).ok().map(|at| now.buffer.seqs[at]);
            match (sealed_seq, newest_seq) {
                (Some(sealed), Some(newest)) if sealed == newest => _ = buffer.remove(id, kernel::stride(self.dim)),
                (None, None) if now.segments.iter().any(|live| live.live_row(id).is_some()) => {}
                _ => _ = dead.insert(row),
            }
        }
        // Segments come and go only in a merge, and there is one at a time: `now` has the segments of `from`.
        let mut segments: Vec<Live> =
            now.segments.iter().zip(taken).filter(|(_, taken)| !**taken).map(|(live, _)| live.clone()).collect();
        if !sealed.is_empty() {
            segments.push(Live { segment: Arc::new(sealed), dead: Arc::new(dead) });
        }
        self.current.store(Arc::new(Generation::new(self.dim, segments, Arc::new(buffer))));
    }
}

fn mostly_dead(live: &Live) -> bool {
    live.dead.len() * 2 > live.segment.len()
}

fn check(dim: usize, id: u32, vector: &[f32]) -> Result<(), WriteError> {
    if vector.len() != dim {
        return Err(WriteError::Dimension { id, expected: dim, found: vector.len() });
    }
    match vector.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err(WriteError::NotFinite { id }),
    }
}
