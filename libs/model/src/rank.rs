//! The ranker at serving time: features of (visitor, item) to the heads' outputs.

use crate::bundle::Bundle;
use crate::features::{COLUMNS, UserSide};
use crate::items::ItemTable;
use crate::tower::UserInput;
use attune_domain::ItemIx;
use attune_inference::{exp, sigmoid};

/// Longest dwell that is predicted.
const MAX_DWELL_SECONDS: f32 = 86_400.0;

/// Names of the first columns of a feature row, as in [`Bundle::histograms`].
pub fn feature_names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(name, _)| *name)
}

/// Outputs of the heads, parallel to the candidates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Probability of a click. Calibrated only where the manifest says so.
    pub click: Vec<f32>,
    /// Probability of a conversion.
    pub conversion: Option<Vec<f32>>,
    /// Expected seconds after a click.
    pub dwell: Option<Vec<f32>>,
}

impl Bundle {
    /// What the ranker reads of each candidate, shown at its position: a row of [`feature_names`] each, then columns
    /// without a name. Candidates that are not in the table have none.
    pub fn feature_rows(
        &self,
        items: &ItemTable,
        input: &UserInput,
        user_vector: &[f32],
        shown: &[(ItemIx, u8)],
        mut see: impl FnMut(&[f32]),
    ) {
        let side = UserSide::new(&self.manifest().schema, items, input, user_vector);
        let known = shown.iter().filter(|(ix, _)| ix.index() < items.len());
        let mut rows = Vec::with_capacity(side.width());
        for &(ix, position) in known {
            rows.clear();
            side.rows(&[ix], position, &mut rows);
            see(&rows);
        }
    }

    /// Scores each candidate. A candidate's scores are bit-identical whatever else is in the batch, whatever its size
    /// and whatever the instruction set. Candidates that are not in the table score 0.
    pub fn rank(&self, items: &ItemTable, input: &UserInput, user_vector: &[f32], candidates: &[ItemIx]) -> Scores {
        let known: Vec<ItemIx> = candidates.iter().copied().filter(|ix| ix.index() < items.len()).collect();
        let side = UserSide::new(&self.manifest().schema, items, input, user_vector);
        let mut rows = Vec::with_capacity(known.len() * side.width());
        side.rows(&known, 0, &mut rows);
        self.ranker.clamp(&mut rows);
        let heads = &self.manifest().heads;
        let mut raw = vec![0.0; known.len() * heads.len()];
        self.ranker.model.forward(&rows, &mut raw);

        let column = |name: &str, link: fn(f32) -> f32| {
            let at = heads.iter().position(|head| head.name == name)?;
            let mut outputs = raw.iter().skip(at).step_by(heads.len());
            let score = |ix: &ItemIx| {
                if ix.index() < items.len() { outputs.next().map_or(0.0, |&x| link(x)) } else { 0.0 }
            };
            Some(candidates.iter().map(score).collect::<Vec<f32>>())
        };
        Scores {
            click: column("click", sigmoid).unwrap_or_else(|| vec![0.0; candidates.len()]),
            conversion: column("conversion", sigmoid),
            dwell: column("dwell", |x| (exp(x) - 1.0).clamp(0.0, MAX_DWELL_SECONDS)),
        }
    }
}
