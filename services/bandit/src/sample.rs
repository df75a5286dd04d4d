//! A slate from scored candidates, by the sampler that the edge and replay share.

use crate::config::BanditConfig;
use crate::error::BanditError;
use crate::posteriors::{Current, PosteriorCache};
use crate::telemetry::{self, BanditMetrics};
use arc_swap::ArcSwapOption;
use attune_decision::{Choice, Chosen, Policy, Sampler, Scratch, choose};
use attune_domain::ItemIx;
use attune_model::ItemTable;
use attune_serving::{Serving, SharedServing};
use attune_telemetry::Scope;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// Scored candidates to choose from.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    pub seed: u64,
    pub limit: usize,
    pub items: Vec<u32>,
    /// Click probabilities, parallel to `items`.
    pub scores: Vec<f32>,
}

/// A slate, and what it was sampled from.
pub struct Slate {
    /// Positions in the candidates.
    pub chosen: Chosen,
    pub current: Arc<Current>,
}

/// Categories by item number, for the table they were read from.
struct Categories {
    items: Arc<ItemTable>,
    codes: Vec<u16>,
}

pub struct Bandit {
    serving: SharedServing,
    posteriors: Arc<PosteriorCache>,
    categories: ArcSwapOption<Categories>,
    policy: Policy,
    max_items: usize,
    max_limit: usize,
    metrics: BanditMetrics,
}

impl Bandit {
    pub fn new(
        serving: SharedServing,
        posteriors: Arc<PosteriorCache>,
        config: &BanditConfig,
        metrics: BanditMetrics,
    ) -> Self {
        Self {
            serving,
            posteriors,
            categories: ArcSwapOption::empty(),
            policy: config.policy(),
            max_items: config.max_items,
            max_limit: config.max_limit,
            metrics,
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn posteriors(&self) -> &Arc<PosteriorCache> {
        &self.posteriors
    }

    /// `model` is the caller's pin, empty for any. Tens of microseconds for 500 candidates.
    pub fn sample(&self, scope: &Scope, model: &str, candidates: &Candidates) -> Result<Slate, BanditError> {
        let serving = self.serving.load_full();
        let version = serving.bundle.version();
        if !model.is_empty() && model != &*version.0 {
            return Err(BanditError::OtherModel { serving: version.to_string() });
        }
        self.check(candidates)?;
        let categories = self.categories(&serving);
        let (items, scores) = (&candidates.items[..], &candidates.scores[..]);
        let base_rates = serving.items.base_rates_of(items);
        let choice = Choice { items, scores, base_rates: &base_rates, categories: &categories.codes };
        let current = self.posteriors.current();
        let begun = Instant::now();
        let chosen = choose(
            &self.policy,
            Sampler::Exact,
            candidates.seed,
            candidates.limit,
            choice,
            &current.posteriors,
            &mut Scratch::default(),
        );
        self.metrics.sampled(&chosen, begun.elapsed());
        telemetry::describe(&scope.span, &chosen);
        Ok(Slate { chosen, current })
    }

    fn check(&self, candidates: &Candidates) -> Result<(), BanditError> {
        let invalid = |field, problem| Err(BanditError::InvalidField { field, problem });
        if !(1..=self.max_limit).contains(&candidates.limit) {
            return invalid("limit", "must be positive and at most the configured maximum");
        }
        if candidates.items.len() > self.max_items {
            return invalid("items", "holds more than the configured maximum");
        }
        if candidates.items.len() != candidates.scores.len() {
            return invalid("scores", "must be as many as items");
        }
        if !candidates.scores.iter().all(|score| (0.0..=1.0).contains(score)) {
            return invalid("scores", "must be 0 to 1");
        }
        let mut distinct = HashSet::with_capacity(candidates.items.len());
        if !candidates.items.iter().all(|item| distinct.insert(*item)) {
            return invalid("items", "holds an item twice");
        }
        Ok(())
    }

    fn categories(&self, serving: &Serving) -> Arc<Categories> {
        let cached = self.categories.load_full();
        if let Some(categories) = cached.filter(|categories| Arc::ptr_eq(&categories.items, &serving.items)) {
            return categories;
        }
        let codes = (0..serving.items.len() as u32).map(|ix| serving.items.category(ItemIx(ix))).collect();
        let categories = Arc::new(Categories { items: Arc::clone(&serving.items), codes });
        self.categories.store(Some(Arc::clone(&categories)));
        categories
    }
}
