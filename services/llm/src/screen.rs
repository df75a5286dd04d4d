//! Lets generated text through one checked sentence at a time.
//!
//! Always holds: what left the screen passed the grounding check, is at most [`MAX_SENTENCES`] sentences and
//! [`MAX_CHARS`] characters long, and ends where a sentence ends. The first sentence can be read while the second is
//! still being written, and an answer that breaks off later stays whole.

use crate::grounding::{Grounding, Ungrounded};

pub const MAX_SENTENCES: usize = 2;
pub const MAX_CHARS: usize = 400;

const THINK: (&str, &str) = ("<think>", "</think>");

#[derive(Debug)]
pub struct Screen {
    grounding: Grounding,
    pending: String,
    thinking: bool,
    sentences: usize,
    chars: usize,
}

/// How the stream of text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// In the middle of something: a limit, a failure.
    Cut,
}

impl Screen {
    pub fn new(grounding: Grounding) -> Self {
        Self { grounding, pending: String::new(), thinking: false, sentences: 0, chars: 0 }
    }

    /// Takes a piece of any length and returns what may be shown now.
    pub fn push(&mut self, piece: &str) -> Result<Option<String>, Ungrounded> {
        self.pending.push_str(piece);
        if !self.skip_thoughts() {
            return Ok(None);
        }
        let mut shown = String::new();
        while !self.is_full() {
            let chars: Vec<char> = self.pending.chars().collect();
            let Some(end) = self.sentence_end(&chars) else {
                if chars.len() > MAX_CHARS {
                    return self.refuse(shown, Ungrounded::Shape);
                }
                break;
            };
            let sentence: String = chars[..end].iter().collect();
            self.pending = chars[end..].iter().collect();
            match self.admit(&sentence) {
                Ok(text) => shown.push_str(&text),
                Err(why) => return self.refuse(shown, why),
            }
        }
        Ok((!shown.is_empty()).then_some(shown))
    }

    /// Returns the rest that may be shown.
    pub fn finish(&mut self, end: End) -> Result<Option<String>, Ungrounded> {
        let rest = if self.thinking { String::new() } else { std::mem::take(&mut self.pending) };
        let mut rest = unwrap_quotes(rest.trim()).to_owned();
        if self.is_full() || rest.is_empty() {
            return Ok(None);
        }
        let ended = rest.trim_end_matches(['"', '”', '’', ')', '\'']).ends_with(['.', '!', '?', '…']);
        match (ended, end) {
            (false, End::Cut) => return Ok(None),
            (false, End::Complete) => rest.push('.'),
            (true, _) => {}
        }
        self.admit(&rest).map(Some)
    }

    /// Nothing more will be let through.
    pub fn is_full(&self) -> bool {
        self.sentences >= MAX_SENTENCES
    }

    /// Something was let through.
    pub fn has_shown(&self) -> bool {
        self.chars > 0
    }

    fn refuse(&mut self, shown: String, why: Ungrounded) -> Result<Option<String>, Ungrounded> {
        self.sentences = MAX_SENTENCES;
        if shown.is_empty() { Err(why) } else { Ok(Some(shown)) }
    }

    fn admit(&mut self, sentence: &str) -> Result<String, Ungrounded> {
        let words = sentence.replace("**", "");
        let text = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = if self.has_shown() { format!(" {text}") } else { text };
        let chars = self.chars + text.chars().count();
        if chars > MAX_CHARS {
            return Err(Ungrounded::Shape);
        }
        self.grounding.check(&text)?;
        self.chars = chars;
        self.sentences += 1;
        Ok(text)
    }

    /// Drops what a reasoning model thinks aloud before it answers. False while the answer has not begun.
    fn skip_thoughts(&mut self) -> bool {
        if !self.thinking && !self.has_shown() {
            let start = self.pending.trim_start();
            if start.starts_with(THINK.0) {
                self.thinking = true;
            } else if THINK.0.starts_with(start) {
                return false;
            }
        }
        if self.thinking {
            match self.pending.find(THINK.1) {
                Some(at) => {
                    self.pending.drain(..at + THINK.1.len());
                    self.thinking = false;
                }
                None => {
                    let keep = self.pending.len().saturating_sub(THINK.1.len());
                    let keep = (0..=keep).rev().find(|i| self.pending.is_char_boundary(*i)).unwrap_or(0);
                    self.pending.drain(..keep);
                    return false;
                }
            }
        }
        true
    }

    /// Where the first sentence ends, once the beginning of the next one proves that it has.
    fn sentence_end(&self, text: &[char]) -> Option<usize> {
        (0..text.len()).find_map(|i| {
            if !matches!(text[i], '.' | '!' | '?' | '…') {
                return None;
            }
            let closers = text[i + 1..].iter().take_while(|c| matches!(c, '"' | '”' | '’' | ')' | '\'' | '*')).count();
            let end = i + 1 + closers;
            let next = text[end..].iter().position(|c| !c.is_whitespace())?;
            let begins = next > 0 && !text[end + next].is_lowercase();
            (begins && !self.grounding.covers(text, i)).then_some(end)
        })
    }
}

/// Models like to put the whole answer in quotation marks.
fn unwrap_quotes(text: &str) -> &str {
    [('"', '"'), ('“', '”')]
        .iter()
        .find_map(|(open, close)| {
            let inside = text.strip_prefix(*open)?.strip_suffix(*close)?;
            (!inside.contains([*open, *close])).then_some(inside)
        })
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::{Factors, RawFactor};

    fn screen() -> Screen {
        let raw = RawFactor {
            code: "similar_to_recent".into(),
            weight: 1.0,
            evidence: vec!["Mr. Smith Goes".into(), "Monsters, Inc.".into()],
        };
        Screen::new(Grounding::new(&Factors::new("E.T. the Alien", &[], &[raw]).unwrap(), ["Horror"]))
    }

    /// The text shown when it comes in pieces of `size` characters, and why it ended if it did.
    fn show(text: &str, size: usize, end: End) -> (Vec<String>, Option<Ungrounded>) {
        let mut screen = screen();
        let mut shown = Vec::new();
        for piece in text.chars().collect::<Vec<_>>().chunks(size) {
            match screen.push(&piece.iter().collect::<String>()) {
                Ok(text) => shown.extend(text),
                Err(why) => return (shown, Some(why)),
            }
        }
        match screen.finish(end) {
            Ok(text) => shown.extend(text),
            Err(why) => return (shown, Some(why)),
        }
        (shown, None)
    }

    fn check(text: &str, end: End, want: &str, why: Option<Ungrounded>) {
        for size in [1, 2, 7, 1000] {
            let (shown, ended) = show(text, size, end);
            assert_eq!((shown.concat().as_str(), ended), (want, why), "pieces of {size}");
        }
    }

    #[test]
    fn sentences_pass_one_by_one_and_names_do_not_end_them() {
        let text = "You liked Mr. Smith Goes and Monsters, Inc. recently.  It is similar to them. A third one!";
        let want = "You liked Mr. Smith Goes and Monsters, Inc. recently. It is similar to them.";
        check(text, End::Complete, want, None);
        let (pieces, _) = show(text, 1, End::Complete);
        assert_eq!(pieces.len(), 2);
    }

    #[test]
    fn what_breaks_off_ends_with_a_whole_sentence() {
        check("It is similar to Monsters, Inc. You might", End::Cut, "It is similar to Monsters, Inc.", None);
        check("It is similar to", End::Cut, "", None);
        check("It is similar to E.T. the Alien", End::Complete, "It is similar to E.T. the Alien.", None);
    }

    #[test]
    fn nothing_ungrounded_is_ever_shown() {
        check("You liked Jaws, so try it.", End::Complete, "", Some(Ungrounded::Name));
        let (shown, _) = show("You might like it. It is horror at heart.", 3, End::Complete);
        assert_eq!(shown.concat(), "You might like it.");
        check(&"a".repeat(500), End::Complete, "", Some(Ungrounded::Shape));
    }

    #[test]
    fn thoughts_and_wrapping_are_dropped() {
        check("<think>Jaws? No. Never.</think>\n\nYou might like it.", End::Complete, "You might like it.", None);
        check("<think>never ends, Jaws.", End::Cut, "", None);
        check("\"You might like it.\"", End::Complete, "You might like it.", None);
        check("You might like **Monsters, Inc.** a lot.", End::Complete, "You might like Monsters, Inc. a lot.", None);
    }
}
