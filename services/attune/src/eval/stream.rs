//! `attune eval stream`: whether what the platform computes from its stream is true of the world that it serves.
//!
//! A platform runs on a clock that this drives: nine days of a simulated world pass in minutes. What was shown is counted
//! again from the event log, one event after another, and what visitors would have done of it on average is taken from
//! the world; the platform's own sketches are not used for either.

mod drift;
mod exposition;
mod panels;
mod truth;
mod visits;

use super::Workplace;
use super::served;
use super::table::table;
use crate::fill::{self, Filling};
use crate::observe::Observe;
use crate::output::{note, print, print_json};
use crate::platform::{self, Running};
use crate::settings::Tables;
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_dataset::World;
use attune_domain::UnixMillis;
use attune_model::TrainConfig;
use attune_runtime::{Clock, Exit, Fatal};
use clap::Args;
use exposition::Exposition;
use panels::Panel;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use truth::{Row, Seen};
use visits::{HOLDOUT, Timeline, UNIFORM, Visits};

/// Standard errors beyond which chance is no explanation: one in 16,000 for each number.
const FAR: f64 = 4.0;
/// Standard errors of a 95 % interval.
const INTERVAL: f64 = 1.96;
/// More than the world has: what recall is of is searched exactly.
const EXACT_BELOW: i64 = 100_000;
const DRAIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub struct StreamOptions {
    /// Seed of the simulated world
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Keep the platform's folder here [default: a passing folder]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Outcome {
    event: &'static str,
    protocol: String,
    pages: usize,
    events: usize,
    /// Of the world, that passed.
    days: f64,
    seconds: f64,
    metrics: Vec<Row>,
    /// Of the Executive and the ML dashboard; absent where Prometheus is not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    panels: Option<Vec<Panel>>,
}

pub(super) fn run(options: &StreamOptions) -> anyhow::Result<()> {
    let place = Workplace::at(options.work.as_deref())?;
    place.claim(&format!("stream {}", options.seed))?;
    let state = &place.state;
    let world = Arc::new(fill::world(options.seed)?);
    let timeline = Timeline::of(&world);
    let time = Arc::new(AtomicI64::new(timeline.begins));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let begun = Instant::now();
    let seen = runtime.block_on(live(state, options.seed, &world, &timeline, &time));
    // With the runtime ends the last task that holds the folder's stores.
    runtime.shutdown_timeout(DRAIN);
    let Lived { visits, exposition, panels } = seen?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let (log, serving) = runtime.block_on(truth::read(state))?;
    let events = log.len();
    let seen = Seen { world: &world, visits: &visits, log: &log, serving: &serving, until: timeline.ends };
    let metrics = truth::rows(&seen, &exposition);
    let outcome = Outcome {
        event: "evaluated",
        protocol: protocol(options.seed),
        pages: visits.pages.len(),
        events,
        days: (timeline.ends - timeline.begins) as f64 / visits::DAY_MS as f64,
        seconds: begun.elapsed().as_secs_f64(),
        metrics,
        panels,
    };
    if options.json {
        print_json(&outcome)?
    } else {
        print(&outcome.text())?
    }
    outcome.verdict()
}

struct Lived {
    visits: Visits,
    exposition: Exposition,
    panels: Option<Vec<Panel>>,
}

/// Fills and starts a platform, lets the days pass, and reads what it says at their end.
async fn live(
    state: &StateFolder,
    seed: u64,
    world: &Arc<World>,
    timeline: &Timeline,
    time: &Arc<AtomicI64>,
) -> anyhow::Result<Lived> {
    let settings = tables(state)?.settings()?;
    let data = fill::read(state, &Filling::World { seed }, timeline.begins)?;
    fill::train(state, &data, &TrainConfig { created_at: timeline.begins, ..TrainConfig::default() })?;
    let log = crate::places::event_log(&settings, "attune-0", None).await?;
    fill::fill(&*log, &data, timeline.begins).await?;
    drop(log);

    let hand = Arc::clone(time);
    let clock: Clock = Arc::new(move || hand.load(Ordering::Relaxed));
    let running = platform::start(state, settings, clock.clone(), clock).await?;
    let observe = observe(state, &running).await;
    let lived = pass(&running, world, timeline, time, observe.as_ref()).await;
    if let Some((observe, _)) = observe {
        observe.ended().await;
    }
    running.shutdown.trigger();
    running.ended().await?;
    lived
}

async fn pass(
    running: &Running,
    world: &Arc<World>,
    timeline: &Timeline,
    time: &Arc<AtomicI64>,
    observe: Option<&(Observe, panels::Prometheus)>,
) -> anyhow::Result<Lived> {
    let ready = running.ready();
    let admin = ready.admin.values().next().context("find the operators' address")?.clone();
    let visits = visits::pass(&ready.edge, &admin, world, timeline, time).await?;
    let exposition = settled(&admin, &visits).await?;
    let panels = match observe {
        Some((_, prometheus)) => Some(panels::ask(prometheus).await?),
        None => None,
    };
    Ok(Lived { visits, exposition, panels })
}

/// Waits until the metrics tell of everything that was acknowledged, and of nothing older.
async fn settled(admin: &str, visits: &Visits) -> anyhow::Result<Exposition> {
    let begun = Instant::now();
    loop {
        let exposition = Exposition::get(admin).await?;
        let told = exposition.sum("personalization_impressions_total");
        if told >= visits.impressions as f64 {
            // One more report, after the stream has come to its end.
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Exposition::get(admin).await;
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{told} impressions are counted of {} that were acknowledged",
            visits.impressions
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Prometheus, where it is installed.
async fn observe(state: &StateFolder, running: &Running) -> Option<(Observe, panels::Prometheus)> {
    let started = Observe::prometheus_only(&state.root().join("observe"), panels::EVERY).await;
    let (observe, address) = started.map_err(|error| note(&format!("attune: no dashboards: {error:#}"))).ok()?;
    let admin = running.ready().admin.values().next()?.trim_start_matches("http://").to_owned();
    observe.target("attune", &admin, "local").ok()?;
    Some((observe, panels::Prometheus::new(format!("http://{address}"))))
}

/// As served, but unhurried, with enough chance in pages and visitors for every number to have its samples.
fn tables(state: &StateFolder) -> anyhow::Result<Tables> {
    let mut tables = served::unhurried(state, None)?;
    tables.set("edge", "experiment.holdout", HOLDOUT);
    for service in ["edge", "bandit"] {
        tables.set(service, "policy.uniform", UNIFORM);
    }
    tables.set("embedder", "insight.every", "500ms");
    tables.set("embedder", "insight.sample_one_in", 1);
    tables.set("retrieval", "shadow.share", 1.0);
    tables.set("retrieval", "index.exact_below", EXACT_BELOW);
    Ok(tables)
}

fn protocol(seed: u64) -> String {
    format!(
        "world {seed} passes nine days on a clock of its own: 1,200 visitors on the first, of whom each comes again with \
         probability {:.2}, new items on the last, and in its last hour {} pages; holdout {HOLDOUT}, uniform slots \
         {UNIFORM}; counts anew from the event log, clicks by the world's probabilities",
        visits::RETURNS,
        visits::PAGES
    )
}

impl Outcome {
    fn far(&self) -> impl Iterator<Item = &Row> {
        self.metrics.iter().filter(|row| !row.errors.is_some_and(|errors| errors <= FAR))
    }

    fn dark(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().flatten().filter(|panel| panel.series == 0)
    }

    fn verdict(&self) -> anyhow::Result<()> {
        let far: Vec<&str> = self.far().map(|row| row.metric.as_str()).collect();
        let dark: Vec<&str> = self.dark().map(|panel| panel.expression.as_str()).collect();
        if far.is_empty() && dark.is_empty() {
            return Ok(());
        }
        let message = format!("eval stream: not true: {}; without data: {}", far.join(", "), dark.join(", "));
        Err(Fatal::new(Exit::Differs, anyhow::Error::msg(message)).into())
    }

    fn text(&self) -> String {
        let number = |value: Option<f64>| value.map_or("absent".to_owned(), |value| format!("{value:.4}"));
        let cells = |row: &Row| {
            let told = match row.errors {
                None => "ABSENT".to_owned(),
                Some(_) if row.truth.is_none() => "there".to_owned(),
                Some(errors) if errors <= INTERVAL => "true".to_owned(),
                Some(errors) if errors <= FAR => format!("outside its 95 % interval, {errors:.1} standard errors"),
                Some(errors) => format!("NOT TRUE, {errors:.1} standard errors away"),
            };
            let interval = row.interval.map_or(String::new(), |[low, high]| format!("[{low:.4}, {high:.4}]"));
            let samples = row.samples.map_or(String::new(), |samples| format!("{samples:.0}"));
            vec![
                row.metric.clone(),
                number(row.value),
                interval,
                samples,
                row.truth.map_or(String::new(), |truth| format!("{truth:.4}")),
                told,
            ]
        };
        let rows: Vec<Vec<String>> = self.metrics.iter().map(cells).collect();
        let mut text = format!("{}\n\n", self.protocol);
        text += &table(&["metric", "value", "95 % interval", "samples", "truth", ""], &rows);
        text += &format!(
            "\n\n{:.1} days, {} pages and {} events in {:.0} s",
            self.days, self.pages, self.events, self.seconds
        );
        if let Some(panels) = &self.panels {
            let lit = panels.len() - self.dark().count();
            text += &format!("\n{lit} of {} queries of the Executive and ML dashboards have data", panels.len());
            self.dark().for_each(|panel| text += &format!("\nno data: {}, {}", panel.title, panel.expression));
        }
        text
    }
}

/// Which sub-window of a window a moment lies in, and whether the window at `now` still has it.
#[derive(Debug, Clone, Copy)]
struct Window {
    step_ms: i64,
    steps: i64,
}

impl Window {
    const fn minutes(step: i64, steps: i64) -> Self {
        Self { step_ms: step * 60_000, steps }
    }

    fn has(self, at: UnixMillis, now: UnixMillis) -> bool {
        at.div_euclid(self.step_ms) > now.div_euclid(self.step_ms) - self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Option<f64>, errors: Option<f64>) -> Row {
        Row { metric: "m".into(), value, interval: None, samples: None, truth: Some(1.0), errors }
    }

    fn outcome(metrics: Vec<Row>, series: usize) -> Outcome {
        let panel = Panel { title: "CTR".into(), expression: "sum(x)".into(), series };
        let (event, protocol, panels) = ("evaluated", String::new(), Some(vec![panel]));
        Outcome { event, protocol, pages: 1, events: 1, days: 1.0, seconds: 1.0, metrics, panels }
    }

    #[test]
    fn what_is_absent_or_far_from_the_truth_is_told() {
        let good = outcome(vec![row(Some(1.0), Some(0.0)), row(Some(1.1), Some(3.0))], 1);
        assert!(good.verdict().is_ok());
        assert!(good.text().contains("outside its 95 % interval") && good.text().contains("1 of 1 queries"));
        for (bad, word) in [
            (outcome(vec![row(None, None)], 1), "ABSENT"),
            (outcome(vec![row(Some(2.0), Some(9.0))], 1), "NOT TRUE"),
            (outcome(vec![row(Some(2.0), Some(f64::NAN))], 1), "NOT TRUE"),
            (outcome(Vec::new(), 0), "no data: CTR"),
        ] {
            assert!(bad.verdict().is_err());
            assert!(bad.text().contains(word), "{}", bad.text());
        }
    }

    #[test]
    fn a_window_has_its_last_sub_windows() {
        let hour = Window::minutes(5, 12);
        let now = 60 * 60_000 + 2 * 60_000;
        assert!(hour.has(now, now) && hour.has(5 * 60_000, now));
        assert!(!hour.has(5 * 60_000 - 1, now));
    }
}
