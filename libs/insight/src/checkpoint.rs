//! The state as bytes.

use crate::config::Config;
use crate::insight::{Insight, State};
use crate::{ConfigError, window::Window};

/// First byte of a checkpoint; another layout has another.
const FORMAT: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint has another format")]
    Format,
    #[error("the checkpoint is damaged")]
    Damaged,
    #[error("the checkpoint was made with other windows")]
    Windows,
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Insight {
    /// Equal states give equal bytes. About the size of [`Insight::size_bytes`], or less.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = postcard::to_allocvec(&self.state).expect("a state in memory has no unserialisable part");
        let mut bytes = Vec::with_capacity(body.len() + 9);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// The state of a checkpoint. Under other baselines than it was made with, drift starts anew and the rest stays.
    pub fn from_bytes(config: Config, bytes: &[u8]) -> Result<Self, CheckpointError> {
        config.check()?;
        let (&format, rest) = bytes.split_first().ok_or(CheckpointError::Damaged)?;
        if format != FORMAT {
            return Err(CheckpointError::Format);
        }
        let (hash, body) = rest.split_first_chunk().ok_or(CheckpointError::Damaged)?;
        if xxhash_rust::xxh3::xxh3_64(body) != u64::from_le_bytes(*hash) {
            return Err(CheckpointError::Damaged);
        }
        let mut state: State = postcard::from_bytes(body).map_err(|_| CheckpointError::Damaged)?;
        let fresh = Self::new(config, state.now)?;
        if windows(&state) != windows(&fresh.state) {
            return Err(CheckpointError::Windows);
        }
        state.rebase(fresh.state.baselines);
        state.join.shrink(fresh.config.join_entries);
        Ok(Self { state, config: fresh.config })
    }
}

fn windows(s: &State) -> [Window; 11] {
    [
        s.effect.window(),
        s.content.window(),
        s.items.window(),
        s.bandit.window(),
        s.models.window(),
        s.examination.window(),
        s.recall.window(),
        s.features.window(),
        s.embedding.window(),
        s.active.window(),
        s.days.window(),
    ]
}
