//! The report under the names of the catalogue.

use super::items::Items;
use attune_domain::{EventKind, LoggedEvent, Segment, Source, UnixMillis};
use attune_insight::{Estimate, ModelReport, Report};
use attune_telemetry::catalogue::Entry;
use attune_telemetry::catalogue::names::*;
use attune_telemetry::{By, Counter, Estimate as Shown, Gauge, Histogram, Metrics, Telemetry};
use std::collections::HashMap;
use std::time::Duration;

/// Handles of everything the stream computes.
///
/// Made only when there is something to say: a counter that began at 0 after a restart and then caught up with its
/// checkpoint would look like a burst.
pub(crate) struct Exporter {
    metrics: Metrics,
    sources: By<Source, [Counter; 5]>,
    segments: By<Segment, [Counter; 2]>,
    rewards: [Counter; 2],
    lift: Shown,
    return_ratio: Shown,
    active: Shown,
    content: [Shown; 5],
    exploration: [Shown; 2],
    bandit: [Shown; 5],
    arms: HashMap<u8, Shown>,
    embedding: Option<[Shown; 3]>,
    models: HashMap<u64, Model>,
    features: HashMap<String, Shown>,
    state: Gauge,
}

struct Model {
    ndcg: Shown,
    calibration: Shown,
}

/// Those that are observed as records come, and what a checkpoint took.
pub(crate) struct Observed {
    metrics: Metrics,
    freshness: HashMap<u8, Histogram>,
    feature_ages: HashMap<String, Histogram>,
    confidence: HashMap<u64, Histogram>,
    pub(crate) lag: Gauge,
    pub(crate) checkpoint: Histogram,
}

/// Text of a model's code: its version, whose first 64 bits the code is.
fn version(model: u64) -> String {
    format!("{model:016x}")
}

impl Observed {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        Self {
            freshness: HashMap::new(),
            feature_ages: HashMap::new(),
            confidence: HashMap::new(),
            lag: metrics.gauge(&STREAMING_LAG, &["insight"]),
            checkpoint: metrics.histogram(&STREAMING_CHECKPOINT, &[]),
            metrics: metrics.clone(),
        }
    }

    /// Age of an embedding when it was read. A new visitor has none.
    pub(crate) fn freshness(&mut self, segment: Segment, age: Duration) {
        if segment != Segment::New {
            let make = || self.metrics.histogram(&EMBEDDING_FRESHNESS, &[segment.as_str()]);
            self.freshness.entry(segment.code()).or_insert_with(make).observe(age.as_secs_f64());
        }
    }

    /// Time since an attribute was stated, when a page read it.
    pub(crate) fn feature_age(&mut self, name: &str, age: Duration) {
        if !self.feature_ages.contains_key(name) {
            let histogram = self.metrics.histogram(&MODEL_FEATURE_AGE, &[name]);
            self.feature_ages.insert(name.to_owned(), histogram);
        }
        self.feature_ages[name].observe(age.as_secs_f64());
    }

    /// How far behind the consumer is, and the score of an item that was shown at the top.
    pub(crate) fn event(&mut self, event: &LoggedEvent, now: UnixMillis) {
        self.lag.set(now.saturating_sub(event.accepted_at).max(0) as f64 / 1e3);
        let shown = event.kind == EventKind::Impression && !event.imported;
        if let Some(slot) = event.decided.filter(|slot| shown && slot.position == 0)
            && let Some(score) = slot.score
        {
            let make = || self.metrics.histogram(&MODEL_CONFIDENCE, &[&version(slot.model)]);
            self.confidence.entry(slot.model).or_insert_with(make).observe(score.into());
        }
    }
}

impl Exporter {
    fn new(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        let shown = |entry: &'static Entry<Shown>| metrics.estimate(entry, &[]);
        Self {
            sources: By::new(|source: Source| {
                [
                    &PERSONALIZATION_IMPRESSIONS,
                    &PERSONALIZATION_CLICKS,
                    &PERSONALIZATION_CONVERSIONS,
                    &PERSONALIZATION_ENGAGEMENT,
                    &PERSONALIZATION_REVENUE,
                ]
                .map(|entry| metrics.counter(entry, &[source.as_str()]))
            }),
            segments: By::new(|segment: Segment| {
                [&PERSONALIZATION_SEGMENT_IMPRESSIONS, &PERSONALIZATION_SEGMENT_CLICKS]
                    .map(|entry| metrics.counter(entry, &[segment.as_str()]))
            }),
            rewards: [&EXPLORATION_REWARD, &EXPLOITATION_REWARD].map(|entry| metrics.counter(entry, &[])),
            lift: shown(&PERSONALIZATION_LIFT),
            return_ratio: shown(&PERSONALIZATION_RETURN),
            active: shown(&PERSONALIZATION_ACTIVE_USERS),
            content: [&CATALOG_COVERAGE, &DIVERSITY, &NOVELTY, &FRESHNESS, &SERENDIPITY].map(shown),
            exploration: ["thompson", "random"].map(|algorithm| metrics.estimate(&EXPLORATION_RATE, &[algorithm])),
            bandit: [
                &BANDIT_REGRET,
                &BANDIT_BELIEVED_REGRET,
                &BANDIT_EXPLORATION_RATE,
                &BANDIT_GINI,
                &BANDIT_COLD_COVERAGE,
            ]
            .map(shown),
            arms: HashMap::new(),
            embedding: None,
            models: HashMap::new(),
            features: HashMap::new(),
            state: metrics.gauge(&STREAMING_STATE, &[]),
            metrics: metrics.clone(),
        }
    }

    /// Shows a report; makes the handles where there are none yet.
    pub(crate) fn show(
        exporter: &mut Option<Self>,
        telemetry: &Telemetry,
        report: &Report,
        items: &Items,
        bytes: usize,
    ) {
        exporter.get_or_insert_with(|| Self::new(telemetry)).report(report, items, bytes);
    }

    fn report(&mut self, report: &Report, items: &Items, bytes: usize) {
        let totals = &report.totals;
        for &source in Source::ALL {
            let total = &totals.by_source[usize::from(source.code())];
            let values = [
                total.impressions as f64,
                total.clicks as f64,
                total.conversions as f64,
                total.engagement_ms as f64 / 1e3,
                total.revenue as f64,
            ];
            self.sources.get(source).iter().zip(values).for_each(|(counter, value)| counter.catch_up(value));
        }
        for &segment in Segment::ALL {
            let (impressions, clicks) = totals.by_segment[usize::from(segment.code())];
            let [shown, clicked] = self.segments.get(segment);
            shown.catch_up(impressions as f64);
            clicked.catch_up(clicks as f64);
        }
        let rewards = [totals.exploration_rewards, totals.exploitation_rewards];
        self.rewards.iter().zip(rewards).for_each(|(counter, rewards)| counter.catch_up(rewards as f64));

        show(&self.lift, &report.lift);
        show(&self.return_ratio, &report.return_ratio);
        show(&self.active, &report.active_users);
        let content = &report.content;
        let values =
            [content.catalog_coverage, content.diversity, content.novelty, content.freshness, content.serendipity];
        self.content.iter().zip(&values).for_each(|(shown, value)| show(shown, value));
        show(&self.exploration[0], &report.exploration.thompson);
        show(&self.exploration[1], &report.exploration.random);
        let bandit = &report.bandit;
        let values =
            [bandit.regret, bandit.believed_regret, bandit.exploration_rate, bandit.gini, bandit.cold_coverage];
        self.bandit.iter().zip(&values).for_each(|(shown, value)| show(shown, value));
        for (&arm, estimate) in &bandit.uncertainty {
            let make = || self.metrics.estimate(&BANDIT_UNCERTAINTY, &[items.arm_name(arm)]);
            show(self.arms.entry(arm).or_insert_with(make), estimate);
        }
        self.models(&report.models);
        self.embeddings(report);
        self.state.set(bytes as f64);
    }

    fn embeddings(&mut self, report: &Report) {
        let embedding = &report.embedding;
        if embedding.coverage.is_known() && self.embedding.is_none() {
            let entries = [&EMBEDDING_STALENESS, &EMBEDDING_COVERAGE, &EMBEDDING_DRIFT];
            self.embedding = Some(entries.map(|entry| self.metrics.estimate(entry, &[])));
        }
        let values = [embedding.staleness, embedding.coverage, embedding.drift];
        self.embedding.iter().flatten().zip(&values).for_each(|(shown, value)| show(shown, value));
        for feature in &report.features {
            if let Some(shown) = self.features.get(&feature.name) {
                show(shown, &feature.drift);
            } else if feature.drift.is_known() {
                let shown = self.metrics.estimate(&MODEL_FEATURE_DRIFT, &[&feature.name]);
                show(&shown, &feature.drift);
                self.features.insert(feature.name.clone(), shown);
            }
        }
    }

    fn models(&mut self, reports: &[ModelReport]) {
        for report in reports {
            let Some(model) = report.model else { continue };
            let shown = self.models.entry(model).or_insert_with(|| {
                let version = version(model);
                Model {
                    ndcg: self.metrics.estimate(&MODEL_NDCG, &[&version]),
                    calibration: self.metrics.estimate(&MODEL_CALIBRATION, &[&version]),
                }
            });
            show(&shown.ndcg, &report.ndcg);
            show(&shown.calibration, &report.calibration);
        }
        // A model whose last impression left the window.
        let gone = |model: &u64| !reports.iter().any(|report| report.model == Some(*model));
        for shown in self.models.iter().filter(|(model, _)| gone(model)).map(|(_, shown)| shown) {
            show(&shown.ndcg, &Estimate::ABSENT);
            show(&shown.calibration, &Estimate::ABSENT);
        }
    }
}

fn show(shown: &Shown, estimate: &Estimate) {
    shown.set_within(estimate.value, [estimate.low, estimate.high], estimate.samples);
}
