//! The state and the positions it was reached at, in one file.
//!
//! Always holds: the file is whole or absent, because it is written aside and renamed; state and positions are of the
//! same moment, so a record counts once whenever the process ends.

use attune_storage::partition_of;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const NAME: &str = "insight.checkpoint";
/// The first bytes; another layout has another last one.
const MAGIC: &[u8; 8] = b"ATTUNEI\x01";

/// What is needed to go on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Checkpoint {
    /// Next offset of each partition.
    pub(crate) positions: BTreeMap<u16, u64>,
    /// Names of categories, by their code.
    pub(crate) categories: Vec<String>,
    pub(crate) seen: [Vec<u64>; 2],
    /// [`attune_insight::Insight::to_bytes`].
    pub(crate) insight: Vec<u8>,
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Whether it is there or not.
pub(crate) fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path(folder)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 8]);
        let count = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u64).to_le_bytes());
        count(&mut out, self.positions.len());
        self.positions.values().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
        count(&mut out, self.categories.len());
        for name in &self.categories {
            count(&mut out, name.len());
            out.extend_from_slice(name.as_bytes());
        }
        for generation in &self.seen {
            count(&mut out, generation.len());
            generation.iter().for_each(|pair| out.extend_from_slice(&pair.to_le_bytes()));
        }
        out.extend_from_slice(&self.insight);
        let hash = xxhash_rust::xxh3::xxh3_64(&out[16..]);
        out[8..16].copy_from_slice(&hash.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let hash = number(&mut rest)?;
        if xxhash_rust::xxh3::xxh3_64(rest) != hash {
            return None;
        }
        let positions = numbers(&mut rest)?.into_iter().map(|offset| (partition_of(offset), offset)).collect();
        let count = number(&mut rest)?;
        let mut categories = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(number(&mut rest)?).ok()?;
            categories.push(String::from_utf8(rest.split_off(..length)?.to_vec()).ok()?);
        }
        let seen = [numbers(&mut rest)?, numbers(&mut rest)?];
        Some(Self { positions, categories, seen, insight: rest.to_vec() })
    }

    /// Durable when it returns.
    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<()> {
        let aside = folder.join(format!("{NAME}.new"));
        std::fs::create_dir_all(folder)?;
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        std::fs::rename(&aside, path(folder))?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// None where there is no file. The error says what is wrong with one that is there.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, String> {
        match std::fs::read(path(folder)) {
            Ok(bytes) => {
                Self::decode(&bytes).map(Some).ok_or_else(|| "it has another format, or is damaged".to_owned())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(rest.split_off(..8)?.try_into().ok()?))
}

fn numbers(rest: &mut &[u8]) -> Option<Vec<u64>> {
    let length = usize::try_from(number(rest)?).ok()?.checked_mul(8)?;
    let bytes = rest.split_off(..length)?;
    Some(bytes.chunks_exact(8).filter_map(|eight| Some(u64::from_le_bytes(eight.try_into().ok()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_storage::first_offset;

    #[test]
    fn a_checkpoint_survives_and_every_damage_is_seen() {
        let checkpoint = Checkpoint {
            positions: [(0, 7), (3, first_offset(3) + 9)].into(),
            categories: vec!["drama".to_owned(), String::new()],
            seen: [vec![1, 2], vec![3]],
            insight: vec![9; 40],
        };
        let bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Checkpoint::decode(&damaged), None, "byte {at}");
            assert_eq!(Checkpoint::decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
