//! A lake's folder.

use crate::error::LakeError;
use crate::file::{PartReader, hash_of, sync_dir};
use crate::manifest::{MANIFEST, Manifest, Part};
use crate::row::Row;
use crate::schema::Table;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const LOCK: &str = ".lock";
const FRESH: &str = ".manifest.new";

/// A lake, for reading; with the lock, for writing.
#[derive(Debug)]
pub struct Lake {
    root: PathBuf,
    pub(crate) manifest: Manifest,
    lock: Option<File>,
}

impl Lake {
    pub fn exists(root: &Path) -> bool {
        root.join(MANIFEST).is_file()
    }

    /// For reading.
    pub fn open(root: &Path) -> Result<Self, LakeError> {
        let path = root.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(LakeError::Absent(root.to_owned())),
            other => other.map_err(LakeError::read(&path))?,
        };
        Ok(Self { root: root.to_owned(), manifest: Manifest::parse(&path, &bytes)?, lock: None })
    }

    /// For writing: made where there is none. One made under another subject key is refused.
    pub fn create(root: &Path, key_fingerprint: &str) -> Result<Self, LakeError> {
        fs::create_dir_all(root).map_err(LakeError::write(root))?;
        if !Self::exists(root) && !holds_nothing_else(root)? {
            return Err(LakeError::Foreign(root.to_owned()));
        }
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(LakeError::write(&path))?;
        if lock.try_lock().is_err() {
            return Err(LakeError::Busy(root.to_owned()));
        }
        let mut lake = match Self::open(root) {
            Err(LakeError::Absent(_)) => {
                let manifest = Manifest::new(key_fingerprint);
                Self { root: root.to_owned(), manifest, lock: None }
            }
            other => other?,
        };
        if lake.manifest.key_fingerprint != key_fingerprint {
            let expected = key_fingerprint.to_owned();
            return Err(LakeError::OtherKey { found: lake.manifest.key_fingerprint, expected });
        }
        lake.lock = Some(lock);
        lake.remove_strays()?;
        Ok(lake)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes what the manifest says the lake, then removes what it does not name any more.
    pub(crate) fn commit(&mut self) -> Result<(), LakeError> {
        self.manifest.tables.values_mut().for_each(crate::manifest::TableEntry::settle);
        let path = self.root.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(|e| LakeError::damaged(&path, e))?;
        let fresh = self.root.join(FRESH);
        let mut file = File::create(&fresh).map_err(LakeError::write(&fresh))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(LakeError::write(&fresh))?;
        fs::rename(&fresh, &path).map_err(LakeError::write(&path))?;
        sync_dir(&self.root)?;
        self.remove_strays()
    }

    /// Files of an export that did not come to its end, or that a later one replaced.
    fn remove_strays(&self) -> Result<(), LakeError> {
        let named: HashSet<PathBuf> = self.manifest.parts().map(|part| self.root.join(&part.file)).collect();
        for table in Table::ALL {
            remove_unnamed(&self.root.join(format!("table={table}")), &named)?;
        }
        Ok(())
    }

    /// Whether the files are what the manifest says.
    pub fn verify(&self, part: &Part) -> Result<(), LakeError> {
        let path = self.root.join(&part.file);
        let found = hash_of(&path)?;
        if found != part.xxh3 {
            return Err(LakeError::damaged(&path, format!("its hash is {found}, the manifest has {}", part.xxh3)));
        }
        Ok(())
    }

    /// Parts of a table in the order of hours.
    pub fn parts(&self, table: Table) -> impl Iterator<Item = &Part> {
        self.manifest.table(table).into_iter().flat_map(|entry| entry.hours.values()).flat_map(|hour| &hour.parts)
    }

    /// Every row of a part.
    pub fn read(
        &self,
        table: Table,
        part: &Part,
        mut see: impl FnMut(Row) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let path = self.root.join(&part.file);
        let mut reader = PartReader::open(table, &path)?;
        let mut rows = 0;
        while let Some(group) = reader.group()? {
            rows += group.len() as u64;
            group.into_iter().try_for_each(&mut see)?;
        }
        if rows != part.rows {
            return Err(LakeError::damaged(&path, format!("holds {rows} rows, the manifest has {}", part.rows)));
        }
        Ok(())
    }
}

/// Whether there is at most what a first export that was cut off leaves behind.
fn holds_nothing_else(root: &Path) -> Result<bool, LakeError> {
    for entry in fs::read_dir(root).map_err(LakeError::read(root))? {
        let name = entry.map_err(LakeError::read(root))?.file_name();
        let name = name.to_string_lossy();
        let is_table = name.strip_prefix("table=").is_some_and(|table| Table::parse(table).is_some());
        if !is_table && name != LOCK && name != FRESH {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes files that are not named, and folders that are empty then.
fn remove_unnamed(folder: &Path, named: &HashSet<PathBuf>) -> Result<bool, LakeError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        other => other.map_err(LakeError::read(folder))?,
    };
    let mut empty = true;
    for entry in entries {
        let path = entry.map_err(LakeError::read(folder))?.path();
        if path.is_dir() {
            if remove_unnamed(&path, named)? {
                fs::remove_dir(&path).map_err(LakeError::write(&path))?;
            } else {
                empty = false;
            }
        } else if named.contains(&path) {
            empty = false;
        } else {
            fs::remove_file(&path).map_err(LakeError::write(&path))?;
        }
    }
    Ok(empty)
}
