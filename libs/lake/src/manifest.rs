//! What a lake holds: `manifest.json`.
//!
//! Always holds: it is replaced by one rename after everything it names is durable, and what it does not name is not
//! part of the lake.

use crate::error::LakeError;
use crate::schema::{SCHEMA_VERSION, Table};
use attune_domain::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "attune lake";
pub(crate) const HOUR: i64 = 3_600_000;

/// Offsets by partition of the log.
pub type Offsets = BTreeMap<u16, u64>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub schema_version: u32,
    /// Of the subject key that uids are made under.
    pub key_fingerprint: String,
    pub tables: BTreeMap<String, TableEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    pub rows: u64,
    pub bytes: u64,
    /// Every record before these offsets is here, or was unreadable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resume: Offsets,
    /// Erasures before these offsets of `user-events` are done. Absent where the next export must look at all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub erasures: Offsets,
    /// Decisions before this are here for good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settled_before: UnixMillis,
    /// Of training: how long after a decision an outcome counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub horizon_ms: i64,
    /// By hour, as in `2026-01-29T10`.
    pub hours: BTreeMap<String, HourEntry>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourEntry {
    pub rows: u64,
    /// Records of this hour before these offsets are here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scanned: Offsets,
    /// Nothing comes to it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Below the lake's folder.
    pub file: String,
    pub rows: u64,
    pub bytes: u64,
    pub xxh3: String,
    pub min_time: UnixMillis,
    pub max_time: UnixMillis,
    /// First and last offset, by partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<u16, (u64, u64)>,
}

impl Manifest {
    pub(crate) fn new(key_fingerprint: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            schema_version: SCHEMA_VERSION,
            key_fingerprint: key_fingerprint.to_owned(),
            tables: BTreeMap::new(),
        }
    }

    pub(crate) fn parse(path: &std::path::Path, bytes: &[u8]) -> Result<Self, LakeError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| LakeError::damaged(path, e))?;
        if value.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
            return Err(LakeError::damaged(path, "is not the manifest of a lake"));
        }
        let version = value.get("schema_version").and_then(serde_json::Value::as_u64);
        let found = version.and_then(|v| u32::try_from(v).ok()).unwrap_or(u32::MAX);
        if found != SCHEMA_VERSION {
            return Err(LakeError::Version { path: path.to_owned(), found, expected: SCHEMA_VERSION });
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| LakeError::damaged(path, e))?;
        let known = |name: &String| Table::parse(name).is_some();
        if let Some(name) = manifest.tables.keys().find(|name| !known(name)) {
            return Err(LakeError::damaged(path, format!("there is no table {name}")));
        }
        let plain = |file: &str| !file.starts_with('/') && file.split('/').all(|part| part != ".." && !part.is_empty());
        if let Some(part) = manifest.parts().find(|part| !plain(&part.file)) {
            return Err(LakeError::damaged(path, format!("{} is not a file of the lake", part.file)));
        }
        Ok(manifest)
    }

    pub fn table(&self, table: Table) -> Option<&TableEntry> {
        self.tables.get(table.as_str())
    }

    pub(crate) fn entry(&mut self, table: Table) -> &mut TableEntry {
        self.tables.entry(table.as_str().to_owned()).or_default()
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.tables.values().flat_map(|table| table.hours.values()).flat_map(|hour| &hour.parts)
    }
}

impl TableEntry {
    /// Restates the sums, and forgets hours without rows.
    pub(crate) fn settle(&mut self) {
        for hour in self.hours.values_mut() {
            hour.parts.sort_by(|a, b| (a.min_time, &a.file).cmp(&(b.min_time, &b.file)));
            hour.rows = hour.parts.iter().map(|part| part.rows).sum();
        }
        self.hours.retain(|_, hour| !hour.parts.is_empty() || !hour.scanned.is_empty() || hour.settled);
        self.rows = self.hours.values().map(|hour| hour.rows).sum();
        self.bytes = self.hours.values().flat_map(|hour| &hour.parts).map(|part| part.bytes).sum();
    }
}

/// The start of a moment's hour.
pub(crate) const fn hour_of(at: UnixMillis) -> UnixMillis {
    at.div_euclid(HOUR) * HOUR
}

/// As in `2026-01-29T10`.
pub(crate) fn hour_name(hour: UnixMillis) -> String {
    let at =
        time::OffsetDateTime::from_unix_timestamp(hour.div_euclid(1000)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!("{:04}-{:02}-{:02}T{:02}", at.year(), u8::from(at.month()), at.day(), at.hour())
}

/// The start of the hour of that name.
pub(crate) fn hour_start(name: &str) -> Option<UnixMillis> {
    let text = format!("{name}:00:00Z");
    let at = time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(at.unix_timestamp() * 1000)
}

/// Below the lake's folder, as Hive names it.
pub(crate) fn hour_folder(table: Table, hour: UnixMillis) -> String {
    let name = hour_name(hour);
    let (date, hour) = name.split_once('T').unwrap_or((&name, "00"));
    format!("table={table}/date={date}/hour={hour}")
}
