//! Every event that a service can log: the closed list, and the only place where a line's fields are named.
//!
//! The schema of a line (`observability/logs/log-line.schema.json`) is made from this list.

use super::{Fields, LogLevel, Loggable, Shape};
use crate::labels;
use attune_domain::{Device, Geo, Level, LevelReason, ModelVersion, PageType, RequestId, Tier, Uid};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Which topic of the pipeline a line goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Changes of state, degradations, failures.
    App,
    /// What an operator did to data or models.
    Audit,
    /// One line a request.
    Event,
}

impl Stream {
    pub const ALL: [Self; 3] = [Self::App, Self::Audit, Self::Event];

    pub const fn topic(self) -> &'static str {
        match self {
            Self::App => "logs.app",
            Self::Audit => "logs.audit",
            Self::Event => "logs.event",
        }
    }
}

/// An event as the schema has it.
#[derive(Debug)]
pub struct EventSpec {
    pub name: &'static str,
    pub level: LogLevel,
    pub stream: Stream,
    /// `request_id`, `user`, `failure`, `code_place`: see [`Subject`].
    pub subject: &'static [&'static str],
    pub metrics: &'static [(&'static str, Shape)],
    pub context: &'static [(&'static str, Shape)],
}

/// Whom or what an event is about; these have fields of their own outside `metrics` and `context`.
#[derive(Debug, Default)]
pub struct Subject {
    pub request_id: Option<RequestId>,
    /// Written as its hash.
    pub user: Option<Uid>,
    pub failure: Option<Failure>,
    pub code_place: Option<CodePlace>,
}

/// A line of our source, or of a library's.
#[derive(Debug, Clone)]
pub struct CodePlace {
    file: Arc<str>,
    line: u32,
}

impl From<&Location<'_>> for CodePlace {
    fn from(place: &Location<'_>) -> Self {
        Self { file: super::plain(place.file()).into(), line: place.line() }
    }
}

impl CodePlace {
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }
}

/// Something that happened and may be written down. Sealed: a crate outside cannot add to the list.
///
/// ```compile_fail
/// use attune_telemetry::{EVENTS, EventSpec, Fields, LogEvent, Subject};
///
/// struct Leak;
///
/// impl LogEvent for Leak {
///     const SPEC: &'static EventSpec = EVENTS[0];
///
///     fn subject(&self) -> Subject {
///         Subject::default()
///     }
///
///     fn metrics(&self, _: &mut Fields<'_>) {}
///
///     fn context(&self, _: &mut Fields<'_>) {}
/// }
/// ```
///
/// The visitor of an event is a uid, which is written as its hash; a raw user id does not fit.
///
/// ```
/// fn updated(user: attune_domain::Uid, id: attune_domain::RequestId) -> attune_telemetry::UserUpdated {
///     attune_telemetry::UserUpdated { request_id: id, user: Some(user), attributes: 1, offset: 1 }
/// }
/// ```
///
/// ```compile_fail
/// fn updated(user: String, id: attune_domain::RequestId) -> attune_telemetry::UserUpdated {
///     attune_telemetry::UserUpdated { request_id: id, user: Some(user), attributes: 1, offset: 1 }
/// }
/// ```
pub trait LogEvent: sealed::Sealed {
    const SPEC: &'static EventSpec;

    fn subject(&self) -> Subject;
    fn metrics(&self, fields: &mut Fields<'_>);
    fn context(&self, fields: &mut Fields<'_>);
}

/// An event that does not happen with every request, so that it need not wait for a trace's verdict.
pub trait Notice: LogEvent {}

mod sealed {
    pub trait Sealed {}
}

labels! {
    /// What kind of failure; never an error's text, which may quote what a visitor sent.
    pub enum Failure {
        Unavailable = "unavailable",
        Late = "late",
        Overloaded = "overloaded",
        Cancelled = "cancelled",
        DataLoss = "data_loss",
        Internal = "internal",
        Panic = "panic",
        Undrained = "undrained",
        Background = "background",
    }
}

labels! {
    /// Route of a request, as a template.
    pub enum Route {
        Personalize = "/v1/personalize",
        Feedback = "/v1/feedback",
        Explain = "/v1/explain",
        Items = "/v1/items/{id}",
        Users = "/v1/users/{id}",
        Other = "other",
    }
}

labels! {
    /// What became of an item.
    pub enum ItemChange { Put = "put", Withdrawn = "withdrawn" }
}

macro_rules! subject_type {
    (request_id) => { RequestId };
    (user) => { Option<Uid> };
    (failure) => { Failure };
    (code_place) => { CodePlace };
}

macro_rules! events {
    (@notice $name:ident) => { impl Notice for $name {} };
    (@request $name:ident) => {
        impl Copy for $name {}
        impl From<$name> for RequestEvent {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        }
    };
    ($(
        $(#[$meta:meta])*
        $kind:ident $name:ident = $text:literal: $level:ident, $stream:ident {
            $($subject:ident),*; metrics { $($metric:ident: $metric_type:ty),* } context { $($context:ident: $context_type:ty),* }
        }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone)]
            pub struct $name {
                $(pub $subject: subject_type!($subject),)*
                $(pub $metric: $metric_type,)*
                $(pub $context: $context_type,)*
            }

            impl sealed::Sealed for $name {}
            impl LogEvent for $name {
                const SPEC: &'static EventSpec = &EventSpec {
                    name: $text,
                    level: LogLevel::$level,
                    stream: Stream::$stream,
                    subject: &[$(stringify!($subject)),*],
                    metrics: &[$((stringify!($metric), <$metric_type as Loggable>::SHAPE)),*],
                    context: &[$((stringify!($context), <$context_type as Loggable>::SHAPE)),*],
                };

                #[allow(clippy::clone_on_copy, clippy::needless_update, reason = "all events are written by one rule")]
                fn subject(&self) -> Subject {
                    Subject { $($subject: self.$subject.clone().into(),)* ..Subject::default() }
                }

                fn metrics(&self, _fields: &mut Fields<'_>) {
                    $(_fields.put(stringify!($metric), &self.$metric);)*
                }

                fn context(&self, _fields: &mut Fields<'_>) {
                    $(_fields.put(stringify!($context), &self.$context);)*
                }
            }
            events!(@$kind $name);
        )+

        /// The closed list.
        pub const EVENTS: &[&EventSpec] = &[$(<$name as LogEvent>::SPEC),+];
    };
}

/// The events of every request. Small and without a heap, so that one can wait for its trace's verdict at the cost of a
/// copy.
#[derive(Debug, Clone, Copy)]
pub enum RequestEvent {
    PersonalizationComplete(PersonalizationComplete),
    FeedbackAccepted(FeedbackAccepted),
    ExplanationGiven(ExplanationGiven),
}

events! {
    /// A visitor got an answer (edge), or the edge got a page (origin).
    request PersonalizationComplete = "personalization_complete": Info, Event {
        request_id, user;
        metrics {
            latency_ms: Duration, candidates_retrieved: u32, candidates_ranked: u32, tier: Tier, cache_hit: bool,
            level: Level
        }
        context { device: Device, geo: Geo, page_type: PageType }
    }

    /// A batch of events was taken.
    request FeedbackAccepted = "feedback_accepted": Info, Event {
        request_id;
        metrics { latency_ms: Duration, accepted: u32, duplicates: u32, rejected: u32 }
        context {}
    }

    /// A visitor was told why an item was there.
    request ExplanationGiven = "explanation_given": Info, Event {
        request_id;
        metrics { latency_ms: Duration, streamed: bool }
        context {}
    }

    /// An answer below what was asked for, and why.
    notice FallbackUsed = "fallback_used": Warn, App {
        request_id;
        metrics { level: Level }
        context { reason: LevelReason, page_type: PageType }
    }

    /// A request could not be served.
    notice RequestFailed = "request_failed": Error, App {
        request_id, failure;
        metrics { latency_ms: Duration, status_code: u16 }
        context { route: Route }
    }

    /// A request was turned away to protect the others.
    notice RequestShed = "request_shed": Warn, App {
        request_id, failure;
        metrics { status_code: u16 }
        context { route: Route }
    }

    /// A panic was caught or ended the process. Its message is not written: it may quote data.
    notice Panicked = "panicked": Error, App {
        failure, code_place;
        metrics {}
        context {}
    }

    notice ServiceReady = "service_ready": Info, App {
        ;
        metrics { admin_port: u16 }
        context {}
    }

    notice ServiceDraining = "service_draining": Info, App {
        ;
        metrics {}
        context {}
    }

    /// Work was still going on when the drain limit passed.
    notice ServiceCutOff = "service_cut_off": Warn, App {
        failure;
        metrics {}
        context {}
    }

    notice ServiceStopped = "service_stopped": Info, App {
        ;
        metrics {}
        context {}
    }

    /// Work that should never end did, and the service goes down with it.
    notice BackgroundFailed = "background_failed": Error, App {
        failure;
        metrics {}
        context {}
    }

    /// A checkpoint cannot be gone on from: what it counted begins anew.
    notice CheckpointIgnored = "checkpoint_ignored": Warn, App {
        failure;
        metrics {}
        context {}
    }

    /// A bundle went live in this process.
    notice ModelDeployed = "model_deployed": Info, Audit {
        ;
        metrics {}
        context { model_version: ModelVersion }
    }

    notice ItemChanged = "item_changed": Info, Audit {
        request_id;
        metrics { offset: u64 }
        context { change: ItemChange }
    }

    notice UserUpdated = "user_updated": Info, Audit {
        request_id, user;
        metrics { attributes: u32, offset: u64 }
        context {}
    }

    notice UserErased = "user_erased": Info, Audit {
        request_id, user;
        metrics { stores: u32, latency_ms: Duration }
        context {}
    }
}
