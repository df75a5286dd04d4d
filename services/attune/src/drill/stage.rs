//! Where a drill happens: a folder, platforms in it, a Prometheus that watches them, visitors, and a stopwatch.

use super::platform::Platform;
use super::report::{AlertReport, DrillReport, Kind, Step};
use super::shorten::shorten;
use crate::observe::Observe;
use crate::observe::prometheus::{Labels, Prometheus, Rule, Sample};
use crate::output;
use crate::simulate::{self, WalkOptions, WalkReport};
use anyhow::Context as _;
use attune_dataset::World;
use attune_runtime::{Exit, Fatal, Shutdown, system_clock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often Prometheus looks during a drill; the kit's 15 s are for years.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
const ASK: Duration = Duration::from_millis(500);

pub(crate) struct Stage {
    pub(crate) root: PathBuf,
    pub(crate) world: Arc<World>,
    pub(crate) seed: u64,
    drill: &'static str,
    began: Instant,
    failed: Option<Instant>,
    /// The same in Unix seconds, for Prometheus.
    failed_at: f64,
    steps: Vec<Step>,
    alerts: Vec<AlertReport>,
    evidence: Vec<String>,
    observe: Option<(Observe, Prometheus)>,
}

/// What a drill found out, and what it had done.
pub(crate) struct Verdict {
    /// What the signals point at; none where they do not agree.
    pub(crate) cause: Option<String>,
    /// Whether that is what was broken.
    pub(crate) is_right: bool,
    /// What was broken, in words.
    pub(crate) truth: String,
}

/// An alert's rule, and what the drill evaluates of it.
pub(crate) struct Alert {
    rule: Rule,
    divisor: u32,
    pub(crate) expression: String,
}

impl Stage {
    pub(crate) fn new(drill: &'static str, root: &Path, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            world: Arc::new(crate::fill::world(seed)?),
            seed,
            drill,
            began: Instant::now(),
            failed: None,
            failed_at: 0.0,
            steps: Vec::new(),
            alerts: Vec::new(),
            evidence: Vec::new(),
            observe: None,
        })
    }

    fn step(&mut self, kind: Kind, what: impl Into<String>) {
        let what = what.into();
        let after = self.failed.map(|failed| failed.elapsed().as_secs_f64());
        let seconds = self.began.elapsed().as_secs_f64();
        output::note(&format!("{seconds:>6.1} s  {what}"));
        self.steps.push(Step { seconds, after, kind, what });
    }

    pub(crate) fn did(&mut self, what: impl Into<String>) {
        self.step(Kind::Did, what);
    }

    pub(crate) fn saw(&mut self, what: impl Into<String>) {
        self.step(Kind::Saw, what);
    }

    /// Something the cause is concluded from.
    pub(crate) fn evidence(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.evidence.push(what.clone());
        self.saw(what);
    }

    /// The failure begins.
    pub(crate) fn breaks(&mut self, what: impl Into<String>) {
        self.failed = Some(Instant::now());
        self.failed_at = unix_seconds();
        self.did(what);
    }

    /// Starts a platform in the folder's `name`, filled with the world where it is empty.
    pub(crate) async fn platform(
        &mut self,
        name: &str,
        settings: &str,
        arguments: &[String],
    ) -> anyhow::Result<Platform> {
        let state = self.root.join(name);
        let filled = state.join("FILLED").exists();
        let platform = Platform::start(&state, self.seed, settings, arguments).await?;
        let what = if filled { "a platform serves" } else { "filled and trained a platform, which serves" };
        self.did(format!("{what} ({name}, {})", platform.ready.edge));
        Ok(platform)
    }

    /// Starts Prometheus, or has it watch one more platform. Waits until it has seen every process twice.
    pub(crate) async fn watch(&mut self, platform: &Platform, region: &str) -> anyhow::Result<()> {
        if self.observe.is_none() {
            let (observe, address) = Observe::prometheus_only(&self.root.join("observe"), LOOK).await?;
            self.observe = Some((observe, Prometheus::new(format!("http://{address}"))));
            self.did(format!("Prometheus watches, with the kit's rules, every {} s", LOOK.as_secs()));
        }
        let (observe, _) = self.observe.as_ref().context("watch")?;
        let targets = platform.ready.targets();
        for (job, address) in &targets {
            observe.target(job, address, region)?;
        }
        let seen = format!("count(count_over_time(up{{region=\"{region}\",job!=\"prometheus\"}}[1m]) >= 2)");
        let wanted = targets.len() as f64;
        self.until(&format!("{seen} >= {wanted}"), Duration::from_secs(60)).await?.context("watch the platform")?;
        Ok(())
    }

    /// Has Prometheus watch several platforms that each run everything in one process, a region each.
    pub(crate) async fn watch_regions(&mut self, platforms: &[(&str, &Platform)]) -> anyhow::Result<()> {
        let (observe, address) = Observe::prometheus_only(&self.root.join("observe"), LOOK).await?;
        let targets: Vec<(&str, &str)> = platforms
            .iter()
            .flat_map(|(region, p)| p.ready.targets().into_values().map(move |at| (*region, at)))
            .collect();
        observe.targets("attune", &targets)?;
        self.observe = Some((observe, Prometheus::new(format!("http://{address}"))));
        let seen = format!("count(count_over_time(up{{job=\"attune\"}}[1m]) >= 2) >= {}", platforms.len());
        self.until(&seen, Duration::from_secs(60)).await?.context("watch the platforms")?;
        self.did(format!(
            "Prometheus watches {} regions, with the kit's rules, every {} s",
            platforms.len(),
            LOOK.as_secs()
        ));
        Ok(())
    }

    pub(crate) fn prometheus(&self) -> anyhow::Result<&Prometheus> {
        Ok(&self.observe.as_ref().context("Prometheus is not started")?.1)
    }

    pub(crate) async fn value(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        self.prometheus()?.value(expression).await
    }

    pub(crate) async fn query(&self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        self.prometheus()?.query(expression).await
    }

    /// Waits until the expression has a value; gives its series, or none after `limit`.
    pub(crate) async fn until(&self, expression: &str, limit: Duration) -> anyhow::Result<Option<Vec<Sample>>> {
        let begun = Instant::now();
        loop {
            // One question that was not answered in time is asked again.
            if let Ok(found) = self.query(expression).await
                && !found.is_empty()
            {
                return Ok(Some(found));
            }
            if begun.elapsed() > limit {
                return Ok(None);
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// The rule of an alert which has these labels.
    pub(crate) async fn alert(&self, name: &str, labels: &[(&str, &str)], divisor: u32) -> anyhow::Result<Alert> {
        let rules = self.prometheus()?.rules(name).await?;
        let has = |rule: &Rule| labels.iter().all(|(label, value)| rule.labels.get(*label).is_some_and(|v| v == value));
        let rule = rules.into_iter().find(has).with_context(|| format!("find the rule of {name} {labels:?}"))?;
        let expression = shorten(&rule.query, divisor);
        Ok(Alert { rule, divisor, expression })
    }

    /// Notes a signal when its expression has a value, in order; says so where it has none in time.
    pub(crate) async fn signal(&mut self, what: &str, expression: &str, limit: Duration) -> anyhow::Result<bool> {
        let found = self.until(expression, limit).await?;
        match &found {
            Some(series) => {
                let values: Vec<String> = series.iter().take(3).map(|s| format!("{:.3}", s.value)).collect();
                self.saw(format!("{what} ({})", values.join(", ")));
            }
            None => self.saw(format!("not seen within {} s: {what}", limit.as_secs())),
        }
        Ok(found.is_some())
    }

    /// Waits until the alert's expression is true for a series that `suits`, and notes it.
    pub(crate) async fn fires(
        &mut self,
        alert: &Alert,
        limit: Duration,
        suits: impl Fn(&Labels) -> bool,
    ) -> anyhow::Result<bool> {
        let begun = Instant::now();
        let found = loop {
            let series = self.query(&alert.expression).await.unwrap_or_default();
            if let Some(sample) = series.into_iter().find(|sample| suits(&sample.labels)) {
                break Some(sample);
            }
            if begun.elapsed() > limit {
                break None;
            }
            tokio::time::sleep(ASK).await;
        };
        let name = &alert.rule.name;
        let true_after = match &found {
            // It may have been true for longer than it was asked for.
            Some(sample) => {
                let period = [self.failed_at, unix_seconds()];
                let first = self.prometheus()?.first(&alert.expression, &sample.labels, period).await;
                let asked = self.failed.map(|failed| failed.elapsed().as_secs_f64()).unwrap_or_default();
                Some(first.ok().flatten().map_or(asked, |first| (first - self.failed_at).max(0.0)))
            }
            None => None,
        };
        if let Some(sample) = &found {
            let labels: Vec<String> = sample
                .labels
                .iter()
                .filter(|(key, _)| !["instance", "job", "__name__"].contains(&key.as_str()))
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            let note = if alert.divisor > 1 { format!(", ranges divided by {}", alert.divisor) } else { String::new() };
            self.step(
                Kind::Alert,
                format!(
                    "{name}: its expression is true, since {:.1} s after the failure ({:.3}; {}{note})",
                    true_after.unwrap_or_default(),
                    sample.value,
                    labels.join(" ")
                ),
            );
        } else {
            self.saw(format!("{name}: its expression is not true after {} s", limit.as_secs()));
        }
        // What Prometheus itself makes of the rule as it stands in the kit.
        let now = self.prometheus()?.rules(name).await?;
        let state = now.into_iter().find(|rule| rule.query == alert.rule.query).map(|rule| rule.state);
        let label = |name: &str| alert.rule.labels.get(name).cloned().unwrap_or_default();
        self.alerts.push(AlertReport {
            name: name.clone(),
            severity: label("severity"),
            service: label("service"),
            expression: alert.rule.query.clone(),
            shortened: (alert.divisor > 1).then(|| alert.expression.clone()),
            divisor: alert.divisor,
            for_seconds: alert.rule.duration,
            state: state.unwrap_or_else(|| alert.rule.state.clone()),
            true_after,
            runbook: alert.rule.annotations.get("runbook_url").cloned().unwrap_or_default(),
        });
        Ok(found.is_some())
    }

    /// Whether the alert's expression is true now.
    pub(crate) async fn is_true(&self, alert: &Alert) -> anyhow::Result<bool> {
        Ok(!self.query(&alert.expression).await?.is_empty())
    }

    pub(crate) async fn end(mut self, verdict: Verdict) -> DrillReport {
        if let Some(cause) = &verdict.cause {
            self.step(Kind::Cause, cause.clone());
        }
        if let Some((observe, _)) = self.observe.take() {
            observe.ended().await;
        }
        let all_true = !self.alerts.is_empty() && self.alerts.iter().all(|alert| alert.true_after.is_some());
        DrillReport {
            drill: self.drill,
            passed: all_true && verdict.is_right && verdict.cause.is_some(),
            seconds: self.began.elapsed().as_secs_f64(),
            alerts: self.alerts,
            cause: verdict.cause,
            truth: verdict.truth,
            evidence: self.evidence,
            steps: self.steps,
        }
    }
}

fn unix_seconds() -> f64 {
    system_clock()() as f64 / 1e3
}

/// What must be so before anything is broken; else this is no time for a drill.
pub(crate) fn require(is_so: bool, otherwise: impl Into<String>) -> anyhow::Result<()> {
    match is_so {
        true => Ok(()),
        false => Err(Fatal::new(Exit::TryLater, anyhow::Error::msg(otherwise.into())).into()),
    }
}

/// Visitors who walk until they are told to stop.
pub(crate) struct Visitors {
    stop: Shutdown,
    walking: JoinHandle<anyhow::Result<WalkReport>>,
}

impl Visitors {
    pub(crate) fn walk(mut options: WalkOptions) -> Self {
        options.quiet = true;
        let stop = Shutdown::new();
        Self { walking: tokio::spawn(simulate::walk(options, stop.clone())), stop }
    }

    pub(crate) async fn stop(self) -> anyhow::Result<WalkReport> {
        self.stop.trigger();
        self.walking.await.context("walk the visitors")?
    }
}
