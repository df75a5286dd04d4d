//! What a run came to, for people and for programs.

use super::load::Loaded;
use super::roofline::Roofline;
use super::stats::{Interval, Spread};
use serde::Serialize;
use std::fmt;

/// Hits a CPU second, as a share of nginx's.
const HIT_RATIO: f64 = 0.4;
const MISS_P99_MS: f64 = 20.0;
const RESIDENT_MB: f64 = 600.0;
/// Times that a side's best round may be its worst in a run that counts.
pub(crate) const MOST_SWING: f64 = 1.5;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) visitors: u32,
    pub(crate) method: String,
    pub(crate) roofline: Roofline,
    pub(crate) hits: Hits,
    pub(crate) misses: Misses,
    pub(crate) records_dropped: f64,
    pub(crate) resident_at_rest_mb: f64,
    pub(crate) resident_mb: f64,
    pub(crate) floors: Floors,
    /// The machine was too busy with something else for the figures to mean anything.
    pub(crate) void: bool,
    /// The machine's, at the end: others on it make figures worse.
    pub(crate) load_average: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Hits {
    pub(crate) sides: Vec<Side>,
    pub(crate) of_nginx: Interval,
    pub(crate) of_constant: Interval,
    /// Share of the answers that really were hits.
    pub(crate) hit_share: f64,
    pub(crate) answer_bytes: usize,
    /// Answers, and the decision records of them that were stored.
    pub(crate) answered: f64,
    pub(crate) recorded: f64,
}

impl Hits {
    /// Whether what a side reached differs too much between rounds: the work is the same, so the machine was not.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.sides.iter().any(|side| side.per_wall_second.max > MOST_SWING * side.per_wall_second.min)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) per_cpu_second: Spread,
    pub(crate) cpu_us: Spread,
    pub(crate) per_wall_second: Spread,
    pub(crate) latency: Latency,
}

/// Times at a fixed rate, from when a request was due.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    pub(crate) fn of(rate: f64, loaded: &Loaded) -> Self {
        let ms = |us: u32| f64::from(us) / 1e3;
        Self { rate, p50_ms: ms(loaded.p50), p90_ms: ms(loaded.p90), p99_ms: ms(loaded.p99), max_ms: ms(loaded.max) }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Misses {
    pub(crate) cpu_us: Spread,
    pub(crate) per_wall_second: Spread,
    /// Of the run whose p99 is the median of all runs'.
    pub(crate) latency: Latency,
    pub(crate) p99_ms: Spread,
    pub(crate) alone_p50_us: u32,
    pub(crate) alone_cpu_us: f64,
    /// Candidates ranked a miss.
    pub(crate) candidates: f64,
    pub(crate) miss_share: f64,
    /// Share of the pages under load that nothing was taken from.
    pub(crate) full_level_share: f64,
    /// By the services' own clocks with one miss at a time; on one core that is CPU time, but for what is written.
    pub(crate) stages: Vec<StageTime>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StageTime {
    pub(crate) name: String,
    pub(crate) calls_per_miss: f64,
    pub(crate) us_per_miss: f64,
}

/// A floor: what was measured, what is asked, whether that is met.
#[derive(Debug, Serialize)]
pub(crate) struct Floor {
    pub(crate) measured: f64,
    pub(crate) asked: f64,
    pub(crate) met: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Floors {
    /// The whole interval must clear it.
    pub(crate) hit_ratio: Floor,
    pub(crate) miss_p99_ms: Floor,
    pub(crate) resident_mb: Floor,
}

impl Floors {
    pub(crate) fn of(hits: &Hits, misses: &Misses, resident_mb: f64) -> Self {
        let at_most = |measured: f64, asked: f64| Floor { measured, asked, met: measured <= asked };
        let low = hits.of_nginx.low;
        Self {
            hit_ratio: Floor { measured: low, asked: HIT_RATIO, met: low >= HIT_RATIO },
            miss_p99_ms: at_most(misses.latency.p99_ms, MISS_P99_MS),
            resident_mb: at_most(resident_mb, RESIDENT_MB),
        }
    }

    pub(crate) fn all_met(&self) -> bool {
        [&self.hit_ratio, &self.miss_p99_ms, &self.resident_mb].iter().all(|floor| floor.met)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rounds of {} s a side, {} visitors, {} of {} bytes an answer, server on core 0, load on core 1",
            self.rounds, self.seconds, self.visitors, self.method, self.hits.answer_bytes
        )?;
        let r = &self.roofline;
        writeln!(
            f,
            "roofline: system call {:.0} ns, memory {:.1} GB/s, loopback there and back {:.1} us; load average {}",
            r.syscall_ns, r.read_gb_per_s, r.loopback_us, self.load_average
        )?;
        writeln!(
            f,
            "\n{:<18} {:>22} {:>16} {:>20}   at {:.0} requests/s",
            "hit", "requests/CPU-s", "us CPU", "requests/s", self.hits.sides[0].latency.rate
        )?;
        for side in &self.hits.sides {
            writeln!(
                f,
                "{:<18} {:>8.0} ({:>5.0}-{:>5.0}) {:>5.1} ({:.1}-{:.1}) {:>8.0} ({:>5.0}-{:>5.0})   p50 {:.2} ms, p99 {:.2} ms",
                side.name,
                side.per_cpu_second.median,
                side.per_cpu_second.min,
                side.per_cpu_second.max,
                side.cpu_us.median,
                side.cpu_us.min,
                side.cpu_us.max,
                side.per_wall_second.median,
                side.per_wall_second.min,
                side.per_wall_second.max,
                side.latency.p50_ms,
                side.latency.p99_ms,
            )?;
        }
        let share = |i: &Interval| format!("{:.3} [{:.3}, {:.3}]", i.median, i.low, i.high);
        writeln!(
            f,
            "attune of nginx {}, of our own constant {}; {:.2} % hits, {:.0} answers and {:.0} records stored, {:.0} dropped",
            share(&self.hits.of_nginx),
            share(&self.hits.of_constant),
            self.hits.hit_share * 100.0,
            self.hits.answered,
            self.hits.recorded,
            self.records_dropped,
        )?;
        let m = &self.misses;
        writeln!(
            f,
            "\nmiss over {:.0} candidates: {:.0} us CPU ({:.0}-{:.0}), {:.0}/s; at {:.0}/s p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms ({:.2}-{:.2} over the runs), max {:.1} ms; {:.1} % misses, {:.1} % at level 0",
            m.candidates,
            m.cpu_us.median,
            m.cpu_us.min,
            m.cpu_us.max,
            m.per_wall_second.median,
            m.latency.rate,
            m.latency.p50_ms,
            m.latency.p90_ms,
            m.latency.p99_ms,
            m.p99_ms.min,
            m.p99_ms.max,
            m.latency.max_ms,
            m.miss_share * 100.0,
            m.full_level_share * 100.0,
        )?;
        writeln!(
            f,
            "one at a time: p50 {} us, {:.0} us CPU, of which by stage (each holds the ones it calls):",
            m.alone_p50_us, m.alone_cpu_us
        )?;
        for stage in &m.stages {
            writeln!(f, "  {:>8.1} us in {:>5.2} calls  {}", stage.us_per_miss, stage.calls_per_miss, stage.name)?;
        }
        writeln!(
            f,
            "\nresident: {:.0} MB ready, {:.0} MB after all of this",
            self.resident_at_rest_mb, self.resident_mb
        )?;
        let floors = [
            ("hits a CPU second of nginx's, low end", &self.floors.hit_ratio, "at least"),
            ("miss p99, ms", &self.floors.miss_p99_ms, "at most"),
            ("MB resident", &self.floors.resident_mb, "at most"),
        ];
        for (name, floor, bound) in floors {
            let met = if floor.met { "met" } else { "MISSED" };
            writeln!(f, "{met:<6} {name}: {:.3}, asked {bound} {}", floor.measured, floor.asked)?;
        }
        if self.void {
            writeln!(
                f,
                "VOID: rounds of one side differ by more than {MOST_SWING} times; the machine does other work"
            )?;
        }
        Ok(())
    }
}
