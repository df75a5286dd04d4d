//! Pseudonyms at the door: turns raw user ids into [`Uid`]s under a subject key.
//!
//! Used by the edge's request handler and the importer, and nowhere else. The key never leaves this crate.

#![warn(clippy::disallowed_macros)]

use attune_domain::Uid;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read subject key {path}", path = .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("cannot write subject key {path}", path = .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    #[error("subject key {path} must hold a version byte and {KEY_BYTES} key bytes", path = .0.display())]
    Malformed(PathBuf),
    #[error("the system gave no random bytes: {0}")]
    Random(String),
}

/// The subject key: `uid = version || HMAC-SHA256(key, raw id)[..16]`.
#[derive(Clone)]
pub struct SubjectKey {
    version: u8,
    key: [u8; KEY_BYTES],
    keyed: Hmac<Sha256>,
}

impl SubjectKey {
    pub fn new(version: u8, key: [u8; KEY_BYTES]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let keyed = Hmac::new_from_slice(&key).expect("HMAC takes a key of any length");
        Self { version, key, keyed }
    }

    /// Reads the key file: one version byte, then 32 key bytes.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bytes = std::fs::read(path).map_err(|e| KeyError::Read(path.into(), e))?;
        match bytes.split_first().map(|(version, key)| (*version, <[u8; KEY_BYTES]>::try_from(key))) {
            Some((version, Ok(key))) => Ok(Self::new(version, key)),
            _ => Err(KeyError::Malformed(path.into())),
        }
    }

    /// Reads the key file, or creates it (mode 0600) with a random key of version 1.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if path.exists() {
            return Self::load(path);
        }
        let fresh = Self::random()?;
        fresh.save(path)?;
        Ok(fresh)
    }

    /// A fresh key of version 1, which is nowhere yet.
    pub fn random() -> Result<Self, KeyError> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|e| KeyError::Random(e.to_string()))?;
        Ok(Self::new(1, key))
    }

    /// Writes the key file with mode 0600, replacing none.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&[self.version])?;
            file.write_all(&self.key)?;
            file.sync_all()
        };
        write().map_err(|e| KeyError::Write(path.into(), e))
    }

    /// The pseudonym of a raw id.
    pub fn uid(&self, raw: &str) -> Uid {
        let mut mac = self.keyed.clone();
        mac.update(raw.as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut uid = [self.version; 17];
        uid[1..].copy_from_slice(&tag[..16]);
        Uid(uid)
    }

    /// The pseudonym of a visitor who is only known by a session. No user id can give the same.
    pub fn uid_of_session(&self, session: &str) -> Uid {
        self.uid(&format!("\0session\0{session}"))
    }

    /// Eight hexadecimal digits that tell keys apart without revealing them.
    pub fn fingerprint(&self) -> String {
        let mut mac = self.keyed.clone();
        mac.update(b"attune subject key fingerprint");
        mac.finalize().into_bytes()[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubjectKey(version {})", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_kept_private_and_gives_stable_pseudonyms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/subject.key");
        let first = SubjectKey::load_or_create(&path).unwrap();
        let second = SubjectKey::load_or_create(&path).unwrap();
        assert_eq!(first.uid("u42"), second.uid("u42"));
        assert_ne!(first.uid("u42"), first.uid("u43"));
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(first.uid("u42"), SubjectKey::new(1, [3; 32]).uid("u42"));
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subject.key");
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(SubjectKey::load(&path), Err(KeyError::Malformed(_))));
    }
}
