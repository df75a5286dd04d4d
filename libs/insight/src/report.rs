//! Estimates of everything, at a moment.

use crate::estimate::Estimate;
use crate::event::Surroundings;
use crate::insight::{Insight, MODELS, State};
use crate::join::JoinCounts;
use crate::sketch::arms;
use crate::sketch::bounded::Bounded;
use crate::sketch::mean::Recalls;
use crate::sketch::moments::lift;
use crate::sketch::ranking::{Examination, Model};
use crate::totals::{CLICKS, CONVERSIONS, DWELL_MS, Effect, REVENUE, SHOWN, Totals};
use attune_domain::{Segment, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};

/// Everything there is to say at a moment. Fields are named after the metrics of the catalogue; shares are 0 to 1.
///
/// Rates are of impressions of the window by decision time, so the newest minutes still lack the outcomes to come.
/// Their errors are over 64 groups of visitors, because a visitor's impressions are alike (Deng, Knoblich and Lu, KDD
/// 2018): `Var R = G / (G - 1) * sum (n_g - R d_g)^2 / (sum d_g)^2`; shares turn that into Wilson's interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub at: UnixMillis,
    /// `personalization_*_total`.
    pub totals: Totals,
    /// By [`attune_domain::Source::code`].
    pub by_source: [SourceReport; 2],
    /// Clicks over impressions, by [`Segment::code`].
    pub segment_ctr: [Estimate; 4],
    /// `personalization_lift_ratio`: CTR of the personalised assignment over the baseline's, less one. Delta method on
    /// the logarithm; samples are those of two equal halves that would tell as much, `4 / (1 / n_p + 1 / n_b)`.
    pub lift: Estimate,
    /// The same of conversions, of seconds of dwell and of revenue, each an impression.
    pub conversion_lift: Estimate,
    pub engagement_lift: Estimate,
    pub revenue_lift: Estimate,
    /// `personalization_return_ratio`: of the visitors of the day 8 days ago, those who came on any of the 7 days after.
    /// Exact up to 8 192 visitors, beyond that over a uniform sample of them; Wilson's interval over the sample. A
    /// visitor comes when an event of theirs happens.
    pub return_ratio: Estimate,
    /// `personalization_active_users`: visitors with an event in the window. Exact up to 8 192, beyond that bottom-k
    /// with a standard error of 1.1 % (samples: hashes held).
    pub active_users: Estimate,
    pub content: ContentReport,
    pub exploration: ExplorationReport,
    pub bandit: BanditReport,
    pub embedding: EmbeddingReport,
    /// By version, in the order of codes; the last may be those beyond the first 8.
    pub models: Vec<ModelReport>,
    /// In the order of the baselines.
    pub features: Vec<FeatureReport>,
    pub join: JoinReport,
}

/// Per impression of one assignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceReport {
    /// Clicks over impressions.
    pub ctr: Estimate,
    /// Conversions over impressions.
    pub conversion_rate: Estimate,
    /// Seconds of dwell an impression.
    pub engagement_seconds: Estimate,
    /// Minor currency units an impression.
    pub revenue: Estimate,
}

/// Of the personalised assignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContentReport {
    /// Distinct items shown over available items; exact.
    pub catalog_coverage: Estimate,
    /// `1 - sum n (n - 1) / (N (N - 1))` over categories (Simpson 1949); error `4 (sum p^3 - (sum p^2)^2) / N`.
    pub diversity: Estimate,
    /// Share of impressions whose item was new to the visitor, corrected for the false positives of the seen filter:
    /// seen shares `x` become `(x - f) / (1 - f)`.
    pub novelty: Estimate,
    /// Share of impressions whose item is less than 7 days old, where its age is known.
    pub freshness: Estimate,
    /// Of liked items, the share whose score under the popularity baseline is below the 20th percentile of the scores of
    /// everything shown. Samples are likes.
    pub serendipity: Estimate,
}

/// `personalization_exploration_rate` by algorithm: shares of the personalised slots, from their logged kinds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExplorationReport {
    /// [`crate::SlotKind::Explore`].
    pub thompson: Estimate,
    /// [`crate::SlotKind::Uniform`].
    pub random: Estimate,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BanditReport {
    /// `bandit_cumulative_regret`: `(max_a V_a - V) / max_a V_a`, at least -1. `V_a = sum w r / sum w` over uniform slots,
    /// `w = 1 / propensity` (Swaminathan and Joachims, NeurIPS 2015); V the mean reward. The maximum is optimistic: alert
    /// on the lower end, which judges each half of the visitors' best arm by the other half. Samples are uniform slots;
    /// some 1 500 of an arm tell its value within a tenth at a CTR of 10 %.
    pub regret: Estimate,
    /// `bandit_believed_regret`: the same read from posterior means.
    pub believed_regret: Estimate,
    /// Share of personalised slots that explore, either way.
    pub exploration_rate: Estimate,
    /// `bandit_posterior_uncertainty`: mean standard deviation of the items' posteriors, by arm.
    pub uncertainty: BTreeMap<u8, Estimate>,
    /// `sum (2 i - n - 1) x_(i) / (n sum x)` over available items, those never shown included; exact for the window.
    pub gini: Estimate,
    /// Of items younger than a day, the share with more than 10 impressions. Samples are such items.
    pub cold_coverage: Estimate,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingReport {
    /// Median and 95th percentile of the age at reading, in seconds, by [`Segment::code`].
    pub freshness: [[Estimate; 2]; 4],
    /// Share of embeddings read that were older than 300 s.
    pub staleness: Estimate,
    /// Reads that found an embedding over all.
    pub coverage: Estimate,
    /// `1 - cos(mean of the window, mean of the baseline)`; noise below 5 000 reads. Interval by jackknife over 16 groups.
    pub drift: Estimate,
    /// Median and 95th percentile of the vectors' length.
    pub norm: [Estimate; 2],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelReport {
    /// [`attune_domain::ModelVersion::code`]; None for all that are beyond the first 8.
    pub model: Option<u64>,
    /// DCG of clicks over examination (Joachims et al., WSDM 2017), over the DCG of scores in their own order scaled to
    /// the same total; at 10. Examination from uniform slots, falling monotonically. Jackknife over 64 groups.
    pub ndcg: Estimate,
    /// The corrected DCG a request: what versions are compared on (Jeunen et al., KDD 2024).
    pub dcg: Estimate,
    /// Mean at 10, 100 and 1000. Samples are queries.
    pub recall: [Estimate; 3],
    /// Mean, median and 95th percentile of the score of first slots.
    pub confidence: [Estimate; 3],
    /// `sign(E2) sqrt(|E2|)`, `E2 = sum w (g^2 - y (1 - y) / (n - 1))` over 15 bins of equal mass: 0 on average where the
    /// model is calibrated, so it may be negative (Kumar, Liang and Ma, NeurIPS 2019).
    pub calibration: Estimate,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FeatureReport {
    pub name: String,
    /// `model_feature_drift_score`: `sum p ln(p / q)` of the window against training, half an observation added to each
    /// bin, in nats. `(B - 1) / 2N` without drift; the interval is without that bias.
    pub drift: Estimate,
    /// Population stability index, `sum (p - q) ln(p / q)`: about twice the drift.
    pub psi: Estimate,
    pub null_share: Estimate,
    pub unseen_share: Estimate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinReport {
    pub counts: JoinCounts,
    pub entries: usize,
}

impl Insight {
    /// Everything in the windows that end at the stream's time.
    pub fn report(&self, around: Surroundings<'_>) -> Report {
        let s = &self.state;
        let now = s.now;
        let effect = s.effect.total(now);
        let arms = s.bandit.total(now);
        let [thompson, random, exploration_rate] = arms.exploration();
        let belief = arms::belief(around.posteriors);
        let items = s.items.total(now);
        let over = items.over(around.catalogue);
        let content = s.content.total(now);
        Report {
            at: now,
            totals: s.totals,
            by_source: [0, 1].map(|source| source_report(&effect, source)),
            segment_ctr: [0, 1, 2, 3].map(|segment: usize| effect.by_segment[segment].share(CLICKS, SHOWN)),
            lift: lift_of(&effect, CLICKS),
            conversion_lift: lift_of(&effect, CONVERSIONS),
            engagement_lift: lift_of(&effect, DWELL_MS),
            revenue_lift: lift_of(&effect, REVENUE),
            return_ratio: s.returning(),
            active_users: s.active.total(now).count(),
            content: ContentReport {
                catalog_coverage: over.coverage(),
                diversity: content.diversity(),
                novelty: content.novelty(self.config.seen_false_positives),
                freshness: content.freshness(),
                serendipity: content.serendipity(),
            },
            exploration: ExplorationReport { thompson, random },
            bandit: BanditReport {
                regret: arms.regret(),
                believed_regret: belief.regret,
                exploration_rate,
                uncertainty: belief.uncertainty,
                gini: over.gini(),
                cold_coverage: items.cold_coverage(around.catalogue, now),
            },
            embedding: self.embedding_report(),
            models: model_reports(&s.models.total(now), &s.recall.total(now), &s.examination.total(now)),
            features: self.feature_reports(),
            join: JoinReport { counts: s.join.counts, entries: s.join.len() },
        }
    }

    fn embedding_report(&self) -> EmbeddingReport {
        let sketch = self.state.embedding.total(self.state.now);
        let mut freshness = [[Estimate::ABSENT; 2]; 4];
        for &segment in Segment::ALL {
            freshness[usize::from(segment.code())] = [0.5, 0.95].map(|q| sketch.freshness(segment, q));
        }
        EmbeddingReport {
            freshness,
            staleness: sketch.staleness(),
            coverage: sketch.coverage(),
            drift: sketch.drift(&self.config.baselines.embedding),
            norm: [0.5, 0.95].map(|q| sketch.norm(q)),
        }
    }

    fn feature_reports(&self) -> Vec<FeatureReport> {
        let sketch = self.state.features.total(self.state.now);
        let report = |(place, baseline): (usize, &crate::config::FeatureBaseline)| {
            let counts = sketch.get(place);
            let [drift, psi] = counts.divergences(baseline);
            FeatureReport {
                name: baseline.name.clone(),
                drift,
                psi,
                null_share: counts.null_share(),
                unseen_share: counts.unseen_share(),
            }
        };
        self.config.baselines.features.iter().enumerate().map(report).collect()
    }
}

impl State {
    fn returning(&self) -> Estimate {
        use crate::config::RETURN_DAYS;
        use crate::sketch::Sketch as _;
        let Some(cohort) = self.days.back(self.now, RETURN_DAYS + 1) else { return Estimate::ABSENT };
        let mut later = crate::sketch::distinct::Distinct::default();
        for back in 1..=RETURN_DAYS {
            if let Some(day) = self.days.back(self.now, back) {
                later.merge(day);
            }
        }
        cohort.share_in(&later)
    }
}

fn source_report(effect: &Effect, source: usize) -> SourceReport {
    let sums = &effect.by_source[source];
    SourceReport {
        ctr: sums.share(CLICKS, SHOWN),
        conversion_rate: sums.share(CONVERSIONS, SHOWN),
        engagement_seconds: sums.mean(DWELL_MS, SHOWN, 1e3),
        revenue: sums.mean(REVENUE, SHOWN, 1.0),
    }
}

fn lift_of(effect: &Effect, column: usize) -> Estimate {
    let [personalized, baseline] = &effect.by_source;
    lift(personalized.ratio(column, SHOWN), baseline.ratio(column, SHOWN))
}

fn model_reports(
    models: &Bounded<Model, MODELS>,
    recalls: &Bounded<Recalls, MODELS>,
    examination: &Examination,
) -> Vec<ModelReport> {
    let known: BTreeSet<Option<u64>> =
        models.iter().map(|(model, _)| model).chain(recalls.iter().map(|(m, _)| m)).collect();
    // None sorts first, but is what is left over.
    let (rest, known): (Vec<_>, Vec<_>) = known.into_iter().partition(Option::is_none);
    known
        .into_iter()
        .chain(rest)
        .map(|model| {
            let sketch = models.get(model).cloned().unwrap_or_default();
            let [ndcg, dcg] = sketch.ndcg(examination);
            let recall = recalls.get(model).map_or([Estimate::ABSENT; 3], |r| r.0.map(|mean| mean.estimate()));
            let [median, high] = [0.5, 0.95].map(|q| sketch.top.quantile_estimate(q));
            ModelReport {
                model,
                ndcg,
                dcg,
                recall,
                confidence: [sketch.top.mean_estimate(), median, high],
                calibration: sketch.calibration.error(),
            }
        })
        .collect()
}
