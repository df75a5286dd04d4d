//! What an import did, row by row.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Offences named per reason.
const NAMED: usize = 5;

/// Why a row was rejected. A closed list, so that reports compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    EmptyLine,
    LineTooLong,
    NotUtf8,
    /// An unclosed quote, another number of fields than the header has, or not a JSON object.
    Malformed,
    MissingField,
    UnknownType,
    BadTimestamp,
    BadNumber,
    /// Longer than 128 bytes, or with control characters.
    BadId,
    /// Neither `true` nor `false`, not in the field's closed list, or not of the field's shape.
    BadValue,
    /// More categories or attributes than an item or a user may have.
    TooManyValues,
    /// The catalogue that came with the events does not have it.
    UnknownItem,
    Duplicate,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::EmptyLine,
        Self::LineTooLong,
        Self::NotUtf8,
        Self::Malformed,
        Self::MissingField,
        Self::UnknownType,
        Self::BadTimestamp,
        Self::BadNumber,
        Self::BadId,
        Self::BadValue,
        Self::TooManyValues,
        Self::UnknownItem,
        Self::Duplicate,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyLine => "empty line",
            Self::LineTooLong => "line too long",
            Self::NotUtf8 => "not UTF-8",
            Self::Malformed => "malformed row",
            Self::MissingField => "missing field",
            Self::UnknownType => "unknown type",
            Self::BadTimestamp => "bad timestamp",
            Self::BadNumber => "bad number",
            Self::BadId => "bad id",
            Self::BadValue => "bad value",
            Self::TooManyValues => "too many values",
            Self::UnknownItem => "unknown item",
            Self::Duplicate => "duplicate row",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a rejected row stands. Says which field was wrong, not what was in it: that may be personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    pub file: String,
    /// From 1, the header included.
    pub line: u64,
    pub field: Option<&'static str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileReport {
    pub name: String,
    pub rows_read: u64,
    pub kept: u64,
    pub rejected: u64,
    /// Columns of the header that the format does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_columns: Vec<String>,
}

/// The account of an import: `rows_read = kept + rejected`, in total and for every file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub format: &'static str,
    pub files: Vec<FileReport>,
    pub rows_read: u64,
    pub kept: u64,
    pub rejected: BTreeMap<Reason, u64>,
    /// The first few of each reason.
    pub first_offending: BTreeMap<Reason, Vec<Offence>>,
    pub items: usize,
    pub users: usize,
    pub events: usize,
    pub test_events: usize,
}

impl Report {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    pub(super) fn open(&mut self, name: &str) -> usize {
        self.files.push(FileReport { name: name.to_owned(), ..FileReport::default() });
        self.files.len() - 1
    }

    pub(super) fn keep(&mut self, file: usize) {
        self.files[file].rows_read += 1;
        self.files[file].kept += 1;
        self.rows_read += 1;
        self.kept += 1;
    }

    pub(super) fn reject(&mut self, file: usize, line: u64, reason: Reason, field: Option<&'static str>) {
        self.files[file].rows_read += 1;
        self.rows_read += 1;
        self.count_rejected(file, line, reason, field);
    }

    /// A row that was kept at first sight turns out to be one of its kind too many.
    pub(super) fn take_back(&mut self, file: usize, line: u64, reason: Reason) {
        self.files[file].kept -= 1;
        self.kept -= 1;
        self.count_rejected(file, line, reason, None);
    }

    fn count_rejected(&mut self, file: usize, line: u64, reason: Reason, field: Option<&'static str>) {
        self.files[file].rejected += 1;
        *self.rejected.entry(reason).or_default() += 1;
        let named = self.first_offending.entry(reason).or_default();
        if named.len() < NAMED {
            named.push(Offence { file: self.files[file].name.clone(), line, field });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>12} {:>12} {:>12}", "file", "rows read", "kept", "rejected")?;
        for file in &self.files {
            writeln!(f, "{:<24} {:>12} {:>12} {:>12}", file.name, file.rows_read, file.kept, file.rejected)?;
        }
        writeln!(f, "{:<24} {:>12} {:>12} {:>12}", "total", self.rows_read, self.kept, self.rejected_total())?;
        for (reason, count) in &self.rejected {
            write!(f, "rejected, {:<14} {count:>12}  first at", reason.as_str())?;
            for offence in self.first_offending.get(reason).into_iter().flatten() {
                write!(f, " {}:{}", offence.file, offence.line)?;
                if let Some(field) = offence.field {
                    write!(f, " ({field})")?;
                }
            }
            writeln!(f)?;
        }
        for file in self.files.iter().filter(|file| !file.ignored_columns.is_empty()) {
            writeln!(f, "{}: ignored columns {}", file.name, file.ignored_columns.join(", "))?;
        }
        write!(f, "{} items, {} users, {} events", self.items, self.users, self.events)?;
        if self.test_events > 0 {
            write!(f, ", {} test events", self.test_events)?;
        }
        Ok(())
    }
}
