//! Training sets: impressions with the features as they were known when the decision was made, and their labels.
//!
//! Always holds: a row's features depend on nothing that was accepted at its decision's moment or later; its label on
//! nothing before that moment, nor after the horizon. An impression is a row once its horizon has passed.

mod leaks;
#[cfg(test)]
mod tests;

pub use leaks::{Leak, leaks};

use crate::error::LakeError;
use crate::history::{History, View};
use crate::source::{LakeSource, UserRecord, attributes_record, bounds, scan, user_record};
use crate::tables::Source;
use crate::tables::impressions::Decision;
use crate::tables::training::{TrainingRow, feature_columns};
use attune_domain::{Context, EventKind, ItemIx, LoggedEvent, RequestId, Uid, UnixMillis};
use attune_model::UserInput;
use attune_serving::Serving;
use attune_storage::Topic;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What became of decisions that gave no row, or a row that the decision log could be held against.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Slots that nobody is known to have seen within the horizon.
    pub unseen: u64,
    /// Seen slots whose model or item is gone.
    pub without_model: u64,
    /// Decisions whose state had been made of the very events that were known.
    pub compared: u64,
    /// Of those: decisions that saw another window.
    pub differing: u64,
    /// Of those: decisions that saw other attributes, which have no version of their own and may come later.
    pub other_attributes: u64,
}

/// Something that happened to a slot.
#[derive(Debug, Clone, Copy)]
struct Response {
    at: UnixMillis,
    kind: EventKind,
    value: f32,
}

/// What some decisions' rows are made of.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) histories: HashMap<Uid, History>,
    responses: HashMap<(RequestId, ItemIx), Vec<Response>>,
}

impl Evidence {
    /// Everything the logs hold about the visitors of these decisions.
    pub(crate) async fn read(source: &dyn LakeSource, decisions: &[Decision]) -> Result<Self, LakeError> {
        let uids: HashSet<Uid> = decisions.iter().map(|decision| decision.uid).collect();
        let requests: HashSet<RequestId> = decisions.iter().map(|decision| decision.request_id).collect();
        let mut evidence = Self::default();
        let mut erased: HashMap<Uid, UnixMillis> = HashMap::new();
        let updates = bounds(source.log(), Topic::UserUpdates).await?;
        for partition in bounds(source.log(), Topic::UserEvents).await? {
            scan(source.log(), Topic::UserEvents, partition, 0, |offset, record| {
                match user_record(record) {
                    Some(UserRecord::Event(event)) if uids.contains(&event.uid) => {
                        evidence.add(offset, &event, &requests);
                    }
                    Some(UserRecord::Erased { uid, at }) if uids.contains(&uid) => {
                        evidence.histories.remove(&uid);
                        erased.insert(uid, at);
                    }
                    _ => {}
                }
                Ok(())
            })
            .await?;
        }
        for partition in updates {
            scan(source.log(), Topic::UserUpdates, partition, 0, |offset, record| {
                if let Some((uid, attributes, at, imported)) = attributes_record(record)
                    && uids.contains(&uid)
                    && erased.get(&uid).is_none_or(|erased| at > *erased)
                {
                    let history = evidence.histories.entry(uid).or_default();
                    history.add_attributes(offset, attributes, at, Source::of(imported));
                }
                Ok(())
            })
            .await?;
        }
        evidence.histories.values_mut().for_each(History::settle);
        Ok(evidence)
    }

    pub(crate) fn add(&mut self, offset: u64, event: &LoggedEvent, requests: &HashSet<RequestId>) {
        self.histories.entry(event.uid).or_default().add_event(offset, event);
        if let Some(request) = event.request_id
            && event.in_decision
            && !event.imported
            && requests.contains(&request)
        {
            let response = Response { at: event.accepted_at, kind: event.kind, value: event.value };
            self.responses.entry((request, event.item)).or_default().push(response);
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Label {
    clicked: bool,
    converted: bool,
    dwell: Option<f32>,
}

/// None where the slot was not seen.
fn label(responses: &[Response], decided_at: UnixMillis, horizon: i64) -> Option<Label> {
    let within = |r: &&Response| r.at >= decided_at && r.at - decided_at <= horizon;
    let mut label = None;
    for response in responses.iter().filter(within) {
        let label = label.get_or_insert_with(Label::default);
        match response.kind {
            EventKind::Click | EventKind::Like => label.clicked = true,
            EventKind::Conversion => (label.clicked, label.converted) = (true, true),
            EventKind::Dwell => label.dwell = Some(label.dwell.unwrap_or(0.0) + response.value.max(0.0)),
            EventKind::Impression | EventKind::Hide => {}
        }
    }
    label
}

/// What the ranker reads of each item that was shown, in the order of [`feature_columns`].
fn features(
    serving: &Serving,
    view: &View,
    context: Context,
    now: UnixMillis,
    shown: &[(ItemIx, u8)],
) -> Vec<Vec<f32>> {
    let state = &view.state;
    let input = UserInput { window: &state.window, attributes: &state.attributes, context, now };
    let vector = serving.bundle.user_vector(&serving.items, &input);
    let named = feature_columns().count();
    let mut rows = Vec::with_capacity(shown.len());
    serving.bundle.feature_rows(&serving.items, &input, &vector, shown, |row| rows.push(row[..named].to_vec()));
    rows
}

/// Rows of these decisions, in the order of time.
pub(crate) async fn rows(
    source: &dyn LakeSource,
    decisions: &[Decision],
    evidence: &Evidence,
    horizon: i64,
    outcome: &mut Outcome,
) -> Result<Vec<TrainingRow>, LakeError> {
    rows_of(source, decisions, evidence, horizon, outcome, |history, moments| {
        let mut reader = history.reader();
        moments.iter().map(|&moment| reader.as_of(moment)).collect()
    })
    .await
}

/// `read` gives what was known at each moment, which do not go back.
async fn rows_of(
    source: &dyn LakeSource,
    decisions: &[Decision],
    evidence: &Evidence,
    horizon: i64,
    outcome: &mut Outcome,
    read: impl Fn(&History, &[UnixMillis]) -> Vec<View>,
) -> Result<Vec<TrainingRow>, LakeError> {
    let mut by_visitor: BTreeMap<Uid, Vec<&Decision>> = BTreeMap::new();
    for decision in decisions {
        by_visitor.entry(decision.uid).or_default().push(decision);
    }
    let mut rows = Vec::new();
    let nothing = History::default();
    for (uid, mut decisions) in by_visitor {
        decisions.sort_by_key(|decision| (decision.decided_at, decision.request_id));
        let moments: Vec<_> = decisions.iter().map(|decision| decision.decided_at).collect();
        let views = read(evidence.histories.get(&uid).unwrap_or(&nothing), &moments);
        for (decision, view) in decisions.into_iter().zip(views) {
            compare(source, decision, &view, outcome).await?;
            let labels = labels(decision, evidence, horizon, outcome);
            if labels.is_empty() {
                continue;
            }
            let record = &decision.record;
            let Some(serving) = source.serving(record.model, record.catalogue_offset).await? else {
                outcome.without_model += labels.len() as u64;
                continue;
            };
            append(decision, &view, &serving, &labels, &mut rows, outcome);
        }
    }
    rows.sort_by_key(|row| (row.decided_at, row.request_id, row.position));
    Ok(rows)
}

/// Slots that were seen, each with its label.
fn labels(
    decision: &Decision,
    evidence: &Evidence,
    horizon: i64,
    outcome: &mut Outcome,
) -> Vec<(usize, ItemIx, Label)> {
    let mut labels = Vec::new();
    for (position, &item) in decision.record.items.iter().enumerate() {
        let responses = evidence.responses.get(&(decision.request_id, ItemIx(item)));
        match responses.and_then(|responses| label(responses, decision.decided_at, horizon)) {
            Some(label) => labels.push((position, ItemIx(item), label)),
            None => outcome.unseen += 1,
        }
    }
    labels
}

fn append(
    decision: &Decision,
    view: &View,
    serving: &Serving,
    labels: &[(usize, ItemIx, Label)],
    rows: &mut Vec<TrainingRow>,
    outcome: &mut Outcome,
) {
    let known: Vec<_> = labels.iter().filter(|(_, item, _)| item.index() < serving.items.len()).collect();
    outcome.without_model += (labels.len() - known.len()) as u64;
    let shown: Vec<_> = known.iter().map(|(at, item, _)| (*item, u8::try_from(*at).unwrap_or(u8::MAX))).collect();
    let features = features(serving, view, decision.context, decision.decided_at, &shown);
    for ((position, item, label), features) in known.into_iter().zip(features) {
        let Some(found) = serving.catalogue.get(*item) else { continue };
        rows.push(TrainingRow {
            request_id: decision.request_id,
            uid: decision.uid,
            decided_at: decision.decided_at,
            position: u32::try_from(*position).unwrap_or(u32::MAX),
            item: *item,
            item_id: found.id.clone(),
            slot: decision.slot(*position),
            propensity: decision.propensity(*position),
            score: decision.score(*position),
            variant: decision.variant,
            context: decision.context,
            model: decision.record.model,
            clicked: label.clicked,
            converted: label.converted,
            dwell_seconds: label.dwell,
            known_events: view.events,
            window_events: u32::try_from(view.state.window.events().len()).unwrap_or(u32::MAX),
            known_watermark: view.state.watermark,
            newest_event_at: view.state.window.events().last().map(|event| event.occurred_at),
            served_watermark: decision.served.and_then(|served| served.watermark),
            attributes: view.state.attributes.clone(),
            features,
        });
    }
}

/// Where the decision's state had applied just what was known, the two must be the same.
async fn compare(
    source: &dyn LakeSource,
    decision: &Decision,
    view: &View,
    outcome: &mut Outcome,
) -> Result<(), LakeError> {
    let Some(served) = decision.served else { return Ok(()) };
    if served.version != view.state.version || served.watermark != view.state.watermark {
        return Ok(());
    }
    if let Some(state) = source.state(&decision.record.state).await? {
        outcome.compared += 1;
        outcome.differing += u64::from(state.window != view.state.window);
        outcome.other_attributes += u64::from(state.attributes != view.state.attributes);
    }
    Ok(())
}
