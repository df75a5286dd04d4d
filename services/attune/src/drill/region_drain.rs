//! Two regions, as far as one machine has them: two platforms with a label each, watched by one Prometheus. The traffic of
//! one is moved to the other, and then it is ended.

use super::platform::Platform;
use super::stage::{Stage, Verdict, Visitors, require};
use crate::simulate::WalkOptions;
use anyhow::Context as _;
use std::time::Duration;

/// A quarter of an hour becomes 45 s, five minutes 15 s.
const DIVISOR: u32 = 20;
/// Longer than the shortened rule looks back.
const HEALTHY: Duration = Duration::from_secs(70);
const PATIENCE: Duration = Duration::from_secs(60);
const VISITORS: usize = 12;
const RATE: f64 = 10.0;
const WEST: &str = "west";
const EAST: &str = "east";

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let west = stage.platform(WEST, "[edge]\npop = \"west\"\n", &[]).await?;
    let east = stage.platform(EAST, "[edge]\npop = \"east\"\n", &[]).await?;
    stage.watch_regions(&[(WEST, &west), (EAST, &east)]).await?;
    let in_west = visitors(stage, &west, 1);
    let in_east = visitors(stage, &east, 2);
    stage.did(format!("{VISITORS} visitors walk in each region"));
    tokio::time::sleep(HEALTHY).await;
    let moved = stage.alert("RegionFailover", &[], DIVISOR).await?;
    let down = stage.alert("RegionDown", &[], 1).await?;
    require(!stage.is_true(&moved).await?, "traffic moves before anybody moved it")?;
    require(!stage.is_true(&down).await?, "a region is down before anybody ended it")?;
    let before = Capacity::read(stage, EAST).await?;

    in_west.stop().await?;
    let from_west = visitors(stage, &east, 3);
    stage.breaks("the load balancer sends the west's visitors to the east");
    let fired = stage.fires(&moved, PATIENCE, |_| true).await?;

    // The runbook's diagnosis, while both regions are there.
    let lost = "topk(1, sum by (region) (rate(edge_requests_total[15s] offset 45s)) \
                - (sum by (region) (rate(edge_requests_total[15s])) or 0 * sum by (region) (up{job=\"attune\"})))";
    let loser = stage.query(lost).await?.first().map(|sample| sample.label("region").to_owned());
    let loser = loser.context("find the region that lost its traffic")?;
    let number = async |expression: String| anyhow::Ok(stage.value(&expression).await?.unwrap_or(0.0));
    let signs = Signs {
        up: number(format!("max(up{{region=\"{loser}\",job=\"attune\"}})")).await? > 0.0,
        errors: number(format!("sum(rate(edge_errors_total{{region=\"{loser}\"}}[2m]))")).await?,
        degraded: number(format!(
            "sum(rate(personalization_level_total{{region=\"{loser}\",level=~\"[345]\"}}[2m])) \
             / sum(rate(personalization_level_total{{region=\"{loser}\"}}[2m]))"
        ))
        .await?,
        latency: number(format!(
            "histogram_quantile(0.95, sum by (le) (rate(edge_latency_seconds_bucket{{region=\"{loser}\"}}[2m])))"
        ))
        .await?,
    };
    stage.evidence(format!(
        "{loser} lost its traffic; while it had any: {}, {:.2} errors a second, {:.1} % of pages degraded, p95 {:.3} s",
        if signs.up { "up" } else { "down" },
        signs.errors,
        100.0 * signs.degraded,
        signs.latency
    ));
    tokio::time::sleep(Duration::from_secs(16)).await;
    let now = Capacity::read(stage, EAST).await?;
    stage.evidence(format!(
        "the east bears it: {} -> {} (requests a second, cores of {:.0}, p95 in seconds, errors a second)",
        before.text(),
        now.text(),
        now.cores
    ));
    let bears = now.errors <= 0.0 && now.requests > 1.5 * before.requests;

    let was_orderly = west.stop().await?;
    stage.did(format!("the west is ended{}", if was_orderly { ", and drained" } else { ", and did not drain" }));
    let gone = stage.fires(&down, PATIENCE, |labels| labels.get("region").is_some_and(|r| *r == loser)).await?;
    in_east.stop().await?;
    from_west.stop().await?;
    east.stop().await?;
    let found = signs.conclude();
    Ok(Verdict {
        is_right: loser == WEST && found == Culprit::Drain && fired && gone && bears && was_orderly,
        cause: Some(match found {
            Culprit::Drain => {
                format!("{loser} was drained: its traffic left while it was well, and only then it ended")
            }
            Culprit::Outage => format!("{loser} failed, and its traffic fled"),
        }),
        truth: "the west's visitors were sent to the east, and the west was ended".to_owned(),
    })
}

fn visitors(stage: &Stage, platform: &Platform, seed: u64) -> Visitors {
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), VISITORS, seed);
    options.rate = RATE;
    Visitors::walk(options)
}

/// Of the region that lost its traffic, over the minutes in which it had some.
struct Signs {
    up: bool,
    errors: f64,
    degraded: f64,
    latency: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culprit {
    Drain,
    Outage,
}

impl Signs {
    fn conclude(&self) -> Culprit {
        // The holdout's pages are degraded by design.
        let well = self.up && self.errors <= 0.0 && self.degraded < 0.5 && self.latency < 0.5;
        if well { Culprit::Drain } else { Culprit::Outage }
    }
}

struct Capacity {
    requests: f64,
    cpu: f64,
    cores: f64,
    latency: f64,
    errors: f64,
}

impl Capacity {
    async fn read(stage: &Stage, region: &str) -> anyhow::Result<Self> {
        let number = async |expression: String| anyhow::Ok(stage.value(&expression).await?.unwrap_or(0.0));
        Ok(Self {
            requests: number(format!("sum(rate(edge_requests_total{{region=\"{region}\"}}[15s]))")).await?,
            cpu: number(format!("sum(rate(process_cpu_seconds_total{{region=\"{region}\"}}[15s]))")).await?,
            cores: number(format!("max(cpu_limit_cores{{region=\"{region}\"}})")).await?,
            latency: number(format!(
                "histogram_quantile(0.95, sum by (le) (rate(edge_latency_seconds_bucket{{region=\"{region}\"}}[15s])))"
            ))
            .await?,
            errors: number(format!("sum(rate(edge_errors_total{{region=\"{region}\"}}[15s]))")).await?,
        })
    }

    fn text(&self) -> String {
        format!("{:.1}, {:.2}, {:.3}, {:.2}", self.requests, self.cpu, self.latency, self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_that_was_not_well_was_not_drained() {
        let well = || Signs { up: true, errors: 0.0, degraded: 0.05, latency: 0.03 };
        assert_eq!(well().conclude(), Culprit::Drain);
        for ill in [
            Signs { up: false, ..well() },
            Signs { errors: 0.2, ..well() },
            Signs { degraded: 0.9, ..well() },
            Signs { latency: 2.0, ..well() },
        ] {
            assert_eq!(ill.conclude(), Culprit::Outage);
        }
    }
}
