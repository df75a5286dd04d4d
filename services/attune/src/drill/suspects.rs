//! Which of many moved: what a diagnosis does with numbers from before and now.

use std::collections::BTreeMap;

/// A thing that may be the cause, and how much it moved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suspect {
    pub(crate) name: String,
    pub(crate) before: f64,
    pub(crate) now: f64,
    pub(crate) moved: f64,
}

pub(crate) type Values = BTreeMap<String, f64>;

/// Everything by how much it rose, most first. What was not there before began at 0.
pub(crate) fn risen(before: &Values, now: &Values) -> Vec<Suspect> {
    let mut suspects: Vec<Suspect> = now
        .iter()
        .filter(|(_, now)| now.is_finite())
        .map(|(name, &now)| {
            let before = before.get(name).copied().filter(|before| before.is_finite()).unwrap_or(0.0);
            Suspect { name: name.clone(), before, now, moved: now - before }
        })
        .collect();
    suspects.sort_by(|a, b| b.moved.total_cmp(&a.moved).then_with(|| a.name.cmp(&b.name)));
    suspects
}

/// The first, where it moved by `least` and `times` as much as the next.
pub(crate) fn stands_out(suspects: &[Suspect], least: f64, times: f64) -> Option<&Suspect> {
    let first = suspects.first().filter(|first| first.moved >= least)?;
    let next = suspects.get(1).map_or(0.0, |next| next.moved.max(0.0));
    (first.moved >= times * next).then_some(first)
}

/// Sum of two rankings by name.
pub(crate) fn together(a: &[Suspect], b: &[Suspect]) -> Vec<Suspect> {
    let values = |suspects: &[Suspect], of: fn(&Suspect) -> f64| -> Values {
        suspects.iter().map(|suspect| (suspect.name.clone(), of(suspect))).collect()
    };
    let sum = |of: fn(&Suspect) -> f64| {
        let mut sum = values(a, of);
        for (name, value) in values(b, of) {
            *sum.entry(name).or_default() += value;
        }
        sum
    };
    risen(&sum(|suspect| suspect.before), &sum(|suspect| suspect.now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, f64)]) -> Values {
        of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn what_moved_most_is_named_only_where_it_stands_out() {
        let before = values(&[("a", 0.1), ("b", 0.5), ("c", 0.2)]);
        let ranked = risen(&before, &values(&[("a", 0.9), ("b", 0.6), ("c", 0.1), ("d", 0.2), ("e", f64::NAN)]));
        assert_eq!(ranked.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "d", "b", "c"]);
        assert_eq!(stands_out(&ranked, 0.2, 2.0).unwrap().name, "a");
        assert_eq!(stands_out(&ranked, 0.9, 2.0), None, "it moved too little");
        assert_eq!(stands_out(&ranked, 0.2, 5.0), None, "another moved nearly as much");
        assert_eq!(stands_out(&risen(&before, &before), 0.01, 1.0), None, "nothing moved");
        assert_eq!(stands_out(&[], 0.0, 1.0), None);
    }

    #[test]
    fn two_rankings_add_up() {
        let nulls = risen(&values(&[("a", 0.0)]), &values(&[("a", 0.9), ("recent", 0.1)]));
        let drifts = risen(&values(&[("a", 0.1), ("hour", 1.4)]), &values(&[("a", 1.1), ("hour", 1.5)]));
        let both = together(&nulls, &drifts);
        assert_eq!(both[0].name, "a");
        assert!((both[0].moved - 1.9).abs() < 1e-9 && both.len() == 3);
    }
}
