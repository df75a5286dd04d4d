//! `cargo xtask bench telemetry`: what recording costs, as one binary with telemetry on and off, and by itself.
//!
//! Three servers take turns: one records everything, two record nothing. What the two that do the same seem to differ
//! by is what the machine adds to every figure.

mod micro;
mod report;

use super::load::Loaded;
use super::servers::{self, Load, Server};
use super::stats::{Interval, Spread};
use super::workload::{self, HIT_CONNECTIONS, Method, OPEN_SHARE};
use super::{metrics, prepare, roofline, say};
use anyhow::{Context as _, bail};
use clap::Args;
use report::{Cost, Goal, Report, SideCost, Tail};
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(Debug, Args)]
pub(crate) struct OverheadArgs {
    /// A state folder that `attune up` has filled from MovieLens [default: one prepared under target/bench from --data]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What to fill a state folder from
    #[arg(long, value_name = "DIR", default_value = "../shared/data/ml-latest-small")]
    data: PathBuf,
    /// Interleaved rounds
    #[arg(long, value_name = "N", default_value_t = 12)]
    rounds: usize,
    /// Seconds of each load, a side and round
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Known visitors who ask, by user id 1 to N
    #[arg(long, value_name = "N", default_value_t = 600)]
    visitors: u32,
    /// Leave the recorder's own benches out
    #[arg(long)]
    servers_only: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report into this folder too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Fail when a goal is not met
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &OverheadArgs) -> anyhow::Result<ExitCode> {
    if args.rounds == 0 || args.visitors == 0 || args.seconds.is_nan() || args.seconds <= 0.0 {
        bail!("--rounds, --visitors and --seconds must be more than 0");
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        bail!("the bench needs two cores: one for the server, one for the load");
    }
    let attune = prepare::build()?;
    let state = prepare::state(args.state.as_deref(), &args.data, &attune)?;
    let report = measure(args, &attune, &state)?;
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        fs::write(dir.join("bench-telemetry.json"), &json).context("write the report")?;
        fs::write(dir.join("bench-telemetry.md"), report.to_string()).context("write the report")?;
    }
    let text = if args.json { format!("{json}\n") } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if args.check && !report.holds() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The sides, in this order everywhere.
const SIDES: [&str; 3] = ["full", "off", "off again"];

/// A server, and what shows whether it records.
struct Side {
    server: Server,
    admin: String,
    state: PathBuf,
}

impl Side {
    fn start(program: &Path, filled: &Path, dir: &Path, name: &str) -> anyhow::Result<Self> {
        let state = dir.join(name.replace(' ', "-"));
        let copied = Command::new("cp").arg("-a").args([filled, &state]).status().context("copy the state folder")?;
        if !copied.success() {
            bail!("the state folder could not be copied into {}", dir.display());
        }
        // What the folder's owner recorded is not this run's.
        for old in ["traces", "logs"] {
            if state.join(old).is_dir() {
                fs::remove_dir_all(state.join(old)).with_context(|| format!("empty the copy's {old}"))?;
            }
        }
        let record = if name == SIDES[0] { "all" } else { "none" };
        let settings = dir.join(format!("{record}.toml"));
        // In one process all services share the edge's telemetry. A held-out visitor's page asks nobody.
        let text = format!("[edge.process.telemetry]\nrecord = \"{record}\"\n[edge.experiment]\nholdout = 0.0\n");
        fs::write(&settings, text).context("write settings")?;
        say(&format!("starting attune, {name}"));
        let (server, admin) = servers::attune(program, &state, &[OsStr::new("--config"), settings.as_os_str()])?;
        Ok(Self { server, admin, state })
    }

    /// A page's decision is on record whatever else is.
    fn check_decision(&self, page: &str) -> anyhow::Result<()> {
        let answer = servers::capture(&self.server.address, page)?;
        let document = workload::document(&answer)?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("an answer has no ids");
        let (request, item) = (text(&document["request_id"])?, text(&document["items"][0]["item_id"])?);
        self.server.settled_cpu()?;
        let question = format!("GET /v1/explain?request_id={request}&item_id={item} HTTP/1.1\r\nhost: bench\r\n\r\n");
        servers::capture(&self.server.address, &question).context("ask for the record of a page")?;
        Ok(())
    }

    /// Whether anything was counted, and anything of a trace written.
    fn recorded(&self) -> anyhow::Result<(bool, bool)> {
        let mut written = 0;
        for file in fs::read_dir(self.state.join("traces")).context("look at the trace files")? {
            written += file.and_then(|file| file.metadata()).context("look at a trace file")?.len();
        }
        Ok((!metrics::read(&self.admin)?.is_empty(), written > 0))
    }
}

fn measure(args: &OverheadArgs, program: &Path, filled: &Path) -> anyhow::Result<Report> {
    let load_before = load_average();
    let roofline = roofline::probe()?;
    let micro = if args.servers_only { Vec::new() } else { micro::measure()? };
    let dir = program.parent().and_then(Path::parent).context("find the target folder")?.join("bench");
    fs::create_dir_all(&dir)?;
    let dir = tempfile::Builder::new().prefix("telemetry-").tempdir_in(&dir).context("make a folder for the states")?;
    let start = |name| Side::start(program, filled, dir.path(), name);
    let sides = [start(SIDES[0])?, start(SIDES[1])?, start(SIDES[2])?];

    let pages: Vec<String> = (1..=args.visitors).map(|user| workload::page(Method::Post, user)).collect();
    let hits = workload::write(&dir.path().join("hits.json"), &pages)?;
    let hits = Load { requests: &hits, connections: HIT_CONNECTIONS, seconds: args.seconds, rate: None };
    let answer = servers::capture(&sides[0].server.address, &pages[0])?;
    let misses = workload::product_pages(args.visitors, &answer)?;
    let misses = workload::write(&dir.path().join("misses.json"), &misses)?;
    // One at a time, so that no page is cheaper for being late.
    let misses = Load { requests: &misses, connections: 1, seconds: args.seconds, rate: None };

    say("warming");
    let mut weakest = f64::INFINITY;
    for side in &sides {
        for page in &pages {
            servers::capture(&side.server.address, page)?;
        }
        hits.put_on(&side.server.address)?;
        let loaded = hits.put_on(&side.server.address)?;
        weakest = weakest.min(loaded.answers as f64 / loaded.seconds);
        misses.put_on(&side.server.address)?;
        side.check_decision(&pages[0])?;
    }
    let rate = (OPEN_SHARE * weakest).round();

    let mut of_hits: [Vec<(Loaded, f64)>; 3] = Default::default();
    let mut of_misses: [Vec<(Loaded, f64)>; 3] = Default::default();
    let mut p99: [Vec<f64>; 3] = Default::default();
    for round in 0..args.rounds {
        say(&format!("round {} of {}", round + 1, args.rounds));
        for at in order(round) {
            of_hits[at].push(hits.cost(&sides[at].server)?);
        }
        for at in order(round) {
            p99[at].push(f64::from(hits.at_rate(rate, &sides[at].server)?.p99));
        }
        for at in order(round) {
            of_misses[at].push(misses.cost(&sides[at].server)?);
        }
    }
    for (side, name) in sides.iter().zip(SIDES) {
        side.check_decision(&pages[0])?;
        let full = name == SIDES[0];
        let (counted, written) = side.recorded()?;
        if (counted, written) != (full, full) {
            bail!("the side {name} counted: {counted}, wrote traces: {written}");
        }
    }
    let hit = cost("an edge hit", &of_hits);
    let miss = cost("a miss", &of_misses);
    let tail = Tail {
        rate,
        sides: p99.each_ref().map(|values| Spread::of(values)),
        added_us: Interval::of(&differences(&p99[0], &p99[1])),
        control_us: Interval::of(&differences(&p99[2], &p99[1])),
    };
    let goals = Goal::all(&hit, &miss, &tail, &micro);
    Ok(Report {
        rounds: args.rounds,
        seconds: args.seconds,
        visitors: args.visitors,
        void: hit.is_disturbed() || miss.is_disturbed(),
        roofline,
        load_before,
        load_after: load_average(),
        hit,
        miss,
        tail,
        micro,
        goals,
    })
}

fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// There and back, so that what drifts falls on all sides alike.
fn order(round: usize) -> [usize; 3] {
    if round.is_multiple_of(2) { [0, 1, 2] } else { [2, 1, 0] }
}

fn cost(what: &'static str, rounds: &[Vec<(Loaded, f64)>; 3]) -> Cost {
    let each =
        |at: usize| -> Vec<f64> { rounds[at].iter().map(|(load, cpu)| cpu * 1e6 / load.answers as f64).collect() };
    let side = |at: usize| {
        let sum = |of: fn(&Loaded) -> u64| rounds[at].iter().map(|(load, _)| of(load)).sum::<u64>();
        let answers = sum(|load| load.answers);
        let share = |of: fn(&Loaded) -> u64| sum(of) as f64 / answers as f64;
        let per_second: Vec<f64> = rounds[at].iter().map(|(load, _)| load.answers as f64 / load.seconds).collect();
        SideCost {
            name: SIDES[at],
            cpu_us: Spread::of(&each(at)),
            per_wall_second: Spread::of(&per_second),
            answers,
            hit_share: share(|load| load.hits),
            full_level_share: share(|load| load.at_level_0),
        }
    };
    Cost {
        what,
        sides: [side(0), side(1), side(2)],
        added_percent: Interval::of(&added_percent(&each(0), &each(1))),
        control_percent: Interval::of(&added_percent(&each(2), &each(1))),
    }
}

/// By how many percent of `without` is `with` more, round by round.
fn added_percent(with: &[f64], without: &[f64]) -> Vec<f64> {
    with.iter().zip(without).map(|(with, without)| (with / without - 1.0) * 100.0).collect()
}

fn differences(with: &[f64], without: &[f64]) -> Vec<f64> {
    with.iter().zip(without).map(|(with, without)| with - without).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(answers: u64, cpu: f64) -> (Loaded, f64) {
        let loaded = Loaded {
            answers,
            refused: 0,
            hits: answers,
            at_level_0: answers / 2,
            seconds: 2.0,
            bytes: 0,
            p50: 0,
            p90: 0,
            p99: 0,
            max: 0,
        };
        (loaded, cpu)
    }

    /// Rounds of different length: the CPU of one answer counts, in the same round.
    #[test]
    fn what_recording_adds_is_compared_within_a_round() {
        let full = vec![round(1000, 0.104), round(2000, 0.420), round(1000, 0.106)];
        let off = vec![round(1000, 0.100), round(1000, 0.200), round(500, 0.050)];
        let cost = cost("hit", &[full, off.clone(), off]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(cost.added_percent.median, 5.0), "{:?}", cost.added_percent);
        assert!(near(cost.added_percent.low, 4.0) && near(cost.added_percent.high, 6.0), "{:?}", cost.added_percent);
        assert!(near(cost.control_percent.low, 0.0) && near(cost.control_percent.high, 0.0));
        let side = &cost.sides[0];
        assert!(near(side.cpu_us.median, 106.0) && near(side.cpu_us.min, 104.0) && near(side.cpu_us.max, 210.0));
        assert_eq!((side.answers, side.hit_share, side.full_level_share), (4000, 1.0, 0.5));
        assert!(cost.is_disturbed(), "the second round reached twice as much");
    }

    #[test]
    fn sides_take_turns_there_and_back() {
        assert_eq!([order(0), order(1), order(2)], [[0, 1, 2], [2, 1, 0], [0, 1, 2]]);
        assert_eq!(differences(&[30.0, 10.0], &[10.0, 30.0]), [20.0, -20.0]);
    }
}
