//! What training learns by counting: item statistics, vocabularies and the schema.

use crate::content::{self, MAX_TOKENS, Vocabulary};
use crate::features::COLUMNS;
use crate::items::ItemStats;
use crate::schema::{Column, ColumnKind, FeatureSchema, USER_PREFIX};
use crate::train::timeline::{Timeline, likes};
use attune_dataset::Dataset;
use attune_domain::{EventKind, Item, WINDOW_EVENTS};
use attune_inference::ln_1p;
use std::collections::{BTreeMap, HashSet};

/// Items a token must be on, and users an attribute value must have.
const MIN_SUPPORT: usize = 5;
const MAX_ATTRIBUTE_COLUMNS: usize = 8;
const MAX_ATTRIBUTE_VALUES: usize = 16;
/// Share of the newest interactions that counts as recent.
const RECENT: f64 = 0.1;

/// Most frequent first, ties by name.
fn frequent(counts: BTreeMap<String, usize>, least: usize, most: usize) -> Vec<String> {
    let mut found: Vec<(String, usize)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(most);
    found.into_iter().map(|(name, _)| name).collect()
}

pub(crate) fn vocabulary(items: &[Item]) -> Vocabulary {
    let mut categories = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for item in items {
        for category in item.categories.iter().collect::<HashSet<_>>() {
            *categories.entry(category.clone()).or_insert(0) += 1;
        }
        for token in content::tokens(item).into_iter().collect::<HashSet<_>>() {
            *tokens.entry(token).or_insert(0) += 1;
        }
    }
    Vocabulary {
        categories: frequent(categories, 1, MAX_TOKENS),
        // Every token costs a row and a column of the normal equations, which a small catalogue cannot fill.
        tokens: frequent(tokens, MIN_SUPPORT, (items.len() / 8).clamp(16, MAX_TOKENS)),
    }
}

pub(crate) fn schema(data: &Dataset) -> FeatureSchema {
    let mut attributes: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for (name, value) in data.attributes.iter().flat_map(|a| &a.0) {
        *attributes.entry(name).or_default().entry(value.clone()).or_insert(0) += 1;
    }
    let column = |name: &str, kind| Column { name: name.to_owned(), kind };
    let mut columns = vec![
        column("recent_items", ColumnKind::Sequence { max: WINDOW_EVENTS }),
        column("recent_kinds", ColumnKind::Sequence { max: WINDOW_EVENTS }),
        column("last_event_age", ColumnKind::Scalar),
        column("context_page", ColumnKind::Scalar),
        column("context_device", ColumnKind::Scalar),
        column("context_geo", ColumnKind::Scalar),
        column("hour", ColumnKind::Scalar),
    ];
    let mut taken = 0;
    for (name, counts) in attributes {
        let known = frequent(counts, MIN_SUPPORT, MAX_ATTRIBUTE_VALUES);
        if known.is_empty() || taken == MAX_ATTRIBUTE_COLUMNS {
            continue;
        }
        taken += 1;
        let values = std::iter::once("missing".to_owned()).chain(known).collect();
        columns.push(column(&format!("{USER_PREFIX}{name}"), ColumnKind::Categorical { values }));
    }
    let given: HashSet<String> = columns.iter().map(|c| c.name.clone()).collect();
    let computed = COLUMNS.iter().filter(|(name, _)| !given.contains(*name));
    columns.extend(computed.map(|(name, _)| column(name, ColumnKind::Scalar)));
    FeatureSchema { columns }
}

/// Counts per item, over all timelines.
pub(crate) struct Counts {
    pub(crate) stats: Vec<ItemStats>,
    pub(crate) interactions: Vec<u32>,
    /// For an item without events.
    pub(crate) unseen: ItemStats,
}

pub(crate) fn count(lines: &[Timeline], items: usize) -> Counts {
    let mut interactions = vec![0u32; items];
    let mut recent = vec![0u32; items];
    let mut liked = vec![0u32; items];
    let (mut shown, mut clicked) = (vec![0u32; items], vec![0u32; items]);
    let mut dwell = vec![(0.0f64, 0u32); items];
    let mut times: Vec<i64> = lines.iter().flat_map(|l| &l.steps).map(|s| s.event.occurred_at).collect();
    times.sort_unstable();
    let newest = times.get((times.len() as f64 * (1.0 - RECENT)) as usize).copied().unwrap_or(i64::MAX);
    for line in lines {
        for step in &line.steps {
            let at = step.event.item.index();
            if likes(step.event.kind) {
                interactions[at] += 1;
                recent[at] += u32::from(step.event.occurred_at >= newest);
                liked[at] += u32::from(step.event.kind != EventKind::Click);
            }
            if step.event.kind == EventKind::Dwell {
                dwell[at].0 += f64::from(ln_1p(step.event.value));
                dwell[at].1 += 1;
            }
        }
        for show in &line.shown {
            shown[show.item.index()] += 1;
            clicked[show.item.index()] += u32::from(show.clicked);
        }
    }
    let total = |list: &[u32]| list.iter().map(|&n| f64::from(n)).sum::<f64>();
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let like_mean = ratio(total(&liked), total(&interactions));
    let click_mean = ratio(total(&clicked), total(&shown));
    let dwells: (f64, f64) = dwell.iter().fold((0.0, 0.0), |(s, n), d| (s + d.0, n + f64::from(d.1)));
    let dwell_mean = ratio(dwells.0, dwells.1);
    // A mean that starts from the overall mean with the weight of some observations.
    let shrunk = |sum: f64, n: f64, mean: f64, weight: f64| ((sum + mean * weight) / (n + weight)) as f32;
    let stats = (0..items)
        .map(|i| ItemStats {
            popularity: ln_1p(interactions[i] as f32),
            recent_popularity: ln_1p(recent[i] as f32),
            like_rate: shrunk(f64::from(liked[i]), f64::from(interactions[i]), like_mean, 5.0),
            click_rate: shrunk(f64::from(clicked[i]), f64::from(shown[i]), click_mean, 50.0),
            dwell: shrunk(dwell[i].0, f64::from(dwell[i].1), dwell_mean, 5.0),
        })
        .collect();
    let unseen = ItemStats {
        like_rate: like_mean as f32,
        click_rate: click_mean as f32,
        dwell: dwell_mean as f32,
        ..ItemStats::default()
    };
    Counts { stats, interactions, unseen }
}
