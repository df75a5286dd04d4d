//! Planted leaks: what is accepted after a decision, and says it is older, gives the labels away.

use super::*;
use crate::tables::impressions::Served;
use crate::testbed::{Bed, T, event, response};
use attune_domain::{UserState, WindowEvent};
use attune_testkit::world;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const VISITORS: u64 = 40;

/// Visitors who liked six items, were shown six others, and clicked the first two or three. A phone that was offline tells
/// an hour later that they had liked what they clicked before it was ever shown; and the shop calls those who bought so,
/// the day after.
async fn planted() -> (Bed, Vec<Decision>) {
    let mut bed = Bed::new();
    for n in 0..VISITORS {
        let uid = world::uid(n);
        bed.attributes(uid, &[("age", "30")], T - 48 * HOUR).await;
        for k in 0..6 {
            let at = T - (24 - k) * HOUR;
            bed.write(&event(uid, &format!("old-{k}"), EventKind::Like, (n as u32 * 7 + k as u32) % 180, (at, at)))
                .await;
        }
        let shown: Vec<u32> = (0..6).map(|k| 180 + (n as u32 * 11 + k * 13) % 180).collect();
        let id = bed.decide(n, uid, T, &shown, None);
        for (slot, &item) in shown.iter().enumerate() {
            bed.write(&response(uid, id, EventKind::Impression, item, T + 1_000)).await;
            if slot < 2 + n as usize % 2 {
                bed.write(&response(uid, id, EventKind::Click, item, T + MINUTE)).await;
                if n % 2 == 0 {
                    bed.write(&response(uid, id, EventKind::Conversion, item, T + 2 * MINUTE)).await;
                }
                let late = format!("late-{slot}");
                bed.write(&event(uid, &late, EventKind::Like, item, (T - 1_000, T + HOUR))).await;
            }
        }
        let after: &[_] = if n % 2 == 0 { &[("age", "30"), ("buyer", "yes")] } else { &[("age", "30")] };
        bed.attributes(uid, after, T + 24 * HOUR).await;
    }
    let decisions = bed.decisions.values().map(|record| Decision::new(record.clone(), None).unwrap()).collect();
    (bed, decisions)
}

/// The join that suggests itself: everything that occurred before, and what the shop says now.
fn by_event_time(history: &History, moments: &[UnixMillis]) -> Vec<View> {
    let at = |&moment: &UnixMillis| {
        let mut view = View { state: UserState::default(), events: 0 };
        for version in history.events().iter().filter(|version| version.occurred_at < moment) {
            view.events += 1;
            view.state.watermark = view.state.watermark.max(Some(version.accepted_at));
            view.state.window.insert(version.value);
        }
        view.state.attributes = history.attributes().last().map(|v| v.value.clone()).unwrap_or_default();
        view
    };
    moments.iter().map(at).collect()
}

/// Probability that a row with the label has the higher score.
fn auc(rows: &[TrainingRow], label: impl Fn(&TrainingRow) -> bool, score: impl Fn(&TrainingRow) -> f32) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for a in rows.iter().filter(|row| label(row)) {
        for b in rows.iter().filter(|row| !label(row)) {
            pairs += 1.0;
            wins += if score(a) > score(b) { 1.0 } else { f64::from(u8::from(score(a) == score(b))) / 2.0 };
        }
    }
    wins / pairs
}

fn feature(name: &str) -> impl Fn(&TrainingRow) -> f32 {
    let at = feature_columns().position(|column| column == name).unwrap();
    move |row| row.features[at]
}

fn buyer(row: &TrainingRow) -> f32 {
    f32::from(u8::from(row.attributes.get("buyer").is_some()))
}

#[tokio::test]
async fn a_read_as_of_the_decision_does_not_know_what_came_later() {
    let (bed, decisions) = planted().await;
    let evidence = Evidence::read(&bed, &decisions).await.unwrap();
    let mut outcome = Outcome::default();
    let horizon = 30 * MINUTE;
    let known = rows(&bed, &decisions, &evidence, horizon, &mut outcome).await.unwrap();
    let naive = rows_of(&bed, &decisions, &evidence, horizon, &mut outcome, by_event_time).await.unwrap();
    assert_eq!((known.len(), naive.len()), (6 * VISITORS as usize, 6 * VISITORS as usize));
    assert_eq!(known.iter().filter(|row| row.clicked).count(), 20 * 2 + 20 * 3);
    assert_eq!(known.iter().filter(|row| row.converted).count(), 20 * 2);

    // The late like of an item says that it was clicked; the late attribute says who bought.
    let in_window = feature("f_in_window");
    assert_eq!(auc(&naive, |row| row.clicked, &in_window), 1.0);
    assert_eq!(auc(&known, |row| row.clicked, &in_window), 0.5);
    let clicked = |rows: &[TrainingRow]| rows.iter().filter(|row| row.clicked).cloned().collect::<Vec<_>>();
    assert_eq!(auc(&clicked(&naive), |row| row.converted, buyer), 1.0);
    assert_eq!(auc(&clicked(&known), |row| row.converted, buyer), 0.5);
    for row in &known {
        assert_eq!((row.known_events, row.window_events), (6, 6));
        assert_eq!(row.known_watermark, Some(T - 19 * HOUR));
        assert_eq!(row.attributes.0, [("age".to_owned(), "30".to_owned())]);
    }
}

#[tokio::test]
async fn the_detector_names_every_leak_and_nothing_else() {
    let (bed, decisions) = planted().await;
    let evidence = Evidence::read(&bed, &decisions).await.unwrap();
    let mut outcome = Outcome::default();
    let known = rows(&bed, &decisions, &evidence, 30 * MINUTE, &mut outcome).await.unwrap();
    let naive = rows_of(&bed, &decisions, &evidence, 30 * MINUTE, &mut outcome, by_event_time).await.unwrap();
    let found = |rows: &[TrainingRow]| leaks(rows, &evidence.histories, |_| &bed.serving);

    assert_eq!(found(&known), []);
    let leaking = found(&naive);
    for (index, row) in naive.iter().enumerate() {
        let of = |name: &str| leaking.iter().find(|leak| leak.row == index && leak.feature == name);
        assert_eq!(of("f_in_window").is_some(), row.clicked, "row {index}");
        if let Some(leak) = of("f_in_window") {
            assert_eq!((leak.found.as_str(), leak.known.as_str(), leak.request_id), ("1", "0", row.request_id));
            let because = leak.because.as_deref().unwrap();
            assert!(because.starts_with("like of item") && because.ends_with(&(T + HOUR).to_string()), "{because}");
        }
        assert!(of("known_events").is_some() && of("f_window_length").is_some(), "row {index}");
        assert_eq!(of("attributes").is_some(), buyer(row) == 1.0, "row {index}");
    }

    // One number of one row that is a little off is named, and only that.
    for (row, column) in [(3, 0), (77, 20), (known.len() - 1, 38)] {
        let mut changed = known.clone();
        changed[row].features[column] += 0.25;
        let found = found(&changed);
        let name = feature_columns().nth(column).unwrap();
        assert_eq!(found.iter().map(|l| (l.row, l.feature.as_str())).collect::<Vec<_>>(), [(row, name)]);
    }
}

#[tokio::test]
async fn what_is_accepted_at_the_moment_itself_is_not_known() {
    let mut bed = Bed::new();
    let uid = world::uid(1);
    for (n, accepted_at) in [T - 1, T, T + 1].into_iter().enumerate() {
        let at = T - 1_000 * (n as i64 + 1);
        bed.write(&event(uid, &format!("e{n}"), EventKind::Click, n as u32, (at, accepted_at))).await;
    }
    let id = bed.decide(1, uid, T, &[50, 51], None);
    bed.write(&response(uid, id, EventKind::Click, 50, T)).await;
    let decisions = [Decision::new(bed.decisions[&id].clone(), None).unwrap()];
    let evidence = Evidence::read(&bed, &decisions).await.unwrap();
    let mut outcome = Outcome::default();
    let rows = rows(&bed, &decisions, &evidence, MINUTE, &mut outcome).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].known_events, rows[0].known_watermark, rows[0].clicked), (1, Some(T - 1), true));
    assert_eq!(outcome.unseen, 1);
}

#[tokio::test]
async fn labels_end_with_the_horizon() {
    let mut bed = Bed::new();
    let uid = world::uid(1);
    let id = bed.decide(1, uid, T, &[50, 51, 52], None);
    for (item, kind, at) in [
        (50, EventKind::Impression, T + 1),
        (50, EventKind::Click, T + MINUTE + 1),
        (51, EventKind::Click, T + MINUTE),
        (51, EventKind::Dwell, T + MINUTE),
        (52, EventKind::Impression, T + MINUTE + 1),
    ] {
        bed.write(&response(uid, id, kind, item, at)).await;
    }
    let decisions = [Decision::new(bed.decisions[&id].clone(), None).unwrap()];
    let evidence = Evidence::read(&bed, &decisions).await.unwrap();
    let mut outcome = Outcome::default();
    let rows = rows(&bed, &decisions, &evidence, MINUTE, &mut outcome).await.unwrap();
    let labels: Vec<_> = rows.iter().map(|row| (row.item.0, row.clicked, row.dwell_seconds)).collect();
    assert_eq!(labels, [(50, false, None), (51, true, Some(1.0))]);
    assert_eq!(outcome.unseen, 1);
}

#[tokio::test]
async fn a_decision_that_saw_something_else_is_counted() {
    let mut bed = Bed::new();
    let uid = world::uid(1);
    let mut state = UserState::default();
    for k in 0..3u32 {
        let event = event(uid, &format!("e{k}"), EventKind::Like, k, (T - HOUR, T - HOUR + i64::from(k)));
        state.apply(attune_domain::StateVersion { epoch: 0, next_offset: u64::from(k) + 1 }, &event);
        bed.write(&event).await;
    }
    let mut other = state.clone();
    other.window.insert(WindowEvent { item: ItemIx(99), ..state.window.events()[0] });
    let mut behind = state.clone();
    behind.version.next_offset = 2;
    let mut decisions = Vec::new();
    for (n, state) in [state.clone(), other, behind].into_iter().enumerate() {
        let served = Served { version: state.version, watermark: state.watermark };
        let id = bed.decide(n as u64, uid, T + n as i64, &[50], Some(state));
        decisions.push(Decision::new(bed.decisions[&id].clone(), Some(served)).unwrap());
    }
    let evidence = Evidence::read(&bed, &decisions).await.unwrap();
    let mut outcome = Outcome::default();
    rows(&bed, &decisions, &evidence, MINUTE, &mut outcome).await.unwrap();
    // The third was made of less than was known, which is no difference to speak of.
    assert_eq!((outcome.compared, outcome.differing), (2, 1));
}
