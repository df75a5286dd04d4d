//! What a run came to, as the tables of `docs/telemetry-overhead.md` and for programs.

use super::SIDES;
use super::micro::Micro;
use crate::bench::report::MOST_SWING;
use crate::bench::roofline::Roofline;
use crate::bench::stats::{Interval, Spread};
use serde::Serialize;
use std::fmt;

/// By how much the share of pages at level 0 may differ between sides in a run that counts.
const MOST_APART: f64 = 0.01;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) visitors: u32,
    pub(super) roofline: Roofline,
    pub(super) load_before: String,
    pub(super) load_after: String,
    pub(super) hit: Cost,
    pub(super) miss: Cost,
    pub(super) tail: Tail,
    pub(super) micro: Vec<Micro>,
    pub(super) goals: Vec<Goal>,
    /// The machine was too busy with something else for the figures to mean anything.
    pub(super) void: bool,
}

impl Report {
    pub(super) fn holds(&self) -> bool {
        !self.void && self.goals.iter().all(|goal| goal.verdict == Verdict::Met)
    }
}

/// CPU time of one kind of request.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) what: &'static str,
    pub(super) sides: [SideCost; 3],
    /// By how much full is more than off.
    pub(super) added_percent: Interval,
    /// By how much off is more than off.
    pub(super) control_percent: Interval,
}

impl Cost {
    /// Whether what a side reached differs too much between rounds, or the sides did not do the same: pages that were
    /// late for want of the machine are cheaper.
    pub(super) fn is_disturbed(&self) -> bool {
        let shares = self.sides.each_ref().map(|side| side.full_level_share);
        let apart = shares.iter().any(|share| (share - shares[0]).abs() > MOST_APART);
        apart || self.sides.iter().any(|side| side.per_wall_second.max > MOST_SWING * side.per_wall_second.min)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct SideCost {
    pub(super) name: &'static str,
    pub(super) cpu_us: Spread,
    pub(super) per_wall_second: Spread,
    pub(super) answers: u64,
    pub(super) hit_share: f64,
    /// Share of the answers that nothing was taken from.
    pub(super) full_level_share: f64,
}

/// The slowest hundredth of hits at a fixed rate, from when a request was due. Microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Tail {
    pub(super) rate: f64,
    pub(super) sides: [Spread; 3],
    pub(super) added_us: Interval,
    pub(super) control_us: Interval,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Met,
    Missed,
    /// The interval holds the goal.
    Undecided,
    NotMeasured,
}

impl Verdict {
    /// The whole interval must clear it.
    fn of(measured: &Interval, at_most: f64) -> Self {
        if measured.high <= at_most {
            Self::Met
        } else if measured.low > at_most {
            Self::Missed
        } else {
            // What is not a number clears nothing and misses nothing.
            Self::Undecided
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Undecided => "undecided",
            Self::NotMeasured => "not measured",
        }
    }
}

/// What was asked, and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) asked_at_most: f64,
    pub(super) measured: Option<Interval>,
    pub(super) verdict: Verdict,
}

impl Goal {
    pub(super) fn all(hit: &Cost, miss: &Cost, tail: &Tail, micro: &[Micro]) -> Vec<Self> {
        let of = |what, unit, asked_at_most, measured: Option<Interval>| Self {
            what,
            unit,
            asked_at_most,
            measured,
            verdict: measured.map_or(Verdict::NotMeasured, |measured| Verdict::of(&measured, asked_at_most)),
        };
        let mut goals = vec![
            of("CPU of an edge hit, added", "%", 5.0, Some(hit.added_percent)),
            of("CPU of a miss, added", "%", 1.0, Some(miss.added_percent)),
            of("p99 of a hit at a fixed rate, added", "us", 50.0, Some(tail.added_us)),
        ];
        let asked = micro.iter().filter_map(|one| Some((one, one.at_most?)));
        goals.extend(asked.map(|(one, most)| of(one.what, one.unit, most, one.measured)));
        goals
    }
}

fn within(interval: &Interval) -> String {
    format!("{:+.2} [{:+.2}, {:+.2}]", interval.median, interval.low, interval.high)
}

fn spread(spread: &Spread) -> String {
    format!("{:.1} ({:.1} to {:.1})", spread.median, spread.min, spread.max)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, seconds, visitors, roofline, load_before, load_after, hit, miss, tail, .. } = self;
        let Roofline { syscall_ns, read_gb_per_s, loopback_us } = roofline;
        writeln!(
            f,
            "{rounds} rounds of {seconds} s a side and load, {visitors} visitors; servers on core 0, load on core 1."
        )?;
        write!(f, "Roofline: system call {syscall_ns:.0} ns, memory {read_gb_per_s:.1} GB/s, ")?;
        writeln!(f, "loopback there and back {loopback_us:.1} us.")?;
        writeln!(f, "Load average before: {load_before}; after: {load_after}.")?;
        if self.void {
            writeln!(
                f,
                "VOID: rounds differ by more than {MOST_SWING} times, or sides in their level; the machine does other work."
            )?;
        }
        let [full, off, again] = SIDES;
        writeln!(
            f,
            "\n| median (least to most) | {full} | {off} | {again} | {full} over {off} | {again} over {off} |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for Cost { what, sides, added_percent, control_percent } in [hit, miss] {
            let [full, off, again] = sides.each_ref().map(|side| spread(&side.cpu_us));
            let (added, control) = (within(added_percent), within(control_percent));
            writeln!(f, "| CPU of {what}, us | {full} | {off} | {again} | {added} % | {control} % |")?;
        }
        let [full, off, again] = tail.sides.each_ref().map(spread);
        let (added, control) = (within(&tail.added_us), within(&tail.control_us));
        let rate = tail.rate;
        writeln!(
            f,
            "| p99 of a hit at {rate:.0} a second, us | {full} | {off} | {again} | {added} us | {control} us |"
        )?;
        writeln!(f)?;
        for Cost { what, sides, .. } in [hit, miss] {
            for SideCost { name, answers, hit_share, full_level_share, .. } in sides {
                let (hits, full) = (hit_share * 100.0, full_level_share * 100.0);
                writeln!(f, "- {what}, {name}: {answers} answers, {hits:.1} % of them hits, {full:.1} % at level 0")?;
            }
        }
        if !self.micro.is_empty() {
            writeln!(f, "\n| by itself | median | p10 to p90 |\n|---|---|---|")?;
        }
        for Micro { what, unit, measured, .. } in &self.micro {
            match measured {
                Some(m) => writeln!(f, "| {what}, {unit} | {:.3} | {:.3} to {:.3} |", m.median, m.low, m.high)?,
                None => writeln!(f, "| {what}, {unit} | not measured | |")?,
            }
        }
        writeln!(f, "\n| goal | at most | measured | |\n|---|---|---|---|")?;
        for Goal { what, unit, asked_at_most, measured, verdict } in &self.goals {
            let figures =
                measured.map_or_else(String::new, |m| format!("{:.3} [{:.3}, {:.3}]", m.median, m.low, m.high));
            writeln!(f, "| {what}, {unit} | {asked_at_most} | {figures} | {} |", verdict.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_by_the_whole_interval_or_not_decided() {
        let of = |low, median, high| Verdict::of(&Interval { median, low, high }, 5.0);
        assert_eq!(of(1.0, 3.0, 5.0), Verdict::Met);
        assert_eq!(of(4.0, 4.5, 5.1), Verdict::Undecided);
        assert_eq!(of(4.9, 6.0, 7.0), Verdict::Undecided);
        assert_eq!(of(5.1, 6.0, 7.0), Verdict::Missed);
        assert_eq!(of(f64::NAN, f64::NAN, f64::NAN), Verdict::Undecided);
    }
}
