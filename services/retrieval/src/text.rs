//! Items by words: an inverted index over titles and categories, scored by how rare a word is.
//!
//! Always holds: the result is a function of the items, their boosts and the query; work per query is bounded by
//! [`MAX_WORDS`] and the postings of those words.

use attune_domain::{Item, ItemIx};
use std::collections::{BTreeMap, HashMap};

/// Words of a query that count.
pub const MAX_WORDS: usize = 16;
/// Completions of an unfinished last word that are looked at.
const MAX_COMPLETIONS: usize = 64;
/// A word in the title counts for this many in the categories.
const TITLE_WEIGHT: f32 = 2.0;
/// A completed word counts less than a whole one.
const COMPLETION_WEIGHT: f32 = 0.5;

#[derive(Debug, Default)]
pub struct TextIndex {
    /// Word to (item, weight in the item), ascending by item.
    postings: BTreeMap<Box<str>, Vec<(u32, f32)>>,
    items: usize,
}

impl TextIndex {
    /// Over all items, available or not: availability moves faster than words.
    pub fn new(items: &[Item]) -> Self {
        let mut index = Self { items: items.len(), ..Self::default() };
        for (ix, item) in (0u32..).zip(items) {
            let title = words(&item.title);
            // Long titles match more by chance.
            let weight = TITLE_WEIGHT / (1.0 + 0.1 * title.len() as f32);
            let mut found: HashMap<String, f32> = HashMap::new();
            for word in item.categories.iter().flat_map(|c| words(c)) {
                found.entry(word).or_insert(1.0);
            }
            for word in title {
                let entry = found.entry(word).or_insert(0.0);
                *entry = entry.max(weight);
            }
            for (word, weight) in found {
                index.postings.entry(word.into()).or_default().push((ix, weight));
            }
        }
        index
    }

    /// Up to `k` items that have at least one of the words, best first, ties by number. `boosts` (by item number) lets
    /// the better known of equal matches win; it never brings in an item that does not match.
    pub fn search(&self, query: &str, boosts: &[f32], k: usize) -> Vec<ItemIx> {
        let mut wanted = words(query);
        wanted.truncate(MAX_WORDS);
        let mut scores: HashMap<u32, f32> = HashMap::new();
        for (at, word) in wanted.iter().enumerate() {
            if wanted[..at].contains(word) {
                continue;
            }
            if let Some(postings) = self.postings.get(word.as_str()) {
                self.add(postings, 1.0, &mut scores);
            }
            let unfinished = at + 1 == wanted.len() && word.chars().count() >= 2 && !query.ends_with(' ');
            if unfinished {
                let longer = self
                    .postings
                    .range::<str, _>((std::ops::Bound::Excluded(word.as_str()), std::ops::Bound::Unbounded));
                for (_, postings) in longer.take_while(|(w, _)| w.starts_with(word.as_str())).take(MAX_COMPLETIONS) {
                    self.add(postings, COMPLETION_WEIGHT, &mut scores);
                }
            }
        }
        let mut ranked: Vec<(u32, f32)> = scores
            .into_iter()
            .map(|(ix, score)| (ix, score * (1.0 + 0.5 * boosts.get(ix as usize).copied().unwrap_or(0.0))))
            .collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().take(k).map(|(ix, _)| ItemIx(ix)).collect()
    }

    fn add(&self, postings: &[(u32, f32)], factor: f32, scores: &mut HashMap<u32, f32>) {
        let rarity = (1.0 + self.items as f32 / postings.len().max(1) as f32).ln() * factor;
        for (ix, weight) in postings {
            *scores.entry(*ix).or_insert(0.0) += rarity * weight;
        }
    }
}

/// Lower-case runs of letters and digits, Latin accents removed.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().flat_map(char::to_lowercase).map(plain).collect())
        .collect()
}

fn plain(c: char) -> char {
    match c {
        'à'..='å' => 'a',
        'ç' => 'c',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ù'..='ü' => 'u',
        'ý' | 'ÿ' => 'y',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::Id;

    fn index() -> TextIndex {
        let item = |title: &str, categories: &[&str]| Item {
            id: Id::new(title).unwrap(),
            title: title.into(),
            categories: categories.iter().map(|c| c.to_string()).collect(),
            attributes: Vec::new(),
            price: None,
            created_at: None,
            available: true,
        };
        TextIndex::new(&[
            item("Toy Story (1995)", &["Animation", "Comedy"]),
            item("Toy Story 2 (1999)", &["Animation", "Comedy"]),
            item("Amélie (2001)", &["Comedy", "Romance"]),
            item("The Story of Us (1999)", &["Comedy"]),
            item("Comedy of Errors", &["Drama"]),
            item("Alien (1979)", &["Horror"]),
        ])
    }

    fn found(query: &str, boosts: &[f32]) -> Vec<u32> {
        index().search(query, boosts, 10).iter().map(|ix| ix.0).collect()
    }

    #[test]
    fn more_and_rarer_words_win() {
        assert_eq!(found("toy story", &[]), [0, 1, 3]);
        assert_eq!(found("story 1999 toy", &[])[0], 1);
        assert_eq!(found("amelie", &[]), [2], "accents do not matter");
        assert_eq!(found("HORROR!", &[]), [5], "categories count");
        assert_eq!(found("comedy", &[])[0], 4, "a title counts for more");
    }

    #[test]
    fn an_unfinished_word_is_completed() {
        assert_eq!(found("ali", &[]), [5]);
        assert_eq!(found("ali ", &[]), [] as [u32; 0], "a finished one is not");
    }

    #[test]
    fn the_better_known_of_equals_comes_first() {
        assert_eq!(found("animation", &[0.1, 0.9]), [1, 0]);
        assert_eq!(found("animation", &[]), [0, 1]);
    }

    #[test]
    fn nothing_matches_nothing() {
        assert!(found("", &[]).is_empty() && found("?! --", &[]).is_empty() && found("zzzz", &[1.0; 6]).is_empty());
        assert!(found(&"toy ".repeat(10_000), &[]).len() <= 6);
    }
}
