//! Finds planted words in what a platform leaves behind: in clear, in base64 at any alignment, and in hexadecimal.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use memchr::memmem::Finder;
use std::fs;
use std::path::Path;

/// A word that nobody else would write, and what it was planted as.
pub struct Canary {
    pub what: String,
    forms: Vec<(&'static str, Finder<'static>)>,
}

impl Canary {
    pub fn new(what: impl Into<String>, word: &[u8]) -> Self {
        assert!(word.len() >= 12, "a shorter word could be there by chance");
        let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms =
            vec![("clear", word.to_vec()), ("hex", hex.clone().into_bytes()), ("HEX", hex.to_uppercase().into())];
        for alphabet in [STANDARD, URL] {
            forms.extend((0..3).map(|before| ("base64", base64(word, before, alphabet))));
        }
        let forms = forms.into_iter().map(|(form, bytes)| (form, Finder::new(&bytes).into_owned())).collect();
        Self { what: what.into(), forms }
    }

    /// The first form in which it is there, and where.
    pub fn found_in(&self, bytes: &[u8]) -> Option<(&'static str, usize)> {
        self.forms.iter().find_map(|(form, finder)| Some((*form, finder.find(bytes)?)))
    }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The digits that depend on the word alone where it follows `before` bytes (modulo 3) of something else, and
/// something else follows it.
fn base64(word: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bits = |at: usize| {
        let byte = word.get((at / 8).wrapping_sub(before)).copied().unwrap_or(0);
        byte >> (7 - at % 8) & 1
    };
    let first = (before * 8).div_ceil(6);
    let end = (before + word.len()) * 8 / 6;
    let digit = |digit: usize| (0..6).fold(0usize, |value, bit| value << 1 | usize::from(bits(digit * 6 + bit)));
    (first..end).map(|at| alphabet[digit(at)]).collect()
}

/// Everything in which any of the canaries sings: `what: place (form), with what stands around it`.
pub fn songs<'a>(canaries: impl IntoIterator<Item = &'a Canary>, place: &str, bytes: &[u8]) -> Vec<String> {
    let sings = |canary: &Canary| {
        let (form, at) = canary.found_in(bytes)?;
        let around = String::from_utf8_lossy(&bytes[at.saturating_sub(60)..bytes.len().min(at + 60)]).into_owned();
        Some(format!("{}: {place} ({form}): …{around}…", canary.what))
    };
    canaries.into_iter().filter_map(sings).collect()
}

/// Path under `root` and content of every file that is there.
pub fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn the_scanner_finds_a_word_in_every_form_and_at_every_place() {
    let word = b"Canary~word?9f3>";
    let canary = Canary::new("word", word);
    let plain = |text: &[u8], alphabet: &[u8; 64]| base64(text, 0, alphabet);
    assert_eq!(plain(b"foobar", STANDARD), b"Zm9vYmFy", "RFC 4648's own vector");
    for before in 0..7 {
        for after in 0..4 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(word);
            text.extend(vec![b'y'; after]);
            // Whole groups, so that every digit of the word is written.
            text.extend(vec![b'z'; (3 - text.len() % 3) % 3]);
            let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(canary.found_in(&text).unwrap(), ("clear", before));
            assert_eq!(canary.found_in(hex.as_bytes()).unwrap().0, "hex");
            assert_eq!(canary.found_in(hex.to_uppercase().as_bytes()).unwrap().0, "HEX");
            for alphabet in [STANDARD, URL] {
                assert_eq!(canary.found_in(&plain(&text, alphabet)).unwrap().0, "base64", "{before} {after}");
            }
        }
    }
    assert!(canary.found_in(b"Canary~word?9f3").is_none(), "all of it, or nothing");
    let songs = songs([&canary], "here", b"{\"leak\":\"Canary~word?9f3>\"}");
    assert!(songs[0].starts_with("word: here (clear): ") && songs.len() == 1);
}
