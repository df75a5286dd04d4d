//! Events, items and users as named fields, whatever the notation: the part that csv and jsonl share.

use super::builder::{Builder, Place, Reject};
use super::report::Reason;
use super::rows::Fields;
use crate::{DatasetEvent, SlateSlot};
use attune_domain::{
    Context, Device, EventKind, Geo, Item, ItemId, MAX_ATTRIBUTES, MAX_CATEGORIES, PageType, UnixMillis, UserAttributes,
};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;
/// Whole numbers from here on are milliseconds: as seconds they would be after the year 5138.
const FIRST_MILLIS: i64 = 100_000_000_000;

pub(super) const EVENT_FIELDS: [&str; 10] =
    ["user_id", "item_id", "type", "occurred_at", "value", "request_id", "position", "page_type", "device", "geo"];
pub(super) const ITEM_FIELDS: [&str; 7] =
    ["id", "title", "categories", "attributes", "price", "created_at", "available"];

/// A row in one of two notations. In csv an empty field is absent; in json, `null`.
pub(super) enum Row<'a> {
    Csv { columns: &'a [String], fields: &'a Fields },
    Json(&'a Map<String, Value>),
}

impl Row<'_> {
    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, Reject> {
        match self {
            Self::Csv { columns, fields } => {
                let at = columns.iter().position(|c| c == name);
                Ok(at.filter(|&i| i < fields.len()).map(|i| fields.get(i)).filter(|t| !t.is_empty()).map(Cow::Borrowed))
            }
            Self::Json(map) => match map.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => scalar(value).map(Some).ok_or(Reject::field(Reason::BadValue, name)),
            },
        }
    }

    fn required(&self, name: &'static str) -> Result<Cow<'_, str>, Reject> {
        self.text(name)?.filter(|t| !t.is_empty()).ok_or(Reject::field(Reason::MissingField, name))
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        reason: Reason,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Reject> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => parse(&text).map(Some).ok_or(Reject::field(reason, name)),
        }
    }

    /// `a|b` in csv, an array of strings in json.
    fn list(&self, name: &'static str) -> Result<Vec<String>, Reject> {
        match self {
            Self::Json(map) => match map.get(name) {
                None | Some(Value::Null) => Ok(Vec::new()),
                Some(Value::Array(values)) => values
                    .iter()
                    .map(|v| v.as_str().map(str::to_owned).ok_or(Reject::field(Reason::BadValue, name)))
                    .collect(),
                Some(_) => Err(Reject::field(Reason::BadValue, name)),
            },
            Self::Csv { .. } => {
                let text = self.text(name)?.unwrap_or_default();
                Ok(text.split('|').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
            }
        }
    }

    /// `a=1|b=2` in csv, an object of scalars in json; sorted by name.
    fn pairs(&self, name: &'static str) -> Result<Vec<(String, String)>, Reject> {
        let bad = Reject::field(Reason::BadValue, name);
        let mut pairs = match self {
            Self::Json(map) => match map.get(name) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Object(object)) => object
                    .iter()
                    .map(|(n, v)| scalar(v).map(|v| (n.clone(), v.into_owned())).ok_or(bad))
                    .collect::<Result<_, _>>()?,
                Some(_) => return Err(bad),
            },
            Self::Csv { .. } => self
                .list(name)?
                .iter()
                .map(|pair| pair.split_once('=').map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())).ok_or(bad))
                .collect::<Result<_, _>>()?,
        };
        check_pairs(&mut pairs, name)?;
        Ok(pairs)
    }
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn check_pairs(pairs: &mut [(String, String)], field: &'static str) -> Result<(), Reject> {
    pairs.sort();
    if pairs.len() > MAX_ATTRIBUTES {
        return Err(Reject::field(Reason::TooManyValues, field));
    }
    let twice = pairs.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if twice || pairs.iter().any(|(n, v)| ItemId::check(n).is_err() || v.chars().any(char::is_control)) {
        return Err(Reject::field(Reason::BadValue, field));
    }
    Ok(())
}

fn id(row: &Row<'_>, name: &'static str) -> Result<ItemId, Reject> {
    ItemId::new(&row.required(name)?).map_err(|_| Reject::field(Reason::BadId, name))
}

/// Logged slates of a file, numbered as they come.
#[derive(Default)]
pub(super) struct Slates(HashMap<String, u32>);

/// Takes an event row. `closed`: a catalogue came with the events, so an item it does not have is a mistake.
pub(super) fn take_event(
    row: &Row<'_>,
    builder: &mut Builder<'_>,
    slates: &mut Slates,
    closed: bool,
    place: Place,
) -> Result<(), Reject> {
    let user = id(row, "user_id")?;
    let item = id(row, "item_id")?;
    let kind = row.required("type")?;
    let kind = EventKind::parse(&kind.to_lowercase()).ok_or(Reject::field(Reason::UnknownType, "type"))?;
    row.required("occurred_at")?;
    let occurred_at = row.parsed("occurred_at", Reason::BadTimestamp, timestamp)?.unwrap_or_default();
    let value = value(row, kind)?;
    let context = Context {
        page: row.parsed("page_type", Reason::BadValue, PageType::parse)?.unwrap_or(Context::DEFAULT.page),
        device: row
            .parsed("device", Reason::BadValue, |t| Some(Device::parse(t).unwrap_or(Device::Other)))?
            .unwrap_or(Device::Other),
        geo: row.parsed("geo", Reason::BadValue, |t| Some(Geo::parse(t).unwrap_or(Geo::Other)))?.unwrap_or(Geo::Other),
    };
    let slot = slot(row)?;
    if closed && builder.find_item(&item).is_none() {
        return Err(Reject::field(Reason::UnknownItem, "item_id"));
    }
    let slate = slot.map(|(request, position)| {
        let next = slates.0.len() as u32;
        SlateSlot { slate: *slates.0.entry(request).or_insert(next), position }
    });
    let item = builder.item_or_bare(item);
    let user = builder.user(user.as_str());
    builder.add_event(DatasetEvent { user, item, kind, occurred_at, value, slate, context }, 0, place);
    Ok(())
}

/// Seconds of a dwell, minor currency units of a conversion (0 where the amount is not known), otherwise 1.
fn value(row: &Row<'_>, kind: EventKind) -> Result<f32, Reject> {
    let number =
        row.parsed("value", Reason::BadNumber, |t| t.parse().ok().filter(|v: &f32| v.is_finite() && *v >= 0.0))?;
    match (kind, number) {
        (EventKind::Dwell, None) => Err(Reject::field(Reason::MissingField, "value")),
        (EventKind::Dwell | EventKind::Conversion, number) => Ok(number.unwrap_or(0.0)),
        (_, None | Some(1.0)) => Ok(1.0),
        (_, Some(_)) => Err(Reject::field(Reason::BadNumber, "value")),
    }
}

fn slot(row: &Row<'_>) -> Result<Option<(String, u8)>, Reject> {
    let position = row.parsed("position", Reason::BadNumber, |t| t.parse::<u8>().ok())?;
    match (row.text("request_id")?, position) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(Reject::field(Reason::MissingField, "position")),
        (Some(request), Some(position)) => match ItemId::check(&request) {
            Ok(()) => Ok(Some((request.into_owned(), position))),
            Err(_) => Err(Reject::field(Reason::BadId, "request_id")),
        },
    }
}

pub(super) fn take_item(row: &Row<'_>, builder: &mut Builder<'_>) -> Result<(), Reject> {
    let id = id(row, "id")?;
    let title = row.text("title")?.map_or_else(|| id.as_str().to_owned(), Cow::into_owned);
    if title.chars().any(char::is_control) {
        return Err(Reject::field(Reason::BadValue, "title"));
    }
    let categories = row.list("categories")?;
    if categories.len() > MAX_CATEGORIES {
        return Err(Reject::field(Reason::TooManyValues, "categories"));
    }
    if categories.iter().any(|c| ItemId::check(c).is_err()) {
        return Err(Reject::field(Reason::BadValue, "categories"));
    }
    let item = Item {
        id,
        title,
        categories,
        attributes: row.pairs("attributes")?,
        price: row.parsed("price", Reason::BadNumber, |t| t.parse::<i64>().ok().filter(|p| *p >= 0))?,
        created_at: row.parsed("created_at", Reason::BadTimestamp, timestamp)?,
        available: row.parsed("available", Reason::BadValue, boolean)?.unwrap_or(true),
    };
    match builder.add_item(item) {
        Some(_) => Ok(()),
        None => Err(Reject::field(Reason::Duplicate, "id")),
    }
}

/// In csv every column but `user_id` is an attribute; in json they are the object `attributes`.
pub(super) fn take_user(row: &Row<'_>, builder: &mut Builder<'_>) -> Result<(), Reject> {
    let user = id(row, "user_id")?;
    let attributes = match row {
        Row::Json(_) => row.pairs("attributes")?,
        Row::Csv { columns, fields } => {
            let named =
                columns.iter().zip(fields.iter()).filter(|(column, text)| *column != "user_id" && !text.is_empty());
            let mut pairs: Vec<_> = named.map(|(column, text)| (column.clone(), text.to_owned())).collect();
            check_pairs(&mut pairs, "attributes")?;
            pairs
        }
    };
    if builder.knows_user(user.as_str()) {
        return Err(Reject::field(Reason::Duplicate, "user_id"));
    }
    let user = builder.user(user.as_str());
    builder.set_attributes(user, UserAttributes(attributes));
    Ok(())
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "1" => Some(true),
        "false" | "False" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

/// Whole seconds since 1970, in milliseconds.
pub(super) fn unix_seconds(text: &str) -> Option<UnixMillis> {
    let seconds: i64 = text.parse().ok()?;
    (0..=LAST_SECOND).contains(&seconds).then_some(seconds * 1000)
}

/// RFC 3339, or a number since 1970: seconds (with decimals where given), from [`FIRST_MILLIS`] on milliseconds.
fn timestamp(text: &str) -> Option<UnixMillis> {
    if let Ok(number) = text.parse::<i64>() {
        return match number {
            0..FIRST_MILLIS => Some(number * 1000),
            _ => (FIRST_MILLIS..=LAST_SECOND * 1000).contains(&number).then_some(number),
        };
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let seconds: f64 = text.parse().ok()?;
        return (0.0..FIRST_MILLIS as f64).contains(&seconds).then_some((seconds * 1000.0).round() as i64);
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_notation() {
        for (text, millis) in [
            ("1445714994", Some(1_445_714_994_000)),
            ("1445714994.25", Some(1_445_714_994_250)),
            ("1445714994123", Some(1_445_714_994_123)),
            ("2015-10-24T19:29:54Z", Some(1_445_714_994_000)),
            ("2015-10-24T21:29:54.123+02:00", Some(1_445_714_994_123)),
            ("0", Some(0)),
            ("-1", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
            ("2015-10-24", None),
            ("2015-13-24T19:29:54Z", None),
            ("yesterday", None),
            ("1.2.3", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(timestamp(text), millis, "{text}");
        }
        assert_eq!(unix_seconds("964982703"), Some(964_982_703_000));
        assert_eq!(unix_seconds("253402300800"), None);
        assert_eq!(unix_seconds("1.5"), None);
    }
}
