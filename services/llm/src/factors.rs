//! What speaks for one item: the only facts an explanation may use.
//!
//! Always holds: names are clean (no control characters, at most [`NAME_CHARS`] characters), at most [`USED_FACTORS`]
//! factors with at most [`EVIDENCE`] names each are used, and a search query is never among them: it is the visitor's.

use attune_domain::Reason;

/// An explanation names the strongest factors only; more read like an excuse.
pub const USED_FACTORS: usize = 2;
/// Titles or categories named for one factor.
pub const EVIDENCE: usize = 2;
/// A longer title is cut with an ellipsis.
pub const NAME_CHARS: usize = 160;

const MAX_FACTORS: usize = 32;
const MAX_EVIDENCE: usize = 64;
const MAX_CATEGORIES: usize = attune_domain::MAX_CATEGORIES;
const MAX_NAME_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FactorsError {
    pub field: String,
    pub problem: &'static str,
}

/// The kinds of factors: every [`Reason`], and the ranker's feature group for the item's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Reason(Reason),
    Age,
}

impl Kind {
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "age" => Some(Self::Age),
            _ => Reason::parse(code).map(Self::Reason),
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.as_str(),
            Self::Age => "age",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    pub kind: Kind,
    /// Titles, or categories for [`Reason::FavouriteCategory`].
    pub evidence: Vec<String>,
}

/// A factor as it arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct RawFactor {
    pub code: String,
    /// Change of the logit, or 0 where the factor is the item's origin.
    pub weight: f32,
    pub evidence: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factors {
    title: String,
    categories: Vec<String>,
    used: Vec<Factor>,
}

impl Factors {
    /// `factors` come strongest first. One with a negative weight speaks against the item and is not used.
    pub fn new(title: &str, categories: &[String], factors: &[RawFactor]) -> Result<Self, FactorsError> {
        let title = name("item_title", title)?;
        if title.is_empty() {
            return Err(problem("item_title", "must not be empty"));
        }
        if categories.len() > MAX_CATEGORIES {
            return Err(problem("item_categories", "has more than 32 entries"));
        }
        let categories = names("item_categories", categories)?;
        if factors.len() > MAX_FACTORS {
            return Err(problem("factors", "has more than 32 entries"));
        }
        let mut used: Vec<Factor> = Vec::with_capacity(USED_FACTORS);
        for (i, factor) in factors.iter().enumerate() {
            let at = |part: &str| format!("factors[{i}].{part}");
            let kind = Kind::parse(&factor.code).ok_or_else(|| problem(at("code"), "is not a known factor"))?;
            if !factor.weight.is_finite() {
                return Err(problem(at("weight"), "must be a finite number"));
            }
            if factor.evidence.len() > MAX_EVIDENCE {
                return Err(problem(at("evidence"), "has more than 64 entries"));
            }
            let mut evidence = names(&at("evidence"), &factor.evidence)?;
            if factor.weight < 0.0 || used.len() == USED_FACTORS || used.iter().any(|f| f.kind == kind) {
                continue;
            }
            if kind == Kind::Reason(Reason::SearchMatch) {
                evidence.clear();
            }
            evidence.truncate(EVIDENCE);
            used.push(Factor { kind, evidence });
        }
        Ok(Self { title, categories, used })
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// Strongest first.
    pub fn used(&self) -> &[Factor] {
        &self.used
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.used.iter().any(|f| f.kind == kind)
    }

    /// Every name an explanation may contain: the item's title and the evidence.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.title.as_str()).chain(self.used.iter().flat_map(|f| f.evidence.iter().map(String::as_str)))
    }

    /// Identifies the answer a model gives: equal keys have equal prompts and equal grounding.
    pub fn key(&self, model: &str) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("attune 2026 explanation cache key 1");
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(model);
        part(&self.title);
        part(&self.categories.len().to_string());
        self.categories.iter().for_each(|c| part(c));
        for factor in &self.used {
            part(factor.kind.as_str());
            part(&factor.evidence.len().to_string());
            factor.evidence.iter().for_each(|e| part(e));
        }
        *hash.finalize().as_bytes()
    }
}

fn problem(field: impl Into<String>, problem: &'static str) -> FactorsError {
    FactorsError { field: field.into(), problem }
}

fn names(field: &str, raw: &[String]) -> Result<Vec<String>, FactorsError> {
    let mut out: Vec<String> = Vec::with_capacity(raw.len());
    for text in raw {
        let clean = name(field, text)?;
        if !clean.is_empty() && !out.contains(&clean) {
            out.push(clean);
        }
    }
    Ok(out)
}

/// Whitespace and control characters become one space, characters that turn the writing direction or hide vanish.
fn name(field: &str, raw: &str) -> Result<String, FactorsError> {
    if raw.len() > MAX_NAME_BYTES {
        return Err(problem(field, "has a name of more than 4096 bytes"));
    }
    let mut clean = String::with_capacity(raw.len());
    let mut chars = 0;
    for c in raw.chars() {
        let c = match c {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => continue,
            c if c.is_control() || c.is_whitespace() => ' ',
            c => c,
        };
        if c == ' ' && (clean.is_empty() || clean.ends_with(' ')) {
            continue;
        }
        if chars == NAME_CHARS - 1 {
            clean.push('…');
            break;
        }
        clean.push(c);
        chars += 1;
    }
    clean.truncate(clean.trim_end().len());
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(code: &str, weight: f32, evidence: &[&str]) -> RawFactor {
        RawFactor { code: code.into(), weight, evidence: evidence.iter().map(|e| (*e).into()).collect() }
    }

    #[test]
    fn only_the_strongest_factors_that_speak_for_the_item_are_used() {
        let factors = Factors::new(
            " The\nMatrix ",
            &["Action".into()],
            &[
                raw("popular", -0.5, &[]),
                raw("similar_to_recent", 0.9, &["Alien", "Alien", "Heat", "Up"]),
                raw("similar_to_recent", 0.8, &["Dune"]),
                raw("search_match", 0.0, &["my secret query"]),
                raw("trending", 0.1, &[]),
            ],
        )
        .unwrap();
        assert_eq!(factors.title(), "The Matrix");
        let kinds: Vec<_> = factors.used().iter().map(|f| f.kind.as_str()).collect();
        assert_eq!(kinds, ["similar_to_recent", "search_match"]);
        assert_eq!(factors.used()[0].evidence, ["Alien", "Heat"]);
        assert!(factors.used()[1].evidence.is_empty(), "a query is the visitor's");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |title: &str, factors: &[RawFactor], want: &str| {
            assert_eq!(Factors::new(title, &[], factors).unwrap_err().to_string(), want);
        };
        check(" \u{202e} ", &[], "item_title: must not be empty");
        check(&"x".repeat(4097), &[], "item_title: has a name of more than 4096 bytes");
        check("t", &[raw("popular", 1.0, &[]), raw("magic", 1.0, &[])], "factors[1].code: is not a known factor");
        check("t", &[raw("popular", f32::NAN, &[])], "factors[0].weight: must be a finite number");
        check("t", &[raw("popular", 1.0, &["x"; 65])], "factors[0].evidence: has more than 64 entries");
        check("t", &vec![raw("popular", 1.0, &[]); 33], "factors: has more than 32 entries");
        assert!(Factors::new("t", &vec!["c".into(); 33], &[]).is_err());
    }

    #[test]
    fn long_names_are_cut_and_keys_differ_where_answers_may() {
        let long = Factors::new(&"ü".repeat(500), &[], &[]).unwrap();
        assert_eq!(long.title().chars().count(), NAME_CHARS);
        let of = |title: &str, evidence: &[&str]| {
            Factors::new(title, &[], &[raw("similar_to_recent", 1.0, evidence)]).unwrap().key("m")
        };
        assert_eq!(of("a", &["b"]), of("a", &["b"]));
        assert_ne!(of("a", &["b", "c"]), of("a", &["bc"]));
        assert_ne!(of("a", &["b"]), of("ab", &[]));
        assert_ne!(Factors::new("a", &[], &[]).unwrap().key("m"), Factors::new("a", &[], &[]).unwrap().key("n"),);
    }
}
