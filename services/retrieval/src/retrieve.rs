//! Asking all sources at once, and what became of each.
//!
//! Always holds: a source that is late, fails or panics costs its own candidates and nothing else; searches run on
//! bounded threads, and give up when nobody waits for them any more; a withdrawn item is not in the answer.

use crate::config::{Deadlines, RetrievalConfig};
use crate::error::RetrievalError;
use crate::index::Generation;
use crate::shadow::Shadow;
use crate::sources::{Ask, CandidateSource, Look, SourceError, Work};
use crate::telemetry::{self, Operation, RetrievalMetrics};
use crate::view::View;
use arc_swap::ArcSwap;
use attune_decision::{Outcome, SourceItems};
use attune_domain::{ItemIx, ModelVersion};
use attune_serving::SharedServing;
use attune_telemetry::{Deadline, Scope};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

/// All sources' answers to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieved {
    /// One for each source, in the order of their codes.
    pub sources: Vec<SourceItems>,
    /// Names the index generation that was searched.
    pub index: [u8; 16],
    pub model: ModelVersion,
}

pub struct Retriever {
    serving: SharedServing,
    view: ArcSwap<View>,
    trending: ArcSwap<Vec<ItemIx>>,
    sources: Vec<Arc<dyn CandidateSource>>,
    threads: Arc<Semaphore>,
    deadlines: Deadlines,
    max_candidates: usize,
    max_query: usize,
    pub(crate) shadow: Arc<Shadow>,
    pub(crate) metrics: RetrievalMetrics,
}

/// What every source of a request shares.
struct Shared {
    ask: Ask,
    view: Arc<View>,
    generation: Arc<Generation>,
    trending: Arc<Vec<ItemIx>>,
}

impl Retriever {
    pub fn new(
        serving: SharedServing,
        view: View,
        sources: Vec<Arc<dyn CandidateSource>>,
        config: &RetrievalConfig,
        metrics: RetrievalMetrics,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        show(&metrics, &view);
        Self {
            serving,
            view: ArcSwap::from_pointee(view),
            trending: ArcSwap::default(),
            sources,
            threads: Arc::new(Semaphore::new(if config.threads == 0 { cores } else { config.threads })),
            deadlines: config.deadlines.clone(),
            max_candidates: config.max_candidates,
            max_query: config.max_query,
            shadow: Arc::new(Shadow::new(&config.shadow)),
            metrics,
        }
    }

    pub fn serving(&self) -> &SharedServing {
        &self.serving
    }

    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub fn set_view(&self, view: View) {
        show(&self.metrics, &view);
        self.view.store(Arc::new(view));
    }

    /// Most wanted first.
    pub fn set_trending(&self, items: Vec<ItemIx>) {
        self.trending.store(Arc::new(items));
    }

    /// Asks every source that has something to go by. `model` is the caller's pin, empty for any; `max` bounds the
    /// caller's patience besides the scope's deadline.
    pub async fn retrieve(
        &self,
        scope: &Scope,
        mut ask: Ask,
        model: &str,
        max: Duration,
    ) -> Result<Retrieved, RetrievalError> {
        let view = self.view.load_full();
        self.check(&view, &mut ask, model)?;
        let model = view.serving.bundle.version().clone();
        let generation = view.index.pin();
        let index = generation.hash();
        self.shadow.offer(&ask.user_vector, &view, &generation);
        let shared = Arc::new(Shared { ask, view, generation, trending: self.trending.load_full() });
        let deadline = scope.deadline.child(max);
        let running = self.sources.iter().map(|source| self.run(source, &shared, scope, deadline));
        let mut sources = futures::future::join_all(running).await;
        // The view may lag the catalogue; what may be shown is decided now.
        let serving = self.serving.load();
        for source in &mut sources {
            source.items.retain(|item| serving.is_available(*item));
            self.metrics.source_ended(source.source, source.outcome);
        }
        let asked = sources.iter().filter(|s| s.outcome != Outcome::NotAsked).count();
        telemetry::describe_candidates(&scope.span, asked, sources.iter().map(|s| s.items.len()).sum());
        Ok(Retrieved { sources, index, model })
    }

    fn check(&self, view: &View, ask: &mut Ask, model: &str) -> Result<(), RetrievalError> {
        let bundle = &view.serving.bundle;
        let invalid = |field, problem| Err(RetrievalError::InvalidField { field, problem });
        if !model.is_empty() && model != &*bundle.version().0 {
            return Err(RetrievalError::OtherModel { serving: bundle.version().to_string() });
        }
        if !ask.user_vector.is_empty() && ask.user_vector.len() != bundle.dim() {
            return invalid("user_vector", "has another dimension than the model");
        }
        if !ask.user_vector.iter().all(|x| x.is_finite()) {
            return invalid("user_vector", "must be finite");
        }
        if usize::from(ask.cluster) >= bundle.cohorts().clusters() {
            return invalid("cluster", "is not a cluster of the model");
        }
        if !(1..=self.max_candidates).contains(&ask.limit) {
            return invalid("limit", "must be positive and at most the configured maximum");
        }
        if ask.query.len() > self.max_query {
            return invalid("query", "is longer than the configured maximum");
        }
        // An item newer than this process's catalogue is no mistake of the caller's.
        let known = view.serving.items.len();
        ask.recent.retain(|item| item.index() < known);
        ask.item = ask.item.filter(|item| item.index() < known);
        Ok(())
    }

    async fn run(
        &self,
        source: &Arc<dyn CandidateSource>,
        shared: &Arc<Shared>,
        scope: &Scope,
        deadline: Deadline,
    ) -> SourceItems {
        let kind = source.kind();
        let ended = |outcome, items| SourceItems { source: kind, outcome, items };
        if !source.is_asked(&shared.ask) {
            return ended(Outcome::NotAsked, Vec::new());
        }
        let deadline = deadline.child(self.deadlines.of(kind));
        let found = match source.work() {
            _ if deadline.passed() => Err(SourceError::Late),
            Work::Light => find(&**source, shared, deadline),
            Work::Heavy => {
                let working = self.on_thread(Arc::clone(source), Arc::clone(shared), scope, deadline);
                timeout_at(deadline.instant(), working).await.unwrap_or(Err(SourceError::Late))
            }
        };
        match found {
            Ok(items) => ended(Outcome::Ok, items),
            Err(SourceError::Late) => ended(Outcome::Late, Vec::new()),
            Err(SourceError::Failed(_)) => ended(Outcome::Failed, Vec::new()),
        }
    }

    async fn on_thread(
        &self,
        source: Arc<dyn CandidateSource>,
        shared: Arc<Shared>,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<Vec<ItemIx>, SourceError> {
        let Ok(permit) = Arc::clone(&self.threads).acquire_owned().await else {
            return Err(SourceError::Failed("shutting down"));
        };
        let metrics = source.searches_index().then(|| self.metrics.clone());
        let span = metrics.is_some().then(|| scope.span.child(telemetry::ANN_SEARCH));
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let begun = std::time::Instant::now();
            if let Some(span) = &span {
                telemetry::describe_search(span, &shared.generation.hash(), shared.ask.limit);
            }
            let found = find(&*source, &shared, deadline);
            if let (Some(metrics), Some(span)) = (metrics, span) {
                metrics.operated(Operation::Search, begun.elapsed());
                span.end();
            }
            found
        });
        work.await.unwrap_or(Err(SourceError::Failed("panicked")))
    }
}

/// A view that is served is one that follows.
fn show(metrics: &RetrievalMetrics, view: &View) {
    let now = view.index.pin();
    metrics.index_size(now.len(), now.in_graphs());
    metrics.index_follows(true);
}

fn find(source: &dyn CandidateSource, shared: &Shared, deadline: Deadline) -> Result<Vec<ItemIx>, SourceError> {
    source.find(&Look {
        ask: &shared.ask,
        view: &shared.view,
        generation: &shared.generation,
        trending: &shared.trending,
        late: &|| deadline.passed(),
    })
}
