//! A partition's checkpoint in a file.
//!
//! Layout: the magic; format, partition and number of partitions (32, 16 and 16 bits, lowest byte first); frames, each a
//! byte of kind and 32 bits of length; blake3 of everything before. The totals are the last frame.
//! Always holds: the file is whole or absent, because it is written aside, synced and renamed, and the one before stays
//! until then; nothing is read out of a file before all of it was checked.

use super::part::{decode_part, decode_totals, encode_part, encode_totals};
use super::{PartitionTotals, StorePart};
use blake3::Hasher;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ATTUNEFC";
const FORMAT: u32 = 2;
/// Its states had no time of their attributes.
const OLDEST_FORMAT: u32 = 1;
const HEADER: usize = 16;
const HASH: usize = 32;
const PART: u8 = 1;
const TOTALS: u8 = 2;
const BUFFER: usize = 1 << 18;

/// Why a checkpoint cannot be used, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint {} has format {found}, this build reads {supported}", path.display())]
    Format { path: PathBuf, found: u32, supported: u32 },
    /// Not what was written, or of another log.
    #[error("checkpoint {} {problem}", path.display())]
    Unusable { path: PathBuf, problem: String },
    #[error("checkpoint {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Whose checkpoint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub partition: u16,
    pub partitions: u16,
}

/// Where a partition's checkpoint stands.
pub fn checkpoint_path(folder: &Path, partition: u16) -> PathBuf {
    folder.join(format!("features-{partition}.checkpoint"))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { path: path.to_owned(), source }
}

fn unusable(path: &Path, problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Unusable { path: path.to_owned(), problem: problem.into() }
}

/// One that is being written. Dropped before it is finished, it leaves nothing.
pub struct CheckpointWriter {
    out: BufWriter<File>,
    hash: Hasher,
    bytes: u64,
    path: PathBuf,
    aside: PathBuf,
    finished: bool,
}

impl CheckpointWriter {
    pub fn create(folder: &Path, part: Part) -> Result<Self, CheckpointError> {
        let path = checkpoint_path(folder, part.partition);
        let aside = path.with_extension("new");
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let out = BufWriter::with_capacity(BUFFER, file.map_err(io(&aside))?);
        let mut writer = Self { out, hash: Hasher::new(), bytes: 0, path, aside, finished: false };
        let mut header = MAGIC.to_vec();
        header.extend(FORMAT.to_le_bytes());
        header.extend(part.partition.to_le_bytes());
        header.extend(part.partitions.to_le_bytes());
        writer.write(&header)?;
        Ok(writer)
    }

    /// What is put later stands over what was put before.
    pub fn put(&mut self, part: &StorePart) -> Result<(), CheckpointError> {
        if part.is_empty() { Ok(()) } else { self.frame(PART, &encode_part(part)) }
    }

    /// Durable, and in the place of the one before, when it returns. Gives its size.
    pub fn finish(mut self, totals: &PartitionTotals) -> Result<u64, CheckpointError> {
        self.frame(TOTALS, &encode_totals(totals))?;
        let hash = *self.hash.finalize().as_bytes();
        self.write(&hash)?;
        let failed = io(&self.aside);
        self.out.flush().map_err(&failed)?;
        self.out.get_ref().sync_all().map_err(&failed)?;
        std::fs::rename(&self.aside, &self.path).map_err(&failed)?;
        self.finished = true;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))?;
        Ok(self.bytes)
    }

    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), CheckpointError> {
        let length = u32::try_from(body.len()).map_err(|_| unusable(&self.aside, "has a part of 4 GiB"))?;
        self.write(&[kind])?;
        self.write(&length.to_le_bytes())?;
        self.write(body)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(io(&self.aside))
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is overwritten by the next.
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

/// One that was checked, and is being read.
pub struct CheckpointFile {
    from: BufReader<File>,
    path: PathBuf,
    totals: PartitionTotals,
    /// Of all of it, and of the parts that have not been read.
    bytes: u64,
    left: u64,
}

impl CheckpointFile {
    /// None where there is no file. Reads it once to its end.
    pub fn open(folder: &Path, part: Part) -> Result<Option<Self>, CheckpointError> {
        let path = checkpoint_path(folder, part.partition);
        let Some((file, of)) = open_header(&path)? else { return Ok(None) };
        if of != part {
            let problem = format!("is of partition {} of {}, not {part:?}", of.partition, of.partitions);
            return Err(unusable(&path, problem));
        }
        let failed = io(&path);
        let bytes = file.metadata().map_err(&failed)?.len();
        let mut from = BufReader::with_capacity(BUFFER, file);
        let Some(frames) = bytes.checked_sub((HEADER + HASH) as u64) else { return Err(unusable(&path, "is cut off")) };
        from.seek(SeekFrom::Start(0)).map_err(&failed)?;
        check_hash(&mut from, &path, bytes)?;
        from.seek(SeekFrom::Start(HEADER as u64)).map_err(&failed)?;
        let damaged = || unusable(&path, "has no totals");
        let mut left = frames;
        let (totals, parts) = loop {
            let (kind, length) = frame_head(&mut from, &mut left).map_err(&failed)?.ok_or_else(damaged)?;
            match kind {
                TOTALS => {
                    let body = frame_body(&mut from, &mut left, length).map_err(&failed)?.ok_or_else(damaged)?;
                    let parts = frames - body.len() as u64 - 5;
                    break (decode_totals(&body).filter(|_| left == 0).ok_or_else(damaged)?, parts);
                }
                _ => {
                    left = left.checked_sub(length.into()).ok_or_else(damaged)?;
                    from.seek_relative(length.into()).map_err(&failed)?;
                }
            }
        };
        from.seek(SeekFrom::Start(HEADER as u64)).map_err(&failed)?;
        Ok(Some(Self { from, totals, bytes, left: parts, path: path.clone() }))
    }

    pub fn totals(&self) -> &PartitionTotals {
        &self.totals
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In the order they were put; none after the last.
    pub fn next_part(&mut self) -> Result<Option<StorePart>, CheckpointError> {
        let failed = io(&self.path);
        let damaged = || unusable(&self.path, "is damaged");
        if self.left == 0 {
            return Ok(None);
        }
        let (_, length) = frame_head(&mut self.from, &mut self.left).map_err(&failed)?.ok_or_else(damaged)?;
        let body = frame_body(&mut self.from, &mut self.left, length).map_err(&failed)?.ok_or_else(damaged)?;
        decode_part(&body).map(Some).ok_or_else(damaged)
    }
}

/// Refuses a folder with a checkpoint of a newer format: the build that wrote it knows more than this one.
pub fn check_checkpoints(folder: &Path) -> Result<(), CheckpointError> {
    let found = match std::fs::read_dir(folder) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(folder)(e)),
    };
    for entry in found {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "checkpoint")
            && let Err(newer @ CheckpointError::Format { .. }) = open_header(&path)
        {
            return Err(newer);
        }
    }
    Ok(())
}

/// None where there is no file.
fn open_header(path: &Path) -> Result<Option<(File, Part)>, CheckpointError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(path)(e)),
    };
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|_| unusable(path, "is cut off"))?;
    let [magic @ .., f0, f1, f2, f3, p0, p1, n0, n1] = header;
    if magic != *MAGIC {
        return Err(unusable(path, "is not a checkpoint of a feature store"));
    }
    match u32::from_le_bytes([f0, f1, f2, f3]) {
        OLDEST_FORMAT..=FORMAT => {}
        found if found > FORMAT => {
            return Err(CheckpointError::Format { path: path.to_owned(), found, supported: FORMAT });
        }
        found => return Err(unusable(path, format!("has format {found}"))),
    }
    let part = Part { partition: u16::from_le_bytes([p0, p1]), partitions: u16::from_le_bytes([n0, n1]) };
    Ok(Some((file, part)))
}

fn check_hash(from: &mut BufReader<File>, path: &Path, bytes: u64) -> Result<(), CheckpointError> {
    let mut hasher = Hasher::new();
    hasher.update_reader(from.by_ref().take(bytes - HASH as u64)).map_err(io(path))?;
    let mut hash = [0; HASH];
    from.read_exact(&mut hash).map_err(io(path))?;
    if *hasher.finalize().as_bytes() == hash { Ok(()) } else { Err(unusable(path, "is damaged")) }
}

/// None where the frames end.
fn frame_head(from: &mut impl Read, left: &mut u64) -> std::io::Result<Option<(u8, u32)>> {
    let Some(rest) = left.checked_sub(5) else { return Ok(None) };
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    *left = rest;
    let [kind, length @ ..] = head;
    Ok(Some((kind, u32::from_le_bytes(length))))
}

fn frame_body(from: &mut impl Read, left: &mut u64, length: u32) -> std::io::Result<Option<Vec<u8>>> {
    let Some(rest) = left.checked_sub(length.into()) else { return Ok(None) };
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    *left = rest;
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Positions;
    use attune_domain::{ItemIx, Uid, UserState};

    const OF: Part = Part { partition: 3, partitions: 8 };

    fn part(n: u8) -> StorePart {
        let state = UserState { watermark: Some(n.into()), ..Default::default() };
        StorePart { users: vec![(Uid([n; 17]), Some(state))], fences: vec![(Uid([1; 17]), 7)], outcomes: Vec::new() }
    }

    fn totals() -> PartitionTotals {
        let positions = Positions { events: 5, updates: 6 };
        PartitionTotals { positions, half_life_ms: 9, sums: vec![(ItemIx(4), [2; 24])] }
    }

    fn write(folder: &Path) -> Vec<u8> {
        let mut writer = CheckpointWriter::create(folder, OF).unwrap();
        for n in 0..3 {
            writer.put(&part(n)).unwrap();
        }
        let bytes = writer.finish(&totals()).unwrap();
        let file = std::fs::read(checkpoint_path(folder, OF.partition)).unwrap();
        assert_eq!(bytes, file.len() as u64);
        file
    }

    fn open(folder: &Path) -> Result<Option<CheckpointFile>, CheckpointError> {
        CheckpointFile::open(folder, OF)
    }

    #[test]
    fn what_was_put_comes_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).unwrap().is_none());
        write(dir.path());
        let mut file = open(dir.path()).unwrap().unwrap();
        assert_eq!(file.totals(), &totals());
        for n in 0..3 {
            assert_eq!(file.next_part().unwrap(), Some(part(n)));
        }
        assert_eq!(file.next_part().unwrap(), None);
        // One that is given up leaves the one before.
        let mut writer = CheckpointWriter::create(dir.path(), OF).unwrap();
        writer.put(&part(9)).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(open(dir.path()).unwrap().is_some());
    }

    #[test]
    fn every_damage_is_seen_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = write(dir.path());
        let path = checkpoint_path(dir.path(), OF.partition);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(open(dir.path()).is_err(), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(matches!(open(dir.path()), Err(CheckpointError::Unusable { .. })), "cut at {at}");
        }
        std::fs::write(&path, &bytes).unwrap();
        let other = CheckpointFile::open(dir.path(), Part { partitions: 4, ..OF }).err().unwrap();
        assert!(other.to_string().contains("is of partition 3 of 8"), "{other}");
        assert!(open(dir.path()).unwrap().is_some());
    }

    #[test]
    fn the_format_before_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = write(dir.path());
        let end = bytes.len() - HASH;
        bytes[8] = 1;
        let hash = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(hash.as_bytes());
        std::fs::write(checkpoint_path(dir.path(), OF.partition), &bytes).unwrap();
        check_checkpoints(dir.path()).unwrap();
        assert_eq!(open(dir.path()).unwrap().unwrap().next_part().unwrap(), Some(part(0)));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        check_checkpoints(&dir.path().join("absent")).unwrap();
        let mut bytes = write(dir.path());
        check_checkpoints(dir.path()).unwrap();
        bytes[8] = 3;
        std::fs::write(checkpoint_path(dir.path(), OF.partition), &bytes).unwrap();
        let refused = check_checkpoints(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("features-3.checkpoint has format 3, this build reads 2"), "{refused}");
        assert!(matches!(open(dir.path()), Err(CheckpointError::Format { found: 3, supported: 2, .. })));
    }
}
