//! The few facts about a request that travel with every call: made at the edge, never taken from outside.

use crate::tracestate::trim;
use crate::{Carrier, CarrierMut, Field, Name};

/// The keys that travel; everything else is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaggageKey {
    /// `experiment:variant`.
    Experiment,
    Tier,
    Class,
}

impl BaggageKey {
    pub const ALL: [Self; 3] = [Self::Experiment, Self::Tier, Self::Class];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Experiment => "pz.exp",
            Self::Tier => "pz.tier",
            Self::Class => "pz.class",
        }
    }
}

/// At most 256 bytes on the wire: three keys with a [`Name`] each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage([Option<Name>; BaggageKey::ALL.len()]);

const MAX_BYTES: usize = 256;
/// W3C's bounds on what must be taken; more is nobody's honest baggage.
const MAX_READ: usize = 8192;
const MAX_MEMBERS: usize = 64;

impl Baggage {
    pub fn with(mut self, key: BaggageKey, value: Name) -> Self {
        self.0[key as usize] = Some(value);
        self
    }

    pub fn get(&self, key: BaggageKey) -> Option<&Name> {
        self.0[key as usize].as_ref()
    }

    pub fn iter(&self) -> impl Iterator<Item = (BaggageKey, &Name)> {
        BaggageKey::ALL.into_iter().filter_map(|key| Some((key, self.get(key)?)))
    }

    pub(crate) fn inject(&self, into: &mut impl CarrierMut) {
        let mut text = String::with_capacity(MAX_BYTES);
        for (key, value) in self.iter() {
            let comma = if text.is_empty() { "" } else { "," };
            if text.len() + comma.len() + key.as_str().len() + 1 + value.as_str().len() <= MAX_BYTES {
                text.extend([comma, key.as_str(), "=", value.as_str()]);
            }
        }
        into.replace(Field::Baggage, (!text.is_empty()).then_some(text.as_bytes()));
    }

    /// The allowed keys, of a caller that is one of ours. None when there are none; an error where a bound is passed or
    /// an allowed key has a value that is not a [`Name`].
    pub(crate) fn read(from: &impl Carrier) -> Result<Option<Self>, TooMuch> {
        let (mut bytes, mut members, mut found) = (0, 0, Self::default());
        for line in from.values(Field::Baggage) {
            bytes += line.len();
            if bytes > MAX_READ {
                return Err(TooMuch);
            }
            for member in line.split(|byte| *byte == b',') {
                members += 1;
                let Some(at) = member.iter().position(|byte| *byte == b'=') else { continue };
                let key = trim(&member[..at]);
                let Some(key) = BaggageKey::ALL.into_iter().find(|one| one.as_str().as_bytes() == key) else {
                    continue;
                };
                let value = member[at + 1..].split(|byte| *byte == b';').next().unwrap_or_default();
                let name = std::str::from_utf8(trim(value)).ok().and_then(Name::new);
                found.0[key as usize] = Some(name.ok_or(TooMuch)?);
            }
        }
        if members > MAX_MEMBERS { Err(TooMuch) } else { Ok((found != Self::default()).then_some(found)) }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;
