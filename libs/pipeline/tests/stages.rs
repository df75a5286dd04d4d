//! Stages under a paused clock: what is on time, late, failed or dropped, and what each leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_pipeline::{Outcome, SourceCall, StageError, Stages};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::{Deadline, Guard, Kind, LogTarget, Scope, ServiceInfo, Telemetry, TelemetryConfig};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

struct World {
    dir: tempfile::TempDir,
    telemetry: Telemetry,
    guard: Guard,
    stages: Stages,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        traces: Some(dir.path().join("traces.jsonl")),
        logs: LogTarget::Off,
        sample_normal: 1.0,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "origin", version: "1", instance: "test".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).unwrap();
    let stages = Stages::new(&telemetry, ["context.build", "api.retrieve", "api.rank", "api.sample"]);
    World { dir, telemetry, guard, stages }
}

impl World {
    fn scope(&self, limit: Duration) -> Scope {
        let span = self.telemetry.root("api.personalize", Kind::Server, None, self.telemetry.new_id());
        Scope::new(span, Deadline::after(limit))
    }

    fn spans(&self) -> Vec<Value> {
        assert!(self.guard.flush(Duration::from_secs(5)));
        let text = std::fs::read_to_string(self.dir.path().join("traces.jsonl")).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    }

    fn outcome(&self, stage: &str, outcome: &str) -> u32 {
        let text = encode(std::slice::from_ref(&self.telemetry), Format::Text);
        let line = format!("api_stage_outcomes_total{{outcome=\"{outcome}\",stage=\"{stage}\"}} ");
        text.split(&line).nth(1).unwrap().lines().next().unwrap().parse().unwrap()
    }
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_stage_gets_its_span_and_the_sooner_deadline() {
    let world = world();
    let scope = world.scope(100 * MS);
    let seen = world
        .stages
        .run(&scope, "context.build", 30 * MS, |inner| async move {
            inner.span.set("feature_count", 4u8);
            Ok::<_, ()>(inner.deadline.remaining())
        })
        .await;
    assert_eq!(seen, Ok(30 * MS));
    let seen = world
        .stages
        .run(&scope, "api.retrieve", 300 * MS, |inner| async move { Ok::<_, ()>(inner.deadline.remaining()) })
        .await;
    assert_eq!(seen, Ok(100 * MS), "the request's deadline is sooner");
    scope.span.end();
    let spans = world.spans();
    assert_eq!(spans[1]["name"], "context.build");
    assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
    assert_eq!(spans[1]["attributes"][0]["key"], "feature_count");
    assert_eq!((world.outcome("context.build", "ok"), world.outcome("api.sample", "ok")), (1, 0));
    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    assert!(text.contains("api_stage_duration_seconds_count{stage=\"context.build\"} 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn late_and_failed_are_told_apart() {
    let world = world();
    let scope = world.scope(100 * MS);
    let begun = Instant::now();
    let late = world
        .stages
        .run(&scope, "api.retrieve", 30 * MS, |_| async {
            sleep(50 * MS).await;
            Ok::<_, &str>(())
        })
        .await;
    assert_eq!(late, Err(StageError::Late("api.retrieve")));
    assert_eq!(begun.elapsed(), 30 * MS);
    let failed = world.stages.run(&scope, "api.retrieve", 30 * MS, |_| async { Err::<(), _>("gone") }).await;
    assert_eq!(failed, Err(StageError::Failed { stage: "api.retrieve", source: "gone" }));
    assert_eq!((world.outcome("api.retrieve", "late"), world.outcome("api.retrieve", "failed")), (1, 1));
    scope.span.end();
    let spans = world.spans();
    let error = |n: usize| spans[n]["attributes"].as_array().unwrap().last().unwrap()["value"]["stringValue"].clone();
    assert_eq!((error(1), error(2)), ("late".into(), "failed".into()));
    assert_eq!(spans[0]["traceState"], "ot=th:0", "a failed stage keeps the trace");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_after_the_deadline() {
    let world = world();
    let scope = world.scope(10 * MS);
    sleep(10 * MS).await;
    let late = world.stages.run(&scope, "api.retrieve", 30 * MS, |_| async { panic!("must not run") }).await;
    assert_eq!(late, Err::<(), _>(StageError::<()>::Late("api.retrieve")));
}

#[tokio::test(start_paused = true)]
async fn sources_run_together_each_under_its_own_deadline() {
    let world = world();
    let scope = world.scope(100 * MS);
    let begun = Instant::now();
    let items = [1, 2, 3];
    let outcomes = world
        .stages
        .gather(
            &scope,
            vec![
                SourceCall::new("api.retrieve", 60 * MS, |_| async {
                    sleep(40 * MS).await;
                    Ok(&items[..])
                }),
                SourceCall::new("api.rank", 20 * MS, |_| async {
                    sleep(50 * MS).await;
                    Ok(&items[..1])
                }),
                SourceCall::new("api.sample", 60 * MS, |_| async { Err("broken") }),
                SourceCall::new("unnamed", 60 * MS, |_| async { Ok(&items[2..]) }),
            ],
        )
        .await;
    assert_eq!(begun.elapsed(), 40 * MS, "as long as the slowest that is in time");
    assert_eq!(
        outcomes,
        [
            ("api.retrieve", Outcome::Ok(&items[..])),
            ("api.rank", Outcome::Late),
            ("api.sample", Outcome::Failed("broken")),
            ("unnamed", Outcome::Ok(&items[2..])),
        ]
    );
    assert_eq!((world.outcome("api.rank", "late"), world.outcome("api.sample", "failed")), (1, 1));
    scope.span.end();
    let spans = world.spans();
    assert_eq!(spans.len(), 5);
    assert!(spans[1..].iter().all(|span| span["parentSpanId"] == spans[0]["spanId"]));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stage_ends_its_span_as_cancelled() {
    let world = world();
    let scope = world.scope(100 * MS);
    let stage = world.stages.run(&scope, "api.retrieve", 90 * MS, |_| std::future::pending::<Result<(), ()>>());
    assert!(tokio::time::timeout(5 * MS, stage).await.is_err());
    scope.span.end();
    let span = &world.spans()[1];
    assert_eq!(span["events"][0]["name"], "cancelled");
    assert!(!span["attributes"].to_string().contains("unfinished"));
    let total: u32 = ["ok", "late", "failed"].iter().map(|outcome| world.outcome("api.retrieve", outcome)).sum();
    assert_eq!(total, 0);
}
