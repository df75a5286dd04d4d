//! Evidence for posteriors.
//!
//! Always holds: an (item, decision) gives at most one impression and one reward from the events of one partition (all
//! of a visitor's lie in one), whatever arrives in whatever order, and a reward never without its impression. Both
//! weigh as of the decision: were a reward to weigh as of its click, an item could have more rewards than impressions.

use attune_domain::{EventKind, LoggedEvent};
use attune_storage::{OUTCOME_IMPRESSION, OUTCOME_REWARD, OutcomeKey, PosteriorChange};
use std::time::Duration;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The outcome an event speaks about; nothing where it may not move posteriors.
pub(crate) fn outcome(event: &LoggedEvent, window: Duration) -> Option<OutcomeKey> {
    let request = event.request_id?;
    let counts = event.in_decision && !event.imported && event.item.is_known() && bits_of(event.kind) != 0;
    let decided = request.unix_millis();
    let late = event.accepted_at.saturating_sub(decided) > i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    (counts && !late).then_some(OutcomeKey { day: decided.div_euclid(DAY_MS), request, item: event.item })
}

fn bits_of(kind: EventKind) -> u8 {
    match kind {
        EventKind::Impression => OUTCOME_IMPRESSION,
        EventKind::Click | EventKind::Conversion | EventKind::Like => OUTCOME_IMPRESSION | OUTCOME_REWARD,
        EventKind::Dwell | EventKind::Hide => 0,
    }
}

/// Adds an event to the bits of its outcome. Returns the evidence that is new.
pub(crate) fn apply(bits: &mut u8, key: &OutcomeKey, kind: EventKind) -> Option<PosteriorChange> {
    let new = bits_of(kind) & !*bits;
    *bits |= new;
    let one = |bit| f32::from(u8::from(new & bit != 0));
    (new != 0).then_some(PosteriorChange {
        item: key.item,
        at: key.request.unix_millis(),
        impressions: one(OUTCOME_IMPRESSION),
        rewards: one(OUTCOME_REWARD),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::{ItemIx, RequestId};

    const KEY: OutcomeKey = OutcomeKey { day: 0, request: RequestId([0; 16]), item: ItemIx(1) };

    fn counted(kinds: &[EventKind]) -> (f32, f32) {
        let mut bits = 0;
        kinds
            .iter()
            .filter_map(|&kind| apply(&mut bits, &KEY, kind))
            .fold((0.0, 0.0), |(i, r), change| (i + change.impressions, r + change.rewards))
    }

    #[test]
    fn whatever_arrives_in_whatever_order_counts_once() {
        use EventKind::{Click, Conversion, Dwell, Hide, Impression, Like};
        for (kinds, expected) in [
            (&[Impression, Impression][..], (1.0, 0.0)),
            (&[Click], (1.0, 1.0)),
            (&[Click, Impression], (1.0, 1.0)),
            (&[Impression, Click, Conversion, Like, Click], (1.0, 1.0)),
            (&[Dwell, Hide], (0.0, 0.0)),
            (&[Hide, Impression], (1.0, 0.0)),
        ] {
            assert_eq!(counted(kinds), expected, "{kinds:?}");
        }
    }
}
