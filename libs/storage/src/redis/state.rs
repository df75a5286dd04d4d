//! A visitor's state in few bytes: most of what Redis holds is this.
//!
//! Layout of format 2, numbers as varints unless said otherwise: the format byte; flags; epoch; next offset; the
//! watermark and the time of the attributes (zigzag), each where there is one; the seen items; the events; the
//! attributes. Format 1 is the same without the time of the attributes, and is written where there is none: builds that
//! know no other read it.
//! An item of the window is nearly always among the seen ones too, so an event names it by its place there, and a seen
//! item whose last time is that of an event of the window leaves the time out.
//! Always holds: what is decoded equals what was encoded; any other bytes are an error, never a panic.

use super::bytes::{Reader, put_signed, put_varint};
use crate::StorageError;
use attune_domain::{
    EventKey, EventKind, ItemIx, MAX_SEEN, SeenItem, StateVersion, UserAttributes, UserState, UserWindow,
    WINDOW_EVENTS, WindowEvent,
};

const FORMAT: u8 = 2;
const OLDEST_FORMAT: u8 = 1;
const HAS_WATERMARK: u64 = 1;
const HAS_ATTRIBUTES_TIME: u64 = 2;
/// Of an event's head: three bits of kind, two of how its value stands.
const KIND_BITS: u32 = 3;
const HEAD_BITS: u32 = 5;
const VALUE_ONE: u64 = 0;
const VALUE_WHOLE: u64 = 1;
const VALUE_BITS: u64 = 2;
/// Whole numbers up to here are exact in an `f32`.
const MAX_WHOLE: f32 = 16_777_216.0;

pub(crate) fn encode(state: &UserState) -> Vec<u8> {
    let window = &state.window;
    let mut out = Vec::with_capacity(64 + window.events().len() * 18 + window.seen().len() * 6);
    out.push(if state.attributes_at.is_some() { FORMAT } else { OLDEST_FORMAT });
    let flag = |time: Option<i64>, flag: u64| time.map_or(0, |_| flag);
    put_varint(&mut out, flag(state.watermark, HAS_WATERMARK) | flag(state.attributes_at, HAS_ATTRIBUTES_TIME));
    put_varint(&mut out, state.version.epoch.into());
    put_varint(&mut out, state.version.next_offset);
    for time in [state.watermark, state.attributes_at].into_iter().flatten() {
        put_signed(&mut out, time);
    }
    put_seen(&mut out, window);
    put_events(&mut out, window);
    put_varint(&mut out, state.attributes.0.len() as u64);
    for text in state.attributes.0.iter().flat_map(|(name, value)| [name, value]) {
        put_varint(&mut out, text.len() as u64);
        out.extend(text.as_bytes());
    }
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<UserState, StorageError> {
    match bytes.first() {
        Some(&(OLDEST_FORMAT..=FORMAT)) => decode_body(&bytes[1..]).ok_or_else(|| StorageError::corrupt("user state")),
        Some(&found) => Err(StorageError::FormatVersion { found: found.into(), supported: FORMAT.into() }),
        None => Err(StorageError::corrupt("user state")),
    }
}

fn second_of(at: i64) -> i64 {
    at.div_euclid(1000)
}

/// The newest second at which a window has an event of an item, for items asked in ascending order.
struct LastTimes {
    times: Vec<(ItemIx, i64)>,
    at: usize,
}

impl LastTimes {
    fn of(events: &[WindowEvent]) -> Self {
        let mut times: Vec<_> = events.iter().map(|event| (event.item, second_of(event.occurred_at))).collect();
        times.sort_unstable();
        Self { times, at: 0 }
    }

    fn next(&mut self, item: ItemIx) -> Option<i64> {
        let mut found = None;
        while let Some(&(other, second)) = self.times.get(self.at).filter(|&&(other, _)| other <= item) {
            found = (other == item).then_some(second);
            self.at += 1;
        }
        found
    }
}

fn put_seen(out: &mut Vec<u8>, window: &UserWindow) {
    let seen = window.seen();
    put_varint(out, seen.len() as u64);
    let newest = seen.iter().map(|s| second_of(s.last_at)).max().unwrap_or(0);
    if !seen.is_empty() {
        put_signed(out, newest);
    }
    let mut told = LastTimes::of(window.events());
    let mut last = 0;
    for s in seen {
        let second = second_of(s.last_at);
        let is_told = told.next(s.item) == Some(second);
        put_varint(out, u64::from(s.item.0 - last) << 1 | u64::from(is_told));
        last = s.item.0;
        if !is_told {
            put_varint(out, newest.wrapping_sub(second) as u64);
        }
    }
}

fn put_events(out: &mut Vec<u8>, window: &UserWindow) {
    let mut last = 0i64;
    put_varint(out, window.events().len() as u64);
    for (n, event) in window.events().iter().enumerate() {
        let value = value_form(event.value);
        let place = window.seen().binary_search_by_key(&event.item, |s| s.item).map_or(0, |at| at as u64 + 1);
        put_varint(out, place << HEAD_BITS | value << KIND_BITS | u64::from(event.kind.code()));
        if place == 0 {
            put_varint(out, event.item.0.into());
        }
        match n {
            0 => put_signed(out, event.occurred_at),
            _ => put_varint(out, event.occurred_at.wrapping_sub(last) as u64),
        }
        last = event.occurred_at;
        out.extend(event.key.0.to_le_bytes());
        match value {
            VALUE_ONE => {}
            VALUE_WHOLE => put_varint(out, event.value as u64),
            _ => out.extend(event.value.to_bits().to_le_bytes()),
        }
    }
}

fn value_form(value: f32) -> u64 {
    if value == 1.0 {
        VALUE_ONE
    } else if (0.0..=MAX_WHOLE).contains(&value) && value.fract() == 0.0 && !value.is_sign_negative() {
        VALUE_WHOLE
    } else {
        VALUE_BITS
    }
}

fn decode_body(bytes: &[u8]) -> Option<UserState> {
    let mut from = Reader(bytes);
    let flags = from.varint()?;
    if flags & !(HAS_WATERMARK | HAS_ATTRIBUTES_TIME) != 0 {
        return None;
    }
    let epoch = u32::try_from(from.varint()?).ok()?;
    let next_offset = from.varint()?;
    let mut time = |flag: u64| if flags & flag == 0 { Some(None) } else { from.signed().map(Some) };
    let (watermark, attributes_at) = (time(HAS_WATERMARK)?, time(HAS_ATTRIBUTES_TIME)?);
    let seen = read_seen(&mut from)?;
    let events = read_events(&mut from, &seen)?;
    let mut told = LastTimes::of(&events);
    let seen = seen.into_iter().map(|(item, second)| {
        let last = told.next(item);
        let second = second.or(last)?;
        Some(SeenItem { item, last_at: second.checked_mul(1000)? })
    });
    let seen = seen.collect::<Option<Vec<_>>>()?;
    let count = from.count(from.0.len())?;
    let mut attributes = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        attributes.push((from.text()?.to_owned(), from.text()?.to_owned()));
    }
    from.0.is_empty().then(|| UserState {
        window: UserWindow::from_parts(events, seen),
        attributes: UserAttributes(attributes),
        attributes_at,
        version: StateVersion { epoch, next_offset },
        watermark,
    })
}

/// Items with their last second, or without where the window tells it.
fn read_seen(from: &mut Reader<'_>) -> Option<Vec<(ItemIx, Option<i64>)>> {
    let count = from.count(MAX_SEEN)?;
    let newest = if count > 0 { from.signed()? } else { 0 };
    let mut item = 0u32;
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        let head = from.varint()?;
        item = item.checked_add(u32::try_from(head >> 1).ok()?)?;
        let second = match head & 1 {
            1 => None,
            _ => Some(newest.wrapping_sub(from.varint()? as i64)),
        };
        seen.push((ItemIx(item), second));
    }
    Some(seen)
}

fn read_events(from: &mut Reader<'_>, seen: &[(ItemIx, Option<i64>)]) -> Option<Vec<WindowEvent>> {
    let count = from.count(WINDOW_EVENTS)?;
    let mut last = 0i64;
    let mut events = Vec::with_capacity(count);
    for n in 0..count {
        let head = from.varint()?;
        let kind = EventKind::from_code((head & ((1 << KIND_BITS) - 1)) as u8)?;
        let item = match usize::try_from(head >> HEAD_BITS).ok()?.checked_sub(1) {
            Some(place) => seen.get(place)?.0,
            None => ItemIx(u32::try_from(from.varint()?).ok()?),
        };
        last = if n == 0 { from.signed()? } else { last.wrapping_add(from.varint()? as i64) };
        let key = EventKey(u64::from_le_bytes(from.array()?));
        let value = match head >> KIND_BITS & 3 {
            VALUE_ONE => 1.0,
            VALUE_WHOLE => from.varint()? as f32,
            VALUE_BITS => f32::from_bits(u32::from_le_bytes(from.array()?)),
            _ => return None,
        };
        events.push(WindowEvent { occurred_at: last, key, item, kind, value });
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_760_000_000_000;

    fn kind(n: u8) -> EventKind {
        [EventKind::Click, EventKind::Conversion, EventKind::Dwell, EventKind::Like, EventKind::Hide]
            [usize::from(n) % 5]
    }

    fn values() -> impl Strategy<Value = f32> {
        prop_oneof![
            Just(1.0f32),
            (0u32..20_000_000).prop_map(|n| n as f32),
            any::<f32>().prop_filter("equal", |v| !v.is_nan())
        ]
    }

    /// Item, time, key, kind, value.
    type Pick = (u32, i64, u64, u8, f32);

    fn window(picks: &[Pick]) -> UserWindow {
        let mut window = UserWindow::default();
        for &(item, occurred_at, key, n, value) in picks {
            let event = WindowEvent { occurred_at, key: EventKey(key), item: ItemIx(item), kind: kind(n), value };
            window.insert(event);
        }
        window
    }

    fn picks(max: usize) -> impl Strategy<Value = Vec<Pick>> {
        let items = prop_oneof![0u32..200, any::<u32>()];
        let times = prop_oneof![START..START + 86_400_000 * 30, -5_000i64..5_000, -(1i64 << 52)..1 << 52];
        prop::collection::vec((items, times, any::<u64>(), any::<u8>(), values()), 0..max)
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(
            picks in picks(140),
            attributes in prop::collection::vec(("[a-z]{0,8}", ".{0,12}"), 0..5),
            epoch in any::<u32>(), next_offset in any::<u64>(), watermark in any::<Option<i64>>(),
            attributes_at in any::<Option<i64>>(),
        ) {
            let state = UserState {
                window: window(&picks),
                attributes: UserAttributes(attributes),
                attributes_at,
                version: StateVersion { epoch, next_offset },
                watermark,
            };
            prop_assert_eq!(decode(&encode(&state)).unwrap(), state);
        }

        #[test]
        fn other_bytes_are_an_error_and_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), ours in any::<bool>()) {
            if ours && let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            match decode(&bytes) {
                Ok(_) => prop_assert!((OLDEST_FORMAT..=FORMAT).contains(&bytes[0])),
                Err(StorageError::Corrupt { .. }) => {}
                Err(StorageError::FormatVersion { found, .. }) => prop_assert_ne!(found, u32::from(FORMAT)),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn damage_is_no_panic(picks in picks(60), at in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>()) {
            let mut bytes = encode(&UserState { window: window(&picks), ..Default::default() });
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
                prop_assert!(decode(&bytes).is_err());
            } else {
                bytes[at] ^= 1u8 << bit;
                drop(decode(&bytes));
            }
        }

        /// Times up to three days apart, a fifth of each kind, dwell of up to four hours, conversions of up to 20,000.00.
        #[test]
        fn a_full_window_takes_800_bytes_at_most(
            events in prop::collection::vec((1i64..3 * 86_400_000, 0u32..500_000, any::<u64>(), 1u32..16_384, 1u32..2_000_000), 50),
        ) {
            let mut at = START;
            let picks: Vec<Pick> = (0u8..).zip(&events).map(|(n, &(gap, item, key, seconds, cents))| {
                at += gap;
                let value = match kind(n) {
                    EventKind::Dwell => seconds as f32,
                    EventKind::Conversion => cents as f32,
                    _ => 1.0,
                };
                (item, at, key, n, value)
            }).collect();
            let state = UserState {
                window: window(&picks),
                version: StateVersion { epoch: 0, next_offset: u64::MAX >> 4 },
                watermark: Some(at),
                ..Default::default()
            };
            let mut seen = Vec::new();
            put_seen(&mut seen, &state.window);
            let length = encode(&state).len() - seen.len();
            prop_assert!(length <= 800, "{length}");
        }
    }

    #[test]
    fn an_unknown_format_is_told_from_damage() {
        let mut bytes = encode(&UserState::default());
        bytes[0] = FORMAT + 1;
        let refused = decode(&bytes).unwrap_err();
        assert_eq!(refused, StorageError::FormatVersion { found: 3, supported: 2 });
        assert_eq!(decode(&[]).unwrap_err(), StorageError::corrupt("user state"));
    }

    #[test]
    fn the_format_before_is_written_where_it_is_enough() {
        let mut window = UserWindow::default();
        let event =
            WindowEvent { occurred_at: 5_000, key: EventKey(9), item: ItemIx(3), kind: EventKind::Click, value: 1.0 };
        window.insert(event);
        let attributes = UserAttributes(vec![("a".into(), "b".into())]);
        let mut state = UserState { window, attributes, watermark: Some(7), ..Default::default() };
        let before = encode(&state);
        assert_eq!(before[0], OLDEST_FORMAT);
        assert_eq!(decode(&before).unwrap(), state);
        state.attributes_at = Some(6);
        assert_eq!(encode(&state)[0], FORMAT);
    }
}
