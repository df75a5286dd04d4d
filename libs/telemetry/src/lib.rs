//! Traces, metrics and logs of every service, and the layers that carry them over gRPC.
//!
//! Always holds: nothing here blocks a request (records go through bounded queues to writer threads, and what a bound
//! drops is counted); nothing global exists (a [`Telemetry`] is made at the start and passed down); and nothing that
//! names a visitor or an item can be logged, because [`Loggable`] is sealed.
//! Every span is recorded in a request-local buffer; whether it is exported is decided for the whole trace, late and in
//! all processes alike ([`sampling`]). What a span or metric means belongs to the service that emits it.

#![warn(clippy::disallowed_macros)]

mod attr;
mod baggage;
mod buffers;
pub mod bus;
mod carrier;
pub mod catalogue;
mod config;
mod context;
mod door;
pub mod encode;
mod export;
pub mod governor;
pub mod grpc;
mod hash;
mod labels;
mod log;
mod metrics;
mod red;
mod sampler;
pub mod sampling;
mod scope;
mod settle;
mod sink;
mod span;
mod sweeper;
mod tail;
mod telemetry;
mod ticks;
mod trace;
mod tracestate;

pub use attr::{AttrValue, Name};
pub use baggage::{Baggage, BaggageKey};
pub use carrier::{Carrier, CarrierMut, Field, RecordHeaders};
pub use config::{LogTarget, Record, RequestLogs, TelemetryConfig};
pub use context::TraceParent;
pub use door::debug_token;
pub use hash::{LogKey, LogKeyError, Purpose, UserHash};
pub use labels::Label;
pub use log::{
    BackgroundFailed, CheckpointIgnored, CodePlace, EVENTS, EventSpec, ExplanationGiven, Failure, FallbackUsed,
    FeedbackAccepted, Fields, ItemChange, ItemChanged, LogEvent, LogLevel, Loggable, ModelDeployed, Notice, Panicked,
    PersonalizationComplete, RequestEvent, RequestFailed, RequestShed, Route, ServiceCutOff, ServiceDraining,
    ServiceReady, ServiceStopped, Shape, Stream, Subject, UserErased, UserUpdated, log_line_pattern, log_schema,
};
pub use metrics::{By, Counter, Estimate, Gauge, Histogram, KnownGauge, Metrics};
pub use red::{EdgeRed, Red};
pub use sampling::Class;
pub use scope::{Deadline, Scope};
pub use span::{Attributes, Kind, Span, SpanGuard};
pub use telemetry::{Clock, Guard, ServiceInfo, Telemetry, TelemetryError};
