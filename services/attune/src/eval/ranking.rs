//! `attune eval ranking`: the ranking model alone, on logged slates where there are some, else on made-up lists.

use super::slates;
use super::table::{self, Estimate};
use super::{EvalOptions, Workplace};
use crate::output::{note, print, print_json, progress_bar};
use attune_dataset::Dataset;
use attune_domain::{ItemIx, UserWindow};
use attune_model::evaluation::{self, Measure, Popularity, Report, Split};
use attune_model::{Bundle, ItemTable, Metric, UserInput};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

const NDCG: Measure = Measure::Ndcg(10);
/// Unseen items that a held-out item is mixed with.
const UNIFORM: usize = 99;
/// Candidates as many as the origin ranks.
const RETRIEVED: usize = 500;
const SEED: u64 = 1;

#[derive(Serialize)]
struct Outcome<'a> {
    event: &'static str,
    data: &'a str,
    protocol: String,
    model_version: String,
    /// What training measured on the rows it kept back for that.
    training: &'a BTreeMap<String, Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slates: Option<slates::Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lists: Vec<List>,
}

/// One way of making lists, and who orders them how well.
#[derive(Serialize)]
struct List {
    candidates: &'static str,
    cases: usize,
    /// Cases whose held-out item was among the candidates; the others count 0.
    with_target: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    ndcg_at_10: Option<Estimate>,
    over_random: Option<Estimate>,
    over_popularity: Option<Estimate>,
}

pub(super) fn run(options: &EvalOptions) -> anyhow::Result<()> {
    let place = Workplace::open(options)?;
    let (data, world) = super::read(options, &place.state)?;
    let (name, size) = (data.name.clone(), data.events.len());
    if let Some(held) = slates::hold_out(&data, options.tune) {
        place.claim(&format!("{name} {size} slates back {}", options.back()))?;
        let bundle = bundle(&place, &held.train)?;
        let outcome = Outcome {
            event: "evaluated",
            data: &name,
            protocol: format!(
                "the {} fifth of the slates by time held out, trained on what happened before the first of them; each \
                 slate's own items in the model's order, from what was known before it; clicks are relevant; intervals \
                 are 95 % of a bootstrap over slates",
                options.held_out()
            ),
            model_version: bundle.version().to_string(),
            training: &bundle.manifest().metrics,
            slates: Some(slates::judge(&held, &bundle, world.as_ref())),
            lists: Vec::new(),
        };
        return show(options, &outcome);
    }
    place.claim(&super::question(&data, options))?;
    let split = super::split(options, &place.state, data)?;
    let bundle = bundle(&place, &split.train)?;
    let outcome = Outcome {
        event: "evaluated",
        data: &name,
        protocol: format!(
            "no slates were logged, so lists are made up: each visitor's {} first-touched item held out with everything \
             after it, ranked among {UNIFORM} uniform unseen items and, apart, among the {RETRIEVED} unseen items that \
             the two towers find (an item that is not found counts 0); intervals are 95 % of a bootstrap over visitors; \
             uniform lists are easy and compare with nothing but each other",
            options.held_out()
        ),
        model_version: bundle.version().to_string(),
        training: &bundle.manifest().metrics,
        slates: None,
        lists: lists(&split, &bundle),
    };
    show(options, &outcome)
}

fn bundle(place: &Workplace, train: &Dataset) -> anyhow::Result<Bundle> {
    if place.state.bundle().is_some() {
        note("attune: the model of --work is trained already");
    }
    super::bundle(&place.state, train)
}

fn lists(split: &Split, bundle: &Bundle) -> Vec<List> {
    let table = ItemTable::new(bundle, &split.train.items);
    let popular = Popularity::new(&split.train);
    let mut popularity = vec![0; table.len()];
    popular.recommend().iter().enumerate().for_each(|(place, item)| popularity[item.index()] = place);
    let bar = progress_bar("ranking", 2 * split.cases.len() as u64);
    let judge = |candidates: &'static str, retrieved: bool| {
        let mut ranks: [Vec<Option<usize>>; 4] = Default::default();
        let mut with_target = 0;
        for (number, case) in split.cases.iter().enumerate() {
            let attributes = &split.train.attributes[case.user];
            let input = UserInput { window: &case.history, attributes, context: case.context, now: case.at };
            let vector = bundle.user_vector(&table, &input);
            let mut dots = vec![0.0; table.len()];
            attune_inference::score_rows(table.vectors(), table.dim(), &vector, &mut dots);
            let items = if retrieved {
                best_unseen(&dots, &case.history)
            } else {
                let mut items = uniform_unseen(number, table.len(), &case.history, case.target);
                items.push(case.target);
                items
            };
            bar.inc(1);
            let target = items.iter().position(|&item| item == case.target);
            with_target += usize::from(target.is_some());
            let shuffled = evaluation::random(items.len(), SEED, number);
            let mut chance = vec![0.0; items.len()];
            shuffled.iter().enumerate().for_each(|(place, at)| chance[at.index()] = -(place as f32));
            let scores = [
                chance,
                items.iter().map(|item| -(popularity[item.index()] as f32)).collect(),
                items.iter().map(|item| dots[item.index()]).collect(),
                bundle.rank(&table, &input, &vector, &items).click,
            ];
            for (ranks, scores) in ranks.iter_mut().zip(&scores) {
                ranks.push(target.map(|target| above(scores, &items, target)));
            }
        }
        let names = ["random", "popularity", "two towers", "ranking model"];
        let reports: Vec<Report> =
            names.iter().zip(ranks).map(|(name, ranks)| Report { name: (*name).to_owned(), ranks }).collect();
        let row = |(name, report): (&'static str, &Report)| Row {
            name,
            ndcg_at_10: table::mean(report, NDCG),
            over_random: table::difference(report, &reports[0], NDCG),
            over_popularity: table::difference(report, &reports[1], NDCG),
        };
        let rows = names.into_iter().zip(&reports).map(row).collect();
        List { candidates, cases: split.cases.len(), with_target, rows }
    };
    let lists = vec![judge("99 uniform and the held-out item", false), judge("500 retrieved", true)];
    bar.finish_and_clear();
    lists
}

/// How many candidates stand above the target; ties by item number.
fn above(scores: &[f32], items: &[ItemIx], target: usize) -> usize {
    let better =
        |&(score, item): &(&f32, &ItemIx)| score.total_cmp(&scores[target]).then(items[target].cmp(item)).is_gt();
    scores.iter().zip(items).filter(better).count()
}

fn best_unseen(dots: &[f32], history: &UserWindow) -> Vec<ItemIx> {
    let mut order: Vec<ItemIx> = (0..dots.len() as u32).map(ItemIx).filter(|&item| !history.has_seen(item)).collect();
    order.sort_by(|a, b| dots[b.index()].total_cmp(&dots[a.index()]).then(a.cmp(b)));
    order.truncate(RETRIEVED);
    order
}

/// Different unseen items other than the target, fewer where the catalogue has no more.
fn uniform_unseen(case: usize, items: usize, history: &UserWindow, target: ItemIx) -> Vec<ItemIx> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED ^ (case as u64) << 20);
    let free = items.saturating_sub(history.seen().len() + 1);
    let mut drawn = HashSet::new();
    let mut list = Vec::with_capacity(UNIFORM);
    while list.len() < UNIFORM.min(free) {
        let item = ItemIx(rng.random_range(0..items as u32));
        if item != target && !history.has_seen(item) && drawn.insert(item) {
            list.push(item);
        }
    }
    list
}

fn show(options: &EvalOptions, outcome: &Outcome<'_>) -> anyhow::Result<()> {
    if options.json {
        return print_json(outcome);
    }
    let mut parts = vec![format!("{}: model {}\nprotocol: {}", outcome.data, outcome.model_version, outcome.protocol)];
    parts.extend(outcome.slates.as_ref().map(slates::text));
    for list in &outcome.lists {
        let row = |row: &Row| {
            let gains = [row.over_random, row.over_popularity].map(table::signed);
            [vec![row.name.to_owned(), table::plain(row.ndcg_at_10)], gains.to_vec()].concat()
        };
        let rows: Vec<Vec<String>> = list.rows.iter().map(row).collect();
        parts.push(format!(
            "{}: {} cases, the held-out item among the candidates in {}\n{}",
            list.candidates,
            list.cases,
            list.with_target,
            table::table(&["", "NDCG@10 [95 %]", "over random", "over popularity"], &rows)
        ));
    }
    print(&parts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_what_is_better_and_ties_by_number() {
        let items = [ItemIx(5), ItemIx(2), ItemIx(9)];
        assert_eq!(above(&[0.5, 0.9, 0.1], &items, 0), 1);
        assert_eq!(above(&[0.5, 0.5, 0.5], &items, 0), 1);
        assert_eq!(above(&[0.5, 0.5, 0.5], &items, 1), 0);
        assert_eq!(above(&[0.5, 0.9, 0.1], &items, 2), 2);
    }

    #[test]
    fn uniform_lists_end_where_the_catalogue_does() {
        let history = UserWindow::default();
        let list = uniform_unseen(3, 20, &history, ItemIx(7));
        assert_eq!(list.len(), 19);
        assert!(!list.contains(&ItemIx(7)));
        assert_eq!(list, uniform_unseen(3, 20, &history, ItemIx(7)));
    }
}
