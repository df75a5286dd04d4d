//! Collects rows into a [`Dataset`], with the account of what was kept.

use super::report::{Reason, Report};
use super::rows::{Line, Lines};
use super::{Format, ImportError};
use crate::{Dataset, DatasetEvent, ImportProgress};
use attune_domain::{Item, ItemId, ItemIx, UnixMillis, UserAttributes};
use attune_identity::SubjectKey;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Most users, and most items, of a data set.
const MAX_NUMBERED: u32 = 1 << 31;
/// Lines between two words to the progress.
const PROGRESS_LINES: u64 = 4096;

/// Why a row is not taken, and the field it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) reason: Reason,
    pub(super) field: Option<&'static str>,
}

impl Reject {
    pub(super) const fn row(reason: Reason) -> Self {
        Self { reason, field: None }
    }

    pub(super) const fn field(reason: Reason, field: &'static str) -> Self {
        Self { reason, field: Some(field) }
    }
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: u64,
}

/// An event, and what else of its row tells it from another row.
struct Pending {
    event: DatasetEvent,
    rest: u64,
    place: Place,
}

pub(super) struct Builder<'a> {
    format: Format,
    key: &'a SubjectKey,
    progress: &'a dyn ImportProgress,
    dataset: Dataset,
    items: HashMap<ItemId, ItemIx>,
    /// By raw id.
    users: HashMap<String, u32>,
    pending: Vec<Pending>,
    pending_test: Vec<Pending>,
    pub(super) report: Report,
}

impl<'a> Builder<'a> {
    pub(super) fn new(format: Format, key: &'a SubjectKey, progress: &'a dyn ImportProgress) -> Self {
        Self {
            format,
            key,
            progress,
            dataset: Dataset { key_fingerprint: key.fingerprint(), ..Dataset::default() },
            items: HashMap::new(),
            users: HashMap::new(),
            pending: Vec::new(),
            pending_test: Vec::new(),
            report: Report { format: format.as_str(), ..Report::default() },
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Opens a file, for the report and the progress too.
    pub(super) fn open(&mut self, path: &Path) -> Result<(Lines, usize), ImportError> {
        let lines = Lines::open(path)?;
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy());
        let size = std::fs::metadata(path).map_or(0, |m| m.len());
        self.progress.file(&name, size);
        let file = self.report.open(&name);
        Ok((lines, file))
    }

    /// Hands every readable line of the rest of a file to `take`, and accounts for all the others.
    pub(super) fn each_line(
        &mut self,
        lines: &mut Lines,
        file: usize,
        mut take: impl FnMut(&mut Self, &str, Place) -> Result<(), Reject>,
    ) -> Result<(), ImportError> {
        self.each_row(lines, file, |builder, text, place, rows| rows.push(take(builder, text, place)))
    }

    /// The same for formats where a line may hold any number of rows: `take` says what became of each.
    pub(super) fn each_row(
        &mut self,
        lines: &mut Lines,
        file: usize,
        mut take: impl FnMut(&mut Self, &str, Place, &mut Vec<Result<(), Reject>>),
    ) -> Result<(), ImportError> {
        let path = lines.path().to_path_buf();
        let mut rows = Vec::new();
        loop {
            let place = Place { file, line: lines.number() + 1 };
            if place.line.is_multiple_of(PROGRESS_LINES) {
                self.progress.at(lines.bytes());
            }
            match lines.next()? {
                None => break,
                Some(Line::Text(text)) => take(self, text, place, &mut rows),
                Some(Line::Empty) => rows.push(Err(Reject::row(Reason::EmptyLine))),
                Some(Line::NotUtf8) => rows.push(Err(Reject::row(Reason::NotUtf8))),
                Some(Line::TooLong) => rows.push(Err(Reject::row(Reason::LineTooLong))),
            }
            for row in rows.drain(..) {
                match row {
                    Ok(()) => self.report.keep(file),
                    Err(reject) => self.report.reject(file, place.line, reject.reason, reject.field),
                }
            }
            for (count, what) in [(self.users.len(), "users"), (self.items.len(), "items")] {
                if count > MAX_NUMBERED as usize {
                    return Err(ImportError::TooLarge { path, limit: MAX_NUMBERED, what });
                }
            }
        }
        self.progress.at(lines.bytes());
        Ok(())
    }

    pub(super) fn knows_user(&self, raw: &str) -> bool {
        self.users.contains_key(raw)
    }

    /// The number of a user. The raw id has been checked.
    pub(super) fn user(&mut self, raw: &str) -> u32 {
        if let Some(&user) = self.users.get(raw) {
            return user;
        }
        let user = self.dataset.users.len() as u32;
        self.dataset.users.push(self.key.uid(raw));
        self.dataset.attributes.push(UserAttributes::default());
        self.users.insert(raw.to_owned(), user);
        user
    }

    pub(super) fn set_attributes(&mut self, user: u32, attributes: UserAttributes) {
        self.dataset.attributes[user as usize] = attributes;
    }

    pub(super) fn find_item(&self, id: &ItemId) -> Option<ItemIx> {
        self.items.get(id).copied()
    }

    /// Adds an item; `None` where there is one of this id.
    pub(super) fn add_item(&mut self, item: Item) -> Option<ItemIx> {
        if self.items.contains_key(&item.id) {
            return None;
        }
        let ix = ItemIx(self.dataset.items.len() as u32);
        self.items.insert(item.id.clone(), ix);
        self.dataset.items.push(item);
        Some(ix)
    }

    /// The item of this id, added without content where it is new.
    pub(super) fn item_or_bare(&mut self, id: ItemId) -> ItemIx {
        if let Some(ix) = self.find_item(&id) {
            return ix;
        }
        let ix = ItemIx(self.dataset.items.len() as u32);
        self.items.insert(id.clone(), ix);
        self.dataset.items.push(Item {
            title: id.as_str().to_owned(),
            id,
            categories: Vec::new(),
            attributes: Vec::new(),
            price: None,
            created_at: None,
            available: true,
        });
        ix
    }

    pub(super) fn item_mut(&mut self, ix: ItemIx) -> Option<&mut Item> {
        self.dataset.items.get_mut(ix.index())
    }

    /// `rest` is what of the row is not in the event, for telling duplicates.
    pub(super) fn add_event(&mut self, event: DatasetEvent, rest: u64, place: Place) {
        self.pending.push(Pending { event, rest, place });
    }

    pub(super) fn add_test_event(&mut self, event: DatasetEvent, rest: u64, place: Place) {
        self.pending_test.push(Pending { event, rest, place });
    }

    pub(super) fn finish(mut self, name: String) -> (Dataset, Report) {
        self.dataset.name = name;
        self.dataset.events = settle(std::mem::take(&mut self.pending), &mut self.report);
        self.dataset.test = settle(std::mem::take(&mut self.pending_test), &mut self.report);
        let Dataset { items, users, events, test, .. } = &self.dataset;
        (self.report.items, self.report.users) = (items.len(), users.len());
        (self.report.events, self.report.test_events) = (events.len(), test.len());
        (self.dataset, self.report)
    }
}

/// Drops rows that repeat an earlier one, parts one user's interactions of the same millisecond, and orders by time.
///
/// A state orders events by (time, key) and a key is a hash, so two interactions of one user at the same time would
/// change places at random. Each is therefore moved to at least a millisecond after the one before it in the file.
fn settle(mut rows: Vec<Pending>, report: &mut Report) -> Vec<DatasetEvent> {
    rows.sort_by_key(|row| (row.event.user, row.event.occurred_at));
    let mut repeated: Vec<bool> = vec![false; rows.len()];
    let mut again = Vec::new();
    let mut start = 0;
    for run in rows.chunk_by(|a, b| (a.event.user, a.event.occurred_at) == (b.event.user, b.event.occurred_at)) {
        let mut first = HashSet::with_capacity(run.len());
        for (i, row) in run.iter().enumerate() {
            if !first.insert(identity(row)) {
                repeated[start + i] = true;
                again.push(row.place);
            }
        }
        start += run.len();
    }
    again.sort_unstable();
    for place in again {
        report.take_back(place.file, place.line, Reason::Duplicate);
    }
    let mut last: Option<(u32, UnixMillis)> = None;
    let mut kept = Vec::with_capacity(rows.len());
    for (row, repeated) in rows.into_iter().zip(repeated) {
        if repeated {
            continue;
        }
        let mut event = row.event;
        if event.kind.is_interaction() {
            if let Some((user, at)) = last
                && user == event.user
            {
                event.occurred_at = event.occurred_at.max(at.saturating_add(1));
            }
            last = Some((event.user, event.occurred_at));
        }
        kept.push((event, row.place));
    }
    kept.sort_by_key(|(event, place)| (event.occurred_at, *place));
    kept.into_iter().map(|(event, _)| event).collect()
}

/// What besides user and time tells rows apart.
fn identity(row: &Pending) -> impl Eq + std::hash::Hash + use<> {
    let e = &row.event;
    (
        e.item,
        e.kind,
        e.value.to_bits(),
        e.slate.map(|s| (s.slate, s.position)),
        e.context.page,
        e.context.device,
        e.context.geo,
        row.rest,
    )
}
