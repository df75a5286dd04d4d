//! The edge's documents, as a visitor's client writes and reads them.

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize)]
pub(crate) struct Ask<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) page_type: &'static str,
    pub(crate) limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<&'a str>,
    pub(crate) context: AskContext<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct AskContext<'a> {
    pub(crate) device: &'static str,
    pub(crate) geo: &'static str,
    pub(crate) session_id: &'a str,
}

/// Fields that the edge may add are passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) request_id: String,
    pub(crate) items: Vec<AnswerItem>,
    pub(crate) cache: String,
    pub(crate) level: u8,
    pub(crate) variant: String,
    pub(crate) model_version: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AnswerItem {
    pub(crate) item_id: String,
    #[serde(default)]
    pub(crate) reason: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) event_id: String,
    pub(crate) r#type: &'static str,
    pub(crate) user_id: String,
    pub(crate) item_id: String,
    pub(crate) request_id: String,
    pub(crate) position: usize,
    pub(crate) occurred_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    #[serde(default)]
    pub(crate) rejected: Vec<serde::de::IgnoredAny>,
}
