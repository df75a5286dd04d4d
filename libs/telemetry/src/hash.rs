//! `user_id_hash`: a keyed pseudonym for logs and spans that changes every week and cannot be undone for long.
//!
//! The key is a ratchet. Each week's state is derived from the week before and cannot be turned back, and the keys of
//! each purpose are derived from the state. Two weeks are live, this one and the last; the state from which older ones
//! followed is overwritten, in memory by the hasher and on disk by whoever keeps the file ([`LogKey::advance`]). From
//! then on nobody can tell whose hash an old line holds, not even with the key file and the raw id in hand.
//!
//! Always holds: services with one key write one hash for a visitor in one week; hashes of two weeks, of two purposes
//! or under two keys cannot be joined; without a key the hash says `none`, and there is no other digest to fall back on.

use attune_config::Secret;
use attune_domain::{Uid, UnixMillis};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

const WEEK_MS: i64 = 7 * 86_400_000;
/// Weeks whose hashes can be derived at a time.
const LIVE: usize = 2;
const FORMAT: &str = "attune-log-key-1";

/// What a hash is for. Hashes of two purposes cannot be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Logs,
    Traces,
    Analytics,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Analytics];

    const fn info(self) -> &'static [u8] {
        match self {
            Self::Logs => b"attune user hash: logs",
            Self::Traces => b"attune user hash: traces",
            Self::Analytics => b"attune user hash: analytics",
        }
    }
}

/// What logs and spans may say about a visitor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserHash(Option<(i64, [u8; 16])>);

impl UserHash {
    const NONE: Self = Self(None);

    /// `hmac-sha256:w<week>:<base64url>`, or `hmac-sha256:none:-`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            None => out.extend_from_slice(b"hmac-sha256:none:-"),
            Some((week, tag)) => {
                out.extend_from_slice(b"hmac-sha256:w");
                out.extend_from_slice(itoa::Buffer::new().format(*week).as_bytes());
                out.push(b':');
                base64url(tag, out);
            }
        }
    }
}

impl fmt::Display for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("telemetry.log_key must be \"{FORMAT} <week> <64 hexadecimal digits>\", or a secret without that beginning")]
pub struct LogKeyError;

/// The ratchet's state at one week.
#[derive(Clone)]
pub struct LogKey {
    week: i64,
    state: [u8; 32],
}

impl LogKey {
    pub fn week_of(now: UnixMillis) -> i64 {
        now.div_euclid(WEEK_MS)
    }

    /// A new key, whose first week is this one.
    pub fn fresh(random: [u8; 32], week: i64) -> Self {
        Self { week, state: random }
    }

    /// What [`encode`](Self::encode) wrote. Any other secret is the seed of a ratchet that began in week 0: it gives the
    /// same hashes everywhere, but as long as it is kept no week is ever beyond recall.
    pub fn parse(secret: &Secret) -> Result<Self, LogKeyError> {
        let bytes = secret.expose();
        let Some(rest) = bytes.strip_prefix(FORMAT.as_bytes()) else {
            let mut state = [0; 32];
            expand(&Hkdf::new(None, bytes), b"attune log key: seed", &mut state);
            return Ok(Self { week: 0, state });
        };
        let text = std::str::from_utf8(rest).map_err(|_| LogKeyError)?;
        let mut words = text.split_ascii_whitespace();
        let (Some(week), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return Err(LogKeyError);
        };
        let week = week.parse().ok().filter(|week| *week >= 0).ok_or(LogKeyError)?;
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(LogKeyError);
        }
        let mut state = [0; 32];
        for (at, byte) in state.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| LogKeyError)?;
        }
        Ok(Self { week, state })
    }

    pub fn encode(&self) -> Secret {
        let mut text = format!("{FORMAT} {} ", self.week);
        self.state.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        Secret::new(text)
    }

    /// Moves to the earliest week that still lives at `now`; false where it is there already. There is no way back.
    pub fn advance(&mut self, now: UnixMillis) -> bool {
        let oldest = Self::week_of(now) - (LIVE as i64 - 1);
        let behind = self.week < oldest;
        while self.week < oldest {
            let mut next = [0; 32];
            expand(&self.derive(), b"attune log key: next week", &mut next);
            self.state.zeroize();
            self.state = next;
            self.week += 1;
        }
        behind
    }

    fn derive(&self) -> Hkdf<Sha256> {
        #[expect(clippy::expect_used, reason = "32 bytes are what SHA-256 wants")]
        Hkdf::from_prk(&self.state).expect("32 bytes are a key")
    }

    fn mac(&self, purpose: Purpose) -> Hmac<Sha256> {
        let mut key = Zeroizing::new([0; 32]);
        expand(&self.derive(), purpose.info(), &mut key);
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        Hmac::new_from_slice(&*key).expect("HMAC takes a key of any length")
    }
}

impl Drop for LogKey {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey(week {})", self.week)
    }
}

fn expand(from: &Hkdf<Sha256>, info: &[u8], to: &mut [u8; 32]) {
    #[expect(clippy::expect_used, reason = "32 bytes are within what one HKDF may give")]
    from.expand(info, to).expect("32 bytes fit HKDF");
}

/// Hashes under the live weeks' keys.
pub(crate) struct UserHasher(Option<Mutex<Live>>);

struct Live {
    /// Of the older live week.
    key: LogKey,
    macs: [[Hmac<Sha256>; Purpose::ALL.len()]; LIVE],
}

impl Live {
    fn new(key: LogKey) -> Self {
        let mut next = key.clone();
        next.advance((key.week + LIVE as i64) * WEEK_MS);
        let macs = [&key, &next].map(|key| Purpose::ALL.map(|purpose| key.mac(purpose)));
        Self { key, macs }
    }
}

impl UserHasher {
    pub(crate) fn new(key: Option<&Secret>, now: UnixMillis) -> Result<Self, LogKeyError> {
        let key = key.map(LogKey::parse).transpose()?;
        Ok(Self(key.map(|mut key| {
            key.advance(now);
            Mutex::new(Live::new(key))
        })))
    }

    pub(crate) fn hash(&self, purpose: Purpose, uid: &Uid, now: UnixMillis) -> UserHash {
        let Some(live) = &self.0 else { return UserHash::NONE };
        let week = LogKey::week_of(now);
        let mut mac = {
            let mut live = live.lock();
            if week >= live.key.week + LIVE as i64 {
                let mut key = live.key.clone();
                key.advance(now);
                *live = Live::new(key);
            }
            let Some(macs) = usize::try_from(week - live.key.week).ok().and_then(|at| live.macs.get(at)) else {
                return UserHash::NONE;
            };
            macs[purpose as usize].clone()
        };
        mac.update(&uid.0);
        let mut tag = [0; 16];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        UserHash(Some((week, tag)))
    }
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_769_682_600_123;
    const UID: Uid = Uid([7; 17]);

    fn hasher(secret: &str, now: i64) -> UserHasher {
        UserHasher::new(Some(&Secret::new(secret)), now).unwrap()
    }

    fn logs(hasher: &UserHasher, now: i64) -> String {
        hasher.hash(Purpose::Logs, &UID, now).to_string()
    }

    #[test]
    fn base64url_follows_the_rfc() {
        for (plain, want) in
            [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{fb}\u{ff}", "w7vDvw")]
        {
            let mut out = Vec::new();
            base64url(plain.as_bytes(), &mut out);
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn a_hash_is_stable_within_its_week_key_and_purpose_only() {
        let one = hasher("key", NOW);
        assert_eq!(logs(&one, NOW), logs(&hasher("key", NOW), NOW + 1000));
        assert!(logs(&one, NOW).starts_with("hmac-sha256:w2926:"));
        assert_ne!(logs(&one, NOW), logs(&hasher("other", NOW), NOW));
        let hashes = Purpose::ALL.map(|purpose| one.hash(purpose, &UID, NOW).to_string());
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
        assert_ne!(one.hash(Purpose::Logs, &Uid([8; 17]), NOW), one.hash(Purpose::Logs, &UID, NOW));
        // Both ways to a week give its key: a process that started then, and one that has lived until then.
        let next = logs(&one, NOW + WEEK_MS);
        assert_ne!(next, logs(&hasher("key", NOW), NOW));
        assert_eq!(next, logs(&hasher("key", NOW + WEEK_MS), NOW + WEEK_MS));
    }

    #[test]
    fn two_weeks_live_and_older_ones_are_gone() {
        const NONE: &str = "hmac-sha256:none:-";
        let (one, this, last) = (hasher("key", NOW), NOW, NOW - WEEK_MS);
        let hashes = [logs(&one, last), logs(&one, this)];
        assert!(!hashes.contains(&NONE.to_owned()));
        assert_eq!(logs(&one, last - WEEK_MS), NONE);
        let next = logs(&one, this + WEEK_MS);
        assert_ne!(next, NONE);
        assert_eq!(logs(&one, this), hashes[1], "last week's lines can still be joined");
        assert_eq!(logs(&one, last), NONE, "its key was destroyed");
        assert_eq!(UserHasher::new(None, NOW).unwrap().hash(Purpose::Logs, &UID, NOW).to_string(), NONE);
    }

    #[test]
    fn an_advanced_key_gives_the_same_hashes_and_no_earlier_ones() {
        let mut key = LogKey::fresh([3; 32], LogKey::week_of(NOW));
        let read = |key: &LogKey| LogKey::parse(&key.encode()).unwrap();
        let hashes = |key: &LogKey, now| {
            let hasher = UserHasher::new(Some(&key.encode()), now).unwrap();
            [0, 1, 2].map(|week| logs(&hasher, NOW + week * WEEK_MS))
        };
        assert_eq!(read(&key).state, key.state);
        let before = hashes(&key, NOW);
        assert!(!key.advance(NOW + WEEK_MS), "both weeks live");
        let old = key.state;
        assert!(key.advance(NOW + 2 * WEEK_MS));
        assert_ne!(key.state, old);
        let after = hashes(&key, NOW + 2 * WEEK_MS);
        assert_eq!(after[1..], before[1..]);
        assert_eq!(after[0], "hmac-sha256:none:-", "the file no longer leads to that week");
        for text in ["attune-log-key-1", "attune-log-key-1 12 ab", "attune-log-key-1 -3 00", "attune-log-key-1 1 é"] {
            assert_eq!(LogKey::parse(&Secret::new(text)).err(), Some(LogKeyError), "{text}");
        }
        assert_eq!(format!("{key:?}"), "LogKey(week 2927)");
    }
}
