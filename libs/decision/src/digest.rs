//! What a stage made of its inputs, in 64 bits.

use xxhash_rust::xxh3::Xxh3Default;

/// Stages of a decision, in order. A record holds one digest for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// The user vector computed from window, attributes and context.
    Context,
    /// What the vector index found. Zero on a hit.
    AnnSearch,
    /// The eligible candidates, in order.
    Candidates,
    /// One score a candidate.
    Score,
    /// One Thompson draw a candidate.
    Sample,
    /// The answer.
    Slate,
}

impl Stage {
    pub const ALL: [Self; 6] =
        [Self::Context, Self::AnnSearch, Self::Candidates, Self::Score, Self::Sample, Self::Slate];

    /// The name of the span that runs the stage, where it has one of its own.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context.build",
            Self::AnnSearch => "retrieval.ann_search",
            Self::Candidates => "retrieval.candidates",
            Self::Score => "ranking.score",
            Self::Sample => "bandit.sample",
            Self::Slate => "bandit.slate",
        }
    }
}

/// Accumulates the digest of one stage.
#[derive(Default)]
pub struct Digest(Xxh3Default);

impl Digest {
    pub fn u32s(mut self, values: &[u32]) -> Self {
        self.update(values, |v| v.to_le_bytes());
        self
    }

    pub fn f32s(mut self, values: &[f32]) -> Self {
        self.update(values, |v| v.to_bits().to_le_bytes());
        self
    }

    pub fn bytes(mut self, values: &[u8]) -> Self {
        self.0.update(values);
        self
    }

    /// Never 0: that stands for a stage that did not run.
    pub fn finish(self) -> u64 {
        self.0.digest().max(1)
    }

    fn update<T: Copy>(&mut self, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
        self.0.update(&(values.len() as u64).to_le_bytes());
        let mut block = [0u8; 256];
        for chunk in values.chunks(64) {
            for (out, &value) in block.chunks_exact_mut(4).zip(chunk) {
                out.copy_from_slice(&bytes(value));
            }
            self.0.update(&block[..chunk.len() * 4]);
        }
    }
}
