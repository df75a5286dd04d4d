//! The per-request event of the contract, and a builder for changes of state and failures.

use super::{Fields, LogEvent, LogLevel, Loggable, Number};
use crate::{Label, UserHash};
use attune_domain::{Context, Level, RequestId, Tier};
use std::time::Duration;

/// A visitor got an answer.
#[derive(Debug, Clone)]
pub struct PersonalizationComplete {
    pub request_id: RequestId,
    pub user: Option<UserHash>,
    pub latency: Duration,
    pub candidates_retrieved: u32,
    pub candidates_ranked: u32,
    pub tier: Tier,
    pub cache_hit: bool,
    pub level: Level,
    pub context: Context,
}

impl LogEvent for PersonalizationComplete {
    fn name(&self) -> &'static str {
        "personalization_complete"
    }

    fn level(&self) -> LogLevel {
        LogLevel::Info
    }

    fn per_request(&self) -> bool {
        true
    }

    fn fields(&self, fields: &mut Fields) {
        fields.request(self.request_id);
        if let Some(user) = &self.user {
            fields.user(user.clone());
        }
        fields
            .metric("latency_ms", self.latency)
            .metric("candidates_retrieved", self.candidates_retrieved)
            .metric("candidates_ranked", self.candidates_ranked)
            .metric_label("tier", self.tier)
            .metric("cache_hit", self.cache_hit)
            .metric("level", self.level)
            .label("device", self.context.device)
            .label("geo", self.context.geo)
            .label("page_type", self.context.page);
    }
}

/// Any other event, built on the spot: `Event::info("model_loaded").context("model_version", version)`.
#[derive(Clone)]
pub struct Event {
    name: &'static str,
    level: LogLevel,
    fields: Fields,
}

impl Event {
    pub fn new(level: LogLevel, name: &'static str) -> Self {
        Self { name, level, fields: Fields::default() }
    }

    pub fn debug(name: &'static str) -> Self {
        Self::new(LogLevel::Debug, name)
    }

    pub fn info(name: &'static str) -> Self {
        Self::new(LogLevel::Info, name)
    }

    pub fn warn(name: &'static str) -> Self {
        Self::new(LogLevel::Warn, name)
    }

    pub fn error(name: &'static str) -> Self {
        Self::new(LogLevel::Error, name)
    }

    pub fn metric(mut self, key: &'static str, value: impl Number) -> Self {
        self.fields.metric(key, value);
        self
    }

    pub fn context(mut self, key: &'static str, value: impl Loggable) -> Self {
        self.fields.context(key, value);
        self
    }

    pub fn label(mut self, key: &'static str, value: impl Label) -> Self {
        self.fields.label(key, value);
        self
    }

    pub fn request(mut self, request: RequestId) -> Self {
        self.fields.request(request);
        self
    }

    pub fn user(mut self, user: UserHash) -> Self {
        self.fields.user(user);
        self
    }

    /// What kind of failure, from a closed list.
    pub fn error_kind(mut self, kind: &'static str) -> Self {
        self.fields.error(kind);
        self
    }
}

impl LogEvent for Event {
    fn name(&self) -> &'static str {
        self.name
    }

    fn level(&self) -> LogLevel {
        self.level
    }

    fn fields(&self, fields: &mut Fields) {
        fields.clone_from(&self.fields);
    }
}
