//! The edge's documents, from and to the types of the domain.

use attune_domain::{Device, EventKind, Geo, Id, ItemId, Level, PageType, RequestId, SessionId};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A page that is wanted.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) user: &'a Id,
    pub(crate) session: &'a SessionId,
    pub(crate) device: Device,
    pub(crate) geo: Geo,
    pub(crate) page: PageType,
    pub(crate) limit: u16,
    pub(crate) item: Option<&'a ItemId>,
    pub(crate) query: Option<&'a str>,
}

impl Ask<'_> {
    pub(crate) fn to_json(&self) -> String {
        let mut body = serde_json::json!({
            "user_id": self.user.as_str(),
            "page_type": self.page.as_str(),
            "limit": self.limit,
            "context": {
                "device": self.device.as_str(),
                "geo": self.geo.as_str(),
                "session_id": self.session.as_str(),
            },
        });
        if let Some(item) = self.item {
            body["item_id"] = item.as_str().into();
        }
        if let Some(query) = self.query {
            body["query"] = query.into();
        }
        body.to_string()
    }
}

/// A page that came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) request: RequestId,
    pub(crate) items: Vec<ItemId>,
    pub(crate) level: Level,
}

#[derive(Deserialize)]
struct PageBody {
    request_id: String,
    items: Vec<ItemBody>,
    level: u8,
}

#[derive(Deserialize)]
struct ItemBody {
    item_id: String,
    score: f64,
}

impl Page {
    /// Why it is none, in a word or two.
    pub(crate) fn parse(text: &str, limit: u16) -> Result<Self, String> {
        let body: PageBody = serde_json::from_str(text).map_err(|error| format!("not a page: {error}"))?;
        let request = RequestId::parse(&body.request_id).ok_or("request_id is none")?;
        let level = Level::from_code(body.level).ok_or("there is no such level")?;
        if body.items.is_empty() || body.items.len() > usize::from(limit) {
            return Err(format!("{} items where 1 to {limit} were asked for", body.items.len()));
        }
        if body.items.iter().any(|item| !(0.0..=1.0).contains(&item.score)) {
            return Err("a score is no probability".to_owned());
        }
        let items = body.items.iter().map(|item| Id::new(&item.item_id)).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(|error| format!("item_id {error}"))?;
        let mut distinct: Vec<_> = items.iter().collect();
        distinct.sort();
        distinct.dedup();
        if distinct.len() < items.len() {
            return Err("an item is there twice".to_owned());
        }
        Ok(Self { request, items, level })
    }
}

/// Something a visitor did with a page.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) id: Id,
    pub(crate) kind: EventKind,
    pub(crate) item: ItemId,
    pub(crate) position: usize,
    pub(crate) value: Option<f32>,
}

#[derive(Serialize)]
struct Batch<'a> {
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    event_id: &'a str,
    r#type: &'static str,
    user_id: &'a str,
    item_id: &'a str,
    request_id: String,
    position: usize,
    occurred_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f32>,
}

/// The body of `POST /v1/feedback`; all of it happened at the same moment.
pub(crate) fn batch(user: &Id, request: RequestId, acts: &[Act], at: SystemTime) -> Result<String, String> {
    let at = OffsetDateTime::from(at).format(&Rfc3339).map_err(|error| error.to_string())?;
    let events = acts
        .iter()
        .map(|act| Event {
            event_id: act.id.as_str(),
            r#type: act.kind.as_str(),
            user_id: user.as_str(),
            item_id: act.item.as_str(),
            request_id: request.to_string(),
            position: act.position,
            occurred_at: &at,
            value: act.value,
        })
        .collect();
    serde_json::to_string(&Batch { events }).map_err(|error| error.to_string())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) text: String,
    pub(crate) reasons: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "01a1fc5e2005365d42b3c03d6d3e7a3e";

    fn page(items: &str, level: u8) -> String {
        format!(r#"{{"request_id":"{REQUEST}","items":[{items}],"level":{level},"tier":"edge"}}"#)
    }

    #[test]
    fn a_page_is_read_into_the_domain() {
        let read = Page::parse(&page(r#"{"item_id":"a","score":0.5},{"item_id":"b","score":0.1}"#, 1), 2).unwrap();
        assert_eq!((read.items.len(), read.level, read.request.to_string().as_str()), (2, Level::Stale, REQUEST));
    }

    #[test]
    fn what_breaks_the_contract_is_refused() {
        let item = r#"{"item_id":"a","score":0.5}"#;
        for (text, why) in [
            (page("", 0), "items"),
            (page(item, 6), "level"),
            (page(&format!("{item},{item}"), 0), "twice"),
            (page(r#"{"item_id":"a","score":1.5}"#, 0), "probability"),
            (page(r#"{"item_id":"","score":0.5}"#, 0), "empty"),
            (page(item, 0).replace(REQUEST, "none"), "request_id"),
            ("<html>".to_owned(), "not a page"),
        ] {
            assert!(Page::parse(&text, 2).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn a_batch_has_the_fields_of_the_contract() {
        let id = |text| Id::new(text).unwrap();
        let act = Act { id: id("r-1"), kind: EventKind::Dwell, item: id("318"), position: 3, value: Some(7.0) };
        let text = batch(&id("u"), RequestId::parse(REQUEST).unwrap(), &[act], SystemTime::UNIX_EPOCH).unwrap();
        let expected = serde_json::json!({"events": [{
            "event_id": "r-1", "type": "dwell", "user_id": "u", "item_id": "318", "request_id": REQUEST, "position": 3,
            "occurred_at": "1970-01-01T00:00:00Z", "value": 7.0,
        }]});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }
}
