//! `cargo xtask loadtest QUESTION`: a k6 script of `loadtest/k6` against a platform, the log compared with what the visitors
//! were told, and a report of it all under `target/loadtest`.

mod html;
mod k6;
mod log;
mod machine;
mod platform;
mod plot;
mod series;

pub(crate) use k6::{CROSSED, K6, Ran};
pub(crate) use log::{Counted, count};
pub(crate) use platform::{Engines, Filled, Platform};

use crate::check::process::{self, said};
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use machine::{Watch, Watched};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug, Args)]
pub(crate) struct LoadtestArgs {
    /// Which question
    question: Question,
    /// Pages a second; the script says itself where it is left out
    #[arg(long)]
    rate: Option<f64>,
    /// Such as 90s, 15m or 8h; the script says itself where it is left out
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    duration: Option<u64>,
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Another parameter of the script, such as THINK=0.5
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Edges that serve already, on this machine, with commas between; a platform is started without it
    #[arg(long, value_name = "URL")]
    edge: Option<String>,
    /// The ready line of the platform of --edge, such as run.json of its state folder: for what breaks its processes
    #[arg(long, value_name = "FILE", requires = "edge")]
    ready: Option<PathBuf>,
    /// Where the platform that is started keeps its events and states
    #[arg(long, value_enum, default_value = "embedded", conflicts_with = "edge")]
    engines: Engines,
    /// What the platform that is started is filled from; the simulated shop without it
    #[arg(long, value_name = "DIR", conflicts_with = "edge")]
    data: Option<PathBuf>,
    /// A state folder that is filled, of a platform that is stopped: the platform that is started gets a copy
    #[arg(long, value_name = "DIR", conflicts_with_all = ["edge", "data", "engines"])]
    state: Option<PathBuf>,
    /// What breaks processes, called as READY ACTION NAME SECONDS
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// The program to run; built when it is not named
    #[arg(long, value_name = "FILE")]
    attune: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    Smoke,
    Baseline,
    Stress,
    #[value(name = "spike-2x")]
    Spike2x,
    #[value(name = "spike-5x")]
    Spike5x,
    Soak,
    Breakpoint,
    ColdCache,
    RegionDrain,
    DependencyFaults,
}

impl Question {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Baseline => "baseline",
            Self::Stress => "stress",
            Self::Spike2x => "spike-2x",
            Self::Spike5x => "spike-5x",
            Self::Soak => "soak",
            Self::Breakpoint => "breakpoint",
            Self::ColdCache => "cold-cache",
            Self::RegionDrain => "region-drain",
            Self::DependencyFaults => "dependency-faults",
        }
    }

    /// The phase whose figures stand for the run in a table.
    const fn phase(self) -> &'static str {
        match self {
            Self::Smoke | Self::Baseline => "measured",
            Self::Stress => "stress",
            Self::Spike2x | Self::Spike5x => "spike",
            Self::Soak => "late",
            Self::Breakpoint => "ramp",
            Self::ColdCache => "cold",
            Self::RegionDrain => "after",
            Self::DependencyFaults => "faults",
        }
    }

    pub(crate) fn script(self, root: &Path) -> PathBuf {
        root.join("loadtest/k6").join(self.name()).with_extension("js")
    }
}

/// What is broken, and when, as a share of the run. Each service once: after that its pid is another.
const FAULTS: [(f64, &str, &str, u64); 8] = [
    (0.22, "kill", "ranking", 0),
    (0.29, "freeze", "retrieval", 3),
    (0.37, "kill", "bandit", 0),
    (0.44, "freeze", "redis", 3),
    (0.52, "freeze", "embedder", 5),
    (0.60, "freeze", "kafka", 1),
    (0.66, "kill", "llm", 0),
    (0.72, "kill", "origin", 0),
];

/// A share of a drain's run, after which the first edge has no visitors and is ended.
const DRAINED: f64 = 0.65;

/// What was done to the platform, at a Unix time in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    at: f64,
    name: String,
}

/// All that a report needs.
pub(crate) struct Outcome {
    question: Question,
    command: String,
    facts: Vec<(&'static str, String)>,
    verdicts: Vec<(String, Result<String, String>)>,
    ran: Ran,
    faults: Vec<Fault>,
    watched: Watched,
}

pub(crate) fn run(args: &LoadtestArgs) -> anyhow::Result<ExitCode> {
    let root = crate::root().canonicalize().context("find the repository")?;
    let tools = crate::tools::folder()?;
    std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    let k6 = K6::installed(&tools)?;
    let attune = process::attune(&root, args.attune.as_deref())?;
    let name = format!("{}-{}", args.question.name(), unix_seconds() as u64);
    let folder = root.join("target/loadtest").join(&name);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;

    let mut platform = match &args.edge {
        Some(edge) => Platform::there(edge, args.ready.as_deref())?,
        None => {
            let filled = Filled { data: args.data.as_deref(), state: args.state.as_deref() };
            Platform::start(&attune, args.engines, filled, args.question)?
        }
    };
    let script = args.question.script(&root);
    let parameters = args.parameters(&platform.edges, &name);
    let length = k6.inspect(&script, &parameters)?["totalDuration"].as_str().and_then(total).unwrap_or(0.0) - GRACE;
    if args.question == Question::ColdCache {
        cool(&k6, &root, args, &platform, &folder)?;
    }

    eprintln!("{name}: {length:.0} s, against {}", platform.edges.join(", "));
    let began = date()?;
    let watch = Watch::start();
    let (ran, faults) = thread::scope(|scope| {
        let begun = Instant::now();
        let running = scope.spawn(|| k6.run(&script, &parameters, &folder));
        let until = |share: f64| {
            while begun.elapsed().as_secs_f64() < length * share && !running.is_finished() {
                thread::sleep(Duration::from_millis(50));
            }
        };
        let faults = match args.question {
            Question::DependencyFaults => break_parts(&root, args, &platform, &folder, until),
            Question::RegionDrain if args.edge.is_none() => {
                until(DRAINED);
                let at = unix_seconds();
                platform.end_first_edge().map(|()| vec![Fault { at, name: "the first edge ends".to_owned() }])
            }
            _ => Ok(Vec::new()),
        };
        let ran = running.join().map_err(|_panic| anyhow::anyhow!("k6's reader panicked"))?;
        anyhow::Ok((ran?, faults?))
    })?;
    let watched = watch.end();

    let edge = platform.edges.last().context("find an edge")?;
    let (logged, again) = count(&attune, edge, &name)?;
    let acknowledged = ran.count("events_acknowledged");
    let unanswered = ran.count("events_sent") - acknowledged - ran.count("events_rejected");
    let counted = Counted { acknowledged, unanswered, logged, again };
    let outcome = Outcome {
        question: args.question,
        command: args.command(),
        facts: facts(args, &k6, began, counted, &watched)?,
        verdicts: verdicts(&ran, counted),
        ran,
        faults,
        watched,
    };
    let report = folder.join("report.html");
    std::fs::write(&report, html::page(&outcome)).with_context(|| format!("write {}", report.display()))?;
    print(&outcome, counted, &report, args)?;
    let missed = outcome.verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    // A ramp that broke the platform has found what it looked for.
    let done = missed == 0 || (args.question == Question::Breakpoint && counted.check().is_ok());
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What k6 adds to a script's time so that the last pages can end.
const GRACE: f64 = 30.0;

impl LoadtestArgs {
    fn parameters<'a>(&'a self, edges: &[String], run: &str) -> Vec<(&'a str, String)> {
        let mut all = vec![("EDGE", edges.join(",")), ("SEED", self.seed.to_string()), ("RUN", run.to_owned())];
        all.extend(self.rate.map(|rate| ("RATE", rate.to_string())));
        all.extend(self.duration.map(|duration| ("DURATION", format!("{duration}s"))));
        all.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.clone())));
        all
    }

    /// As somebody else would give it.
    fn command(&self) -> String {
        let mut command = format!("cargo xtask loadtest {}", self.question.name());
        let mut add = |text: String| command.push_str(&text);
        if let Some(rate) = self.rate {
            add(format!(" --rate {rate}"));
        }
        if let Some(duration) = self.duration {
            add(format!(" --duration {duration}s"));
        }
        if self.seed != 1 {
            add(format!(" --seed {}", self.seed));
        }
        for (name, value) in &self.parameters {
            add(format!(" --set {name}={value}"));
        }
        if self.edge.is_some() {
            add(" --edge URL".to_owned());
        }
        if self.engines == Engines::KafkaRedis {
            add(" --engines kafka-redis".to_owned());
        }
        command
    }
}

/// Visitors come and go, so that the platform knows them; then the edge starts again with nothing.
fn cool(k6: &K6, root: &Path, args: &LoadtestArgs, platform: &Platform, folder: &Path) -> anyhow::Result<()> {
    let before = folder.join("before");
    std::fs::create_dir_all(&before).context("create a folder for the run before")?;
    eprintln!("visitors whom the cold edge is to meet again ...");
    let parameters = args.parameters(&platform.edges, "before");
    k6.run(&Question::Baseline.script(root), &parameters, &before)?;
    let ready = platform.ready_file(folder)?;
    said(fault_command(root, args).arg(ready).args(["kill", "edge"]), "kill the edge")?;
    thread::sleep(Duration::from_millis(500));
    platform.wait_ready("edge")
}

fn fault_command(root: &Path, args: &LoadtestArgs) -> Command {
    Command::new(args.faults.clone().unwrap_or_else(|| root.join("loadtest/faults.sh")))
}

/// Goes through [`FAULTS`], leaving out the engines that the platform does not have.
fn break_parts(
    root: &Path,
    args: &LoadtestArgs,
    platform: &Platform,
    folder: &Path,
    until: impl Fn(f64),
) -> anyhow::Result<Vec<Fault>> {
    let file = platform.ready_file(folder)?;
    let pids = platform.ready.as_ref().map(|ready| ready["pids"].clone()).unwrap_or_default();
    let mut done = Vec::new();
    for (share, action, name, seconds) in FAULTS.into_iter().filter(|(_, _, name, _)| pids[*name].is_u64()) {
        until(share);
        let at = unix_seconds();
        let mut command = fault_command(root, args);
        said(command.arg(&file).args([action, name, &seconds.to_string()]), &format!("{action} {name}"))?;
        done.push(Fault { at, name: format!("{action} {name}") });
    }
    if done.is_empty() {
        bail!("the ready line names no process to break: is the platform one of --separate?");
    }
    Ok(done)
}

fn verdicts(ran: &Ran, counted: Counted) -> Vec<(String, Result<String, String>)> {
    let mut all: Vec<_> = ran
        .thresholds()
        .into_iter()
        .map(|(metric, rule, held)| {
            let statistic = rule.split(['<', '>', '=']).next().unwrap_or_default();
            let seen = match ran.figure(&metric, statistic) {
                Some(value) => format!("{statistic} {}", (value * 1e4).round() / 1e4),
                None => "nothing was measured".to_owned(),
            };
            (format!("{metric}: {rule}"), if held { Ok(seen) } else { Err(seen) })
        })
        .collect();
    let lost = counted.check().map(|()| format!("{} of {} lost", counted.lost(), counted.acknowledged));
    all.push(("acknowledged feedback is on the log".to_owned(), lost.map_err(|error| format!("{error:#}"))));
    all
}

fn facts(
    args: &LoadtestArgs,
    k6: &K6,
    began: String,
    counted: Counted,
    watched: &Watched,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let Counted { acknowledged, unanswered, logged, again } = counted;
    let platform = match &args.edge {
        Some(edge) => format!("a running one, {edge}"),
        None => format!("attune up --separate, {}", args.engines.name()),
    };
    Ok(vec![
        ("began", began),
        ("machine", machine::name()),
        ("load average of the machine, before and after", watched.load()),
        ("platform", platform),
        ("load generator", format!("{}, on the same machine", k6.version()?)),
        (
            "feedback",
            format!(
                "{acknowledged} events acknowledged, {logged} on the log, {unanswered} unanswered at the end, {again} on the log twice"
            ),
        ),
    ])
}

/// The verdicts, and a row for the table of results in `loadtest/README.md`.
fn print(outcome: &Outcome, counted: Counted, report: &Path, args: &LoadtestArgs) -> anyhow::Result<()> {
    let Outcome { ran, question, watched, .. } = outcome;
    for (name, verdict) in &outcome.verdicts {
        let (word, seen) = match verdict {
            Ok(seen) => ("held  ", seen),
            Err(reason) => ("MISSED", reason),
        };
        crate::print(&format!("{word}  {name}  ({seen})\n"))?;
    }
    let phase = question.phase();
    let latency = format!("http_req_duration{{name:personalize,phase:{phase}}}");
    let ms = |figure: &str| ran.figure(&latency, figure).map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    let share = |metric: &str| ran.figure(&format!("{metric},phase:{phase}}}"), "rate").map_or("-".to_owned(), percent);
    let all_hits = ran.figure(&format!("edge_hits{{phase:{phase}}}"), "rate").map_or("-".to_owned(), percent);
    let missed: Vec<_> =
        outcome.verdicts.iter().filter(|(_, verdict)| verdict.is_err()).map(|(name, _)| name.as_str()).collect();
    let seconds = ran.series.seconds();
    let pages: usize = seconds.iter().map(|second| second.pages.len()).sum();
    crate::print(&format!(
        "report: {}\n| {} | `{}` | {} | {:.1} | {} / {} / {} | {} | {} / {all_hits} | {} / {} / {} | {} | {} |\n",
        report.display(),
        outcome.facts[0].1,
        outcome.command,
        if args.edge.is_some() { "running" } else { args.engines.name() },
        pages as f64 / seconds.len().max(1) as f64,
        ms("med"),
        ms("p(95)"),
        ms("p(99)"),
        share("http_req_failed{name:personalize"),
        share("edge_hits{kind:listing"),
        counted.acknowledged,
        counted.logged,
        counted.lost(),
        watched.load(),
        if missed.is_empty() { "all held".to_owned() } else { format!("missed: {}", missed.join("; ")) },
    ))?;
    Ok(())
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn date() -> anyhow::Result<String> {
    let said = said(Command::new("date").args(["-u", "+%F %H:%M UTC"]), "ask for the date")?;
    Ok(said.trim().to_owned())
}

fn unix_seconds() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "k6 tells its times by the machine's clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Seconds of a time such as 90s, 15m or 1h30m.
fn seconds(text: &str) -> Result<u64, String> {
    match total(text) {
        Some(seconds) if seconds >= 1.0 && seconds.fract() == 0.0 => Ok(seconds as u64),
        _ => Err("a time such as 90s, 15m or 8h".to_owned()),
    }
}

/// Seconds of what Go prints of a duration: `1h2m3.5s`.
fn total(text: &str) -> Option<f64> {
    let mut sum = 0.0;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * unit;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(sum)
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if is_name { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("{name:?} is no parameter")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_and_people_write_them() {
        assert_eq!(total("1h2m3.5s"), Some(3723.5));
        assert_eq!(seconds("90s"), Ok(90));
        for wrong in ["", "90", "0s", "s", "1d", "1.5s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert!(parameter("THINK=0.5").is_ok() && parameter("think=1").is_err() && parameter("THINK").is_err());
    }

    #[test]
    fn every_question_has_its_script() {
        for question in Question::value_variants() {
            let script = question.script(&crate::root());
            assert!(script.is_file(), "{}", script.display());
        }
    }
}
