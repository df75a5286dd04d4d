//! Logged slates held out by time: the same items, in the order the ranking model would have given them.
//!
//! A slate is judged from what was known before it was shown, and what was clicked counts as relevant.

use super::table::{self, Estimate};
use attune_dataset::{Dataset, World};
use attune_domain::{Context, EventKey, EventKind, ItemIx, UserWindow, WindowEvent};
use attune_model::evaluation::{self, Popularity};
use attune_model::{Bundle, ItemTable, UserInput};
use serde::Serialize;
use std::collections::HashMap;

/// Shares of the slates, by time, that are trained on and judged.
const TEST: (f64, f64) = (0.8, 1.0);
const TUNE: (f64, f64) = (0.6, 0.8);
const DEPTH: usize = 10;
const BINS: usize = 10;

/// A slate nobody trained on.
pub(super) struct Slate {
    user: usize,
    at: i64,
    context: Context,
    window: UserWindow,
    items: Vec<ItemIx>,
    clicked: Vec<bool>,
}

pub(super) struct HeldOut {
    pub(super) train: Dataset,
    pub(super) slates: Vec<Slate>,
}

/// Holds out the newest slates, with everything that happened since the first of them. `None` without slates.
pub(super) fn hold_out(data: &Dataset, tune: bool) -> Option<HeldOut> {
    let mut starts: HashMap<u32, i64> = HashMap::new();
    for event in data.events.iter().filter(|e| e.kind == EventKind::Impression) {
        if let Some(slot) = event.slate {
            starts.entry(slot.slate).or_insert(event.occurred_at);
        }
    }
    let mut times: Vec<i64> = starts.values().copied().collect();
    times.sort_unstable();
    let (from, to) = if tune { TUNE } else { TEST };
    let at = |share: f64| times.get((share * times.len() as f64) as usize).copied().unwrap_or(i64::MAX);
    let (from, to) = (at(from), at(to));
    if times.is_empty() || from == i64::MAX {
        return None;
    }
    let mut windows = vec![UserWindow::default(); data.users.len()];
    let mut slates: Vec<Slate> = Vec::new();
    let mut by_number: HashMap<u32, usize> = HashMap::new();
    for (index, event) in data.events.iter().enumerate().take_while(|(_, e)| e.occurred_at < to) {
        let user = event.user as usize;
        if let Some(slot) = event.slate.filter(|slot| starts.get(&slot.slate).is_some_and(|&start| start >= from)) {
            match (event.kind, by_number.get(&slot.slate)) {
                (EventKind::Impression, None) => {
                    by_number.insert(slot.slate, slates.len());
                    slates.push(Slate {
                        user,
                        at: event.occurred_at,
                        context: event.context,
                        window: windows[user].clone(),
                        items: vec![event.item],
                        clicked: vec![false],
                    });
                }
                (EventKind::Impression, Some(&known)) => {
                    slates[known].items.push(event.item);
                    slates[known].clicked.push(false);
                }
                (EventKind::Click, Some(&known)) => {
                    let slate = &mut slates[known];
                    if let Some(at) = slate.items.iter().position(|&item| item == event.item) {
                        slate.clicked[at] = true;
                    }
                }
                _ => {}
            }
        }
        if event.kind.is_interaction() {
            windows[user].insert(WindowEvent {
                occurred_at: event.occurred_at,
                key: EventKey(index as u64),
                item: event.item,
                kind: event.kind,
                value: event.value,
            });
        }
    }
    let events = data.events.iter().filter(|e| e.occurred_at < from).copied().collect();
    Some(HeldOut { train: Dataset { events, ..data.clone() }, slates })
}

#[derive(Serialize)]
pub(super) struct Outcome {
    slates: usize,
    /// Those with a click, which the figures are over.
    judged: usize,
    mean_length: f64,
    rows: Vec<Row>,
    calibration: Vec<Calibration>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    ndcg_at_10: Option<Estimate>,
    over_random: Option<Estimate>,
    over_popularity: Option<Estimate>,
}

/// Expected calibration error over bins of equal size, by predicted probability.
#[derive(Serialize)]
struct Calibration {
    against: &'static str,
    error: f64,
    mean_predicted: f64,
    mean_true: f64,
    samples: usize,
}

/// Judges the ranking model; in a simulated world also against its truth.
pub(super) fn judge(held: &HeldOut, bundle: &Bundle, world: Option<&World>) -> Outcome {
    let train = &held.train;
    let table = ItemTable::new(bundle, &train.items);
    let popularity = places(Popularity::new(train).recommend(), train.items.len());
    let names = ["random", "popularity", "as logged", "two towers", "ranking model", "oracle"];
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let (mut first, mut every, mut truth) = (Vec::new(), Vec::new(), Vec::new());
    let mut length = 0;
    for (number, slate) in held.slates.iter().enumerate() {
        let attributes = &train.attributes[slate.user];
        let input = UserInput { window: &slate.window, attributes, context: slate.context, now: slate.at };
        let vector = bundle.user_vector(&table, &input);
        let chances = bundle.rank(&table, &input, &vector, &slate.items).click;
        length += slate.items.len();
        first.extend(
            chances.first().zip(slate.clicked.first()).map(|(&p, &hit)| (f64::from(p), f64::from(u8::from(hit)))),
        );
        every.extend(chances.iter().zip(&slate.clicked).map(|(&p, &hit)| (f64::from(p), f64::from(u8::from(hit)))));
        let true_chance = |item| world.map(|w| w.click_probability(slate.user as u32, slate.context, item, 0));
        let true_chances: Vec<f64> = slate.items.iter().filter_map(|&item| true_chance(item)).collect();
        truth.extend(chances.iter().map(|&p| f64::from(p)).zip(true_chances.iter().copied()));
        if !slate.clicked.contains(&true) {
            continue;
        }
        let shuffled = places(&evaluation::random(slate.items.len(), 1, number), slate.items.len());
        let dot = |item: &ItemIx| f64::from(attune_inference::dot(&vector, table.vector(*item)));
        let scores: [Vec<f64>; 6] = [
            shuffled.iter().map(|&place| -(place as f64)).collect(),
            slate.items.iter().map(|item| -(popularity[item.index()] as f64)).collect(),
            (0..slate.items.len()).map(|place| -(place as f64)).collect(),
            slate.items.iter().map(dot).collect(),
            chances.iter().map(|&p| f64::from(p)).collect(),
            true_chances,
        ];
        for (values, scores) in values.iter_mut().zip(&scores) {
            if scores.len() == slate.items.len() {
                values.push(ndcg(scores, &slate.clicked));
            }
        }
    }
    let less = |a: &[f64], b: &[f64]| table::estimate(&a.iter().zip(b).map(|(x, y)| x - y).collect::<Vec<_>>());
    let row = |(name, own): (&'static str, &Vec<f64>)| Row {
        name,
        ndcg_at_10: table::estimate(own),
        over_random: less(own, &values[0]),
        over_popularity: less(own, &values[1]),
    };
    let calibration = [
        ("clicks in the first slot", first),
        ("clicks in every slot", every),
        ("the world's true chances in the first slot", truth),
    ];
    Outcome {
        slates: held.slates.len(),
        judged: values[0].len(),
        mean_length: length as f64 / held.slates.len().max(1) as f64,
        rows: names.into_iter().zip(&values).filter(|(_, own)| !own.is_empty()).map(row).collect(),
        calibration: calibration.into_iter().filter_map(|(against, points)| calibration_of(against, points)).collect(),
    }
}

/// Place of every item in an order, by item number.
fn places(order: &[ItemIx], items: usize) -> Vec<usize> {
    let mut places = vec![items; items];
    order.iter().enumerate().for_each(|(place, item)| places[item.index()] = place);
    places
}

/// NDCG@10 of a slate sorted by `scores`, clicks as relevance; equal scores stay in the logged order.
fn ndcg(scores: &[f64], clicked: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let found: f64 =
        order.iter().take(DEPTH).enumerate().filter(|(_, i)| clicked[**i]).map(|(place, _)| gain(place)).sum();
    let best: f64 = (0..clicked.iter().filter(|c| **c).count().min(DEPTH)).map(gain).sum();
    if best > 0.0 { found / best } else { 0.0 }
}

fn calibration_of(against: &'static str, mut points: Vec<(f64, f64)>) -> Option<Calibration> {
    let n = points.len();
    if n < BINS {
        return None;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let sums = |points: &[(f64, f64)]| points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    let gap = |bin: &[(f64, f64)]| {
        let (predicted, real) = sums(bin);
        (predicted - real).abs()
    };
    let (predicted, real) = sums(&points);
    Some(Calibration {
        against,
        error: points.chunks(n.div_ceil(BINS)).map(gap).sum::<f64>() / n as f64,
        mean_predicted: predicted / n as f64,
        mean_true: real / n as f64,
        samples: n,
    })
}

pub(super) fn text(outcome: &Outcome) -> String {
    let rows: Vec<Vec<String>> = outcome
        .rows
        .iter()
        .map(|row| {
            let gains = [row.over_random, row.over_popularity].map(table::signed);
            [vec![row.name.to_owned(), table::plain(row.ndcg_at_10)], gains.to_vec()].concat()
        })
        .collect();
    let calibration: Vec<Vec<String>> = outcome
        .calibration
        .iter()
        .map(|c| {
            let figures = [c.error, c.mean_predicted, c.mean_true].map(|x| format!("{x:.4}"));
            [vec![c.against.to_owned()], figures.to_vec(), vec![c.samples.to_string()]].concat()
        })
        .collect();
    format!(
        "{} slates of {:.1} items on average, {} with a click\n\n{}\n\n{}",
        outcome.slates,
        outcome.mean_length,
        outcome.judged,
        table::table(&["", "NDCG@10 [95 %]", "over random", "over popularity"], &rows),
        table::table(&["calibration against", "error", "predicted", "true", "samples"], &calibration)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_counts_every_click_and_its_place() {
        assert_eq!(ndcg(&[0.9, 0.5, 0.1], &[true, true, false]), 1.0);
        let second = 1.0 / 3f64.log2();
        assert!((ndcg(&[0.5, 0.9, 0.1], &[true, false, false]) - second).abs() < 1e-12);
        let buried: Vec<f64> = (0..20).map(|i| -f64::from(i)).collect();
        let mut clicked = vec![false; 20];
        clicked[10] = true;
        assert_eq!(ndcg(&buried, &clicked), 0.0);
    }

    #[test]
    fn calibration_error_is_the_gap_between_chance_and_share() {
        let honest: Vec<(f64, f64)> = (0..1000).map(|i| (0.25, f64::from(u8::from(i % 4 == 0)))).collect();
        assert!(calibration_of("x", honest.clone()).unwrap().error < 1e-9);
        let bold = honest.into_iter().map(|(_, hit)| (0.45, hit)).collect();
        assert!((calibration_of("x", bold).unwrap().error - 0.2).abs() < 1e-9);
    }

    #[test]
    fn nothing_of_a_held_out_slate_is_trained_on_or_known_before_it() {
        let key = attune_identity::SubjectKey::new(1, [5; 32]);
        let config = attune_dataset::WorldConfig { items: 200, users: 40, ..attune_dataset::WorldConfig::default() };
        let now = config.catalogue_at;
        let data = World::new(config).unwrap().history(&key, now, 3);
        let held = hold_out(&data, false).unwrap();
        let first = held.slates.iter().map(|slate| slate.at).min().unwrap();
        assert!(held.train.events.iter().all(|e| e.occurred_at < first));
        assert!(held.slates.iter().all(|s| s.window.events().iter().all(|e| e.occurred_at <= s.at)));
        let logged = data.events.iter().filter(|e| e.kind == EventKind::Impression).count() as f64;
        let shown: usize = held.slates.iter().map(|s| s.items.len()).sum();
        assert!((0.15..0.25).contains(&(shown as f64 / logged)), "{shown} of {logged}");
        assert!(held.slates.iter().any(|s| s.clicked.contains(&true)));
        let bare = Dataset {
            events: data.events.iter().map(|e| attune_dataset::DatasetEvent { slate: None, ..*e }).collect(),
            ..data
        };
        assert!(hold_out(&bare, false).is_none());
    }
}
