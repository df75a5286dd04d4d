//! A data set as a folder: `dataset.json` names the other files by their hash.
//!
//! Always holds: the manifest is replaced by one rename after everything it names is durable, so that a folder holds the
//! old data set or the new one, never a mixture; what is loaded has the hashes it was saved with.
//! The subject key's file is the caller's business.

use crate::{Dataset, codec};
use attune_identity::SubjectKey;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "dataset.json";
const FORMAT_VERSION: u32 = 1;
/// Name and ending of every part, in the order that the hash of the whole takes them.
const PARTS: [(&str, &str); 5] =
    [("items", "jsonl"), ("users", "bin"), ("attributes", "jsonl"), ("events", "bin"), ("test", "bin")];

/// Why a data set could not be saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{path} holds no data set ({MANIFEST} is missing)", path = .0.display())]
    Absent(PathBuf),
    #[error("cannot read {path}", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write {path}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{path} has format version {found}, this build reads {FORMAT_VERSION}", path = .path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("{path} is damaged: {detail}", path = .path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the data set was imported under subject key {found}, this platform's key is {expected}")]
    OtherKey { found: String, expected: String },
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    name: String,
    key_fingerprint: String,
    hash: String,
    counts: Counts,
    /// In the order of [`PARTS`].
    files: Vec<Part>,
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone, Copy)]
struct Counts {
    items: usize,
    users: usize,
    events: usize,
    test: usize,
}

#[derive(Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: u64,
    blake3: String,
}

impl Dataset {
    /// Whether the folder holds a data set, whole or damaged.
    pub fn exists(dir: &Path) -> bool {
        dir.join(MANIFEST).is_file()
    }

    /// Hash of the content: equal for equal data sets under the same key, whoever saved them and when.
    pub fn hash(&self) -> String {
        let parts = self.encode();
        self.combine(&parts.each_ref().map(|bytes| blake3::hash(bytes).to_hex().to_string()))
    }

    /// Writes the folder, creating it where needed and replacing a data set that is there. Other files are left alone.
    pub fn save(&self, dir: &Path) -> Result<(), DatasetError> {
        fs::create_dir_all(dir).map_err(|e| DatasetError::Write(dir.into(), e))?;
        let encoded = self.encode();
        let mut files = Vec::with_capacity(PARTS.len());
        for (part, bytes) in PARTS.iter().zip(&encoded) {
            let blake3 = blake3::hash(bytes).to_hex().to_string();
            let name = part_name(part, &blake3);
            write_whole(dir, &name, bytes)?;
            files.push(Part { name, bytes: bytes.len() as u64, blake3 });
        }
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            name: self.name.clone(),
            key_fingerprint: self.key_fingerprint.clone(),
            hash: self.combine(&files.iter().map(|f| f.blake3.clone()).collect::<Vec<_>>()),
            counts: self.counts(),
            files,
        };
        let text = serde_json::to_vec_pretty(&manifest).expect("strings and numbers serialize");
        sync_dir(dir)?;
        write_whole(dir, MANIFEST, &text)?;
        sync_dir(dir)?;
        remove_strays(dir, &manifest);
        Ok(())
    }

    /// Reads and checks a folder.
    pub fn load(dir: &Path) -> Result<Self, DatasetError> {
        let path = dir.join(MANIFEST);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(DatasetError::Absent(dir.into()));
            }
            other => other.map_err(|e| DatasetError::Read(path.clone(), e))?,
        };
        let damaged = |detail: String| DatasetError::Damaged { path: path.clone(), detail };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let found = value.get("format_version").and_then(serde_json::Value::as_u64);
        let found = found.ok_or_else(|| damaged("format_version is missing".into()))?;
        if found != u64::from(FORMAT_VERSION) {
            return Err(DatasetError::Version { path, found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        if manifest.files.len() != PARTS.len() {
            return Err(damaged(format!("{} files instead of {}", manifest.files.len(), PARTS.len())));
        }
        let mut parts = Vec::with_capacity(PARTS.len());
        for (part, file) in PARTS.iter().zip(&manifest.files) {
            parts.push(read_part(dir, part, file)?);
        }
        let bad = |part: usize| {
            let path = dir.join(&manifest.files[part].name);
            move |(record, what): codec::Bad| DatasetError::Damaged { path, detail: format!("record {record}: {what}") }
        };
        let mut dataset = Self {
            items: codec::decode_items(&parts[0]).map_err(bad(0))?,
            users: codec::decode_users(&parts[1]).map_err(bad(1))?,
            key_fingerprint: manifest.key_fingerprint.clone(),
            name: manifest.name.clone(),
            ..Self::default()
        };
        dataset.attributes = codec::decode_attributes(&parts[2], dataset.users.len()).map_err(bad(2))?;
        dataset.events = codec::decode_events(&parts[3], &dataset).map_err(bad(3))?;
        dataset.test = codec::decode_events(&parts[4], &dataset).map_err(bad(4))?;
        if dataset.counts() != manifest.counts {
            return Err(damaged("counts differ from the files".into()));
        }
        if dataset.combine(&manifest.files.iter().map(|f| f.blake3.clone()).collect::<Vec<_>>()) != manifest.hash {
            return Err(damaged("hash differs from the content".into()));
        }
        Ok(dataset)
    }

    /// Refuses a data set whose users are pseudonyms under another key.
    pub fn check_key(&self, key: &SubjectKey) -> Result<(), DatasetError> {
        let expected = key.fingerprint();
        if self.key_fingerprint == expected {
            return Ok(());
        }
        Err(DatasetError::OtherKey { found: self.key_fingerprint.clone(), expected })
    }

    fn encode(&self) -> [Vec<u8>; 5] {
        [
            codec::encode_items(&self.items),
            codec::encode_users(&self.users),
            codec::encode_attributes(&self.attributes),
            codec::encode_events(&self.events),
            codec::encode_events(&self.test),
        ]
    }

    fn combine(&self, hashes: &[String]) -> String {
        let mut hash = blake3::Hasher::new();
        for text in
            [self.name.as_str(), self.key_fingerprint.as_str()].into_iter().chain(hashes.iter().map(String::as_str))
        {
            hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    fn counts(&self) -> Counts {
        Counts { items: self.items.len(), users: self.users.len(), events: self.events.len(), test: self.test.len() }
    }
}

fn part_name((name, ending): &(&str, &str), blake3: &str) -> String {
    format!("{name}-{}.{ending}", blake3.get(..16).unwrap_or(blake3))
}

/// Reads what the manifest names, but only under the name that its hash gives: a manifest cannot point elsewhere.
fn read_part(dir: &Path, part: &(&str, &str), file: &Part) -> Result<Vec<u8>, DatasetError> {
    let path = dir.join(MANIFEST);
    if file.blake3.len() != 64
        || !file.blake3.bytes().all(|b| b.is_ascii_hexdigit())
        || file.name != part_name(part, &file.blake3)
    {
        return Err(DatasetError::Damaged { path, detail: format!("bad entry for {}", part.0) });
    }
    let path = dir.join(&file.name);
    let bytes = fs::read(&path).map_err(|e| DatasetError::Read(path.clone(), e))?;
    if bytes.len() as u64 != file.bytes || blake3::hash(&bytes).to_hex().as_str() != file.blake3 {
        return Err(DatasetError::Damaged { path, detail: "checksum differs".into() });
    }
    Ok(bytes)
}

fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), DatasetError> {
    let path = dir.join(name);
    let unfinished = dir.join(format!("{name}.{}.tmp", std::process::id()));
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&unfinished);
        DatasetError::Write(path, e)
    })
}

fn sync_dir(dir: &Path) -> Result<(), DatasetError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| DatasetError::Write(dir.into(), e))
}

/// Parts of a data set that was replaced. What cannot be removed only takes room.
fn remove_strays(dir: &Path, manifest: &Manifest) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_part = PARTS.iter().any(|(part, ending)| {
            name.strip_prefix(part)
                .and_then(|rest| rest.strip_prefix('-')?.strip_suffix(ending)?.strip_suffix('.'))
                .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if is_part && !manifest.files.iter().any(|f| f.name == name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
