//! Scores and explanations of one pinned bundle.

use crate::config::RankingConfig;
use crate::error::RankingError;
use crate::pool::Pool;
use crate::telemetry::{self, ModelName, RankingMetrics};
use attune_domain::{Context, ItemIx, ModelVersion, UnixMillis, UserState};
use attune_model::{Contribution, Scores, UserInput};
use attune_serving::{Serving, SharedServing};
use attune_telemetry::Scope;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who looks, where and when.
#[derive(Debug, Clone)]
pub struct Viewer {
    pub state: UserState,
    pub context: Context,
    pub now: UnixMillis,
}

impl Viewer {
    fn input(&self) -> UserInput<'_> {
        UserInput {
            window: &self.state.window,
            attributes: &self.state.attributes,
            context: self.context,
            now: self.now,
        }
    }
}

pub struct Ranker {
    serving: SharedServing,
    pool: Pool,
    max_items: usize,
    patience: Duration,
    metrics: RankingMetrics,
}

impl Ranker {
    pub fn new(serving: SharedServing, config: &RankingConfig, metrics: RankingMetrics) -> Self {
        Self {
            serving,
            pool: Pool::new(config.threads, config.queue),
            max_items: config.max_items,
            patience: config.deadline.0,
            metrics,
        }
    }

    /// Scores parallel to `items`. `model` is the caller's pin, empty for any. An item that the caller knows and this
    /// process does not know yet scores 0.
    pub async fn rank(
        &self,
        scope: &Scope,
        model: &str,
        viewer: Viewer,
        items: Vec<ItemIx>,
    ) -> Result<(Scores, ModelVersion), RankingError> {
        let serving = self.pin(model, &items)?;
        let version = serving.bundle.version().clone();
        telemetry::describe(&scope.span, &version, items.len());
        let metrics = self.metrics.clone();
        let work = move || {
            let begun = Instant::now();
            let input = viewer.input();
            let user = serving.bundle.user_vector(&serving.items, &input);
            let scores = serving.bundle.rank(&serving.items, &input, &user, &items);
            metrics.inferred(ModelName::Ranker, begun.elapsed(), items.len());
            scores
        };
        let scores = self.pool.run(scope.deadline.child(self.patience), work).await?;
        Ok((scores, version))
    }

    /// What each group of features contributed, strongest first, and the item's click probability.
    pub async fn attribute(
        &self,
        scope: &Scope,
        model: &str,
        viewer: Viewer,
        item: ItemIx,
    ) -> Result<(Vec<Contribution>, f32), RankingError> {
        let serving = self.pin(model, &[item])?;
        if item.index() >= serving.items.len() {
            let problem = "is not in the catalogue";
            return Err(RankingError::InvalidField { field: "item", problem });
        }
        telemetry::describe(&scope.span, serving.bundle.version(), 1);
        let metrics = self.metrics.clone();
        let work = move || {
            let begun = Instant::now();
            let input = viewer.input();
            let user = serving.bundle.user_vector(&serving.items, &input);
            let contributions = serving.bundle.attribute(&serving.items, &input, &user, item);
            let scores = serving.bundle.rank(&serving.items, &input, &user, &[item]);
            metrics.inferred(ModelName::Attribution, begun.elapsed(), 1);
            (contributions, scores.click.first().copied().unwrap_or(0.0))
        };
        self.pool.run(scope.deadline.child(self.patience), work).await
    }

    fn pin(&self, model: &str, items: &[ItemIx]) -> Result<Arc<Serving>, RankingError> {
        let serving = self.serving.load_full();
        let version = serving.bundle.version();
        if !model.is_empty() && model != &*version.0 {
            return Err(RankingError::OtherModel { serving: version.to_string() });
        }
        if items.len() > self.max_items {
            let problem = "holds more than the configured maximum";
            return Err(RankingError::InvalidField { field: "items", problem });
        }
        if items.iter().any(|item| !item.is_known()) {
            let problem = "holds a number that stands for no item";
            return Err(RankingError::InvalidField { field: "items", problem });
        }
        Ok(serving)
    }
}
