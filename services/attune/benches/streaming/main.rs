//! `cargo xtask bench streaming`: events at a rate, how soon an answer shows them, and what an event costs.
//!
//! Protocol: the platform in one process, its engines, a second edge and the load share this machine. First on Kafka and
//! Redis, then on the embedded engines, in rounds of one platform whose states fill up, events come at a fixed rate
//! while single visitors act and ask again, at the edge that they told and at another one, until an answer's watermark
//! covers what they did. Then the consumer alone works off a backlog on Kafka and Redis, in batches and, as its peer,
//! one event a round trip.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench fails by panicking")]

mod backlog;
mod connection;
mod feed;
mod platform;
mod probe;
mod report;

use attune_engines::{Engine, available};
use clap::Parser;
use feed::Feed;
use platform::{Engines, Platform};
use report::{Report, Row};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Events a second
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// Events a request
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// Seconds of load a side and round
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Rounds a side
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events of the backlog that batches work off, and a tenth of it one by one; 0 leaves this out
    #[arg(long, default_value_t = 60_000)]
    backlog: usize,
    /// Settings of the platform, as `attune up --config` takes them
    #[arg(long)]
    config: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Fail when a floor is missed
    #[arg(long)]
    check: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let name = "bench streaming";
    if !available(Engine::Kafka, name) || !available(Engine::Redis, name) {
        return std::process::ExitCode::from(75);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut report = Report::default();
    let backlog = (args.backlog > 0).then(|| backlog::measure(&runtime, args.backlog, args.rounds));
    let config = args.config.as_deref();
    for engines in [Engines::start, Engines::none] {
        // One at a time: what idles beside it would take its share of the cores.
        let mut platform = Platform::start(engines(), config);
        for round in 0..args.rounds {
            say(&format!("{}, round {} of {}", platform.name(), round + 1, args.rounds));
            let feed = Feed { rate: args.rate, batch: args.batch, time: Duration::from_secs(args.seconds) };
            report.rows.push(measure(&runtime, &mut platform, feed, round));
        }
    }
    report.backlog = backlog;
    report.print(args.json);
    if args.check && !report.floors_met() { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

fn measure(runtime: &tokio::runtime::Runtime, platform: &mut Platform, feed: Feed, round: usize) -> Row {
    runtime.block_on(async {
        let cpu = platform.cpu();
        let probing = tokio::spawn(probe::run(platform.edge.clone(), platform.second.clone(), feed.time, round));
        let fed = feed.run(&platform.edge, round).await;
        let spent = platform.cpu().since(&cpu, fed.took);
        let caught_up = platform.caught_up().await;
        let probed = probing.await.unwrap();
        Row::new(platform.name(), fed, probed, spent, caught_up, feed.rate)
    })
}

pub(crate) fn say(text: &str) {
    eprintln!("bench: {text}");
}
