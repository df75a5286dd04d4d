//! Visitors with histories, the same for the same seed.

use attune_domain::{EventKey, EventKind, ItemIx, StateVersion, Uid, UserState, WindowEvent};

pub(crate) const NOW: i64 = 1_764_000_000_000;
const ITEMS: f64 = 10_000.0;

pub(crate) struct World(u64);

pub(crate) fn uid(n: u32) -> Uid {
    let mut world = World::new(u64::from(n) << 8);
    let mut bytes = [1; 17];
    bytes[1..9].copy_from_slice(&world.bits().to_le_bytes());
    bytes[9..].copy_from_slice(&world.bits().to_le_bytes());
    Uid(bytes)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn event(&mut self, at: i64) -> WindowEvent {
        let (kind, value) = match (self.share() * 100.0) as u32 {
            0..70 => (EventKind::Click, 1.0),
            70..85 => (EventKind::Dwell, (1.0 + self.share() * 300.0).floor()),
            85..90 => (EventKind::Conversion, (100.0 + self.share() * 20_000.0).floor()),
            90..98 => (EventKind::Like, 1.0),
            _ => (EventKind::Hide, 1.0),
        };
        let item = ItemIx((self.share().powi(3) * ITEMS) as u32);
        WindowEvent { occurred_at: at, key: EventKey(self.bits()), item, kind, value: value as f32 }
    }

    /// Half have fewer than 30 events, one in a hundred some thousands.
    pub(crate) fn visitor(&mut self) -> UserState {
        let events = (1.0 + 29.0 * (1.0 / (1.0 - self.share()) - 1.0)).min(4_000.0) as u32;
        let mut state = UserState::default();
        let mut at = NOW - i64::from(events) * 3_600_000;
        for _ in 0..events {
            let pause = if self.share() < 0.12 { 4.0 * 86_400_000.0 } else { 300_000.0 };
            at += 1 + (self.share() * pause) as i64;
            state.window.insert(self.event(at));
        }
        state.version = StateVersion { epoch: 0, next_offset: self.bits() >> 24 };
        state.watermark = Some(at + 40);
        state
    }
}
