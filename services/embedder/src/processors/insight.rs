//! Events as the estimators read them.
//!
//! Always holds: imported history counts nowhere; an event that its decision does not know moves no rate, only the
//! number of active visitors.

use attune_domain::{EventKind, LoggedEvent, Segment, Source, Uid, Variant};
use attune_insight::{Decided, Impression, Insight, Outcome, OutcomeKind};
use std::time::Duration;

/// What is known of the item and the visitor besides what the event says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) item_age: Option<Duration>,
    pub(crate) category: u16,
    pub(crate) arm: u8,
    pub(crate) popularity: f32,
    pub(crate) segment: Segment,
    pub(crate) seen_before: bool,
}

/// The visitor's number: a digest of the pseudonym.
pub(crate) fn visitor(uid: Uid) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&uid.0)
}

/// Whether there is something to find out about before [`observe`].
pub(crate) fn is_decided(event: &LoggedEvent) -> bool {
    !event.imported && event.decided.is_some() && event.request_id.is_some()
}

/// Feeds an event. `facts` are asked for where [`is_decided`] says so.
pub(crate) fn observe(insight: &mut Insight, event: &LoggedEvent, facts: Option<Facts>) {
    if event.imported {
        return;
    }
    let visitor = visitor(event.uid);
    // A client's clock may be ahead of ours.
    let at = event.occurred_at.min(event.accepted_at);
    let item = event.item;
    let Some(request) = event.request_id.filter(|_| item.is_known()) else {
        insight.visit(visitor, at);
        return;
    };
    let decided = event.decided.zip(facts).map(|(slot, facts)| Decided {
        at: request.unix_millis(),
        visitor,
        model: slot.model,
        score: slot.score,
        popularity: facts.popularity,
        propensity: slot.propensity,
        item_age: facts.item_age,
        category: facts.category,
        position: slot.position,
        ideal_position: slot.ideal_position,
        arm: facts.arm,
        kind: slot.kind,
        source: match slot.variant {
            Variant::Treatment => Source::Personalized,
            Variant::Holdout => Source::Baseline,
        },
        segment: facts.segment,
        seen_before: facts.seen_before,
    });
    let kind = match event.kind {
        EventKind::Impression => match decided {
            Some(decided) => return insight.impression(&Impression { at, request, item, decided }),
            None => return insight.visit(visitor, at),
        },
        EventKind::Click => OutcomeKind::Click,
        EventKind::Conversion => OutcomeKind::Conversion(event.value),
        EventKind::Dwell => OutcomeKind::Dwell(event.value),
        EventKind::Like => OutcomeKind::Like,
        EventKind::Hide => OutcomeKind::Hide,
    };
    insight.outcome(&Outcome { at, request, item, visitor, kind, decided });
}
