//! What a run came to, for people and for programs.

use crate::backlog::{Backlog, Rates};
use crate::feed::Fed;
use crate::probe::Probed;
use serde::Serialize;
use std::time::Duration;

const P50_MS: f64 = 100.0;
const P99_MS: f64 = 500.0;
/// Events per CPU second in batches, as a multiple of one by one.
const TIMES: f64 = 10.0;
/// Share of the rate that must have been acknowledged.
const KEPT: f64 = 0.99;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) backlog: Option<Backlog>,
    load_average: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    side: &'static str,
    acknowledged_per_second: f64,
    refused: u64,
    accepted_ms: Quantiles,
    own_edge_ms: Quantiles,
    other_edge_ms: Quantiles,
    probes: usize,
    unseen: usize,
    caught_up_ms: f64,
    cores: Vec<(&'static str, f64)>,
    #[serde(skip)]
    kept_up: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    fn of(sorted: &[Duration]) -> Self {
        let at = |q: f64| {
            let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
            sorted.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.0} / {:.0} / {:.0}", self.p50, self.p99, self.max))
    }
}

impl Row {
    pub(crate) fn new(
        side: &'static str,
        fed: Fed,
        probed: Probed,
        cores: Vec<(&'static str, f64)>,
        caught_up: Duration,
        asked: f64,
    ) -> Self {
        let acknowledged = fed.acknowledged as f64 / fed.took.as_secs_f64();
        Self {
            side,
            acknowledged_per_second: acknowledged,
            refused: fed.refused,
            accepted_ms: Quantiles::of(&fed.times),
            own_edge_ms: Quantiles::of(&probed.own),
            other_edge_ms: Quantiles::of(&probed.other),
            probes: probed.own.len(),
            unseen: probed.unseen,
            caught_up_ms: caught_up.as_secs_f64() * 1e3,
            cores,
            kept_up: acknowledged >= KEPT * asked,
        }
    }

    fn met(&self) -> bool {
        let shown = self.other_edge_ms;
        self.kept_up && self.refused == 0 && self.unseen == 0 && shown.p50 <= P50_MS && shown.p99 <= P99_MS
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (n, middle) if n.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        (_, middle) => values[middle],
    }
}

impl Report {
    fn times(&self, of: impl Fn(&Rates) -> f64) -> Option<f64> {
        let backlog = self.backlog.as_ref()?;
        let pairs = backlog.batches.iter().zip(&backlog.one_by_one);
        Some(median(pairs.map(|(batches, one)| of(batches) / of(one)).collect()))
    }

    pub(crate) fn floors_met(&self) -> bool {
        self.rows.iter().all(Row::met) && self.times(|rates| rates.per_cpu_second_of_all).is_some_and(|t| t >= TIMES)
    }

    pub(crate) fn print(&mut self, json: bool) {
        self.load_average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned();
        if json {
            println!("{}", serde_json::to_string_pretty(self).unwrap());
            return;
        }
        println!("ms: p50 / p99 / max");
        println!(
            "{:<12} {:>9} {:>20} {:>20} {:>20} {:>9}  cores",
            "side", "events/s", "202", "told edge", "other edge", "drained"
        );
        for row in &self.rows {
            let cores: Vec<_> = row.cores.iter().map(|(who, cores)| format!("{who} {cores:.2}")).collect();
            println!(
                "{:<12} {:>9.0} {:>20} {:>20} {:>20} {:>6.0} ms  {}{}",
                row.side,
                row.acknowledged_per_second,
                row.accepted_ms,
                row.own_edge_ms,
                row.other_edge_ms,
                row.caught_up_ms,
                cores.join(", "),
                if row.met() { "" } else { "  MISSED" },
            );
            if row.refused + row.unseen as u64 > 0 {
                println!("  {} requests refused, {} probes not shown", row.refused, row.unseen);
            }
        }
        let Some(backlog) = &self.backlog else { return };
        println!("\nbacklog      events/s   per CPU s of the consumer   of consumer, Kafka and Redis");
        for (name, rates) in [("batches", &backlog.batches), ("one by one", &backlog.one_by_one)] {
            for rates in rates {
                println!(
                    "{name:<12} {:>8.0} {:>27.0} {:>30.0}",
                    rates.per_second, rates.per_cpu_second, rates.per_cpu_second_of_all
                );
            }
        }
        let own = self.times(|rates| rates.per_cpu_second).unwrap_or(f64::NAN);
        let all = self.times(|rates| rates.per_cpu_second_of_all).unwrap_or(f64::NAN);
        println!("batches do {own:.1} times the events per CPU second of the consumer, {all:.1} times of all");
        println!("load average {}", self.load_average);
    }
}
