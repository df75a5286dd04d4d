//! The tables and their columns.
//!
//! Always holds: columns are added at the end and never change type within a [`SCHEMA_VERSION`]; a uid is the visitor's
//! pseudonym, and no column can hold the raw id.

use std::fmt;

/// Moves when a column changes its type or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    U32,
    U64,
    I64,
    F32,
    Bool,
    /// Unix milliseconds, UTC.
    Millis,
    Text,
    /// So many bytes.
    Fixed(usize),
    Texts,
    Floats,
    /// Names with values.
    Pairs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: false }
}

pub(crate) const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: true }
}

impl Column {
    /// The column in Parquet's own notation.
    fn parquet(&self) -> String {
        let Self { name, kind, optional } = self;
        let repetition = if *optional { "optional" } else { "required" };
        match kind {
            Kind::U32 => format!("{repetition} int32 {name} (INTEGER(32,false));"),
            Kind::U64 => format!("{repetition} int64 {name} (INTEGER(64,false));"),
            Kind::I64 => format!("{repetition} int64 {name};"),
            Kind::F32 => format!("{repetition} float {name};"),
            Kind::Bool => format!("{repetition} boolean {name};"),
            Kind::Millis => format!("{repetition} int64 {name} (TIMESTAMP(MILLIS,true));"),
            Kind::Text => format!("{repetition} binary {name} (STRING);"),
            Kind::Fixed(bytes) => format!("{repetition} fixed_len_byte_array({bytes}) {name};"),
            Kind::Texts => {
                format!(
                    "required group {name} (LIST) {{ repeated group list {{ required binary element (STRING); }} }}"
                )
            }
            Kind::Floats => {
                format!("required group {name} (LIST) {{ repeated group list {{ required float element; }} }}")
            }
            Kind::Pairs => format!(
                "required group {name} (MAP) {{ repeated group key_value {{ required binary key (STRING); required binary value (STRING); }} }}"
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What visitors did.
    Events,
    /// What the shop said of its items, each version.
    Items,
    /// What the shop said of visitors, each version.
    Users,
    /// What was served: a row for each slot of a decision.
    Impressions,
    /// What was served and seen, the features as they were known then, and what came of it.
    Training,
}

impl Table {
    pub const ALL: [Self; 5] = [Self::Events, Self::Items, Self::Users, Self::Impressions, Self::Training];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Items => "items",
            Self::Users => "users",
            Self::Impressions => "impressions",
            Self::Training => "training",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == text)
    }

    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::Events => crate::tables::events::COLUMNS.to_vec(),
            Self::Items => crate::tables::items::COLUMNS.to_vec(),
            Self::Users => crate::tables::users::COLUMNS.to_vec(),
            Self::Impressions => crate::tables::impressions::COLUMNS.to_vec(),
            Self::Training => crate::tables::training::columns(),
        }
    }

    /// The column whose hour a row lies under.
    pub const fn time(self) -> &'static str {
        match self {
            Self::Events | Self::Items | Self::Users => "accepted_at",
            Self::Impressions | Self::Training => "decided_at",
        }
    }

    /// Whether rows are about a visitor, who may be erased.
    pub const fn is_personal(self) -> bool {
        !matches!(self, Self::Items)
    }

    pub(crate) fn message(self) -> String {
        let columns: Vec<_> = self.columns().iter().map(Column::parquet).collect();
        format!("message {} {{ {} }}", self.as_str(), columns.join(" "))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
