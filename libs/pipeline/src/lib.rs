//! Runs the stages of a request: span, deadline, duration and outcome for each, so that stages contain none of that.
//!
//! Always holds: a stage never outlives its time or the request's deadline, and a stage that is late or fails is a
//! value that the caller must look at.

#![warn(clippy::disallowed_macros)]

use attune_telemetry::catalogue::{self, Service, StageEntries};
use attune_telemetry::{Counter, Histogram, Metrics, Scope, Span, Telemetry};
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Why a stage has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError<E> {
    /// Its time, or the request's, was up.
    #[error("{0} was late")]
    Late(&'static str),
    #[error("{stage} failed")]
    Failed { stage: &'static str, source: E },
}

impl<E> StageError<E> {
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late(_))
    }
}

/// What became of one of several sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T, E> {
    Ok(T),
    Late,
    Failed(E),
}

impl<T, E> Outcome<T, E> {
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Ok(value) => Some(value),
            Self::Late | Self::Failed(_) => None,
        }
    }

    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Late => "late",
            Self::Failed(_) => "failed",
        }
    }
}

/// One source of [`Stages::gather`]: a name from a closed list, the most time it may take, and its work under the scope
/// of its own span.
pub struct SourceCall<'a, T, E> {
    pub name: &'static str,
    pub max: Duration,
    pub work: Box<dyn FnOnce(Scope) -> BoxFuture<'a, Result<T, E>> + Send + 'a>,
}

impl<'a, T, E> SourceCall<'a, T, E> {
    pub fn new<W, F>(name: &'static str, max: Duration, work: W) -> Self
    where
        W: FnOnce(Scope) -> F + Send + 'a,
        F: Future<Output = Result<T, E>> + Send + 'a,
    {
        Self { name, max, work: Box::new(move |scope| Box::pin(work(scope))) }
    }
}

/// The stages of a service, with their metrics bound: `<prefix>_stage_duration_seconds{stage}` and
/// `<prefix>_stage_outcomes_total{stage,outcome}`, for the services whose stages the catalogue lists.
#[derive(Clone)]
pub struct Stages(Arc<HashMap<&'static str, StageMetrics>>);

struct StageMetrics {
    duration: Histogram,
    ok: Counter,
    late: Counter,
    failed: Counter,
}

impl Stages {
    /// Names every stage and source that will run; one that is not named here runs without metrics.
    pub fn new(telemetry: &Telemetry, stages: impl IntoIterator<Item = &'static str>) -> Self {
        let Some(entries) = Service::of(telemetry.info().service).and_then(catalogue::stages) else {
            return Self(Arc::default());
        };
        let bind = |stage| (stage, StageMetrics::bind(telemetry.metrics(), entries, stage));
        Self(Arc::new(stages.into_iter().map(bind).collect()))
    }

    /// Runs one stage under the request's deadline or `max`, whichever is sooner. A late stage is dropped where it
    /// stands. Both kinds of failure mark the span, and count as a fallback: whether the request fails with the stage is
    /// for the caller to say.
    pub async fn run<T, E, W, F>(
        &self,
        scope: &Scope,
        stage: &'static str,
        max: Duration,
        work: W,
    ) -> Result<T, StageError<E>>
    where
        W: FnOnce(Scope) -> F,
        F: Future<Output = Result<T, E>>,
    {
        match self.attempt(scope, stage, max, work).await {
            Outcome::Ok(value) => Ok(value),
            Outcome::Late => Err(StageError::Late(stage)),
            Outcome::Failed(source) => Err(StageError::Failed { stage, source }),
        }
    }

    /// Runs all sources at once, each under its own deadline; the outcomes come in the order of the sources. It returns
    /// when the last has answered or run out of time.
    pub async fn gather<'a, T, E>(
        &self,
        scope: &Scope,
        sources: Vec<SourceCall<'a, T, E>>,
    ) -> Vec<(&'static str, Outcome<T, E>)> {
        let calls = sources.into_iter().map(|source| async move {
            let SourceCall { name, max, work } = source;
            (name, self.attempt(scope, name, max, work).await)
        });
        futures::future::join_all(calls).await
    }

    async fn attempt<T, E, W, F>(&self, scope: &Scope, stage: &'static str, max: Duration, work: W) -> Outcome<T, E>
    where
        W: FnOnce(Scope) -> F,
        F: Future<Output = Result<T, E>>,
    {
        let deadline = scope.deadline.child(max);
        let mut running =
            Running { stage, span: scope.span.child(stage), begun: std::time::Instant::now(), done: false };
        let outcome = if deadline.passed() {
            Outcome::Late
        } else {
            let work = work(Scope::new(running.span.clone(), deadline));
            match tokio::time::timeout_at(deadline.instant(), work).await {
                Ok(Ok(value)) => Outcome::Ok(value),
                Ok(Err(error)) => Outcome::Failed(error),
                Err(_) => Outcome::Late,
            }
        };
        running.finish(self.0.get(stage), &outcome);
        outcome
    }
}

impl StageMetrics {
    fn bind(metrics: &Metrics, entries: &'static StageEntries, stage: &'static str) -> Self {
        let outcome = |outcome| metrics.counter(&entries.outcomes, &[stage, outcome]);
        Self {
            duration: metrics.histogram(&entries.duration, &[stage]),
            ok: outcome("ok"),
            late: outcome("late"),
            failed: outcome("failed"),
        }
    }
}

/// Ends the span whatever happens, also when the request is dropped in the middle of the stage.
struct Running {
    stage: &'static str,
    span: Span,
    begun: std::time::Instant,
    done: bool,
}

impl Running {
    fn fall_back(&self, error_type: &'static str) {
        self.span.fail_softly(error_type);
        self.span.degrade(self.stage);
    }

    fn finish<T, E>(&mut self, metrics: Option<&StageMetrics>, outcome: &Outcome<T, E>) {
        self.done = true;
        match outcome {
            Outcome::Ok(_) => {}
            Outcome::Late => self.fall_back("late"),
            Outcome::Failed(_) => self.fall_back("failed"),
        }
        if let Some(metrics) = metrics {
            metrics.duration.observe_in(&self.span, self.begun.elapsed().as_secs_f64());
            match outcome {
                Outcome::Ok(_) => metrics.ok.inc(),
                Outcome::Late => metrics.late.inc(),
                Outcome::Failed(_) => metrics.failed.inc(),
            }
        }
        self.span.end();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            self.span.event("cancelled");
            self.span.end();
        }
    }
}
