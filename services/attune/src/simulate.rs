//! `attune simulate`: simulated visitors walk through a running platform over HTTP, and what they see, what they do and
//! whether the platform learns is shown as it happens.
//!
//! Always holds: a visitor has one request at a time, so there are never more requests under way than visitors, and
//! never more than [`Pace`] lets start; an answer is read up to a limit; a failed request is counted and slows its
//! visitor down, and never ends the walk. Visitors click by the world's truth, which the platform does not see.

mod arms;
pub(crate) mod client;
mod latency;
mod report;
mod shop;
mod tally;
mod view;
mod walker;
pub(crate) mod wire;

pub use arms::{Arm, Lift};
pub use latency::LatencyReport;
pub use report::{Example, FeedbackReport, Learning, Truth, WalkReport};
pub(crate) use shop::Shop;
pub(crate) use walker::rfc3339;

use crate::output::{bad_usage, print, print_json};
use anyhow::Context as _;
use attune_config::HumanDuration;
use attune_dataset::World;
use attune_dataset::world::UserTraits;
use attune_runtime::{Exit, OrExit as _, Shutdown, system_clock};
use clap::Args;
use client::EdgeClient;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tally::Tally;
use tokio::task::JoinSet;
use tokio::time::Instant;
use view::View;
use walker::{Shared, Walker};

/// Beyond this a visitor is more memory than information.
const MAX_VISITORS: usize = 100_000;
/// Answers without one known item after which the platform is taken to hold other data. Another seed is not noticed:
/// all worlds name their items alike.
const STRANGE_ANSWERS: u64 = 20;

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The edge's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub edge: String,
    /// Seed of the world; the platform's must be the same
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Visitors at a time; every fifth is unknown to the world's history
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = visitors)]
    pub visitors: usize,
    /// End after this time, such as 60s; without it, at Ctrl-C
    #[arg(long, value_name = "TIME")]
    pub duration: Option<HumanDuration>,
    /// Requests a second at most
    #[arg(long, value_name = "R", default_value = "200", value_parser = positive)]
    pub rate: f64,
    /// How many times faster than people the visitors read and think
    #[arg(long, value_name = "X", default_value = "20", value_parser = positive)]
    pub speed: f64,
    /// The edge's operators' address, where the shop states the age of new visitors; without it nobody does
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// One line of JSON every five seconds, and the report as the last
    #[arg(long)]
    pub json: bool,
}

/// How visitors walk.
#[derive(Clone)]
pub struct WalkOptions {
    /// Such as `http://127.0.0.1:8080`.
    pub edge: String,
    pub world: Arc<World>,
    pub visitors: usize,
    /// Of the visitors' choices; the world has its own.
    pub seed: u64,
    /// Requests a second that may start, all visitors together.
    pub rate: f64,
    /// Think and reading times are divided by this.
    pub speed: f64,
    /// None walks until the shutdown.
    pub duration: Option<Duration>,
    /// Of one request, answer included.
    pub timeout: Duration,
    /// Lines of JSON on stdout instead of the view on stderr.
    pub json: bool,
    /// Neither of them.
    pub quiet: bool,
    /// States the attributes of new visitors.
    pub(crate) shop: Option<Arc<Shop>>,
    /// Only new visitors come.
    pub(crate) newcomers: Option<Newcomers>,
}

/// A stream of visitors that the world's history does not know.
#[derive(Clone)]
pub(crate) struct Newcomers {
    /// Visits of each; then the next one comes.
    pub(crate) visits: u64,
    /// How many came so far.
    pub(crate) came: Arc<AtomicU32>,
    /// Who comes at all.
    pub(crate) who: fn(&UserTraits) -> bool,
}

impl Newcomers {
    /// Anybody, each for so many visits.
    pub(crate) fn anybody(visits: u64) -> Self {
        Self { visits, came: Arc::default(), who: |_| true }
    }

    /// The world's number of the next one.
    fn next(&self, world: &World) -> u32 {
        loop {
            let n = world.config().users.saturating_add(self.came.fetch_add(1, Ordering::Relaxed));
            if (self.who)(&world.traits(n)) {
                return n;
            }
        }
    }
}

impl WalkOptions {
    pub fn new(edge: impl Into<String>, world: Arc<World>, visitors: usize, seed: u64) -> Self {
        Self {
            edge: edge.into(),
            world,
            visitors,
            seed,
            rate: 200.0,
            speed: 20.0,
            duration: None,
            timeout: Duration::from_secs(5),
            json: false,
            quiet: false,
            shop: None,
            newcomers: None,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=MAX_VISITORS).contains(&self.visitors) {
            return Err(bad_usage(format!("visitors must be 1 to {MAX_VISITORS}")));
        }
        if !(1e-3..=1e6).contains(&self.rate) || !(1e-3..=1e6).contains(&self.speed) {
            return Err(bad_usage("rate and speed must be 0.001 to 1000000"));
        }
        Ok(())
    }
}

pub fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let world = crate::fill::world(args.seed)?;
    let mut options = WalkOptions::new(args.edge, Arc::new(world), args.visitors, args.seed);
    options.rate = args.rate;
    options.speed = args.speed;
    options.duration = args.duration.map(HumanDuration::get);
    options.json = args.json;
    options.shop = args.admin.as_deref().map(Shop::open).transpose()?.map(Arc::new);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().context("listen for signals")?;
        walk(options, shutdown).await
    })?;
    print_report(&report, args.json)
}

/// The walk's result, on stdout.
pub fn print_report(report: &WalkReport, json: bool) -> anyhow::Result<()> {
    if json {
        print_json(&serde_json::json!({ "event": "walked", "walk": report }))
    } else {
        print(&view::table(report))
    }
}

/// Walks until the duration is over or the shutdown comes. Fails only where there is no sense in going on: wrong options
/// (64), a platform with other data (65), or no answer to the very first request (75).
pub async fn walk(options: WalkOptions, shutdown: Shutdown) -> anyhow::Result<WalkReport> {
    options.check()?;
    let client = EdgeClient::new(&options.edge, options.timeout).or_exit(Exit::Usage)?;
    client.probe().await.with_context(|| format!("no answer from {}", client.address())).or_exit(Exit::TryLater)?;

    let clock = system_clock();
    let shared = Arc::new(Shared {
        run: format!("{:x}", clock()),
        clock,
        client,
        pace: Pace::new(options.rate),
        tally: Mutex::new(Tally::new(options.visitors, options.duration)),
        world: options.world.clone(),
        speed: options.speed,
        shop: options.shop.clone(),
        newcomers: options.newcomers.clone(),
    });
    let stop = Shutdown::new();
    let mut walkers = JoinSet::new();
    for index in 0..options.visitors {
        let (shared, stop) = (shared.clone(), stop.clone());
        let seed = options.seed;
        walkers.spawn(async move {
            tokio::select! {
                () = stop.wait() => {}
                () = async { Walker::new(index, seed, shared).walk().await } => {}
            }
        });
    }

    let started = Instant::now();
    let end = options.duration.map(|duration| started + duration);
    let mut view = View::new(options.json, options.quiet);
    let mut every = tokio::time::interval_at(started + view.period(), view.period());
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut strange = false;
    while !strange {
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.wait() => break,
            () = over => break,
            _ = every.tick() => {
                let report = shared.tally.lock().report(started.elapsed());
                view.show(&report)?;
                strange = report.answers >= STRANGE_ANSWERS && report.known_items == 0;
            }
        }
    }
    stop.trigger();
    while walkers.join_next().await.is_some() {}
    view.end();
    if strange {
        let message = "the answers hold no item of the simulated world: the platform was filled with other data";
        return Err(crate::output::bad_data(message));
    }
    let report = shared.tally.lock().report(started.elapsed());
    Ok(report)
}

/// Lets requests start one after another, evenly.
pub(crate) struct Pace {
    gap: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { gap: Duration::from_secs_f64(1.0 / rate), next: Mutex::new(None) }
    }

    /// Waits for the caller's turn.
    pub(crate) async fn turn(&self) {
        let now = Instant::now();
        let at = self.reserve(now);
        if at > now {
            tokio::time::sleep_until(at).await;
        }
    }

    /// The next free turn. Unused turns are not saved up.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock();
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.gap);
        at
    }
}

fn visitors(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX_VISITORS).contains(n));
    number.ok_or_else(|| format!("want a whole number from 1 to {MAX_VISITORS}"))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (1e-3..=1e6).contains(n));
    number.ok_or_else(|| "want a number from 0.001 to 1000000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_spreads_the_starts_and_saves_nothing_up() {
        let pace = Pace::new(10.0);
        let start = Instant::now();
        let turns = |now: Instant| [0; 3].map(|_| (pace.reserve(now) - start).as_millis());
        assert_eq!(turns(start), [0, 100, 200]);
        assert_eq!(turns(start), [300, 400, 500]);
        assert_eq!(turns(start + Duration::from_secs(60)), [60_000, 60_100, 60_200]);
    }
}
