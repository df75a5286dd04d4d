//! Finds rows of a training set that know what was accepted later.

use crate::history::{History, View};
use crate::tables::training::{TrainingRow, feature_columns};
use attune_domain::{RequestId, Uid, UserAttributes, UserState};
use attune_serving::Serving;
use std::collections::HashMap;

/// A feature of a row that is not what was known.
#[derive(Debug, Clone, PartialEq)]
pub struct Leak {
    /// Index of the row.
    pub row: usize,
    pub request_id: RequestId,
    pub feature: String,
    pub found: String,
    /// What it is by all that had been accepted before the decision.
    pub known: String,
    /// The first thing accepted too late that the row may know.
    pub because: Option<String>,
}

/// Holds each row against the log: anew for each row, in the plainest way there is. `serving` gives the model and the
/// catalogue of a row.
pub fn leaks<'a>(
    rows: &[TrainingRow],
    histories: &HashMap<Uid, History>,
    serving: impl Fn(&TrainingRow) -> &'a Serving,
) -> Vec<Leak> {
    let nothing = History::default();
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let history = histories.get(&row.uid).unwrap_or(&nothing);
        let view = known(history, row);
        let position = u8::try_from(row.position).unwrap_or(u8::MAX);
        let expected = super::features(serving(row), &view, row.context, row.decided_at, &[(row.item, position)]);
        let mut tell = |feature: &str, [found_now, known]: [String; 2], because: Option<String>| {
            let (request_id, feature) = (row.request_id, feature.to_owned());
            found.push(Leak { row: index, request_id, feature, found: found_now, known, because });
        };
        for (name, (value, known)) in feature_columns().zip(row.features.iter().zip(expected.iter().flatten())) {
            if value.to_bits() != known.to_bits() {
                tell(name, [value.to_string(), known.to_string()], late_event(history, row));
            }
        }
        if row.attributes != view.state.attributes {
            let text = |attributes: &UserAttributes| format!("{:?}", attributes.0);
            tell("attributes", [text(&row.attributes), text(&view.state.attributes)], late_attributes(history, row));
        }
        if row.known_events != view.events {
            tell("known_events", [row.known_events, view.events].map(|n| n.to_string()), late_event(history, row));
        }
        if row.known_watermark != view.state.watermark {
            let text = |at: Option<i64>| at.map_or("none".to_owned(), |at| at.to_string());
            tell("known_watermark", [row.known_watermark, view.state.watermark].map(text), late_event(history, row));
        }
    }
    found
}

fn known(history: &History, row: &TrainingRow) -> View {
    let mut state = UserState::default();
    let mut events = 0;
    for version in history.events().iter().filter(|version| version.accepted_at < row.decided_at) {
        events += 1;
        state.watermark = state.watermark.max(Some(version.accepted_at));
        state.window.insert(version.value);
    }
    let before = history.attributes().iter().filter(|version| version.accepted_at < row.decided_at);
    if let Some(newest) = before.max_by_key(|version| (version.accepted_at, version.offset)) {
        state.attributes = newest.value.clone();
    }
    View { state, events }
}

fn late_event(history: &History, row: &TrainingRow) -> Option<String> {
    let late = history.events().iter().filter(|v| v.accepted_at >= row.decided_at && v.occurred_at <= row.decided_at);
    let first = late.min_by_key(|v| (v.accepted_at, v.offset))?;
    let (kind, item) = (first.value.kind, first.value.item.0);
    Some(format!("{kind} of item {item} occurred at {}, accepted at {}", first.occurred_at, first.accepted_at))
}

fn late_attributes(history: &History, row: &TrainingRow) -> Option<String> {
    let late = history.attributes().iter().filter(|v| v.accepted_at >= row.decided_at);
    let first = late.min_by_key(|v| (v.accepted_at, v.offset))?;
    Some(format!("attributes accepted at {}", first.accepted_at))
}
