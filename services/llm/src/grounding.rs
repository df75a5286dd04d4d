//! Whether a generated sentence says only what its factors say.
//!
//! A sentence is refused when it quotes, or writes with capitals, a name that is not the item's or a factor's; when it
//! names a listed category that is no evidence; when it holds a number, a link or markup; or when it claims something
//! ("trending", "similar to", "your search", awards, ratings, ...) that no used factor supports. The check is made to
//! err towards refusal, since the template then answers. It does not see another title that is written without
//! capitals and quotes, nor a false statement in words that are on no list.

use crate::factors::{Factors, Kind};

mod lexicon;

use lexicon::{CLAIMS, NEVER, OPENERS};

/// Stands for one allowed name in a masked sentence.
const MASK: char = '\u{fffc}';

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ungrounded {
    #[error("not one or two plain sentences")]
    Shape,
    #[error("names something that is no evidence")]
    Name,
    #[error("names a category that is no evidence")]
    Category,
    #[error("holds a number")]
    Number,
    #[error("claims something no factor supports")]
    Claim,
}

/// What one item's explanation may say.
#[derive(Debug)]
pub struct Grounding {
    /// Allowed names, folded, longest first.
    names: Vec<Vec<char>>,
    name_words: Vec<Vec<String>>,
    forbidden: Vec<Vec<String>>,
    kinds: Vec<Kind>,
}

impl Grounding {
    /// `listed` are categories known from anywhere; those that are no evidence must not be named.
    pub fn new<'a>(factors: &Factors, listed: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Vec<char>> = factors.names().flat_map(variants).map(|n| fold(&n)).collect();
        names.sort_by_key(|n| std::cmp::Reverse(n.len()));
        names.dedup();
        let name_words: Vec<Vec<String>> = names.iter().map(|n| words(n).map(|w| w.folded).collect()).collect();
        let forbidden = listed
            .into_iter()
            .map(|c| words(&fold(c)).map(|w| singular(&w.folded)).collect::<Vec<_>>())
            .filter(|c| !c.is_empty() && !name_words.iter().any(|n| n.len() == c.len() && same_words(n, c)))
            .collect();
        Self { names, name_words, forbidden, kinds: factors.used().iter().map(|f| f.kind).collect() }
    }

    pub fn check(&self, sentence: &str) -> Result<(), Ungrounded> {
        let original: Vec<char> = sentence.chars().collect();
        let masked = self.mask(&original);
        if masked.iter().any(|c| c.is_control() || "<>{}[]|\\#*_`=@/~^".contains(*c)) {
            return Err(Ungrounded::Shape);
        }
        if masked.iter().any(|c| c.is_alphabetic() && *c > '\u{24f}') {
            return Err(Ungrounded::Shape);
        }
        self.check_quotes(&masked)?;
        let said: Vec<Word> = words(&masked).collect();
        if said.len() + masked.iter().filter(|c| **c == MASK).count() < 3 {
            return Err(Ungrounded::Shape);
        }
        if said.iter().any(|w| w.folded.contains(|c: char| c.is_numeric())) {
            return Err(Ungrounded::Number);
        }
        self.check_capitals(&said)?;
        self.check_categories(&said)?;
        self.check_claims(&said)
    }

    /// Whether the character at `at` lies in an allowed name, or may once more text has arrived.
    pub(crate) fn covers(&self, text: &[char], at: usize) -> bool {
        let longest = self.names.first().map_or(0, Vec::len);
        (at.saturating_sub(longest)..=at).any(|start| {
            (start == 0 || !text[start - 1].is_alphanumeric())
                && self.names.iter().any(|name| {
                    start + name.len() > at
                        && name.iter().zip(&text[start..]).all(|(n, c)| *n == fold_char(*c))
                        // A name that ends exactly here may also be the end of the sentence.
                        && (start + name.len() > at + 1 || !name.last().is_some_and(|c| matches!(c, '.' | '!' | '?' | '…')))
                })
        })
    }

    fn mask(&self, text: &[char]) -> Vec<char> {
        let mut out = Vec::with_capacity(text.len());
        let mut i = 0;
        while i < text.len() {
            let at_start = i == 0 || !text[i - 1].is_alphanumeric();
            match at_start.then(|| self.name_at(text, i)).flatten() {
                Some(len) => {
                    out.push(MASK);
                    i += len;
                }
                None => {
                    out.push(text[i]);
                    i += 1;
                }
            }
        }
        out
    }

    fn name_at(&self, text: &[char], start: usize) -> Option<usize> {
        let rest = &text[start..];
        self.names.iter().map(|name| (name, name.len())).find_map(|(name, len)| {
            let same = rest.len() >= len && name.iter().zip(rest).all(|(n, c)| *n == fold_char(*c));
            let whole = !name.last()?.is_alphanumeric() || !rest.get(len).is_some_and(|c| c.is_alphanumeric());
            (same && whole).then_some(len)
        })
    }

    fn check_quotes(&self, masked: &[char]) -> Result<(), Ungrounded> {
        let mut open: Option<(char, usize)> = None;
        for (i, c) in masked.iter().enumerate() {
            let before = i.checked_sub(1).is_some_and(|b| masked[b].is_alphanumeric());
            let after = masked.get(i + 1).is_some_and(|c| c.is_alphanumeric());
            let close = match (c, open) {
                ('"' | '“' | '”' | '«' | '»' | '„', None) => {
                    open = Some((*c, i));
                    continue;
                }
                ('\'' | '‘', None) if !before => {
                    open = Some(('\'', i));
                    continue;
                }
                ('"' | '”' | '“' | '»' | '«', Some((with, from))) if with != '\'' => from,
                ('\'' | '’', Some(('\'', from))) if !after => from,
                _ => continue,
            };
            open = None;
            let inside: Vec<String> = words(&masked[close + 1..i]).map(|w| w.folded).collect();
            if !inside.is_empty() && !self.name_words.iter().any(|n| n.windows(inside.len()).any(|w| w == inside)) {
                return Err(Ungrounded::Name);
            }
        }
        match open {
            Some((c, _)) if c != '\'' => Err(Ungrounded::Shape),
            _ => Ok(()),
        }
    }

    fn check_capitals(&self, said: &[Word]) -> Result<(), Ungrounded> {
        let proper =
            |w: &Word| w.capital && w.folded != "i" && !(w.first && OPENERS.binary_search(&w.folded.as_str()).is_ok());
        said.chunk_by(|a, b| proper(a) && proper(b)).filter(|run| proper(&run[0])).try_for_each(|run| {
            // A capital beside an allowed name makes another name of it: "Heat Returns".
            let known = !run.iter().any(|w| w.beside_name)
                && self
                    .name_words
                    .iter()
                    .any(|n| n.windows(run.len()).any(|w| w.iter().zip(run).all(|(n, r)| *n == r.folded)));
            if known { Ok(()) } else { Err(Ungrounded::Name) }
        })
    }

    fn check_categories(&self, said: &[Word]) -> Result<(), Ungrounded> {
        let said: Vec<String> = said.iter().map(|w| singular(&w.folded)).collect();
        let named = self.forbidden.iter().any(|c| said.windows(c.len()).any(|w| w == c));
        if named { Err(Ungrounded::Category) } else { Ok(()) }
    }

    fn check_claims(&self, said: &[Word]) -> Result<(), Ungrounded> {
        let mut text = String::from(" ");
        for word in said {
            text.push_str(&word.folded);
            text.push(' ');
        }
        let supported = |by: &[Kind]| self.kinds.iter().any(|k| by.contains(k));
        let claims = |phrases: &[&str]| phrases.iter().any(|p| text.contains(p));
        if claims(NEVER) || CLAIMS.iter().any(|(phrases, by)| claims(phrases) && !supported(by)) {
            return Err(Ungrounded::Claim);
        }
        Ok(())
    }
}

/// A name and the ways people write it: without the year, and with the article in front.
fn variants(name: &str) -> Vec<String> {
    let mut out = vec![name.to_owned()];
    let plain = match name.rsplit_once(" (") {
        Some((plain, year))
            if year.strip_suffix(')').is_some_and(|y| y.len() == 4 && y.bytes().all(|b| b.is_ascii_digit())) =>
        {
            out.push(plain.to_owned());
            plain
        }
        _ => name,
    };
    if let Some((rest, article)) = plain.rsplit_once(", ")
        && ["The", "A", "An"].contains(&article)
    {
        out.push(format!("{article} {rest}"));
    }
    out
}

fn fold(text: &str) -> Vec<char> {
    text.chars().map(fold_char).collect()
}

/// One character for one, so that positions in folded and original text agree.
fn fold_char(c: char) -> char {
    match c {
        '‘' | '’' => '\'',
        '“' | '”' | '„' => '"',
        '–' | '—' | '‐' | '‑' => '-',
        '\u{a0}' | '\u{202f}' => ' ',
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

struct Word {
    folded: String,
    capital: bool,
    /// First of its sentence.
    first: bool,
    /// Only spaces stand between it and a masked name.
    beside_name: bool,
}

fn words(text: &[char]) -> impl Iterator<Item = Word> {
    let mut at = 0;
    let mut first = true;
    std::iter::from_fn(move || {
        while at < text.len() && !text[at].is_alphanumeric() {
            first = match text[at] {
                '.' | '!' | '?' | ':' => true,
                MASK => false,
                _ => first,
            };
            at += 1;
        }
        let start = at;
        let apostrophe =
            |i: usize| matches!(text[i], '\'' | '’') && text.get(i + 1).is_some_and(|c| c.is_alphanumeric());
        while at < text.len() && (text[at].is_alphanumeric() || apostrophe(at)) {
            at += 1;
        }
        let word = &text[start..at];
        let capital = word.first()?.is_uppercase();
        let is_mask = |c: Option<&char>| c == Some(&MASK);
        let beside_name =
            is_mask(text[..start].iter().rev().find(|c| **c != ' ')) || is_mask(text[at..].iter().find(|c| **c != ' '));
        let folded = word.iter().map(|c| fold_char(*c)).collect();
        Some(Word { folded, capital, first: std::mem::take(&mut first), beside_name })
    })
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) if stem.len() > 2 => format!("{stem}y"),
        _ => word.strip_suffix('s').filter(|w| w.len() > 3).unwrap_or(word).to_owned(),
    }
}

fn same_words(name: &[String], category: &[String]) -> bool {
    name.iter().zip(category).all(|(n, c)| singular(n) == *c)
}

#[cfg(test)]
mod tests;
