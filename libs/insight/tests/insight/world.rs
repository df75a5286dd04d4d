//! Small worlds: a stream of impressions and outcomes from a seed.

use attune_domain::{ItemIx, RequestId, Segment, Source, UnixMillis};
use attune_insight::{
    Config, Decided, Estimate, Impression, Insight, Outcome, OutcomeKind, Report, SlotKind, Surroundings,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The beginning of every world: a multiple of every window's step.
pub(crate) const START: UnixMillis = 20_000 * 86_400_000;
pub(crate) const MINUTE: i64 = 60_000;

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub(crate) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

pub(crate) fn decided(at: UnixMillis, visitor: u64) -> Decided {
    Decided {
        at,
        visitor,
        model: 1,
        score: Some(0.1),
        popularity: 0.1,
        propensity: None,
        item_age: None,
        category: 0,
        position: 0,
        ideal_position: 0,
        arm: 0,
        kind: SlotKind::Exploit,
        source: Source::Personalized,
        segment: Segment::Active,
        seen_before: false,
    }
}

/// An insight and the requests that it saw.
pub(crate) struct World {
    pub(crate) insight: Insight,
    requests: u128,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self { insight: Insight::new(config, START).unwrap(), requests: 0 }
    }

    /// Shows an item in a request of its own, with what the visitor does about it.
    pub(crate) fn show(&mut self, item: u32, decided: Decided, outcomes: &[OutcomeKind]) {
        self.requests += 1;
        let (request, item) = (RequestId(self.requests.to_be_bytes()), ItemIx(item));
        self.insight.impression(&Impression { at: decided.at, request, item, decided });
        for &kind in outcomes {
            let at = decided.at + 1_000;
            self.insight.outcome(&Outcome { at, request, item, visitor: decided.visitor, kind, decided: None });
        }
    }

    /// The same when all there is to know is a click.
    pub(crate) fn show_clicked(&mut self, decided: Decided, is_clicked: bool) {
        self.show(0, decided, if is_clicked { &[OutcomeKind::Click] } else { &[] });
    }

    pub(crate) fn report(&self) -> Report {
        self.insight.report(Surroundings::default())
    }
}

/// Of how many worlds the interval covers the truth, as a share.
pub(crate) fn coverage(what: &str, worlds: u64, of: impl Fn(u64) -> (Estimate, f64)) -> f64 {
    let (mut covered, mut values, mut truths, mut widths) = (0, 0.0, 0.0, 0.0);
    for seed in 0..worlds {
        let (estimate, truth) = of(seed);
        assert!(estimate.is_known(), "{what}: no estimate of seed {seed}");
        covered += u64::from(estimate.contains(truth));
        values += estimate.value / worlds as f64;
        truths += truth / worlds as f64;
        widths += (estimate.high - estimate.low) / worlds as f64;
    }
    let share = covered as f64 / worlds as f64;
    println!("coverage of {what}: {share:.3} of {worlds}; mean {values:.5} for {truths:.5}, width {widths:.5}");
    share
}

/// 95 % intervals: at least nine of ten cover the truth, or the interval is too narrow.
pub(crate) fn assert_covers(what: &str, of: impl Fn(u64) -> (Estimate, f64)) {
    let share = coverage(what, 200, of);
    assert!(share >= 0.9, "{what}: {share}");
}

pub(crate) fn assert_near(what: &str, got: f64, expected: f64, within: f64) {
    assert!((got - expected).abs() <= within, "{what}: {got} for {expected} within {within}");
}
