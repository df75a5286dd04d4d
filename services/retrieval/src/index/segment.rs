//! A sealed segment: vectors and, when there are enough of them, a graph over them in flat arrays.
//!
//! Always holds: a segment is a pure function of its parameters and its (id, vector) pairs, its hash covers all of it,
//! and it never changes. Rows are in ascending order of id.

use super::kernel;
use hnsw_rs::anndists::dist::Distance;
use hnsw_rs::hnsw::Hnsw;
use std::collections::HashMap;

/// Layers above the lowest: a node's neighbours there. Small: a sixteenth of the nodes, then a sixteenth of those.
pub(super) type UpperLayer = HashMap<u32, Box<[u32]>>;

/// How graphs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphParams {
    /// Neighbours per node above the lowest layer, twice as many in it. At most 128.
    pub links: usize,
    /// Candidates looked at for each insertion.
    pub ef_construction: usize,
    /// Segments with fewer rows have no graph and are scanned.
    pub exact_below: usize,
}

impl Default for GraphParams {
    fn default() -> Self {
        Self { links: 16, ef_construction: 200, exact_below: 2_000 }
    }
}

/// The lowest layer in rows of equal width, and where a search enters.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Graph {
    /// `width` slots a row; unused slots are [`NONE`].
    pub(super) links: Vec<u32>,
    pub(super) width: usize,
    /// Layer 1 first.
    pub(super) upper: Vec<UpperLayer>,
    pub(super) entry: u32,
}

/// No neighbour in this slot.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    pub(super) ids: Vec<u32>,
    pub(super) rows: Vec<f32>,
    pub(super) dim: usize,
    pub(super) graph: Option<Graph>,
    pub(super) hash: [u8; 16],
}

/// Cosine distance of unit vectors. hnsw_rs asserts that distances are not negative, and rounding makes them so.
struct Angle;

impl Distance<f32> for Angle {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - kernel::dot(a, b)).max(0.0)
    }
}

impl Segment {
    /// Seals (id, vector) pairs, ascending by id. Takes CPU seconds for ten thousand rows: not for an async thread.
    pub fn build(dim: usize, ids: Vec<u32>, rows: Vec<f32>, params: GraphParams) -> Self {
        let graph = (ids.len() >= params.exact_below.max(2)).then(|| build_graph(dim, &rows, params));
        let mut segment = Self { ids, rows, dim, graph, hash: [0; 16] };
        segment.hash = segment.compute_hash();
        segment
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    pub fn hash(&self) -> [u8; 16] {
        self.hash
    }

    pub(super) fn local(&self, id: u32) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(|at| at as u32)
    }

    pub(super) fn row(&self, local: u32) -> &[f32] {
        let stride = kernel::stride(self.dim);
        &self.rows[local as usize * stride..][..stride]
    }

    pub(super) fn compute_hash(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        super::snapshot::encode_segment(self, &mut |bytes| {
            hasher.update(bytes);
        });
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        hash
    }
}

/// Maximum inner product becomes nearest neighbour by one more coordinate that gives every row the same length:
/// [p, sqrt(M^2 - |p|^2)] / M. A query has 0 there, so searching needs the plain rows only.
fn build_graph(dim: usize, rows: &[f32], params: GraphParams) -> Graph {
    let stride = kernel::stride(dim);
    let count = rows.len() / stride;
    let squares: Vec<f32> = rows.chunks_exact(stride).map(|row| kernel::dot(row, row)).collect();
    let longest = squares.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let scale = 1.0 / longest.sqrt();
    let links = params.links.clamp(2, 128);
    let hnsw = Hnsw::<f32, Angle>::new(links, count, 16, params.ef_construction.max(links), Angle);
    let mut unit = Vec::with_capacity(stride + kernel::LANES);
    for (local, row) in rows.chunks_exact(stride).enumerate() {
        unit.clear();
        unit.extend(row[..dim].iter().map(|x| x * scale));
        unit.push((longest - squares[local]).max(0.0).sqrt() * scale);
        unit.resize(kernel::stride(dim + 1), 0.0);
        hnsw.insert((&unit, local));
    }
    flatten(&hnsw, count, links * 2)
}

fn flatten(hnsw: &Hnsw<'_, f32, Angle>, count: usize, width: usize) -> Graph {
    let points = hnsw.get_point_indexation();
    let mut graph = Graph { links: vec![NONE; count * width], width, upper: Vec::new(), entry: 0 };
    let top = hnsw.get_max_level_observed() as usize;
    graph.upper.resize(top, UpperLayer::new());
    for layer in 0..=top {
        for (rank, point) in points.get_layer_iterator(layer).enumerate() {
            let local = point.get_origin_id();
            if layer == top && rank == 0 {
                // hnsw_rs enters at the first point of the highest layer.
                graph.entry = local as u32;
            }
            let neighbours = point.get_neighborhood_id();
            for (slot, neighbour) in
                graph.links[local * width..][..width].iter_mut().zip(neighbours.first().into_iter().flatten())
            {
                *slot = neighbour.d_id as u32;
            }
            for (upper, list) in graph.upper.iter_mut().zip(&neighbours[1..]).take(layer) {
                if !list.is_empty() {
                    upper.insert(local as u32, list.iter().map(|n| n.d_id as u32).collect());
                }
            }
        }
    }
    graph
}
