//! What goes in. Each value is already resolved: whoever fills these has looked the item up and read the decision.

pub use attune_domain::SlotKind;
use attune_domain::{ItemIx, RequestId, Segment, Source, UnixMillis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the decision knew about one slot. Impressions have it; outcomes may carry it, which spares them the join.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// When the decision was made: every metric counts the slot and what came of it in the sub-window of this moment,
    /// so that the order of arrival does not matter.
    pub at: UnixMillis,
    /// Digest of the visitor's pseudonym.
    pub visitor: u64,
    /// [`attune_domain::ModelVersion::code`].
    pub model: u64,
    /// Calibrated probability of a click, given at serving. None where the list was not scored, which says nothing of
    /// a model.
    pub score: Option<f32>,
    /// The item's score under the popularity baseline, at least 0.
    pub popularity: f32,
    /// Probability, under the policy, that the slot showed this item in its way ([`Decided::kind`]).
    pub propensity: Option<f32>,
    pub item_age: Option<Duration>,
    /// Primary category.
    pub category: u16,
    /// Zero-based slot.
    pub position: u16,
    /// The slot the item would have had, were the slate sorted by [`Decided::score`]: the ideal order of NDCG.
    pub ideal_position: u16,
    /// Group of items that regret is computed over.
    pub arm: u8,
    #[serde(with = "slot_code")]
    pub kind: SlotKind,
    #[serde(with = "source_code")]
    pub source: Source,
    #[serde(with = "segment_code")]
    pub segment: Segment,
    /// The visitor had been shown the item before.
    pub seen_before: bool,
}

/// An item was shown. (request, item) names it; only the first counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impression {
    pub at: UnixMillis,
    pub request: RequestId,
    pub item: ItemIx,
    pub decided: Decided,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum OutcomeKind {
    Click,
    /// Minor currency units.
    Conversion(f32),
    /// Seconds.
    Dwell(f32),
    Like,
    Hide,
}

impl OutcomeKind {
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Click => 1,
            Self::Conversion(_) => 2,
            Self::Dwell(_) => 4,
            Self::Like => 8,
            Self::Hide => 16,
        }
    }

    /// What moves posteriors, and so what regret is about: one reward an impression, whichever comes first.
    pub(crate) const REWARDS: u8 = 1 | 2 | 8;
}

/// A visitor did something with an item. (request, item, kind) names it; only the first counts. It implies the
/// impression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub at: UnixMillis,
    pub request: RequestId,
    pub item: ItemIx,
    pub visitor: u64,
    pub kind: OutcomeKind,
    pub decided: Option<Decided>,
}

/// One observed feature, by its place in [`crate::Baselines::features`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureValue {
    pub feature: u16,
    /// None is null; so is what is not finite.
    pub value: Option<f32>,
    /// A category that training did not see: counted in the unseen share, not in the bins.
    pub unseen: bool,
}

/// What serving a visitor found in the way of an embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingRead<'a> {
    pub at: UnixMillis,
    pub visitor: u64,
    pub segment: Segment,
    /// Age of the embedding when it was read, and the vector; None where there is none.
    pub found: Option<(Duration, &'a [f32])>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecallAt {
    Ten,
    Hundred,
    Thousand,
}

/// A query repeated by exact search on the same snapshot of the index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShadowSearch {
    pub at: UnixMillis,
    pub model: u64,
    pub k: RecallAt,
    /// Share of the exact results that the index returned.
    pub recall: f32,
}

/// An available item of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueItem {
    pub item: ItemIx,
    pub created_at: Option<UnixMillis>,
}

/// What the bandit believes of an item: Beta(alpha, beta), after so many (decayed) impressions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    pub arm: u8,
    pub alpha: f32,
    pub beta: f32,
    pub impressions: f32,
}

/// What a report reads besides the stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    pub catalogue: &'a [CatalogueItem],
    pub posteriors: &'a [Posterior],
}

macro_rules! by_code {
    ($module:ident, $list:ty) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de};

            pub(super) fn serialize<S: Serializer>(value: &$list, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(value.code())
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$list, D::Error> {
                <$list>::from_code(u8::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("unknown code"))
            }
        }
    };
}
by_code!(slot_code, attune_domain::SlotKind);
by_code!(source_code, attune_domain::Source);
by_code!(segment_code, attune_domain::Segment);
