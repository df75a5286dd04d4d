//! The talk's story. An upstream job stops stating a feature of new visitors: nothing fails, pages get worse.
//! The diagnosis goes from clicks to inputs to traces, and ranks every feature that the models read.

use super::platform::Platform;
use super::stage::{Stage, Verdict, Visitors, require};
use super::suspects::{self, Suspect, Values};
use crate::simulate::{Newcomers, Shop, WalkOptions};
use crate::trace::files::TraceFiles;
use attune_domain::UnixMillis;
use attune_runtime::system_clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The feature that the shop's job fills; what concludes the cause does not read it.
const FILLED: &str = "user_age_bucket";
/// Every page of the drill's minute leaves a trace, and the stream's metrics are a second old.
const SETTINGS: &str = "\
[edge.process.telemetry]
sample_normal = 1.0
[embedder.insight]
every = \"1s\"
lateness = \"1s\"
sample_one_in = 1
";
const VISITORS: usize = 80;
const RATE: f64 = 100.0;
/// Most of them before what they did says more than their age.
const VISITS: u64 = 2;
const HEALTHY: Duration = Duration::from_secs(60);
/// Window of what visitors click, in seconds.
const CLICKS: u64 = 50;
/// A dip beyond chance: at 50 pages a second a window has some 50,000 impressions, whose CTR has a standard error of 1 % if
/// they are independent.
const DIP: f64 = 0.94;
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let platform = stage.platform("platform", SETTINGS, &[]).await?;
    stage.watch(&platform, "local").await?;
    let shop = Arc::new(Shop::open(platform.admin()?)?);
    let visitors = Visitors::walk(options(stage, &platform, &shop));
    stage.did(format!("{VISITORS} new visitors at a time, each for {VISITS} visits; the shop states the age of each"));
    tokio::time::sleep(HEALTHY).await;

    let before = Inputs::read(stage, CLICKS).await?;
    let drift = stage.alert("FeatureDrift", &[], 1).await?;
    require(!stage.is_true(&drift).await?, "FeatureDrift is true before anything broke")?;
    stage.saw(format!("before: CTR {:.4}; FeatureDrift is true of no feature", before.ctr));
    shop.fails();
    let broke = system_clock()();
    stage.breaks(format!("the shop's job stops after {} visitors, and says nothing", shop.stated()));

    // What a person would notice first.
    tokio::time::sleep(Duration::from_secs(CLICKS)).await;
    let dipped = format!("{} < {}", ctr(CLICKS), DIP * before.ctr);
    let what = format!("CTR is {:.0} % below what it was", 100.0 * (1.0 - DIP));
    let dip = stage.signal(&what, &dipped, PATIENCE).await?;
    let drifts = stage.fires(&drift, PATIENCE, |_| true).await?;
    let now = Inputs::read(stage, CLICKS).await?;
    visitors.stop().await?;

    let nulls = suspects::risen(&before.nulls, &now.nulls);
    let divergences = suspects::risen(&before.drift, &now.drift);
    stage.evidence(table("share of reads without a value", &nulls));
    stage.evidence(table("drift from training", &divergences));
    // Traces wait some seconds for their verdict.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let paths_before = Paths::read(&platform, (0, broke))?;
    let paths_now = Paths::read(&platform, (broke + 2_000, UnixMillis::MAX))?;
    let shares = [paths_before.share(), paths_now.share()];
    stage.evidence(format!(
        "traces: context.build took the default path in {:.1} % of {} pages before, in {:.1} % of {} now",
        100.0 * shares[0],
        paths_before.pages,
        100.0 * shares[1],
        paths_now.pages
    ));

    let ranked = suspects::together(&nulls, &divergences);
    stage.evidence(table("features by how far both moved", &ranked));
    let cause = conclude(&ranked, shares).filter(|_| dip && drifts).map(str::to_owned);
    platform.stop().await?;
    Ok(Verdict {
        is_right: cause.as_deref() == Some(FILLED),
        cause: cause.map(|feature| {
            format!("{feature} is not filled any more: its source stopped stating it, and pages are made without it")
        }),
        truth: format!("the job that states {FILLED} of new visitors"),
    })
}

fn options(stage: &Stage, platform: &Platform, shop: &Arc<Shop>) -> WalkOptions {
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), VISITORS, stage.seed);
    options.rate = RATE;
    options.shop = Some(shop.clone());
    options.newcomers = Some(Newcomers::anybody(VISITS));
    options
}

/// Clicks for each item shown of the last seconds.
fn ctr(seconds: u64) -> String {
    let of = |what: &str| format!("sum(increase(personalization_{what}_total{{source=\"personalized\"}}[{seconds}s]))");
    format!("{} / {}", of("clicks"), of("impressions"))
}

/// The one that stands out, where pages take the default path that did not.
fn conclude(ranked: &[Suspect], [before, now]: [f64; 2]) -> Option<&str> {
    let stands_out = suspects::stands_out(ranked, 0.3, 2.0)?;
    (now > before + 0.2).then_some(stands_out.name.as_str())
}

fn table(what: &str, suspects: &[Suspect]) -> String {
    let mut text = format!("{what}:");
    for suspect in suspects.iter().take(3) {
        text.push_str(&format!("\n{:<24} {:.3} -> {:.3}", suspect.name, suspect.before, suspect.now));
    }
    text
}

/// What the models were given, by feature.
struct Inputs {
    ctr: f64,
    nulls: Values,
    drift: Values,
}

impl Inputs {
    async fn read(stage: &Stage, seconds: u64) -> anyhow::Result<Self> {
        let read =
            |which: &str| format!("sum by (feature_name) (increase(model_features_read_total{{{which}}}[{seconds}s]))");
        let nulls = format!("{} / {}", read("presence!=\"present\""), read(""));
        let values = async |expression: &str| -> anyhow::Result<Values> {
            let series = stage.query(expression).await?;
            Ok(series.into_iter().map(|sample| (sample.label("feature_name").to_owned(), sample.value)).collect())
        };
        Ok(Self {
            ctr: stage.value(&ctr(seconds)).await?.unwrap_or(0.0),
            nulls: values(&nulls).await?,
            drift: values("model_feature_drift_score").await?,
        })
    }
}

/// How pages were made, from their traces.
#[derive(Debug, Default)]
struct Paths {
    pages: usize,
    default: usize,
}

impl Paths {
    fn read(platform: &Platform, (from, to): (UnixMillis, UnixMillis)) -> anyhow::Result<Self> {
        let files = TraceFiles::of(&platform.state.join("traces"), None)?;
        let mut paths = Self::default();
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        files.each(
            |id| (from..to).contains(&id.unix_millis()),
            |kept| {
                for placed in kept.spans().iter().filter(|placed| placed.span.name == "context.build") {
                    if let Some(default) = placed.text("default_path") {
                        *outcomes.entry(default).or_default() += 1;
                    }
                }
            },
        )?;
        paths.pages = outcomes.values().sum();
        paths.default = outcomes.get("true").copied().unwrap_or(0);
        Ok(paths)
    }

    fn share(&self) -> f64 {
        self.default as f64 / self.pages.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(of: &[(&str, f64)]) -> Vec<Suspect> {
        suspects::risen(&Values::new(), &of.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    #[test]
    fn a_feature_is_named_only_where_inputs_and_traces_agree() {
        let moved = ranked(&[("user_plan", 1.8), ("hour_night", 0.2), ("popularity", 0.01)]);
        assert_eq!(conclude(&moved, [0.02, 0.97]), Some("user_plan"));
        assert_eq!(conclude(&moved, [0.02, 0.05]), None, "pages are made as before");
        assert_eq!(conclude(&moved, [0.9, 0.97]), None, "they were made so before");
        assert_eq!(conclude(&ranked(&[("user_plan", 0.1)]), [0.0, 0.9]), None, "too little moved");
        assert_eq!(conclude(&ranked(&[("a", 0.9), ("b", 0.8)]), [0.0, 0.9]), None, "two moved alike");
    }
}
