//! An index as a file: written whole beside its place, synced, renamed; read back only if every byte is as written.
//!
//! Layout, little-endian: magic, dimension, segments, buffer, blake3 of all before. A decoded index is checked for
//! structure too, so that no file can make a search leave its arrays.

use super::generation::{Buffer, Generation, Live};
use super::segment::{Graph, NONE, Segment, UpperLayer};
use super::{Bitmap, kernel};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8; 16] = b"attune-index-001";

/// Why a snapshot was not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{action} index snapshot")]
    Io {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The file is not what was written; the index has to be rebuilt from the model's item table.
    #[error("index snapshot is damaged: {0}")]
    Damaged(&'static str),
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> SnapshotError {
    move |source| SnapshotError::Io { action, source }
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]);

fn number(sink: Sink<'_>, n: usize) {
    sink(&(n as u64).to_le_bytes());
}

fn numbers(sink: Sink<'_>, list: &[u32]) {
    number(sink, list.len());
    list.iter().for_each(|n| sink(&n.to_le_bytes()));
}

fn floats(sink: Sink<'_>, list: &[f32]) {
    number(sink, list.len());
    list.iter().for_each(|x| sink(&x.to_le_bytes()));
}

/// Everything a search of the segment depends on, in one order.
pub(super) fn encode_segment(segment: &Segment, sink: Sink<'_>) {
    number(sink, segment.dim);
    numbers(sink, &segment.ids);
    floats(sink, &segment.rows);
    let Some(graph) = &segment.graph else {
        return number(sink, 0);
    };
    number(sink, graph.width);
    numbers(sink, &graph.links);
    number(sink, graph.entry as usize);
    number(sink, graph.upper.len());
    for layer in &graph.upper {
        let mut nodes: Vec<_> = layer.iter().collect();
        nodes.sort_unstable_by_key(|(node, _)| **node);
        number(sink, nodes.len());
        for (node, neighbours) in nodes {
            number(sink, *node as usize);
            numbers(sink, neighbours);
        }
    }
}

fn encode(generation: &Generation, sink: Sink<'_>) {
    sink(MAGIC);
    number(sink, generation.dim);
    number(sink, generation.segments.len());
    for live in &generation.segments {
        encode_segment(&live.segment, sink);
        numbers(sink, &live.dead.iter().collect::<Vec<_>>());
    }
    numbers(sink, &generation.buffer.ids);
    floats(sink, &generation.buffer.rows);
}

/// Writes the generation to `path`, or leaves what was there.
pub(super) fn save(generation: &Generation, path: &Path) -> Result<(), SnapshotError> {
    let mut bytes = Vec::new();
    encode(generation, &mut |part| bytes.extend_from_slice(part));
    let checksum = *blake3::hash(&bytes).as_bytes();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io("create folder of"))?;
    let beside = path.with_extension("partial");
    let mut file = std::fs::File::create(&beside).map_err(io("create"))?;
    file.write_all(&bytes).and_then(|()| file.write_all(&checksum)).map_err(io("write"))?;
    file.sync_all().map_err(io("sync"))?;
    std::fs::rename(&beside, path).map_err(io("rename"))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync folder of"))
}

pub(super) fn load(path: &Path) -> Result<Generation, SnapshotError> {
    let bytes = std::fs::read(path).map_err(io("read"))?;
    let Some((content, checksum)) = bytes.split_last_chunk::<32>() else {
        return Err(SnapshotError::Damaged("too short"));
    };
    if blake3::hash(content).as_bytes() != checksum {
        return Err(SnapshotError::Damaged("checksum differs"));
    }
    let mut reader = Reader(content);
    let generation = reader.generation()?;
    if !reader.0.is_empty() {
        return Err(SnapshotError::Damaged("bytes left over"));
    }
    Ok(generation)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], SnapshotError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(SnapshotError::Damaged("ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn number(&mut self) -> Result<usize, SnapshotError> {
        let bytes = self.take(8)?;
        let wide = bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        usize::try_from(wide).map_err(|_| SnapshotError::Damaged("number too large"))
    }

    fn words(&mut self) -> Result<Vec<u32>, SnapshotError> {
        let count = self.number()?;
        let bytes = self.take(count.checked_mul(4).ok_or(SnapshotError::Damaged("number too large"))?)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn floats(&mut self) -> Result<Vec<f32>, SnapshotError> {
        Ok(self.words()?.into_iter().map(f32::from_bits).collect())
    }

    fn below(&mut self, bound: usize) -> Result<u32, SnapshotError> {
        match self.number()? {
            n if n < bound => u32::try_from(n).map_err(|_| SnapshotError::Damaged("number too large")),
            _ => Err(SnapshotError::Damaged("row out of range")),
        }
    }

    fn table(&mut self, dim: usize) -> Result<(Vec<u32>, Vec<f32>), SnapshotError> {
        let (ids, rows) = (self.words()?, self.floats()?);
        if !ids.is_sorted_by(|a, b| a < b) {
            return Err(SnapshotError::Damaged("ids out of order"));
        }
        if Some(rows.len()) != ids.len().checked_mul(kernel::stride(dim)) {
            return Err(SnapshotError::Damaged("rows and ids differ in number"));
        }
        Ok((ids, rows))
    }

    fn segment(&mut self, dim: usize) -> Result<Segment, SnapshotError> {
        if self.number()? != dim {
            return Err(SnapshotError::Damaged("dimension differs"));
        }
        let (ids, rows) = self.table(dim)?;
        let count = ids.len();
        let graph = match self.number()? {
            0 => None,
            width => Some(self.graph(count, width)?),
        };
        let mut segment = Segment { ids, rows, dim, graph, hash: [0; 16] };
        segment.hash = segment.compute_hash();
        Ok(segment)
    }

    fn graph(&mut self, count: usize, width: usize) -> Result<Graph, SnapshotError> {
        let in_range = |list: &[u32]| list.iter().all(|&n| (n as usize) < count);
        let links = self.words()?;
        if Some(links.len()) != count.checked_mul(width) || !links.iter().all(|&n| n == NONE || (n as usize) < count) {
            return Err(SnapshotError::Damaged("links out of range"));
        }
        let entry = self.below(count)?;
        let layers = self.below(64)?;
        let mut upper = Vec::new();
        for _ in 0..layers {
            let mut layer = UpperLayer::new();
            for _ in 0..self.number()? {
                let node = self.below(count)?;
                let neighbours = self.words()?;
                if neighbours.is_empty() || !in_range(&neighbours) {
                    return Err(SnapshotError::Damaged("links out of range"));
                }
                layer.insert(node, neighbours.into());
            }
            upper.push(layer);
        }
        Ok(Graph { links, width, upper, entry })
    }

    fn generation(&mut self) -> Result<Generation, SnapshotError> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(SnapshotError::Damaged("not an index of this format"));
        }
        let dim = self.number()?;
        if dim == 0 || dim > super::MAX_DIM {
            return Err(SnapshotError::Damaged("dimension out of range"));
        }
        let mut segments = Vec::new();
        for _ in 0..self.number()? {
            let segment = self.segment(dim)?;
            let dead = self.words()?;
            if dead.iter().any(|&row| row as usize >= segment.len()) {
                return Err(SnapshotError::Damaged("tombstone out of range"));
            }
            segments.push(Live { segment: Arc::new(segment), dead: Arc::new(dead.into_iter().collect::<Bitmap>()) });
        }
        let (ids, rows) = self.table(dim)?;
        Ok(Generation::new(dim, segments, Arc::new(Buffer::new(ids, rows))))
    }
}
