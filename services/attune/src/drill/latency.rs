//! The ranking process does not get its CPU: it is stopped for most of each third of a second, as a control group's
//! quota does. The origin waits for it, because this drill's settings let it wait for longer than the usual 60 ms.

use super::platform::Process;
use super::stage::{Stage, Verdict, Visitors, require};
use super::suspects::{self, Suspect, Values};
use crate::simulate::WalkOptions;
use std::time::Duration;

/// With the usual deadlines a late stage lowers the level of a page instead.
const SETTINGS: &str = "\
[origin.deadlines]
ranking = \"900ms\"
[edge]
origin_deadline = \"1500ms\"
";
const STOPPED: Duration = Duration::from_millis(350);
const RUNNING: Duration = Duration::from_millis(50);
const HEALTHY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);
/// Stages of a page, who does the work, and the histogram of that.
const STAGES: [(&str, &str); 4] =
    [("context.build", "embedder"), ("api.retrieve", "retrieval"), ("api.rank", "ranking"), ("api.sample", "bandit")];
/// The one that is slowed down; what concludes the cause does not read it.
const SLOWED: &str = "ranking";

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let platform = stage.platform("separate", SETTINGS, &["--separate".to_owned()]).await?;
    stage.watch(&platform, "local").await?;
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), 30, stage.seed);
    options.rate = 20.0;
    let visitors = Visitors::walk(options);
    stage.did("30 visitors walk");
    tokio::time::sleep(HEALTHY).await;
    // Pages of the first seconds meet empty caches; they leave the range.
    let alert = stage.alert("HighLatency", &[("service", "origin")], 10).await?;
    let calm = format!("absent({})", alert.expression);
    let healthy = stage.signal("no endpoint of the origin is slow", &calm, PATIENCE).await?;
    require(healthy, "the platform is slow before the failure: this machine has too much to do")?;
    let before = Slowness::read(stage).await?;

    let process = platform.process(SLOWED)?;
    let pid = process.pid;
    stage.breaks(format!(
        "the ranking process {pid} runs for {} ms and stands still for {} ms, and so on",
        RUNNING.as_millis(),
        STOPPED.as_millis()
    ));
    let throttling = tokio::spawn(throttle(process));
    let edge = "histogram_quantile(0.95, sum by (le) (rate(edge_latency_seconds_bucket[30s]))) > 0.15";
    stage.signal("p95 at the edge, in seconds", edge, PATIENCE).await?;
    let fired = stage.fires(&alert, PATIENCE, |_| true).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let now = Slowness::read(stage).await?;

    stage.evidence(format!("requests a second: {:.1} -> {:.1}", before.requests, now.requests));
    let stages = suspects::risen(&before.stages, &now.stages);
    stage.evidence(table("p95 of a page's stages, in seconds", &stages));
    let cpu: Vec<String> = STAGES
        .iter()
        .map(|(_, service)| {
            let of = |slowness: &Slowness| slowness.cpu.get(*service).copied().unwrap_or(0.0);
            format!("{service} {:.3} -> {:.3}", of(&before), of(&now))
        })
        .collect();
    stage.evidence(format!("CPU used by its processes, in cores: {}", cpu.join(", ")));
    let found = conclude(&before, &now);

    // Dropping the process lets it run.
    throttling.abort();
    let _aborted = throttling.await;
    stage.did("the process runs again");
    let recovers = stage.signal("no endpoint of the origin is slow", &calm, PATIENCE).await?;
    visitors.stop().await?;
    platform.stop().await?;
    let is_right = found.as_ref().is_some_and(|(service, load)| service == SLOWED && *load == Load::Starved);
    Ok(Verdict {
        is_right: is_right && fired && recovers,
        cause: found.map(|(service, load)| match load {
            Load::Starved => {
                format!("{service} is slow without using more CPU for it: its process does not get to run")
            }
            Load::Busy => format!("{service} is slow and busy: it has more to compute"),
        }),
        truth: format!("the ranking process {pid} was stopped for seven eighths of the time"),
    })
}

async fn throttle(process: Process) {
    loop {
        process.freeze();
        tokio::time::sleep(STOPPED).await;
        process.thaw();
        tokio::time::sleep(RUNNING).await;
    }
}

struct Slowness {
    requests: f64,
    /// p95 in seconds.
    stages: Values,
    /// Cores, by service.
    cpu: Values,
}

impl Slowness {
    async fn read(stage: &Stage) -> anyhow::Result<Self> {
        let values = async |expression: &str, label: &str| -> anyhow::Result<Values> {
            let series = stage.query(expression).await?;
            Ok(series.into_iter().map(|sample| (sample.label(label).to_owned(), sample.value)).collect())
        };
        let stages = "histogram_quantile(0.95, sum by (stage, le) (rate(api_stage_duration_seconds_bucket[20s])))";
        Ok(Self {
            requests: stage.value("sum(rate(edge_requests_total[20s]))").await?.unwrap_or(0.0),
            stages: values(stages, "stage").await?,
            cpu: values("sum by (job) (rate(process_cpu_seconds_total[20s]))", "job").await?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Starved,
    Busy,
}

/// The service behind the stage that became slower than all others, and whether it computes more than before.
fn conclude(before: &Slowness, now: &Slowness) -> Option<(String, Load)> {
    let stages = suspects::risen(&before.stages, &now.stages);
    let slow = suspects::stands_out(&stages, 0.05, 2.0)?;
    let (_, service) = STAGES.iter().find(|(stage, _)| *stage == slow.name)?;
    let cpu = |of: &Slowness| of.cpu.get(*service).copied();
    let more = cpu(now)? > 1.5 * cpu(before)? + 0.05;
    Some(((*service).to_owned(), if more { Load::Busy } else { Load::Starved }))
}

fn table(what: &str, suspects: &[Suspect]) -> String {
    let mut text = format!("{what}:");
    for suspect in suspects {
        text.push_str(&format!("\n{:<24} {:.3} -> {:.3}", suspect.name, suspect.before, suspect.now));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowness(stages: &[(&str, f64)], cpu: &[(&str, f64)]) -> Slowness {
        let values = |of: &[(&str, f64)]| of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Slowness { requests: 10.0, stages: values(stages), cpu: values(cpu) }
    }

    #[test]
    fn the_slow_stage_names_the_service_and_its_cpu_says_why() {
        let before = slowness(&[("api.rank", 0.01), ("api.retrieve", 0.01)], &[("ranking", 0.2), ("retrieval", 0.1)]);
        let after = |rank: f64, retrieve: f64, cpu: f64| {
            let now =
                slowness(&[("api.rank", rank), ("api.retrieve", retrieve)], &[("ranking", cpu), ("retrieval", cpu)]);
            conclude(&before, &now)
        };
        assert_eq!(after(0.3, 0.02, 0.1), Some(("ranking".into(), Load::Starved)));
        assert_eq!(after(0.3, 0.02, 0.9), Some(("ranking".into(), Load::Busy)));
        assert_eq!(after(0.02, 0.3, 0.1), Some(("retrieval".into(), Load::Starved)));
        assert_eq!(after(0.3, 0.3, 0.1), None, "everything is slow");
        assert_eq!(after(0.01, 0.01, 0.1), None, "nothing is slow");
    }
}
