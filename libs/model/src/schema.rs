//! The columns the models read, and whether an input has them.

use crate::tower::UserInput;
use attune_domain::{Device, Geo, UserAttributes};
use serde::{Deserialize, Serialize};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// One number.
    Scalar,
    /// One value of a closed list; the first stands for `missing`.
    Categorical { values: Vec<String> },
    /// Up to `max` values, newest last.
    Sequence { max: usize },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(flatten)]
    pub kind: ColumnKind,
}

/// Every column that a request is read for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSchema {
    pub columns: Vec<Column>,
}

/// How a column was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    Present,
    /// The input has no value.
    Missing,
    /// The input's value is not in the training data's list, or is the catch-all value, and the default was used.
    Defaulted,
}

impl Presence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Missing => "missing",
            Self::Defaulted => "defaulted",
        }
    }
}

/// Prefix of the columns that hold user attributes.
pub(crate) const USER_PREFIX: &str = "user_";

impl FeatureSchema {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(crate) fn presence<'a>(&'a self, input: &UserInput) -> Vec<(&'a str, Presence)> {
        self.columns.iter().map(|column| (column.name.as_str(), read(column, input))).collect()
    }
}

fn read(column: &Column, input: &UserInput) -> Presence {
    let some = |present: bool| if present { Presence::Present } else { Presence::Missing };
    match column.name.as_str() {
        "recent_items" | "recent_kinds" | "last_event_age" => some(!input.window.is_empty()),
        "context_device" if input.context.device == Device::Other => Presence::Defaulted,
        "context_geo" if input.context.geo == Geo::Other => Presence::Defaulted,
        name => match (name.strip_prefix(USER_PREFIX), &column.kind) {
            (Some(attribute), ColumnKind::Categorical { values }) => match input.attributes.get(attribute) {
                None | Some("") => Presence::Missing,
                Some(value) if values.iter().skip(1).any(|v| v == value) => Presence::Present,
                Some(_) => Presence::Defaulted,
            },
            _ => Presence::Present,
        },
    }
}

impl FeatureSchema {
    /// Columns made from user attributes, with their values.
    pub(crate) fn attribute_columns(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Categorical { values } if column.name.starts_with(USER_PREFIX) => {
                Some((column.name.as_str(), values.as_slice()))
            }
            _ => None,
        })
    }

    /// See [`crate::Bundle::attribute_values`].
    pub(crate) fn attribute_values<'a>(
        &'a self,
        attributes: &'a UserAttributes,
    ) -> impl Iterator<Item = (&'a str, Option<usize>)> {
        self.attribute_columns().map(move |(name, values)| {
            let place = match attributes.get(&name[USER_PREFIX.len()..]) {
                None | Some("") => Some(0),
                Some(value) => values.iter().skip(1).position(|known| known == value).map(|at| at + 1),
            };
            (name, place)
        })
    }
}
