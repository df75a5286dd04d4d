//! The memory of one local trace: plain records in a few flat arrays that are used again for later traces. Hot path.
//!
//! Bounds: 256 spans, 128 links and 16 KiB of attributes a trace; 16 attributes and 16 events a span. What does not fit
//! is counted and left out.

use crate::Kind;
use crate::attr::{AttrValue, Given};
use crate::log::HeldLine;
use crate::metrics::Pending;
use attune_domain::RequestId;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) const MAX_SPANS: usize = 256;
pub(crate) const MAX_ATTRS: u8 = 16;
pub(crate) const MAX_EVENTS: u8 = 16;
const MAX_ATTR_BYTES: usize = 16 << 10;
const MAX_LINKS: usize = 128;
const MAX_LINES: usize = 16;

/// One span. Times are readings of the recorder's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) error: Option<&'static str>,
    pub(crate) begun: u64,
    /// [`OPEN`] until it ends.
    pub(crate) ended: u64,
    /// The root is its own.
    pub(crate) parent: u8,
    pub(crate) kind: Kind,
    pub(crate) unfinished: bool,
    pub(crate) subtree: Subtree,
    attrs: u8,
    events: u8,
    pub(crate) lost_attrs: u8,
    pub(crate) lost_events: u8,
}

pub(crate) const OPEN: u64 = u64::MAX;

/// What became of the spans below a CLIENT span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subtree {
    /// Not a call to a service of ours.
    None,
    /// Called; whether it keeps its part depends on what it is told, and on whether that arrives.
    Requested,
    /// It said itself that it keeps its part.
    Kept,
    Unrecorded,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attr {
    pub(crate) key: &'static str,
    value: Stored,
    pub(crate) span: u8,
}

#[derive(Debug, Clone, Copy)]
enum Stored {
    Bool(bool),
    Int(i64),
    Float(f64),
    Static(&'static str),
    Id(RequestId),
    /// Place in [`Buffers::text`].
    Text(u32, u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct EventRecord {
    pub(crate) name: &'static str,
    pub(crate) at: u64,
    pub(crate) span: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkRecord {
    pub(crate) trace_id: RequestId,
    pub(crate) span_id: [u8; 8],
    pub(crate) span: u8,
}

/// Everything a local trace recorded.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) records: Vec<Record>,
    pub(crate) attrs: Vec<Attr>,
    pub(crate) events: Vec<EventRecord>,
    pub(crate) links: Vec<LinkRecord>,
    text: String,
    pub(crate) lines: Vec<(u8, HeldLine)>,
    pub(crate) exemplars: Vec<Pending>,
    /// Spans that did not fit.
    pub(crate) lost_spans: u32,
    pub(crate) lost_links: u32,
}

impl Buffers {
    /// None when the trace is full.
    #[inline]
    pub(crate) fn begin(&mut self, name: &'static str, kind: Kind, parent: u8, begun: u64) -> Option<u8> {
        let Ok(index) = u8::try_from(self.records.len()) else {
            self.lost_spans = self.lost_spans.saturating_add(1);
            return None;
        };
        self.records.push(Record {
            name,
            error: None,
            begun,
            ended: OPEN,
            parent,
            kind,
            unfinished: false,
            subtree: Subtree::None,
            attrs: 0,
            events: 0,
            lost_attrs: 0,
            lost_events: 0,
        });
        Some(index)
    }

    /// Nothing changes on a span that has ended.
    #[inline]
    pub(crate) fn open(&mut self, span: u8) -> Option<&mut Record> {
        self.records.get_mut(usize::from(span)).filter(|record| record.ended == OPEN)
    }

    /// A key set again replaces what it held, at the latest when the span is read.
    #[inline]
    pub(crate) fn set(&mut self, span: u8, key: &'static str, value: AttrValue<'_>) {
        let Some(record) = self.open(span) else { return };
        let full = record.attrs >= MAX_ATTRS;
        if full || self.attrs.len() * size_of::<Attr>() + self.text.len() >= MAX_ATTR_BYTES {
            return self.set_when_full(span, key, value);
        }
        self.records[usize::from(span)].attrs += 1;
        let value = self.store(value);
        self.attrs.push(Attr { key, value, span });
    }

    #[cold]
    fn set_when_full(&mut self, span: u8, key: &'static str, value: AttrValue<'_>) {
        let known = self.attrs.iter().rposition(|attr| attr.span == span && attr.key == key);
        let fits = !matches!(value.0, Given::Text(text) if self.text.len() + text.len() > MAX_ATTR_BYTES);
        match known {
            Some(at) if fits => self.attrs[at].value = self.store(value),
            _ => {
                let record = &mut self.records[usize::from(span)];
                record.lost_attrs = record.lost_attrs.saturating_add(1);
            }
        }
    }

    #[inline]
    fn store(&mut self, value: AttrValue<'_>) -> Stored {
        match value.0 {
            Given::Bool(value) => Stored::Bool(value),
            Given::Int(value) => Stored::Int(value),
            Given::Float(value) => Stored::Float(value),
            Given::Static(value) => Stored::Static(value),
            Given::Id(value) => Stored::Id(value),
            Given::Text(text) => {
                let at = self.text.len() as u32;
                self.text.push_str(text);
                Stored::Text(at, text.len() as u32)
            }
        }
    }

    pub(crate) fn value(&self, attr: &Attr) -> AttrValue<'_> {
        AttrValue(match attr.value {
            Stored::Bool(value) => Given::Bool(value),
            Stored::Int(value) => Given::Int(value),
            Stored::Float(value) => Given::Float(value),
            Stored::Static(value) => Given::Static(value),
            Stored::Id(value) => Given::Id(value),
            Stored::Text(at, len) => Given::Text(&self.text[at as usize..(at + len) as usize]),
        })
    }

    pub(crate) fn event(&mut self, span: u8, name: &'static str, at: u64) {
        let Some(record) = self.open(span) else { return };
        if record.events < MAX_EVENTS {
            record.events += 1;
            self.events.push(EventRecord { name, at, span });
        } else {
            record.lost_events = record.lost_events.saturating_add(1);
        }
    }

    pub(crate) fn link(&mut self, span: u8, trace_id: RequestId, span_id: [u8; 8]) {
        if self.open(span).is_none() {
        } else if self.links.len() < MAX_LINKS {
            self.links.push(LinkRecord { trace_id, span_id, span });
        } else {
            self.lost_links = self.lost_links.saturating_add(1);
        }
    }

    /// Gives back what does not fit, to be dropped outside the trace's lock.
    pub(crate) fn hold_line(&mut self, span: u8, line: HeldLine) -> Option<HeldLine> {
        if self.lines.len() >= MAX_LINES {
            return Some(line);
        }
        self.lines.push((span, line));
        None
    }

    pub(crate) fn hold_exemplar(&mut self, pending: Pending) -> Option<Pending> {
        if self.exemplars.len() >= MAX_SPANS {
            return Some(pending);
        }
        self.exemplars.push(pending);
        None
    }

    /// What it holds on to, spare room included.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.records.capacity() * size_of::<Record>()
            + self.attrs.capacity() * size_of::<Attr>()
            + self.events.capacity() * size_of::<EventRecord>()
            + self.links.capacity() * size_of::<LinkRecord>()
            + self.text.capacity()
            + self.exemplars.capacity() * size_of::<Pending>()
            + self.lines.capacity() * size_of::<(u8, HeldLine)>()
    }

    fn clear(&mut self) {
        self.records.clear();
        self.attrs.clear();
        self.events.clear();
        self.links.clear();
        self.text.clear();
        self.lines.clear();
        self.exemplars.clear();
        (self.lost_spans, self.lost_links) = (0, 0);
    }
}

/// Cleared buffers of ended traces: a few for each thread, the others for all.
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a box moves as a pointer")]
    shared: Mutex<Vec<Box<Buffers>>>,
}

/// Buffers that a thread keeps, and that all threads share.
const KEPT_LOCAL: usize = 16;
const KEPT_SHARED: usize = 1024;
/// Larger ones are given back to the system.
const MAX_KEPT_BYTES: usize = 32 << 10;

struct Local {
    #[expect(clippy::vec_box, reason = "a box moves as a pointer")]
    free: Vec<Box<Buffers>>,
    /// Numbers that no other thread of the process gives out.
    next: u64,
}

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { free: Vec::new(), next: 0 }) };
}
static BLOCKS: AtomicU64 = AtomicU64::new(0);

impl Pool {
    /// Empty buffers, and a number that the process has not given out before.
    pub(crate) fn take(&self) -> (Box<Buffers>, u64) {
        let (found, number) = LOCAL
            .try_with(|local| {
                let mut local = local.borrow_mut();
                (local.free.pop(), local.next())
            })
            .unwrap_or_else(|_| (None, BLOCKS.fetch_add(1, Relaxed) << 32));
        (found.or_else(|| self.shared.lock().pop()).unwrap_or_default(), number)
    }

    pub(crate) fn put(&self, mut buffers: Box<Buffers>) {
        buffers.clear();
        if buffers.bytes() > MAX_KEPT_BYTES {
            return;
        }
        let mut rest = Some(buffers);
        let _ended_thread = LOCAL.try_with(|local| {
            let mut local = local.borrow_mut();
            if local.free.len() < KEPT_LOCAL {
                local.free.extend(rest.take());
            }
        });
        if let Some(buffers) = rest {
            let mut shared = self.shared.lock();
            if shared.len() < KEPT_SHARED {
                shared.push(buffers);
            }
        }
    }
}

impl Local {
    fn next(&mut self) -> u64 {
        if self.next & u64::from(u32::MAX) == 0 {
            self.next = BLOCKS.fetch_add(1, Relaxed) << 32 | 1;
        }
        let number = self.next;
        self.next += 1;
        number
    }
}
