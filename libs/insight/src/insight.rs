//! The state: every sketch of every window, fed one observation at a time.

use crate::config::{Baselines, Config, ConfigError};
use crate::event::{
    Decided, EmbeddingRead, FeatureValue, Impression, Outcome, OutcomeKind, RecallAt, ShadowSearch, SlotKind,
};
use crate::join::{Join, JoinCounts, News};
use crate::sketch::arms::Arms;
use crate::sketch::bounded::Bounded;
use crate::sketch::content::Content;
use crate::sketch::distinct::Distinct;
use crate::sketch::drift::Features;
use crate::sketch::embedding::Embeddings;
use crate::sketch::items::ItemCounts;
use crate::sketch::mean::Recalls;
use crate::sketch::ranking::{self, Column, Examination, Model};
use crate::totals::{Effect, Totals};
use crate::window::{AHEAD_MS, Windowed};
use attune_domain::{ItemIx, Source, UnixMillis};
use serde::{Deserialize, Serialize};

/// Model versions told apart in a window.
pub(crate) const MODELS: usize = 8;
/// A day: nobody looks at an item for longer.
const LONGEST_DWELL: f32 = 86_400.0;
const HIGHEST_VALUE: f32 = 1e9;

/// Computes the metrics of the stream. Feed it in the order of the log and tell it the stream's time.
///
/// Always holds: what it says is a function of the set of observations and of the stream's time at each, however they
/// were batched; states of partitions by visitor merge into the state of the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Insight {
    pub(crate) config: Config,
    pub(crate) state: State,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) now: UnixMillis,
    pub(crate) baselines: u64,
    pub(crate) join: Join,
    pub(crate) totals: Totals,
    pub(crate) effect: Windowed<Effect>,
    pub(crate) content: Windowed<Content>,
    pub(crate) items: Windowed<ItemCounts>,
    pub(crate) bandit: Windowed<Arms>,
    pub(crate) models: Windowed<Bounded<Model, MODELS>>,
    pub(crate) examination: Windowed<Examination>,
    pub(crate) recall: Windowed<Bounded<Recalls, MODELS>>,
    pub(crate) features: Windowed<Features>,
    pub(crate) embedding: Windowed<Embeddings>,
    pub(crate) active: Windowed<Distinct>,
    pub(crate) days: Windowed<Distinct>,
}

impl Insight {
    /// An empty state at `now`, the stream's time.
    pub fn new(config: Config, now: UnixMillis) -> Result<Self, ConfigError> {
        config.check()?;
        let w = config.windows;
        let state = State {
            now,
            baselines: config.baselines.digest(),
            join: Join::default(),
            totals: Totals::default(),
            effect: Windowed::new(w.effect),
            content: Windowed::new(w.content),
            items: Windowed::new(w.items),
            bandit: Windowed::new(w.bandit),
            models: Windowed::new(w.model),
            examination: Windowed::new(w.examination),
            recall: Windowed::new(w.recall),
            features: Windowed::new(w.features),
            embedding: Windowed::new(w.embedding),
            active: Windowed::new(w.active),
            days: Windowed::new(w.days()),
        };
        Ok(Self { config, state })
    }

    pub fn now(&self) -> UnixMillis {
        self.state.now
    }

    pub fn join_counts(&self) -> JoinCounts {
        self.state.join.counts
    }

    /// Moves the stream's time forward: windows slide, joins whose window has passed end. Time never goes back.
    pub fn advance(&mut self, now: UnixMillis) {
        let s = &mut self.state;
        if now <= s.now {
            return;
        }
        s.now = now;
        s.join.advance(now);
        s.slide();
    }

    /// The visitor was here; impressions and outcomes say so themselves.
    pub fn visit(&mut self, visitor: u64, at: UnixMillis) {
        self.state.visit(visitor, at);
    }

    pub fn impression(&mut self, impression: &Impression) {
        self.state.visit(impression.decided.visitor, impression.at);
        let decided = sound(impression.decided);
        if self.refuses(decided.at) {
            return;
        }
        let due = decided.at.saturating_add(self.config.join_ms);
        let news = self.state.join.impression(impression.request, impression.item, &decided, due);
        self.count(impression.item, news);
    }

    pub fn outcome(&mut self, outcome: &Outcome) {
        self.state.visit(outcome.visitor, outcome.at);
        let decided = outcome.decided.map(sound);
        let known = self.state.join.decided_at(outcome.request, outcome.item);
        let at = known.or(decided.map(|decided| decided.at)).unwrap_or(outcome.at);
        if self.refuses(at) {
            return;
        }
        let due = at.saturating_add(self.config.join_ms);
        let kind = match outcome.kind {
            OutcomeKind::Conversion(value) => OutcomeKind::Conversion(within(value, HIGHEST_VALUE)),
            OutcomeKind::Dwell(seconds) => OutcomeKind::Dwell(within(seconds, LONGEST_DWELL)),
            kind => kind,
        };
        let news = self.state.join.outcome(outcome.request, outcome.item, kind, decided.as_ref(), due);
        self.count(outcome.item, news);
    }

    /// The features of one scored candidate or request. Places beyond the baselines are ignored.
    pub fn features(&mut self, at: UnixMillis, values: &[FeatureValue]) {
        let Some(sketch) = self.state.features.slot(self.state.now, at) else { return };
        for value in values {
            if let Some(baseline) = self.config.baselines.features.get(usize::from(value.feature)) {
                sketch.at(value.feature.into()).add(baseline, value.value, value.unseen);
            }
        }
    }

    pub fn embedding(&mut self, read: &EmbeddingRead<'_>) {
        if let Some(sketch) = self.state.embedding.slot(self.state.now, read.at) {
            sketch.add(read, self.config.baselines.embedding.len());
        }
    }

    pub fn shadow_search(&mut self, search: &ShadowSearch) {
        if let Some(sketch) = self.state.recall.slot(self.state.now, search.at) {
            let k = match search.k {
                RecallAt::Ten => 0,
                RecallAt::Hundred => 1,
                RecallAt::Thousand => 2,
            };
            sketch.at(search.model).0[k].add(f64::from(within(search.recall, 1.0)));
        }
    }

    /// Measures drift against another model's training from now on; what was counted against the old one is dropped.
    pub fn set_baselines(&mut self, baselines: Baselines) -> Result<(), ConfigError> {
        baselines.check()?;
        self.state.rebase(baselines.digest());
        self.config.baselines = baselines;
        Ok(())
    }

    /// Adds the state of another partition: one that saw other visitors, under the same configuration and baselines.
    /// Windows are then those at the later of the two times.
    pub fn merge(&mut self, other: &Self) {
        let (s, o) = (&mut self.state, &other.state);
        s.now = s.now.max(o.now);
        s.join.merge(&o.join);
        s.totals.merge(&o.totals);
        s.effect.merge(&o.effect);
        s.content.merge(&o.content);
        s.items.merge(&o.items);
        s.bandit.merge(&o.bandit);
        s.models.merge(&o.models);
        s.examination.merge(&o.examination);
        s.recall.merge(&o.recall);
        if s.baselines == o.baselines {
            s.features.merge(&o.features);
            s.embedding.merge(&o.embedding);
        }
        s.active.merge(&o.active);
        s.days.merge(&o.days);
        s.join.advance(s.now);
        s.join.shrink(self.config.join_entries);
        s.slide();
    }

    /// Memory of the state, as it is.
    pub fn size_bytes(&self) -> usize {
        let s = &self.state;
        size_of::<Self>()
            + s.join.size_bytes()
            + s.effect.size_bytes()
            + s.content.size_bytes()
            + s.items.size_bytes()
            + s.bandit.size_bytes()
            + s.models.size_bytes()
            + s.examination.size_bytes()
            + s.recall.size_bytes()
            + s.features.size_bytes()
            + s.embedding.size_bytes()
            + s.active.size_bytes()
            + s.days.size_bytes()
    }

    fn refuses(&mut self, decided_at: UnixMillis) -> bool {
        let now = self.state.now;
        let refused = self.config.is_late(decided_at, now) || decided_at > now.saturating_add(AHEAD_MS);
        self.state.join.counts.late += u64::from(refused);
        refused
    }

    fn count(&mut self, item: ItemIx, news: News) {
        self.state.join.shrink(self.config.join_entries);
        let Some(decided) = news.decided else { return };
        if news.impression {
            let known = item.0 < self.config.items;
            self.state.shown(known.then_some(item), &decided);
        }
        for kind in news.outcomes {
            self.state.responded(kind, &decided);
        }
        if news.reward {
            self.state.rewarded(&decided);
        }
    }
}

impl State {
    fn visit(&mut self, visitor: u64, at: UnixMillis) {
        if let Some(sketch) = self.active.slot(self.now, at) {
            sketch.add(visitor);
        }
        if let Some(sketch) = self.days.slot(self.now, at) {
            sketch.add(visitor);
        }
    }

    fn shown(&mut self, item: Option<ItemIx>, decided: &Decided) {
        let (now, at) = (self.now, decided.at);
        self.totals.shown(decided);
        if let Some(sketch) = self.effect.slot(now, at) {
            sketch.shown(decided);
        }
        // What the holdout sees is not this platform's choice.
        if decided.source != Source::Personalized {
            return;
        }
        if let Some(sketch) = self.content.slot(now, at) {
            sketch.shown(decided);
        }
        if let Some(item) = item
            && let Some(sketch) = self.items.slot(now, at)
        {
            sketch.add(item);
        }
        if let Some(sketch) = self.bandit.slot(now, at) {
            sketch.shown(decided);
        }
        if let Some(score) = decided.score
            && let Some(sketch) = self.models.slot(now, at)
        {
            sketch.at(decided.model).shown(decided, score);
        }
        self.examine(decided, Column::Shown);
    }

    fn responded(&mut self, kind: OutcomeKind, decided: &Decided) {
        let (now, at) = (self.now, decided.at);
        self.totals.responded(kind, decided);
        if let Some(sketch) = self.effect.slot(now, at) {
            sketch.responded(kind, decided);
        }
        if decided.source != Source::Personalized {
            return;
        }
        match kind {
            OutcomeKind::Click => {
                if let Some(score) = decided.score
                    && let Some(sketch) = self.models.slot(now, at)
                {
                    sketch.at(decided.model).clicked(decided, score);
                }
                self.examine(decided, Column::Clicked);
            }
            OutcomeKind::Like => {
                if let Some(sketch) = self.content.slot(now, at) {
                    sketch.liked(decided);
                }
            }
            OutcomeKind::Conversion(_) | OutcomeKind::Dwell(_) | OutcomeKind::Hide => {}
        }
    }

    fn rewarded(&mut self, decided: &Decided) {
        self.totals.rewarded(decided);
        if decided.source == Source::Personalized
            && let Some(sketch) = self.bandit.slot(self.now, decided.at)
        {
            sketch.rewarded(decided);
        }
    }

    fn examine(&mut self, decided: &Decided, column: Column) {
        if decided.kind == SlotKind::Uniform
            && let Some(sketch) = self.examination.slot(self.now, decided.at)
        {
            ranking::examined(sketch, decided, column);
        }
    }

    fn slide(&mut self) {
        let now = self.now;
        self.effect.advance(now);
        self.content.advance(now);
        self.items.advance(now);
        self.bandit.advance(now);
        self.models.advance(now);
        self.examination.advance(now);
        self.recall.advance(now);
        self.features.advance(now);
        self.embedding.advance(now);
        self.active.advance(now);
        self.days.advance(now);
    }

    pub(crate) fn rebase(&mut self, baselines: u64) {
        if self.baselines != baselines {
            self.baselines = baselines;
            self.features.clear();
            self.embedding.clear();
        }
    }
}

/// Brings what a decision claims into the range of its sketches.
fn sound(decided: Decided) -> Decided {
    let score = decided.score.map(|score| within(score, 1.0));
    Decided { score, popularity: decided.popularity.max(0.0), ..decided }
}

fn within(value: f32, most: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, most) }
}
