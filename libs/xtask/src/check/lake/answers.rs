//! What the queries of `observability/clickhouse/queries.sql` answer, computed from the rows of the lake.

use anyhow::Context as _;
use attune_domain::{EventKind, ItemIx, RequestId, Uid};
use attune_lake::tables::events::EventRow;
use attune_lake::tables::items::ItemRow;
use attune_lake::tables::training::{TrainingRow, feature_columns};
use attune_lake::{BadField, Lake, LakeError, Row, Table};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) type Answers = Vec<(&'static str, Vec<Vec<Value>>)>;

fn read<T>(lake: &Lake, table: Table, convert: impl Fn(Row) -> Result<T, BadField>) -> anyhow::Result<Vec<T>> {
    let mut rows = Vec::new();
    for part in lake.parts(table) {
        lake.read(table, part, |row| {
            let bad = |BadField { column, reason }| LakeError::Damaged {
                path: lake.root().join(&part.file),
                detail: format!("{column} {reason}"),
            };
            rows.push(convert(row).map_err(bad)?);
            Ok(())
        })
        .with_context(|| format!("read {}", part.file))?;
    }
    Ok(rows)
}

/// The visitor with most rows in the training set: the pseudonym in hexadecimal, and the rows.
pub(super) fn busiest(lake: &Lake) -> anyhow::Result<(String, usize)> {
    let mut rows: BTreeMap<Uid, usize> = BTreeMap::new();
    for row in read(lake, Table::Training, TrainingRow::from_row)? {
        *rows.entry(row.uid).or_default() += 1;
    }
    let (uid, count) = rows.into_iter().max_by_key(|(_, count)| *count).context("the training set is empty")?;
    Ok((uid.0.iter().map(|byte| format!("{byte:02x}")).collect(), count))
}

pub(super) fn of(lake: &Lake) -> anyhow::Result<Answers> {
    let events = read(lake, Table::Events, EventRow::from_row)?;
    let items = read(lake, Table::Items, ItemRow::from_row)?;
    let training = read(lake, Table::Training, TrainingRow::from_row)?;
    let events: BTreeMap<_, _> =
        events.into_iter().map(|row| ((row.event.uid, row.event.event_id.clone()), row.event)).collect();
    let rows = |table| lake.parts(table).map(|part| part.rows).sum::<u64>();
    let counts = vec![
        vec![json!("events"), json!(events.len())],
        vec![json!("impressions"), json!(rows(Table::Impressions))],
        vec![json!("items"), json!(rows(Table::Items))],
        vec![json!("training"), json!(rows(Table::Training))],
        vec![json!("users"), json!(rows(Table::Users))],
    ];
    let late = events.values().filter(|event| event.accepted_at - event.occurred_at > 3_600_000).count();
    let days = days(events.values());
    Ok(vec![
        ("rows", counts),
        ("ctr_by_variant", ctr_by_variant(&days)),
        ("lift", lift(&days)),
        ("missing_share", missing_share(&training)),
        ("zero_share", zero_share(&training)),
        ("freshness", freshness(&training)),
        ("by_slot", by_slot(&training)),
        ("calibration", calibration(&training)),
        ("late_events", vec![vec![json!(late), json!(events.len())]]),
        ("top_items", top_items(&training, &items)),
    ])
}

/// Slots that were seen, clicked and bought from.
#[derive(Default)]
struct Seen([BTreeSet<(RequestId, ItemIx)>; 3]);

fn days<'a>(events: impl Iterator<Item = &'a attune_domain::LoggedEvent>) -> BTreeMap<(i64, &'static str), Seen> {
    let mut days: BTreeMap<_, Seen> = BTreeMap::new();
    for event in events.filter(|event| event.in_decision && !event.imported) {
        let (Some(decided), Some(request)) = (event.decided, event.request_id) else { continue };
        let day = days.entry((event.accepted_at.div_euclid(86_400_000), decided.variant.as_str())).or_default();
        let outcomes: &[usize] = match event.kind {
            EventKind::Impression | EventKind::Like => &[0],
            EventKind::Click => &[0, 1],
            EventKind::Conversion => &[0, 2],
            EventKind::Dwell | EventKind::Hide => &[],
        };
        for &outcome in outcomes {
            day.0[outcome].insert((request, event.item));
        }
    }
    days
}

fn ctr_by_variant(days: &BTreeMap<(i64, &'static str), Seen>) -> Vec<Vec<Value>> {
    let mut variants: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for ((_, variant), seen) in days {
        let sums = variants.entry(variant).or_default();
        sums.iter_mut().zip(&seen.0).for_each(|(sum, slots)| *sum += slots.len());
    }
    let row = |(variant, [shown, clicked, converted]): (&str, [usize; 3])| {
        vec![json!(variant), json!(shown), json!(clicked), json!(converted), json!(clicked as f64 / shown as f64)]
    };
    variants.into_iter().map(row).collect()
}

fn lift(days: &BTreeMap<(i64, &'static str), Seen>) -> Vec<Vec<Value>> {
    let Some(newest) = days.keys().map(|(day, _)| *day).max() else { return Vec::new() };
    let ctr = |variant: &'static str| {
        let seen = days.get(&(newest, variant));
        seen.map_or(f64::NAN, |seen| seen.0[1].len() as f64 / seen.0[0].len() as f64)
    };
    let (treatment, holdout) = (ctr("treatment"), ctr("holdout"));
    vec![vec![json!(treatment), json!(holdout), json!(treatment / holdout - 1.0)]]
}

fn share(rows: &[TrainingRow], holds: impl Fn(&TrainingRow) -> bool) -> f64 {
    rows.iter().filter(|row| holds(row)).count() as f64 / rows.len() as f64
}

fn missing_share(rows: &[TrainingRow]) -> Vec<Vec<Value>> {
    let shares = [
        ("attributes", share(rows, |row| row.attributes.0.is_empty())),
        ("dwell_seconds", share(rows, |row| row.dwell_seconds.is_none())),
        ("known_watermark", share(rows, |row| row.known_watermark.is_none())),
        ("newest_event_at", share(rows, |row| row.newest_event_at.is_none())),
        ("propensity", share(rows, |row| row.propensity.is_none())),
        ("score", share(rows, |row| row.score.is_none())),
        ("served_watermark", share(rows, |row| row.served_watermark.is_none())),
    ];
    shares.map(|(feature, share)| vec![json!(feature), json!(share)]).to_vec()
}

fn zero_share(rows: &[TrainingRow]) -> Vec<Vec<Value>> {
    vec![(0..feature_columns().count()).map(|at| json!(share(rows, |row| row.features[at] == 0.0))).collect()]
}

/// Of rows of visitors of whom something was known.
fn freshness(rows: &[TrainingRow]) -> Vec<Vec<Value>> {
    let known: Vec<_> = rows.iter().filter_map(|row| Some((row, row.known_watermark?))).collect();
    let ages = known.iter().map(|(row, watermark)| (row.decided_at - watermark) as f64);
    let mean = ages.sum::<f64>() / known.len() as f64 / 1000.0;
    let same = known.iter().filter(|(row, watermark)| row.served_watermark == Some(*watermark)).count();
    vec![vec![json!(known.len()), json!(mean), json!(same as f64 / known.len() as f64)]]
}

fn mean(values: impl Iterator<Item = f32>) -> Value {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + f64::from(value), count + 1));
    if count == 0 { Value::Null } else { json!(sum / f64::from(count)) }
}

fn by_slot(rows: &[TrainingRow]) -> Vec<Vec<Value>> {
    let mut slots: BTreeMap<&str, Vec<&TrainingRow>> = BTreeMap::new();
    for row in rows {
        slots.entry(row.slot.as_str()).or_default().push(row);
    }
    let row = |(slot, rows): (&str, Vec<&TrainingRow>)| {
        let clicked = rows.iter().map(|row| f32::from(u8::from(row.clicked)));
        let (scores, propensities) = (rows.iter().filter_map(|r| r.score), rows.iter().filter_map(|r| r.propensity));
        vec![json!(slot), json!(rows.len()), mean(clicked), mean(scores), mean(propensities)]
    };
    slots.into_iter().map(row).collect()
}

fn calibration(rows: &[TrainingRow]) -> Vec<Vec<Value>> {
    let scored: Vec<_> = rows.iter().filter_map(|row| Some((row.score?, row.clicked))).collect();
    let (predicted, clicked) = (scored.iter().map(|s| s.0), scored.iter().map(|s| f32::from(u8::from(s.1))));
    vec![vec![json!(scored.len()), mean(predicted), mean(clicked)]]
}

fn top_items(rows: &[TrainingRow], items: &[ItemRow]) -> Vec<Vec<Value>> {
    let mut titles: HashMap<ItemIx, (u64, &str)> = HashMap::new();
    for row in items {
        let title = titles.entry(row.update.ix).or_insert((row.offset, &row.update.item.title));
        *title = (*title).max((row.offset, &row.update.item.title));
    }
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in rows {
        let Some((_, title)) = titles.get(&row.item) else { continue };
        let (shown, clicks) = counts.entry(title).or_default();
        *shown += 1;
        *clicks += usize::from(row.clicked);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(title, (shown, _))| (std::cmp::Reverse(*shown), *title));
    counts
        .into_iter()
        .take(10)
        .map(|(title, (shown, clicks))| vec![json!(title), json!(shown), json!(clicks)])
        .collect()
}
