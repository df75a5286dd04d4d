//! Drills of the model alerts: the world or a setting is bent, and the metric of the stream says so.

use super::platform::Platform;
use super::stage::{LOOK, Stage, Verdict, Visitors, require};
use super::suspects::{self, Suspect, Values};
use crate::observe::prometheus::Labels;
use crate::simulate::{Newcomers, Shop, WalkOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

const INSIGHT: &str = "[embedder.insight]\nevery = \"1s\"\nlateness = \"1s\"\nsample_one_in = 1\n";
const HEALTHY: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at the features.
const STEP: Duration = Duration::from_secs(5);

fn walk(stage: &Stage, platform: &Platform) -> WalkOptions {
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), 40, stage.seed);
    options.rate = 60.0;
    options
}

/// Only the oldest come: every feature is filled, with values that the training knew few of.
pub(super) async fn other_crowd(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let platform = stage.platform("platform", INSIGHT, &[]).await?;
    stage.watch(&platform, "local").await?;
    let shop = Arc::new(Shop::open(platform.admin()?)?);
    let mut options = walk(stage, &platform);
    options.shop = Some(shop);
    options.newcomers = Some(Newcomers::anybody(3));
    let visitors = Visitors::walk(options.clone());
    stage.did("new visitors of all ages come");
    tokio::time::sleep(HEALTHY).await;
    let before = Features::read(stage).await?;
    let alert = stage.alert("FeatureDrift", &[], 1).await?;
    require(!stage.is_true(&alert).await?, "FeatureDrift is true before the crowd changed")?;
    visitors.stop().await?;

    options.newcomers = options.newcomers.map(|newcomers| Newcomers { who: |traits| traits.age == 4, ..newcomers });
    let visitors = Visitors::walk(options);
    stage.breaks("from now on only visitors above 55 come");
    let begun = Instant::now();
    let (now, drifts) = loop {
        tokio::time::sleep(STEP).await;
        let now = Features::read(stage).await?;
        let drifts = suspects::risen(&before.drift, &now.drift);
        if stands_out(&drifts).is_some() || begun.elapsed() > PATIENCE {
            break (now, drifts);
        }
    };
    let found = stands_out(&drifts).map(|suspect| suspect.name.clone());
    let of_it = |labels: &Labels| labels.get("feature_name") == found.as_ref();
    let fired = stage.fires(&alert, PATIENCE, of_it).await?;
    visitors.stop().await?;
    for suspect in drifts.iter().take(3) {
        let null = |of: &Features| of.nulls.get(&suspect.name).map_or("-".to_owned(), |null| format!("{null:.2}"));
        stage.evidence(format!(
            "{}: drift {:.3} -> {:.3}, share of reads without a value {} -> {}",
            suspect.name,
            suspect.before,
            suspect.now,
            null(&before),
            null(&now)
        ));
    }
    let is_filled = found.as_ref().is_some_and(|name| now.nulls.get(name).is_none_or(|null| *null < 0.1));
    platform.stop().await?;
    Ok(Verdict {
        is_right: found.as_deref() == Some("user_age_bucket") && is_filled && fired,
        cause: found.map(|name| match is_filled {
            true => format!("{name} is filled and has other values than in training: other visitors come"),
            false => format!("{name} is not filled"),
        }),
        truth: "only visitors above 55 come".to_owned(),
    })
}

/// The feature that moved most, and half as much again as the next.
fn stands_out(drifts: &[Suspect]) -> Option<&Suspect> {
    suspects::stands_out(drifts, 0.2, 1.5)
}

struct Features {
    drift: Values,
    nulls: Values,
}

impl Features {
    async fn read(stage: &Stage) -> anyhow::Result<Self> {
        let values = async |expression: &str| -> anyhow::Result<Values> {
            let series = stage.query(expression).await?;
            Ok(series.into_iter().map(|sample| (sample.label("feature_name").to_owned(), sample.value)).collect())
        };
        let nulls = "sum by (feature_name) (increase(model_features_read_total{presence!=\"present\"}[20s])) \
                     / sum by (feature_name) (increase(model_features_read_total[20s]))";
        Ok(Self { drift: values("model_feature_drift_score").await?, nulls: values(nulls).await? })
    }
}

/// A setting, the alert that it makes true, and a number that tells it from other reasons.
struct Setting {
    visitors: usize,
    /// Requests a second.
    rate: f64,
    /// Settings before it.
    healthy: &'static str,
    /// Holds once the alert could be true.
    ready: &'static str,
    text: &'static str,
    what: &'static str,
    alert: &'static str,
    metric: &'static str,
    /// Why it could be, as an expression, its name, and whether a fall of it to this share names the setting.
    tell: (&'static str, &'static str, f64),
    cause: &'static str,
}

/// A shop that tries a lot becomes one that tries nearly nothing, among a twentieth of the candidates: cohorts see nearly the
/// same few items. Without its many even slots the simulated shop is near the alert's bound as it is.
pub(super) async fn dominated_impressions(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let setting = Setting {
        visitors: 150,
        rate: 200.0,
        healthy: "[edge.policy]\nuniform = 0.3\n[bandit.policy]\nuniform = 0.3\n",
        ready: "bandit_arm_pull_distribution_gini_samples >= 10000",
        text: "[origin]\ncandidates = 25\nown_items = 25\ncohort_items = 25\n",
        what: "restarted with 2 instead of 30 % of slots filled evenly, and origin.candidates, own_items and cohort_items at 25 \
               instead of 500, 200 and 200",
        alert: "ArmPullsConcentrated",
        metric: "bandit_arm_pull_distribution_gini",
        tell: (
            "candidates of a page",
            "sum(rate(origin_candidates_sum[20s])) / sum(rate(origin_candidates_count[20s]))",
            0.5,
        ),
        cause: "pages are chosen among too few candidates, so that few items can be shown at all",
    };
    bent(stage, &setting).await
}

pub(super) async fn frozen_exploration(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let setting = Setting {
        visitors: 40,
        rate: 60.0,
        healthy: "",
        ready: "bandit_exploration_rate_samples >= 1000",
        text: "[edge.policy]\nuniform = 0.0\nexploration_min = 0.0\nexploration_max = 0.0\n\
               [bandit.policy]\nuniform = 0.0\nexploration_min = 0.0\nexploration_max = 0.0\n",
        what: "restarted with policy.uniform, exploration_min and exploration_max at 0, in edge and bandit",
        alert: "ExplorationOutOfRange",
        metric: "bandit_exploration_rate",
        tell: (
            "share of the edge's slots that explore",
            "sum(rate(edge_slots_total{exploration=\"true\"}[20s])) / sum(rate(edge_slots_total[20s]))",
            0.2,
        ),
        cause: "the policy lets no slot explore: posteriors are there and fresh, and slots are chosen without them being tried",
    };
    bent(stage, &setting).await
}

async fn bent(stage: &mut Stage, setting: &Setting) -> anyhow::Result<Verdict> {
    let (named, expression, least) = setting.tell;
    let walk = |stage: &Stage, platform: &Platform| {
        let options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), setting.visitors, stage.seed);
        Visitors::walk(WalkOptions { rate: setting.rate, ..options })
    };
    let platform = stage.platform("platform", &format!("{INSIGHT}{}", setting.healthy), &[]).await?;
    stage.watch(&platform, "local").await?;
    let visitors = walk(stage, &platform);
    stage.did(format!("{} visitors walk", setting.visitors));
    stage.signal("samples, as many as the alert asks for", setting.ready, PATIENCE).await?;
    // What is told by then is of enough of them, and of the last seconds.
    tokio::time::sleep(2 * LOOK).await;
    let alert = stage.alert(setting.alert, &[], 1).await?;
    require(!stage.is_true(&alert).await?, format!("{} is true before anything was bent", setting.alert))?;
    let before = (stage.value(setting.metric).await?, stage.value(expression).await?.unwrap_or(0.0));
    visitors.stop().await?;
    platform.stop().await?;

    let platform = stage.platform("platform", &format!("{INSIGHT}{}", setting.text), &[]).await?;
    stage.watch(&platform, "local").await?;
    let visitors = walk(stage, &platform);
    stage.breaks(setting.what);
    let fired = stage.fires(&alert, PATIENCE, |_| true).await?;
    let now = (stage.value(setting.metric).await?, stage.value(expression).await?.unwrap_or(0.0));
    let age = stage.value("max(bandit_posterior_age_seconds)").await?.unwrap_or(f64::INFINITY);
    visitors.stop().await?;
    platform.stop().await?;
    let shown = |value: Option<f64>| value.map_or("too few samples".to_owned(), |value| format!("{value:.3}"));
    stage.evidence(format!("{}: {} -> {}", setting.metric, shown(before.0), shown(now.0)));
    stage.evidence(format!("{named}: {:.3} -> {:.3}; posteriors are {age:.1} s old", before.1, now.1));
    let found = before.1 > 0.0 && now.1 < least * before.1 && age < 30.0;
    Ok(Verdict {
        is_right: found && fired,
        cause: found.then(|| setting.cause.to_owned()),
        truth: setting.what.to_owned(),
    })
}
