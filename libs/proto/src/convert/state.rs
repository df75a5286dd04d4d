//! `attune.state.v1`: windows, events, items.

use super::WireError;
use crate::state::v1 as wire;
use attune_domain as domain;
use attune_domain::{EventKey, EventKind, Id, ItemIx, RequestId, SeenItem, WindowEvent};
use bytes::Bytes;

fn id(field: &'static str, text: &str) -> Result<Id, WireError> {
    Id::new(text).map_err(|_| WireError::new(field, "must be 1 to 128 bytes without control characters"))
}

impl From<&domain::UserWindow> for wire::Window {
    fn from(window: &domain::UserWindow) -> Self {
        let mut out = Self::default();
        let mut kinds = Vec::with_capacity(window.events().len());
        let (mut at, mut item, mut seconds) = (0, 0, 0);
        for e in window.events() {
            out.occurred_at.push(e.occurred_at.wrapping_sub(at));
            at = e.occurred_at;
            out.keys.push(e.key.0);
            out.items.push(e.item.0);
            kinds.push(e.kind.code());
            out.values.push(e.value);
        }
        out.kinds = Bytes::from(kinds);
        for s in window.seen() {
            out.seen_items.push(s.item.0.wrapping_sub(item));
            item = s.item.0;
            let second = s.last_at.div_euclid(1000);
            out.seen_at.push(second.wrapping_sub(seconds));
            seconds = second;
        }
        out
    }
}

impl TryFrom<&wire::Window> for domain::UserWindow {
    type Error = WireError;

    fn try_from(w: &wire::Window) -> Result<Self, WireError> {
        let n = w.occurred_at.len();
        if [w.keys.len(), w.items.len(), w.kinds.len(), w.values.len()] != [n; 4] {
            return Err(WireError::new("window", "columns differ in length"));
        }
        if w.seen_items.len() != w.seen_at.len() {
            return Err(WireError::new("window.seen_items", "columns differ in length"));
        }
        let (mut at, mut item, mut seconds) = (0i64, 0u32, 0i64);
        let mut events = Vec::with_capacity(n);
        for i in 0..n {
            at = at.wrapping_add(w.occurred_at[i]);
            events.push(WindowEvent {
                occurred_at: at,
                key: EventKey(w.keys[i]),
                item: ItemIx(w.items[i]),
                kind: EventKind::from_code(w.kinds[i]).ok_or(WireError::new("window.kinds", "unknown event type"))?,
                value: w.values[i],
            });
        }
        let mut seen = Vec::with_capacity(w.seen_items.len());
        for (&d_item, &d_second) in w.seen_items.iter().zip(&w.seen_at) {
            item = item.wrapping_add(d_item);
            seconds = seconds.wrapping_add(d_second);
            seen.push(SeenItem { item: ItemIx(item), last_at: seconds.wrapping_mul(1000) });
        }
        Ok(Self::from_parts(events, seen))
    }
}

impl From<domain::StateVersion> for wire::StateVersion {
    fn from(v: domain::StateVersion) -> Self {
        Self { epoch: v.epoch, next_offset: v.next_offset }
    }
}

impl From<wire::StateVersion> for domain::StateVersion {
    fn from(v: wire::StateVersion) -> Self {
        Self { epoch: v.epoch, next_offset: v.next_offset }
    }
}

fn attributes(list: &[wire::Attribute]) -> Vec<(String, String)> {
    let mut out: Vec<_> = list.iter().map(|a| (a.name.clone(), a.value.clone())).collect();
    out.sort();
    out.dedup_by(|a, b| a.0 == b.0);
    out
}

fn attributes_to_wire(list: &[(String, String)]) -> Vec<wire::Attribute> {
    list.iter().map(|(name, value)| wire::Attribute { name: name.clone(), value: value.clone() }).collect()
}

pub fn user_attributes(list: &[wire::Attribute]) -> domain::UserAttributes {
    domain::UserAttributes(attributes(list))
}

pub fn user_attributes_to_wire(attributes: &domain::UserAttributes) -> Vec<wire::Attribute> {
    attributes_to_wire(&attributes.0)
}

impl From<&domain::UserState> for wire::UserState {
    fn from(s: &domain::UserState) -> Self {
        Self {
            window: Some((&s.window).into()),
            attributes: user_attributes_to_wire(&s.attributes),
            version: Some(s.version.into()),
            watermark: s.watermark,
            attributes_at: s.attributes_at,
        }
    }
}

/// An absent state is an empty one: the visitor is new.
pub fn user_state(s: Option<&wire::UserState>) -> Result<domain::UserState, WireError> {
    let Some(s) = s else { return Ok(domain::UserState::default()) };
    Ok(domain::UserState {
        window: s.window.as_ref().map(TryInto::try_into).transpose()?.unwrap_or_default(),
        attributes: user_attributes(&s.attributes),
        attributes_at: s.attributes_at,
        version: s.version.unwrap_or_default().into(),
        watermark: s.watermark,
    })
}

impl From<domain::Context> for wire::Context {
    fn from(c: domain::Context) -> Self {
        Self { page: c.page.code().into(), device: c.device.code().into(), geo: c.geo.code().into() }
    }
}

pub fn context(c: Option<&wire::Context>) -> Result<domain::Context, WireError> {
    let c = c.ok_or(WireError::new("context", "is missing"))?;
    let code = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    Ok(domain::Context {
        page: domain::PageType::from_code(code(c.page)).ok_or(WireError::new("context.page", "unknown"))?,
        device: domain::Device::from_code(code(c.device)).unwrap_or(domain::Device::Other),
        geo: domain::Geo::from_code(code(c.geo)).unwrap_or(domain::Geo::Other),
    })
}

impl From<&domain::LoggedEvent> for wire::Event {
    fn from(e: &domain::LoggedEvent) -> Self {
        Self {
            event_id: e.event_id.as_str().to_owned(),
            kind: e.kind.code().into(),
            item_id: e.item_id.as_str().to_owned(),
            item: e.item.0,
            request_id: e.request_id.map(|r| Bytes::copy_from_slice(&r.0)).unwrap_or_default(),
            position: e.position,
            occurred_at: e.occurred_at,
            accepted_at: e.accepted_at,
            value: e.value,
            imported: e.imported,
            in_decision: e.in_decision,
            decided: e.decided.map(Into::into),
        }
    }
}

impl From<domain::DecidedSlot> for wire::Decided {
    fn from(d: domain::DecidedSlot) -> Self {
        Self {
            position: d.position.into(),
            ideal_position: d.ideal_position.into(),
            slot: d.kind.code().into(),
            variant: d.variant.code().into(),
            level: d.level.code().into(),
            model: d.model,
            propensity: d.propensity,
            score: d.score,
        }
    }
}

fn decided(d: &wire::Decided) -> Result<domain::DecidedSlot, WireError> {
    let code = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    let place = |n: u32| u16::try_from(n).map_err(|_| WireError::new("decided.position", "is out of range"));
    Ok(domain::DecidedSlot {
        position: place(d.position)?,
        ideal_position: place(d.ideal_position)?,
        kind: domain::SlotKind::from_code(code(d.slot)).ok_or(WireError::new("decided.slot", "unknown"))?,
        variant: domain::Variant::from_code(code(d.variant)).ok_or(WireError::new("decided.variant", "unknown"))?,
        level: domain::Level::from_code(code(d.level)).ok_or(WireError::new("decided.level", "unknown"))?,
        model: d.model,
        propensity: d.propensity,
        score: d.score,
    })
}

pub fn event(uid: domain::Uid, e: &wire::Event) -> Result<domain::LoggedEvent, WireError> {
    Ok(domain::LoggedEvent {
        uid,
        event_id: id("event_id", &e.event_id)?,
        kind: u8::try_from(e.kind)
            .ok()
            .and_then(EventKind::from_code)
            .ok_or(WireError::new("kind", "unknown event type"))?,
        item_id: id("item_id", &e.item_id)?,
        item: ItemIx(e.item),
        request_id: match &e.request_id[..] {
            [] => None,
            bytes => Some(RequestId::from_slice(bytes).ok_or(WireError::new("request_id", "must be 16 bytes"))?),
        },
        position: e.position,
        occurred_at: e.occurred_at,
        accepted_at: e.accepted_at,
        value: e.value,
        imported: e.imported,
        in_decision: e.in_decision,
        decided: e.decided.as_ref().map(decided).transpose()?,
    })
}

impl From<&domain::Item> for wire::Item {
    fn from(i: &domain::Item) -> Self {
        Self {
            id: i.id.as_str().to_owned(),
            title: i.title.clone(),
            categories: i.categories.clone(),
            attributes: attributes_to_wire(&i.attributes),
            price: i.price,
            created_at: i.created_at,
            available: i.available,
        }
    }
}

pub fn item(i: &wire::Item) -> Result<domain::Item, WireError> {
    Ok(domain::Item {
        id: id("item.id", &i.id)?,
        title: i.title.clone(),
        categories: i.categories.clone(),
        attributes: attributes(&i.attributes),
        price: i.price,
        created_at: i.created_at,
        available: i.available,
    })
}

impl From<&domain::ItemUpdate> for wire::ItemUpdate {
    fn from(u: &domain::ItemUpdate) -> Self {
        Self { ix: u.ix.0, item: Some((&u.item).into()), ..Self::default() }
    }
}

pub fn item_update(u: &wire::ItemUpdate) -> Result<domain::ItemUpdate, WireError> {
    let wire = u.item.as_ref().ok_or(WireError::new("item", "is missing"))?;
    Ok(domain::ItemUpdate { ix: ItemIx(u.ix), item: item(wire)? })
}

impl From<&domain::PosteriorSnapshot> for wire::PosteriorSnapshot {
    fn from(s: &domain::PosteriorSnapshot) -> Self {
        Self {
            items: s.counts.iter().map(|c| c.item.0).collect(),
            impressions: s.counts.iter().map(|c| c.impressions).collect(),
            rewards: s.counts.iter().map(|c| c.rewards).collect(),
        }
    }
}

pub fn posterior_snapshot(s: &wire::PosteriorSnapshot) -> Result<domain::PosteriorSnapshot, WireError> {
    let n = s.items.len();
    if s.impressions.len() != n || s.rewards.len() != n {
        return Err(WireError::new("posteriors", "columns differ in length"));
    }
    let mut counts: Vec<_> = (0..n)
        .map(|i| domain::PosteriorCounts {
            item: ItemIx(s.items[i]),
            impressions: s.impressions[i],
            rewards: s.rewards[i],
        })
        .collect();
    counts.sort_by_key(|c| c.item);
    Ok(domain::PosteriorSnapshot { counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn a_state_survives_the_wire_and_its_bytes_are_stable() {
        let mut state = domain::UserState { watermark: Some(9), attributes_at: Some(8), ..Default::default() };
        for i in 0..70u32 {
            state.window.insert(WindowEvent {
                occurred_at: i64::from(i) * 1000 - 5000,
                key: EventKey(u64::from(i) << 40),
                item: ItemIx(i * 7 % 50),
                kind: EventKind::ALL[1 + i as usize % 5],
                value: i as f32,
            });
        }
        let bytes = wire::UserState::from(&state).encode_to_vec();
        let back = user_state(Some(&wire::UserState::decode(&bytes[..]).unwrap())).unwrap();
        assert_eq!(back, state);
        assert_eq!(wire::UserState::from(&back).encode_to_vec(), bytes);
    }

    #[test]
    fn a_torn_window_names_its_field() {
        let torn = wire::Window { items: vec![1], ..Default::default() };
        assert_eq!(domain::UserWindow::try_from(&torn).unwrap_err().field, "window");
    }
}
