//! The explanation that needs no model: one sentence, made of the factors and of nothing else.

use crate::factors::{Factor, Factors, Kind};
use attune_domain::Reason;

/// One sentence of plain English. It cannot fail and says so when there is nothing to say.
pub fn explain(factors: &Factors) -> String {
    let title = factors.title();
    match factors.used() {
        [] => format!("No single reason stands out for “{title}”."),
        [one] => format!("“{title}” is here because {}.", clause(one)),
        [one, two, ..] => {
            format!("“{title}” is here because {}, and because {}.", clause(one), clause(two))
        }
    }
}

fn clause(factor: &Factor) -> String {
    let quoted = list(factor.evidence.iter().map(|e| format!("“{e}”")));
    let bare = list(factor.evidence.iter().cloned());
    let reason = match factor.kind {
        Kind::Age => return "how long it has been around speaks for it".into(),
        Kind::Reason(reason) => reason,
    };
    match (reason, factor.evidence.is_empty()) {
        (Reason::SimilarToRecent, false) => {
            format!("it is similar to {quoted}, which you looked at recently")
        }
        (Reason::SimilarToRecent, true) => "it is similar to what you looked at recently".into(),
        (Reason::TasteMatch, false) => format!("it fits the taste you showed with {quoted}"),
        (Reason::TasteMatch, true) => "it fits what you usually choose".into(),
        (Reason::FavouriteCategory, false) => format!("you often choose {bare}"),
        (Reason::FavouriteCategory, true) => "it belongs to a category you often choose".into(),
        (Reason::RelatedItem, false) => format!("it goes with {quoted}"),
        (Reason::RelatedItem, true) => "it goes with the item you are looking at".into(),
        (Reason::Popular, _) => "it is popular".into(),
        (Reason::Trending, _) => "many people are choosing it at the moment".into(),
        (Reason::Fresh, _) => "it is new in the catalogue".into(),
        (Reason::CohortFavourite, _) => "people with a taste like yours often choose it".into(),
        (Reason::Exploration, _) => "we are trying something new for you".into(),
        (Reason::SearchMatch, _) => "it matches your search".into(),
        (Reason::Favourite, _) => "it is a favourite with everybody".into(),
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::RawFactor;

    fn check(factors: &[(&str, &[&str])], want: &str) {
        let raw: Vec<_> = factors
            .iter()
            .map(|(code, evidence)| RawFactor {
                code: (*code).into(),
                weight: 0.0,
                evidence: evidence.iter().map(|e| (*e).into()).collect(),
            })
            .collect();
        assert_eq!(explain(&Factors::new("Heat", &["Crime".into()], &raw).unwrap()), want);
    }

    #[test]
    fn every_factor_has_its_sentence() {
        check(&[], "No single reason stands out for “Heat”.");
        check(
            &[("similar_to_recent", &["Alien", "Dune"]), ("popular", &[])],
            "“Heat” is here because it is similar to “Alien” and “Dune”, which you looked at recently, and because it is popular.",
        );
        check(&[("similar_to_recent", &[])], "“Heat” is here because it is similar to what you looked at recently.");
        check(&[("taste_match", &["Up"])], "“Heat” is here because it fits the taste you showed with “Up”.");
        check(&[("taste_match", &[])], "“Heat” is here because it fits what you usually choose.");
        check(
            &[("favourite_category", &["Crime", "Drama"])],
            "“Heat” is here because you often choose Crime and Drama.",
        );
        check(&[("favourite_category", &[])], "“Heat” is here because it belongs to a category you often choose.");
        check(&[("related_item", &["Ronin"])], "“Heat” is here because it goes with “Ronin”.");
        check(&[("related_item", &[])], "“Heat” is here because it goes with the item you are looking at.");
        check(&[("trending", &[])], "“Heat” is here because many people are choosing it at the moment.");
        check(&[("fresh", &[])], "“Heat” is here because it is new in the catalogue.");
        check(&[("cohort_favourite", &[])], "“Heat” is here because people with a taste like yours often choose it.");
        check(&[("exploration", &[])], "“Heat” is here because we are trying something new for you.");
        check(&[("search_match", &["a query"])], "“Heat” is here because it matches your search.");
        check(&[("favourite", &[])], "“Heat” is here because it is a favourite with everybody.");
        check(&[("age", &[])], "“Heat” is here because how long it has been around speaks for it.");
    }
}
