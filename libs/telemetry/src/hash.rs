//! `user_id_hash`: a keyed pseudonym for logs and spans that changes every week.
//!
//! Two services with the same log key write the same hash in the same week, and nobody joins two weeks.

use attune_config::Secret;
use attune_domain::{Uid, UnixMillis};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use std::fmt;

const WEEK_MS: i64 = 7 * 86_400_000;

/// What logs may say about a visitor.
#[derive(Clone, PartialEq, Eq)]
pub struct UserHash {
    text: Box<str>,
}

impl UserHash {
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Derives and keeps the key of the current week.
pub(crate) struct UserHasher {
    master: Option<Secret>,
    current: Mutex<Option<(i64, Hmac<Sha256>)>>,
}

impl UserHasher {
    pub(crate) fn new(master: Option<Secret>) -> Self {
        Self { master, current: Mutex::new(None) }
    }

    pub(crate) fn hash(&self, uid: &Uid, now: UnixMillis) -> UserHash {
        let Some(master) = &self.master else {
            return UserHash { text: "hmac-sha256:none:-".into() };
        };
        let week = now.div_euclid(WEEK_MS);
        let mut mac = {
            let mut current = self.current.lock();
            match &*current {
                Some((at, keyed)) if *at == week => keyed.clone(),
                _ => {
                    let keyed = week_key(master, week);
                    *current = Some((week, keyed.clone()));
                    keyed
                }
            }
        };
        mac.update(&uid.0);
        let tag = mac.finalize().into_bytes();
        let mut text = format!("hmac-sha256:w{week}:");
        base64url(&tag[..16], &mut text);
        UserHash { text: text.into() }
    }
}

fn week_key(master: &Secret, week: i64) -> Hmac<Sha256> {
    let mut info = b"attune log key of week ".to_vec();
    info.extend(week.to_be_bytes());
    let mut key = [0; 32];
    #[expect(clippy::expect_used, reason = "32 bytes are within what one HKDF may give")]
    Hkdf::<Sha256>::new(None, master.expose()).expand(&info, &mut key).expect("32 bytes fit HKDF");
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(&key).expect("HMAC takes a key of any length")
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63].into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_follows_the_rfc() {
        for (plain, want) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{fb}\u{ff}", "w7vDvw")] {
            let mut out = String::new();
            base64url(plain.as_bytes(), &mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn a_hash_is_stable_within_its_week_and_key_only() {
        let hasher = UserHasher::new(Some(Secret::new("key")));
        let twin = UserHasher::new(Some(Secret::new("key")));
        let uid = Uid([7; 17]);
        let now = 1_769_682_600_123;
        assert_eq!(hasher.hash(&uid, now), twin.hash(&uid, now + 1000));
        assert_ne!(hasher.hash(&uid, now), hasher.hash(&uid, now + WEEK_MS));
        assert_ne!(hasher.hash(&uid, now), hasher.hash(&Uid([8; 17]), now));
        assert_ne!(hasher.hash(&uid, now), UserHasher::new(Some(Secret::new("other"))).hash(&uid, now));
        assert!(hasher.hash(&uid, now).as_str().starts_with("hmac-sha256:w2926:"));
        assert_eq!(UserHasher::new(None).hash(&uid, now).as_str(), "hmac-sha256:none:-");
    }
}
