//! Bytes of a data set's files. Integers are little endian; an event is [`EVENT_BYTES`] wide.
//!
//! Decoding trusts nothing: every code, number and reference is checked, so that a loaded data set is a valid one.

use crate::{Dataset, DatasetEvent, SlateSlot};
use attune_domain::{
    Context, Device, EventKind, Geo, Item, ItemId, ItemIx, MAX_ATTRIBUTES, MAX_CATEGORIES, PageType, Uid,
    UserAttributes,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

pub(crate) const UID_BYTES: usize = 17;
/// user 4, item 4, occurred_at 8, value 4, slate 4 (all ones: none), kind, position, page, device, geo, 3 zero bytes.
pub(crate) const EVENT_BYTES: usize = 32;
const NO_SLATE: u32 = u32::MAX;

/// Why a file's bytes are not what they should be: the record's index and what is wrong with it.
pub(crate) type Bad = (usize, &'static str);

#[derive(Serialize, Deserialize)]
struct ItemLine<'a> {
    id: Cow<'a, str>,
    title: Cow<'a, str>,
    categories: Cow<'a, [String]>,
    attributes: Cow<'a, [(String, String)]>,
    price: Option<i64>,
    created_at: Option<i64>,
    available: bool,
}

#[derive(Serialize, Deserialize)]
struct AttributesLine<'a> {
    user: u32,
    attributes: Cow<'a, [(String, String)]>,
}

fn push_line(out: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *out, line).expect("strings and numbers serialize, and a vector takes every write");
    out.push(b'\n');
}

pub(crate) fn encode_items(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::with_capacity(items.len() * 160);
    for item in items {
        push_line(
            &mut out,
            &ItemLine {
                id: item.id.as_str().into(),
                title: item.title.as_str().into(),
                categories: item.categories.as_slice().into(),
                attributes: item.attributes.as_slice().into(),
                price: item.price,
                created_at: item.created_at,
                available: item.available,
            },
        );
    }
    out
}

pub(crate) fn decode_items(bytes: &[u8]) -> Result<Vec<Item>, Bad> {
    let mut items = Vec::new();
    for (i, line) in lines(bytes).enumerate() {
        let line: ItemLine = serde_json::from_slice(line).map_err(|_| (i, "not an item"))?;
        if line.categories.len() > MAX_CATEGORIES || line.attributes.len() > MAX_ATTRIBUTES {
            return Err((i, "too many categories or attributes"));
        }
        items.push(Item {
            id: ItemId::new(&line.id).map_err(|_| (i, "bad item id"))?,
            title: line.title.into_owned(),
            categories: line.categories.into_owned(),
            attributes: line.attributes.into_owned(),
            price: line.price,
            created_at: line.created_at,
            available: line.available,
        });
    }
    Ok(items)
}

/// Users without attributes have no line.
pub(crate) fn encode_attributes(attributes: &[UserAttributes]) -> Vec<u8> {
    let mut out = Vec::new();
    for (user, attributes) in attributes.iter().enumerate().filter(|(_, a)| !a.0.is_empty()) {
        push_line(&mut out, &AttributesLine { user: user as u32, attributes: attributes.0.as_slice().into() });
    }
    out
}

pub(crate) fn decode_attributes(bytes: &[u8], users: usize) -> Result<Vec<UserAttributes>, Bad> {
    let mut out = vec![UserAttributes::default(); users];
    for (i, line) in lines(bytes).enumerate() {
        let line: AttributesLine = serde_json::from_slice(line).map_err(|_| (i, "not a user's attributes"))?;
        let slot = out.get_mut(line.user as usize).ok_or((i, "unknown user"))?;
        slot.0 = line.attributes.into_owned();
        slot.0.sort();
    }
    Ok(out)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty())
}

pub(crate) fn encode_users(users: &[Uid]) -> Vec<u8> {
    users.iter().flat_map(|uid| uid.0).collect()
}

pub(crate) fn decode_users(bytes: &[u8]) -> Result<Vec<Uid>, Bad> {
    let (whole, rest) = bytes.as_chunks::<UID_BYTES>();
    if rest.is_empty() { Ok(whole.iter().copied().map(Uid).collect()) } else { Err((whole.len(), "cut short")) }
}

pub(crate) fn encode_events(events: &[DatasetEvent]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.len() * EVENT_BYTES);
    for e in events {
        out.extend_from_slice(&e.user.to_le_bytes());
        out.extend_from_slice(&e.item.0.to_le_bytes());
        out.extend_from_slice(&e.occurred_at.to_le_bytes());
        out.extend_from_slice(&e.value.to_le_bytes());
        out.extend_from_slice(&e.slate.map_or(NO_SLATE, |s| s.slate).to_le_bytes());
        let Context { page, device, geo } = e.context;
        let position = e.slate.map_or(0, |s| s.position);
        out.extend_from_slice(&[e.kind.code(), position, page.code(), device.code(), geo.code(), 0, 0, 0]);
    }
    out
}

/// Checks references against the users and items already in `dataset`.
pub(crate) fn decode_events(bytes: &[u8], dataset: &Dataset) -> Result<Vec<DatasetEvent>, Bad> {
    let (whole, rest) = bytes.as_chunks::<EVENT_BYTES>();
    if !rest.is_empty() {
        return Err((whole.len(), "cut short"));
    }
    let mut events = Vec::with_capacity(whole.len());
    let mut last = i64::MIN;
    for (i, b) in whole.iter().enumerate() {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let event = DatasetEvent {
            user: word(0),
            item: ItemIx(word(4)),
            occurred_at: i64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
            value: f32::from_bits(word(16)),
            slate: (word(20) != NO_SLATE).then(|| SlateSlot { slate: word(20), position: b[25] }),
            kind: EventKind::from_code(b[24]).ok_or((i, "unknown type"))?,
            context: Context {
                page: PageType::from_code(b[26]).ok_or((i, "unknown page type"))?,
                device: Device::from_code(b[27]).ok_or((i, "unknown device"))?,
                geo: Geo::from_code(b[28]).ok_or((i, "unknown geo bucket"))?,
            },
        };
        if event.user as usize >= dataset.users.len() {
            return Err((i, "unknown user"));
        }
        if event.item.index() >= dataset.items.len() {
            return Err((i, "unknown item"));
        }
        if !event.value.is_finite() {
            return Err((i, "value is not a number"));
        }
        if event.occurred_at < last {
            return Err((i, "out of order"));
        }
        last = event.occurred_at;
        events.push(event);
    }
    Ok(events)
}
