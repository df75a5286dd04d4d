//! One impression, one outcome of each kind, whatever arrives when.

use crate::world::{MINUTE, START, decided};
use attune_domain::{ItemIx, RequestId};
use attune_insight::{Config, Decided, Impression, Insight, JoinCounts, Outcome, OutcomeKind, Surroundings};

#[derive(Debug, Clone, Copy)]
enum Event {
    Shown,
    Click,
    ClickThatKnows,
    Like,
    Minutes(i64),
}
use Event::{Click, ClickThatKnows, Like, Minutes, Shown};

fn run(events: &[Event]) -> ((u64, u64, u64), JoinCounts, usize) {
    let mut insight = Insight::new(Config::default(), START).unwrap();
    let (request, item) = (RequestId([7; 16]), ItemIx(3));
    let facts: Decided = decided(START, 1);
    for &event in events {
        let at = insight.now();
        let mut act = |kind, decided| insight.outcome(&Outcome { at, request, item, visitor: 1, kind, decided });
        match event {
            Shown => insight.impression(&Impression { at, request, item, decided: facts }),
            Click => act(OutcomeKind::Click, None),
            ClickThatKnows => act(OutcomeKind::Click, Some(facts)),
            Like => act(OutcomeKind::Like, None),
            Minutes(minutes) => insight.advance(at + minutes * MINUTE),
        }
    }
    let report = insight.report(Surroundings::default());
    let totals = report.totals.by_source[0];
    assert_eq!(report.by_source[0].ctr.samples, totals.impressions, "the window and the totals agree");
    ((totals.impressions, totals.clicks, report.totals.exploitation_rewards), report.join.counts, report.join.entries)
}

#[test]
fn whatever_arrives_in_whatever_order_counts_once() {
    let none = JoinCounts::default();
    for (events, counted, counts) in [
        (&[Shown][..], (1, 0, 0), none),
        (&[Shown, Shown], (1, 0, 0), JoinCounts { duplicates: 1, ..none }),
        (&[Shown, Click, Click], (1, 1, 1), JoinCounts { joined: 1, duplicates: 1, ..none }),
        (&[Click, Shown], (1, 1, 1), JoinCounts { joined: 1, ..none }),
        (&[Like, Click, Minutes(20), Shown], (1, 1, 1), JoinCounts { joined: 2, ..none }),
        (&[Shown, Like, Click], (1, 1, 1), JoinCounts { joined: 2, ..none }),
        (&[ClickThatKnows], (1, 1, 1), JoinCounts { joined: 1, implied: 1, ..none }),
        (&[ClickThatKnows, Shown, Shown], (1, 1, 1), JoinCounts { joined: 1, implied: 1, duplicates: 1, ..none }),
        (&[Like, ClickThatKnows], (1, 1, 1), JoinCounts { joined: 2, implied: 1, ..none }),
        (&[Click, ClickThatKnows], (1, 1, 1), JoinCounts { joined: 1, implied: 1, duplicates: 1, ..none }),
        (&[Click, Minutes(40)], (0, 0, 0), JoinCounts { unjoined: 1, ..none }),
        (&[Shown, Minutes(29), Click], (1, 1, 1), JoinCounts { joined: 1, ..none }),
        (&[Shown, Minutes(30), Click], (1, 0, 0), JoinCounts { late: 1, ..none }),
        (&[Shown, Minutes(40), ClickThatKnows], (1, 0, 0), JoinCounts { late: 1, ..none }),
        (&[Minutes(30), Shown], (0, 0, 0), JoinCounts { late: 1, ..none }),
    ] {
        let (got, got_counts, _) = run(events);
        assert_eq!((got, got_counts), (counted, counts), "{events:?}");
    }
    assert_eq!(run(&[Shown, Minutes(40)]).2, 0, "an entry leaves");
}

#[test]
fn a_decision_from_the_future_does_not_count() {
    for (ahead, impressions, late) in [(9, 1, 0), (11, 0, 1)] {
        let mut insight = Insight::new(Config::default(), START).unwrap();
        let facts = decided(START + ahead * MINUTE, 1);
        let (request, item) = (RequestId([7; 16]), ItemIx(3));
        insight.impression(&Impression { at: START, request, item, decided: facts });
        let report = insight.report(Surroundings::default());
        assert_eq!((report.totals.by_source[0].impressions, report.join.counts.late), (impressions, late));
    }
}

#[test]
fn what_is_held_is_bounded_and_what_leaves_early_is_counted() {
    let mut insight = Insight::new(Config { join_entries: 100, ..Config::default() }, START).unwrap();
    for request in 0..1_000u128 {
        let request = RequestId(request.to_be_bytes());
        let decided = decided(START, 1);
        insight.impression(&Impression { at: START, request, item: ItemIx(1), decided });
    }
    let join = insight.report(Surroundings::default()).join;
    assert_eq!((join.entries, join.counts.evicted), (100, 900));
    let empty = Insight::new(Config::default(), START).unwrap().size_bytes();
    let each = (insight.size_bytes() - empty) / 100;
    println!("an entry of the join and its share of small sketches: {each} bytes");
}
