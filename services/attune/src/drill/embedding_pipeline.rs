//! The embedder stands still: events are accepted, states are not.

use super::stage::{Stage, Verdict, Visitors, require};
use crate::simulate::WalkOptions;
use std::time::Duration;

/// Five minutes become 30 s.
const DIVISOR: u32 = 10;
const HEALTHY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let platform = stage.platform("separate", "", &["--separate".to_owned()]).await?;
    stage.watch(&platform, "local").await?;
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), 20, stage.seed);
    options.rate = 20.0;
    let visitors = Visitors::walk(options);
    stage.did("20 visitors walk");
    tokio::time::sleep(HEALTHY).await;
    let alert = stage.alert("EmbeddingPipelineDown", &[], DIVISOR).await?;
    let processed = "sum(rate(streaming_events_processed_total{processor=\"embed\"}[20s])) > 0";
    let healthy = stage.signal("events are embedded, a second", processed, PATIENCE).await?;
    require(healthy && !stage.is_true(&alert).await?, "the platform is not well before the failure")?;

    let embedder = platform.process("embedder")?;
    embedder.freeze();
    stage.breaks(format!("the embedder's process {} stands still", embedder.pid));
    stage.signal("the embedder answers no scrape", "up{job=\"embedder\"} == 0", PATIENCE).await?;
    stage
        .signal(
            "pages at level 1 and worse, a second",
            "sum(rate(personalization_level_total{level!=\"0\"}[20s])) > 0",
            PATIENCE,
        )
        .await?;
    let fired = stage.fires(&alert, PATIENCE, |_| true).await?;

    // The runbook's diagnosis, in its order.
    let arriving = stage.value("sum(rate(origin_events_accepted_total[20s]))").await?.unwrap_or(0.0);
    let log_errors = stage.value("sum(rate(api_errors_total{endpoint=~\"/log_.+\"}[20s])) or vector(0)").await?;
    let up = stage.value("max(up{job=\"embedder\"})").await?.unwrap_or(0.0);
    let index = stage.value("min(vectordb_health_status)").await?.unwrap_or(0.0);
    let state = embedder.state();
    stage.evidence(format!(
        "events accepted {arriving:.1}/s; errors of the log {:.2}/s; up{{job=\"embedder\"}} {up:.0}; vectordb_health_status \
         {index:.0}; the process is in state {}",
        log_errors.unwrap_or(0.0),
        state.map_or("gone".to_owned(), String::from),
    ));
    let signs = Signs { arriving, log_errors: log_errors.unwrap_or(0.0), up: up > 0.0, index: index > 0.0, state };
    let found = signs.conclude();

    embedder.thaw();
    stage.did("the process runs again");
    let recovered = format!("{processed} and on () (max(embedder_lag_records) < 1000)");
    let recovers = stage.signal("events are embedded again, a second", &recovered, PATIENCE).await?;
    visitors.stop().await?;
    platform.stop().await?;
    Ok(Verdict {
        is_right: found == Some(Culprit::StandsStill) && fired && recovers,
        cause: found.map(Culprit::text),
        truth: format!("the embedder's process {}, stopped by a signal", embedder.pid),
    })
}

struct Signs {
    /// Events the origin accepts a second.
    arriving: f64,
    log_errors: f64,
    up: bool,
    index: bool,
    state: Option<char>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culprit {
    NoEvents,
    Log,
    Gone,
    StandsStill,
    Index,
}

impl Signs {
    /// In the runbook's order; none where nothing explains it.
    fn conclude(&self) -> Option<Culprit> {
        match self {
            Self { arriving, .. } if *arriving <= 0.0 => Some(Culprit::NoEvents),
            Self { log_errors, .. } if *log_errors > 0.0 => Some(Culprit::Log),
            Self { up: false, state: None, .. } => Some(Culprit::Gone),
            Self { up: false, state: Some('T' | 't'), .. } => Some(Culprit::StandsStill),
            Self { index: false, .. } => Some(Culprit::Index),
            _ => None,
        }
    }
}

impl Culprit {
    fn text(self) -> String {
        match self {
            Self::NoEvents => "no events arrive",
            Self::Log => "the event log fails",
            Self::Gone => "the embedder's process is gone",
            Self::StandsStill => "the embedder's process stands still: events are durable in the log and wait for it",
            Self::Index => "the vector index fails",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_explains_it_is_named() {
        let signs =
            |arriving, log_errors, up, index, state| Signs { arriving, log_errors, up, index, state }.conclude();
        assert_eq!(signs(5.0, 0.0, false, true, Some('T')), Some(Culprit::StandsStill));
        assert_eq!(signs(0.0, 0.0, false, true, Some('T')), Some(Culprit::NoEvents));
        assert_eq!(signs(5.0, 1.0, true, true, Some('S')), Some(Culprit::Log));
        assert_eq!(signs(5.0, 0.0, false, true, None), Some(Culprit::Gone));
        assert_eq!(signs(5.0, 0.0, true, false, Some('S')), Some(Culprit::Index));
        assert_eq!(signs(5.0, 0.0, true, true, Some('S')), None);
    }
}
