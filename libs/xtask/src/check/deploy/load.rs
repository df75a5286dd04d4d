//! The load tests before the tools that run them, and once against a platform: k6 takes every script apart, a minute of k6 and
//! a minute of goose go well, and the log has what their visitors were told is safe. What must not pass does not.

use super::steps::Steps;
use crate::check::process::{self, said};
use crate::loadtest::{CROSSED, Counted, Engines, Filled, K6, Platform, Question, count};
use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An edge that nobody listens as.
const NOBODY: &str = "http://127.0.0.1:9";

pub(super) fn check(steps: &mut Steps, root: &Path, named: Option<&Path>) {
    let k6 = steps.take("load: k6", || {
        let tools = crate::tools::folder()?;
        fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
        let k6 = K6::installed(&tools)?;
        let version = k6.version()?;
        Ok((k6, version))
    });
    let goose = steps.take("load: goose builds and its tests pass", || goose(root));
    let Some(k6) = k6 else { return };
    steps.check("load: k6 takes every script", || inspect(&k6, root));
    steps.check("load: visitors come as the model says", || {
        k6.test(&root.join("loadtest/k6/test/model.js"))?;
        // A popularity that the test does not expect.
        let flat = altered(root, "lib/users.js", "Math.pow(rank, -alpha)", "Math.pow(rank, -alpha / 2)")?;
        refused(k6.test(&flat.path().join("test/model.js")), "thresholds on metrics 'checks'")?;
        Ok("and another popularity is refused".to_owned())
    });
    steps.check("load: an unknown option is refused", || refuse_unknown(&k6, root));
    let platform = steps.take("load: a platform of seven processes", || {
        let attune = process::attune(root, named)?;
        let platform = Platform::start(&attune, Engines::Embedded, Filled::default(), Question::Smoke)?;
        let edge = platform.edges.join(",");
        Ok(((attune, platform), edge))
    });
    let Some((attune, platform)) = platform else { return };
    let edge = platform.edges[0].clone();
    steps.check("load: a minute of k6, every threshold holds, the log has it all", || smoke(&k6, root, &attune, &edge));
    if let Some(goose) = goose {
        steps.check("load: a minute of goose, the log has it all", || journeys(&goose, &attune, &edge));
        steps.check("load: goose without a platform fails", || refuse_silence(&goose));
    }
    steps.check("load: a threshold that must fail fails", || cross(&k6, root, &edge));
    steps.check("load: faults.sh breaks what it names, and nothing else", || faults(root, &platform));
}

fn goose(root: &Path) -> anyhow::Result<(PathBuf, String)> {
    let folder = root.join("loadtest/goose");
    let target = root.join("target/goose");
    let cargo = |task: &str| {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&folder).args([task, "--locked", "--target-dir"]).arg(&target);
        cargo.env("CARGO_INCREMENTAL", "0");
        cargo
    };
    said(&mut cargo("build"), "build attune-goose")?;
    let tested = said(&mut cargo("test"), "test attune-goose")?;
    let passed = tested.lines().find(|line| line.starts_with("test result: ok")).context("find goose's test result")?;
    Ok((target.join("debug/attune-goose"), passed.trim_start_matches("test result: ").to_owned()))
}

fn inspect(k6: &K6, root: &Path) -> anyhow::Result<String> {
    let two = [("EDGE", "http://127.0.0.1:1,http://127.0.0.1:2".to_owned())];
    let mut seen = Vec::new();
    for question in Question::value_variants() {
        let wanted = k6.inspect(&question.script(root), &two)?;
        let (Some(length), Some(most)) = (wanted["totalDuration"].as_str(), wanted["maxVUs"].as_u64()) else {
            bail!("{}: k6 does not say what it needs", question.name());
        };
        if wanted["thresholds"].as_object().is_none_or(|all| all.is_empty()) {
            bail!("{} has no threshold", question.name());
        }
        seen.push(format!("{} {length} {most} VUs", question.name()));
    }
    let scripts = fs::read_dir(root.join("loadtest/k6")).context("list the scripts")?;
    let scripts = scripts.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|end| end == "js"));
    if scripts.count() != seen.len() {
        bail!("loadtest/k6 has a script that answers no question of cargo xtask loadtest");
    }
    Ok(seen.join(", "))
}

/// The scripts with something put in place of something else.
fn altered(root: &Path, file: &str, from: &str, to: &str) -> anyhow::Result<tempfile::TempDir> {
    let work = tempfile::tempdir().context("create a folder for altered scripts")?;
    let source = root.join("loadtest/k6");
    for part in ["", "lib", "test"] {
        fs::create_dir_all(work.path().join(part)).context("create a folder for altered scripts")?;
        for entry in fs::read_dir(source.join(part)).context("list the scripts")? {
            let path = entry.context("list the scripts")?.path();
            if path.is_file() {
                let place = work.path().join(path.strip_prefix(&source).context("place a script")?);
                fs::copy(&path, place).with_context(|| format!("copy {}", path.display()))?;
            }
        }
    }
    let path = work.path().join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
    if text.matches(from).count() != 1 {
        bail!("{file} does not have {from:?} once");
    }
    fs::write(&path, text.replace(from, to)).with_context(|| format!("write {file}"))?;
    Ok(work)
}

fn refuse_unknown(k6: &K6, root: &Path) -> anyhow::Result<String> {
    let wrong = [
        ("lib/run.js", "summaryTrendStats:", "sumaryTrendStats:", "sumaryTrendStats"),
        ("lib/plan.js", "preAllocatedVUs:", "preAlocatedVUs:", "preAlocatedVUs"),
        ("lib/plan.js", "'ramping-arrival-rate'", "'rampant-arrival-rate'", "rampant-arrival-rate"),
    ];
    for (file, from, to, said) in wrong {
        let work = altered(root, file, from, to)?;
        refused(k6.inspect(&work.path().join("smoke.js"), &[]), said)?;
    }
    let smoke = Question::Smoke.script(root);
    for (name, value) in [("RATE", "-5"), ("RATE", "fast"), ("DURATION", "soon"), ("EDGE", "localhost:8080")] {
        refused(k6.inspect(&smoke, &[(name, value.to_owned())]), name)?;
    }
    refused(k6.inspect(&Question::RegionDrain.script(root), &[("EDGE", NOBODY.to_owned())]), "two edges")?;
    Ok("3 unknown options, 4 wrong parameters, a drain of the only edge".to_owned())
}

/// An error that names what is wrong.
fn refused<T>(result: anyhow::Result<T>, naming: &str) -> anyhow::Result<()> {
    match result {
        Ok(_) => bail!("{naming} was not refused"),
        Err(error) if format!("{error:#}").contains(naming) => Ok(()),
        Err(error) => Err(error.context(format!("it was refused for something else than {naming}"))),
    }
}

fn parameters(edge: &str, duration: &str, run: &str) -> Vec<(&'static str, String)> {
    vec![("EDGE", edge.to_owned()), ("DURATION", duration.to_owned()), ("RUN", run.to_owned())]
}

fn smoke(k6: &K6, root: &Path, attune: &Path, edge: &str) -> anyhow::Result<String> {
    let work = tempfile::tempdir().context("create a folder for a run")?;
    let ran = k6.run(&Question::Smoke.script(root), &parameters(edge, "60s", "check-smoke"), work.path())?;
    let thresholds = ran.thresholds();
    let missed: Vec<_> =
        thresholds.iter().filter(|(_, _, held)| !held).map(|(name, rule, _)| format!("{name}: {rule}")).collect();
    if ran.code != 0 || !missed.is_empty() {
        bail!("k6 ended with {}; missed: {}", ran.code, missed.join(", "));
    }
    let (logged, again) = count(attune, edge, "check-smoke")?;
    let acknowledged = ran.count("events_acknowledged");
    let unanswered = ran.count("events_sent") - acknowledged - ran.count("events_rejected");
    let counted = Counted { acknowledged, unanswered, logged, again };
    counted.check()?;
    // The comparison itself: a log of somebody else's run has nothing of this one.
    let (none, _) = count(attune, edge, "check-nobody")?;
    refused(Counted { logged: none, ..counted }.check(), "not on the log")?;
    Ok(format!("{} thresholds, {acknowledged} events acknowledged, {logged} on the log", thresholds.len()))
}

fn journeys(goose: &Path, attune: &Path, edge: &str) -> anyhow::Result<String> {
    let mut command = goose_command(goose, edge, "60s", "check-goose");
    let text = said(&mut command, "run attune-goose")?;
    let line = text.lines().rev().find(|line| line.starts_with('{')).context("find goose's last line")?;
    let tally: Value = serde_json::from_str(line).context("read goose's last line")?;
    let of = |name: &str| tally[name].as_u64().with_context(|| format!("find {name} in goose's last line"));
    let (logged, again) = count(attune, edge, "check-goose")?;
    let acknowledged = of("events_acknowledged")?;
    let unanswered = of("events_sent")? - acknowledged - of("events_rejected")?;
    Counted { acknowledged, unanswered, logged, again }.check()?;
    Ok(format!(
        "{} requests, {} failed, {acknowledged} events acknowledged, {logged} on the log",
        of("requests")?,
        of("failed")?
    ))
}

fn goose_command(goose: &Path, edge: &str, time: &str, run: &str) -> Command {
    let mut command = Command::new(goose);
    command.args(["--host", edge, "--users", "20", "--increase-rate", "10", "--run-time", time, "--no-reset-metrics"]);
    command.env("RUN", run);
    command
}

fn refuse_silence(goose: &Path) -> anyhow::Result<String> {
    let output = goose_command(goose, NOBODY, "3s", "check-silence").stdin(Stdio::null()).output();
    let output = output.context("start attune-goose")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !said.contains("requests failed") {
        bail!("without a platform attune-goose ended with {:?}", output.status.code());
    }
    Ok("exit code 1".to_owned())
}

fn cross(k6: &K6, root: &Path, edge: &str) -> anyhow::Result<String> {
    let strict = altered(root, "lib/slo.js", "['p(95)<100']", "['p(95)<0.001']")?;
    let cases = [
        (strict.path().join("smoke.js"), edge, "http_req_duration{name:personalize,phase:measured}"),
        // Nobody answers: that is an error rate of one, not a run without samples.
        (Question::Smoke.script(root), NOBODY, "http_req_failed{name:personalize,phase:measured}"),
    ];
    for (script, edge, metric) in cases {
        let work = tempfile::tempdir().context("create a folder for a run")?;
        let ran = k6.run(&script, &parameters(edge, "4s", "check-cross"), work.path())?;
        let crossed = ran.thresholds().iter().any(|(name, _, held)| name == metric && !held);
        if ran.code != CROSSED || !crossed {
            bail!("{metric} of a run against {edge} did not fail: k6 ended with {}", ran.code);
        }
    }
    Ok(format!("a latency that cannot be, and an edge that is not there: exit code {CROSSED} both times"))
}

fn faults(root: &Path, platform: &Platform) -> anyhow::Result<String> {
    let work = tempfile::tempdir().context("create a folder for the ready line")?;
    let ready = platform.ready_file(work.path())?;
    let script = root.join("loadtest/faults.sh");
    let call = |arguments: &[&str]| {
        let mut command = Command::new(&script);
        command.arg(&ready).args(arguments);
        command
    };
    for (arguments, why) in [
        (&["kill"][..], "READY ACTION"),
        (&["kill", "postgres"], "no pid of postgres"),
        (&["melt", "ranking"], "ACTION must be"),
        (&["freeze", "ranking", "soon"], "SECONDS must be"),
    ] {
        refused(said(&mut call(arguments), "faults.sh"), why)?;
    }
    let pid =
        platform.ready.as_ref().and_then(|ready| ready["pids"]["ranking"].as_u64()).context("find ranking's pid")?;
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).map(|text| text.contains(") T "));
    let mut freezing = call(&["freeze", "ranking", "1"]).spawn().context("start faults.sh")?;
    std::thread::sleep(Duration::from_millis(500));
    let frozen = state().context("look at ranking")?;
    let ended = freezing.wait().context("wait for faults.sh")?;
    if !frozen || !ended.success() || state().context("look at ranking")? {
        bail!("freeze did not stop ranking for a while");
    }
    said(&mut call(&["kill", "ranking"]), "kill ranking")?;
    std::thread::sleep(Duration::from_millis(500));
    // Its successor has another pid, which this ready line does not know.
    refused(said(&mut call(&["kill", "ranking"]), "faults.sh"), "not ranking any more")?;
    platform.wait_ready("ranking")?;
    Ok("freezes and kills a process by its pid; 5 wrong calls are refused".to_owned())
}
