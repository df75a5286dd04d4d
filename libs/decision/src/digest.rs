//! What a stage made of its inputs, in 64 bits. Digests are compared on the same kind of CPU only, so columns are hashed
//! as they lie in memory.

use xxhash_rust::xxh3::xxh3_64_with_seed;

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

/// Accumulates the digest of one stage: each column is hashed with the digest so far as its seed.
#[derive(Default)]
pub struct Digest(u64);

impl Digest {
    pub fn u32s(self, values: &[u32]) -> Self {
        self.bytes(bytemuck::cast_slice(values))
    }

    pub fn f32s(self, values: &[f32]) -> Self {
        self.bytes(bytemuck::cast_slice(values))
    }

    pub fn bytes(self, values: &[u8]) -> Self {
        Self(xxh3_64_with_seed(values, self.0))
    }

    /// Never 0: that stands for a stage that did not run.
    pub fn finish(self) -> u64 {
        self.0.max(1)
    }
}
