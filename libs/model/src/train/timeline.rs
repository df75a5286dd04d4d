//! Each visitor's history in order, as training reads it.

use attune_dataset::Dataset;
use attune_domain::{Context, EventKey, EventKind, ItemIx, UserWindow, WINDOW_EVENTS, WindowEvent};
use std::collections::{HashMap, HashSet};

/// One interaction and where it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) event: WindowEvent,
    pub(crate) context: Context,
    /// The visitor's first interaction with the item, and a liking one: something to predict.
    pub(crate) target: bool,
}

/// An item shown in a logged slate and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) slate: u32,
    pub(crate) item: ItemIx,
    pub(crate) at: i64,
    pub(crate) context: Context,
    pub(crate) position: u8,
    pub(crate) clicked: bool,
    pub(crate) converted: bool,
    pub(crate) dwell: Option<f32>,
    /// Interactions of the visitor before it.
    pub(crate) before: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    pub(crate) steps: Vec<Step>,
    pub(crate) shown: Vec<Shown>,
}

/// Where a visitor's history is cut: the towers learn from what is before it, the ranker from the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) steps: usize,
    pub(crate) shown: usize,
}

impl Timeline {
    /// Before the newest slates, three in ten. They are counted in slates, because a share of the interactions ends
    /// in slates with many clicks, and what is left after those would be clicked less than slates are. Without slates
    /// nothing is the ranker's.
    pub(crate) fn cut_by_slates(&self) -> Cut {
        let starts: Vec<usize> =
            (0..self.shown.len()).filter(|&at| at == 0 || self.shown[at].slate != self.shown[at - 1].slate).collect();
        let newest = (starts.len() * 3).div_ceil(10);
        match starts.get(starts.len() - newest) {
            Some(&shown) => Cut { steps: self.shown[shown].before, shown },
            None => Cut { steps: self.steps.len(), shown: self.shown.len() },
        }
    }

    /// Before the newest interactions, one in ten and at most 20.
    pub(crate) fn cut_by_steps(&self) -> Cut {
        let all = self.steps.len();
        let steps = if all < 3 { all } else { all - (all / 10).clamp(1, 20) };
        Cut { steps, shown: self.shown.partition_point(|shown| shown.before < steps) }
    }

    /// The window before interaction `k`.
    pub(crate) fn window(&self, k: usize) -> UserWindow {
        let mut window = UserWindow::default();
        for step in &self.steps[k.saturating_sub(WINDOW_EVENTS)..k] {
            window.insert(step.event);
        }
        window
    }

    /// The window before interaction `k` and all items seen by then.
    pub(crate) fn window_and_seen(&self, k: usize) -> UserWindow {
        let mut window = UserWindow::default();
        for step in &self.steps[..k] {
            window.insert(step.event);
        }
        window
    }
}

pub(crate) fn likes(kind: EventKind) -> bool {
    matches!(kind, EventKind::Click | EventKind::Like | EventKind::Conversion)
}

/// A window event of the data set's event number `index`, which breaks ties in file order.
pub(crate) fn window_event(event: &attune_dataset::DatasetEvent, index: usize) -> WindowEvent {
    WindowEvent {
        occurred_at: event.occurred_at,
        key: EventKey(index as u64),
        item: event.item,
        kind: event.kind,
        value: event.value,
    }
}

/// A timeline per user of the data set. Events of items or users outside the data set are left out.
pub(crate) fn timelines(data: &Dataset) -> Vec<Timeline> {
    let mut lines = vec![Timeline::default(); data.users.len()];
    let mut touched: Vec<HashSet<ItemIx>> = vec![HashSet::new(); data.users.len()];
    let mut slots: HashMap<(u32, u32, ItemIx), usize> = HashMap::new();
    for (index, event) in data.events.iter().enumerate() {
        let user = event.user as usize;
        if user >= lines.len() || event.item.index() >= data.items.len() {
            continue;
        }
        let line = &mut lines[user];
        if event.kind == EventKind::Impression {
            if let Some(slot) = event.slate {
                slots.insert((event.user, slot.slate, event.item), line.shown.len());
                line.shown.push(Shown {
                    slate: slot.slate,
                    item: event.item,
                    at: event.occurred_at,
                    context: event.context,
                    position: slot.position,
                    clicked: false,
                    converted: false,
                    dwell: None,
                    before: line.steps.len(),
                });
            }
            continue;
        }
        let target = likes(event.kind) && touched[user].insert(event.item);
        line.steps.push(Step { event: window_event(event, index), context: event.context, target });
        if let Some(&at) = event.slate.and_then(|slot| slots.get(&(event.user, slot.slate, event.item))) {
            let shown = &mut line.shown[at];
            match event.kind {
                EventKind::Click | EventKind::Like => shown.clicked = true,
                EventKind::Conversion => (shown.clicked, shown.converted) = (true, true),
                EventKind::Dwell => shown.dwell = Some(event.value.max(0.0)),
                EventKind::Impression | EventKind::Hide => {}
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slate with as many clicks as said, one after the other.
    fn line(clicks: &[usize]) -> Timeline {
        let mut line = Timeline::default();
        for (slate, &clicks) in (0u32..).zip(clicks) {
            let before = line.steps.len();
            line.shown.extend((0..10u8).map(|position| Shown {
                slate,
                item: ItemIx(u32::from(position)),
                at: 0,
                context: Context::DEFAULT,
                position,
                clicked: usize::from(position) < clicks,
                converted: false,
                dwell: None,
                before,
            }));
            line.steps.extend((0..clicks).map(|at| Step {
                event: WindowEvent {
                    occurred_at: 0,
                    key: EventKey(at as u64),
                    item: ItemIx(at as u32),
                    kind: EventKind::Click,
                    value: 1.0,
                },
                context: Context::DEFAULT,
                target: true,
            }));
        }
        line
    }

    #[test]
    fn a_cut_counts_slates_whatever_was_clicked() {
        for (clicks, steps, slates) in [
            (vec![], 0, 0),
            (vec![4], 0, 0),
            (vec![1, 9], 1, 1),
            (vec![0, 0, 0], 0, 2),
            (vec![2, 0, 0, 8, 0, 0, 0, 1, 9, 1], 10, 7),
        ] {
            let line = line(&clicks);
            let cut = line.cut_by_slates();
            assert_eq!((cut.steps, cut.shown), (steps, slates * 10), "{clicks:?}");
        }
        let plain = Timeline { shown: Vec::new(), ..line(&[3, 3]) };
        assert_eq!(plain.cut_by_slates().steps, 6);
    }

    #[test]
    fn what_slates_are_kept_is_clicked_as_often_as_all() {
        // All clicks are in one slate of five: which one it is must not matter.
        let rate = |shown: &[Shown]| shown.iter().filter(|s| s.clicked).count() as f64 / shown.len() as f64;
        let lines: Vec<Timeline> = (0..5)
            .map(|heavy| line(&std::array::from_fn::<usize, 5, _>(|at| if at == heavy { 10 } else { 0 })))
            .collect();
        let kept: Vec<Shown> = lines.iter().flat_map(|l| l.shown[l.cut_by_slates().shown..].to_vec()).collect();
        assert_eq!((kept.len(), rate(&kept)), (100, 0.2));
    }
}
