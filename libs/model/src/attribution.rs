//! Why an item scored as it did.

use crate::bundle::Bundle;
use crate::features::{self, UserSide};
use crate::items::ItemTable;
use crate::tower::UserInput;
use attune_domain::{ItemIx, Reason};

/// Features that are replaced together when their contribution is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FeatureGroup {
    /// Closeness to single recent items.
    Similarity,
    /// Agreement of the whole user vector with the item vector.
    Taste,
    /// Share of the item's categories in the window.
    Category,
    /// How often others took the item.
    Popularity,
    /// Age of the item.
    Freshness,
    Price,
    /// Page, device, region and hour.
    Context,
    /// Attributes and activity of the visitor.
    Visitor,
}

impl FeatureGroup {
    pub const ALL: [Self; 8] = [
        Self::Similarity,
        Self::Taste,
        Self::Category,
        Self::Popularity,
        Self::Freshness,
        Self::Price,
        Self::Context,
        Self::Visitor,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::Taste => "taste",
            Self::Category => "category",
            Self::Popularity => "popularity",
            Self::Freshness => "freshness",
            Self::Price => "price",
            Self::Context => "context",
            Self::Visitor => "visitor",
        }
    }

    /// The reason that may be told to a visitor when this group is the strongest.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Similarity => Some(Reason::SimilarToRecent),
            Self::Taste => Some(Reason::TasteMatch),
            Self::Category => Some(Reason::FavouriteCategory),
            Self::Popularity => Some(Reason::Popular),
            Self::Freshness => Some(Reason::Fresh),
            Self::Price | Self::Context | Self::Visitor => None,
        }
    }
}

/// What a feature group added to an item's click logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    pub group: FeatureGroup,
    /// Click logit with the group as it is, less the logit with the group at its training mean.
    pub logit: f32,
    /// Items of the window that the group's features came from, strongest first; empty where the group has none.
    pub evidence: Vec<ItemIx>,
}

impl Bundle {
    /// Contributions to the item's click logit, strongest (by absolute value) first.
    pub fn attribute(
        &self,
        items: &ItemTable,
        input: &UserInput,
        user_vector: &[f32],
        item: ItemIx,
    ) -> Vec<Contribution> {
        if item.index() >= items.len() {
            return Vec::new();
        }
        let side = UserSide::new(&self.manifest().schema, items, input, user_vector);
        let mut row = Vec::with_capacity(side.width());
        side.rows(&[item], 0, &mut row);
        self.ranker.clamp(&mut row);
        // The row as it is, then one with each group at its mean.
        let mut rows = row.clone();
        for group in FeatureGroup::ALL {
            let means = self.ranker.mean.iter().zip(&row).enumerate();
            rows.extend(means.map(|(at, (&mean, &x))| if features::group(at) == group { mean } else { x }));
        }
        let heads = self.manifest().heads.len();
        let mut outputs = vec![0.0; heads * (FeatureGroup::ALL.len() + 1)];
        self.ranker.model.forward(&rows, &mut outputs);
        let Some(click) = self.manifest().heads.iter().position(|head| head.name == "click") else {
            return Vec::new();
        };
        let mut found: Vec<Contribution> = FeatureGroup::ALL
            .iter()
            .enumerate()
            .map(|(at, &group)| Contribution {
                group,
                logit: outputs[click] - outputs[(at + 1) * heads + click],
                evidence: match group {
                    FeatureGroup::Similarity | FeatureGroup::Taste => side.closest(item),
                    FeatureGroup::Category => side.same_category(item),
                    _ => Vec::new(),
                },
            })
            .collect();
        found.sort_by(|a, b| b.logit.abs().total_cmp(&a.logit.abs()).then(a.group.cmp(&b.group)));
        found
    }
}
