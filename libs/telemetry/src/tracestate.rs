//! The `tracestate` header: our `ot` member (threshold and randomness), and the members of others, which travel on.
//!
//! Read as W3C trace context level 1 has it: several lines are one list, and a list with one wrong member, or with more
//! than 32, counts for nothing. Of the others' members as many are kept as fit 512 bytes.

use crate::sampling::Threshold;
use std::sync::Arc;

const MAX_MEMBERS: usize = 32;
const MAX_OTHERS: usize = 512;

/// What a `tracestate` said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct TraceState {
    pub(crate) threshold: Option<Threshold>,
    /// `rv`: the 56 random bits, where they are not those of the trace id.
    pub(crate) randomness: Option<u64>,
    pub(crate) others: Option<Arc<str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl TraceState {
    pub(crate) fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, Malformed> {
        let mut state = Self::default();
        let (mut members, mut ours, mut others) = (0, false, String::new());
        for line in lines {
            for member in line.split(|byte| *byte == b',') {
                let member = trim(member);
                if member.is_empty() {
                    continue;
                }
                members += 1;
                let (key, value) = split_member(member).filter(|_| members <= MAX_MEMBERS).ok_or(Malformed)?;
                if key != b"ot" {
                    keep(member, &mut others);
                } else if !std::mem::replace(&mut ours, true) {
                    state.read_ours(value);
                }
            }
        }
        state.others = (!others.is_empty()).then(|| others.into());
        Ok(state)
    }

    /// `rv:6e6d1a75832a2f;th:fd70a4`; fields that we do not know say nothing to us.
    fn read_ours(&mut self, value: &[u8]) {
        for field in value.split(|byte| *byte == b';') {
            let Ok(field) = std::str::from_utf8(field) else { continue };
            if let Some(digits) = field.strip_prefix("th:") {
                self.threshold = Threshold::parse(digits);
            } else if let Some(digits) = field.strip_prefix("rv:").filter(|digits| digits.len() == 14) {
                let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                self.randomness = plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
            }
        }
    }
}

fn keep(member: &[u8], others: &mut String) {
    // Checked to be ASCII.
    let Ok(text) = std::str::from_utf8(member) else { return };
    if others.len() + 1 + text.len() <= MAX_OTHERS {
        if !others.is_empty() {
            others.push(',');
        }
        others.push_str(text);
    }
}

fn split_member(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = member.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&member[..at], &member[at + 1..]);
    let printable = |byte: &u8| (0x20..=0x7e).contains(byte) && *byte != b'=';
    let value_fits = (1..=256).contains(&value.len()) && value.iter().all(printable);
    (value_fits && is_key(key)).then_some((key, value))
}

fn is_key(key: &[u8]) -> bool {
    let part = |part: &[u8], most: usize, digit_first: bool| {
        let first = part.first().is_some_and(|b| b.is_ascii_lowercase() || (digit_first && b.is_ascii_digit()));
        let rest = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/".contains(b);
        first && part.len() <= most && part.iter().all(rest)
    };
    match key.iter().position(|byte| *byte == b'@') {
        None => part(key, 256, false),
        Some(at) => part(&key[..at], 241, true) && part(&key[at + 1..], 14, false),
    }
}

/// Without the optional white space that lists may have.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
