//! Counters, and the rates of what visitors do.

use crate::event::{Decided, OutcomeKind, SlotKind};
use crate::sketch::Sketch;
use crate::sketch::moments::Moments;
use attune_domain::Source;
use serde::{Deserialize, Serialize};

/// Counters of one assignment since the state began. Only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTotals {
    pub impressions: u64,
    pub clicks: u64,
    pub conversions: u64,
    pub engagement_ms: u64,
    /// Minor currency units.
    pub revenue: u64,
}

/// Counters since the state began, for the catalogue's `_total` metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By [`Source::code`].
    pub by_source: [SourceTotals; 2],
    /// Impressions and clicks, by [`attune_domain::Segment::code`].
    pub by_segment: [(u64, u64); 4],
    /// Rewards (click, conversion or like; one an impression) of slots that explore, either way, and of the others.
    pub exploration_rewards: u64,
    pub exploitation_rewards: u64,
}

impl Totals {
    pub(crate) fn shown(&mut self, decided: &Decided) {
        self.by_source[usize::from(decided.source.code())].impressions += 1;
        self.by_segment[usize::from(decided.segment.code())].0 += 1;
    }

    pub(crate) fn responded(&mut self, kind: OutcomeKind, decided: &Decided) {
        let source = &mut self.by_source[usize::from(decided.source.code())];
        match kind {
            OutcomeKind::Click => {
                source.clicks += 1;
                self.by_segment[usize::from(decided.segment.code())].1 += 1;
            }
            OutcomeKind::Conversion(value) => {
                source.conversions += 1;
                source.revenue += minor(value) as u64;
            }
            OutcomeKind::Dwell(seconds) => source.engagement_ms += millis(seconds) as u64,
            OutcomeKind::Like | OutcomeKind::Hide => {}
        }
    }

    pub(crate) fn rewarded(&mut self, decided: &Decided) {
        match decided.kind {
            _ if decided.source != Source::Personalized => {}
            SlotKind::Exploit => self.exploitation_rewards += 1,
            SlotKind::Explore | SlotKind::Uniform => self.exploration_rewards += 1,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (source, more) in self.by_source.iter_mut().zip(&other.by_source) {
            source.impressions += more.impressions;
            source.clicks += more.clicks;
            source.conversions += more.conversions;
            source.engagement_ms += more.engagement_ms;
            source.revenue += more.revenue;
        }
        for (segment, more) in self.by_segment.iter_mut().zip(&other.by_segment) {
            segment.0 += more.0;
            segment.1 += more.1;
        }
        self.exploration_rewards += other.exploration_rewards;
        self.exploitation_rewards += other.exploitation_rewards;
    }
}

pub(crate) const SHOWN: usize = 0;
pub(crate) const CLICKS: usize = 1;
pub(crate) const CONVERSIONS: usize = 2;
pub(crate) const DWELL_MS: usize = 3;
pub(crate) const REVENUE: usize = 4;

/// Sums by assignment and by segment: 9 kB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Effect {
    pub(crate) by_source: [Moments<5>; 2],
    pub(crate) by_segment: [Moments<2>; 4],
}

impl Effect {
    pub(crate) fn shown(&mut self, decided: &Decided) {
        self.by_source[usize::from(decided.source.code())].add(decided.visitor, SHOWN, 1);
        self.by_segment[usize::from(decided.segment.code())].add(decided.visitor, SHOWN, 1);
    }

    pub(crate) fn responded(&mut self, kind: OutcomeKind, decided: &Decided) {
        let source = &mut self.by_source[usize::from(decided.source.code())];
        match kind {
            OutcomeKind::Click => {
                source.add(decided.visitor, CLICKS, 1);
                self.by_segment[usize::from(decided.segment.code())].add(decided.visitor, CLICKS, 1);
            }
            OutcomeKind::Conversion(value) => {
                source.add(decided.visitor, CONVERSIONS, 1);
                source.add(decided.visitor, REVENUE, minor(value));
            }
            OutcomeKind::Dwell(seconds) => source.add(decided.visitor, DWELL_MS, millis(seconds)),
            OutcomeKind::Like | OutcomeKind::Hide => {}
        }
    }
}

fn minor(value: f32) -> i64 {
    f64::from(value).round() as i64
}

fn millis(seconds: f32) -> i64 {
    (f64::from(seconds) * 1e3).round() as i64
}

impl Sketch for Effect {
    fn merge(&mut self, other: &Self) {
        self.by_source.iter_mut().zip(&other.by_source).for_each(|(sums, more)| sums.merge(more));
        self.by_segment.iter_mut().zip(&other.by_segment).for_each(|(sums, more)| sums.merge(more));
    }

    fn heap_bytes(&self) -> usize {
        let sources = self.by_source.iter().map(Sketch::heap_bytes).sum::<usize>();
        sources + self.by_segment.iter().map(Sketch::heap_bytes).sum::<usize>()
    }
}
