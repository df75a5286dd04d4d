//! `POST /v1/personalize`, and `GET` with the same names as flat query parameters.

use super::Checker;
use crate::problem::{Naming, Problem};
use attune_domain::{Context, Device, Geo, Id, PageType};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

const FIELDS: [&str; 7] = ["user_id", "page_type", "limit", "item_id", "query", "context", "explain"];
const CONTEXT_FIELDS: [&str; 3] = ["device", "geo", "session_id"];
const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;
const MAX_QUERY_BYTES: usize = 256;

/// A valid request for a page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Personalize {
    /// The raw id, only here; everything inside uses the pseudonym.
    pub(crate) user_id: Option<Id>,
    pub(crate) session_id: Option<Id>,
    pub(crate) context: Context,
    pub(crate) limit: u16,
    pub(crate) item_id: Option<Id>,
    pub(crate) query: Option<String>,
    pub(crate) explain: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    page_type: Option<Cow<'a, str>>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(borrow, default)]
    item_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    query: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    context: Option<Object<BodyContext<'a>>>,
    #[serde(default)]
    explain: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BodyContext<'a> {
    #[serde(borrow, default)]
    device: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    geo: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session_id: Option<Cow<'a, str>>,
}

/// A value from a JSON object and from nothing else: a derived struct would take an array of its fields as well.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(OfMap(PhantomData)).map(Object)
    }
}

/// The fields as they came, each of the right type.
#[derive(Default)]
struct Raw<'a> {
    user_id: Option<&'a str>,
    page_type: Option<&'a str>,
    limit: Option<u64>,
    item_id: Option<&'a str>,
    query: Option<&'a str>,
    device: Option<&'a str>,
    geo: Option<&'a str>,
    session_id: Option<&'a str>,
    explain: Option<bool>,
}

impl Personalize {
    pub(crate) fn from_body(bytes: &[u8]) -> Result<Self, Problem> {
        if let Ok(Object(body)) = serde_json::from_slice::<Object<Body<'_>>>(bytes) {
            let Object(context) = body.context.unwrap_or_default();
            let raw = Raw {
                user_id: body.user_id.as_deref(),
                page_type: body.page_type.as_deref(),
                limit: body.limit,
                item_id: body.item_id.as_deref(),
                query: body.query.as_deref(),
                device: context.device.as_deref(),
                geo: context.geo.as_deref(),
                session_id: context.session_id.as_deref(),
                explain: body.explain,
            };
            return check(raw, Checker::new(Naming::Body));
        }
        Self::explain_refusal(bytes)
    }

    /// The slow second reading, which names every field that is wrong.
    fn explain_refusal(bytes: &[u8]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| {
            Problem::malformed(format!("not a JSON document (line {}, column {})", e.line(), e.column()))
        })?;
        let mut checker = Checker::new(Naming::Body);
        let Value::Object(object) = &value else {
            checker.fail("", "must be an object");
            return Err(Problem::fields(checker.errors));
        };
        checker.unknown_fields("", object, &FIELDS);
        let empty = serde_json::Map::new();
        let context = match object.get("context") {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(context)) => context,
            Some(_) => {
                checker.fail("/context", "must be an object");
                &empty
            }
        };
        checker.unknown_fields("/context", context, &CONTEXT_FIELDS);
        let limit = match object.get("limit") {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64() {
                Some(limit) => Some(limit),
                None => {
                    checker.fail("/limit", limit_detail());
                    None
                }
            },
        };
        let explain = match object.get("explain") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(explain)) => Some(*explain),
            Some(_) => {
                checker.fail("/explain", "must be true or false");
                None
            }
        };
        let raw = Raw {
            user_id: checker.text("/user_id", object.get("user_id")),
            page_type: checker.text("/page_type", object.get("page_type")),
            limit,
            item_id: checker.text("/item_id", object.get("item_id")),
            query: checker.text("/query", object.get("query")),
            device: checker.text("/context/device", context.get("device")),
            geo: checker.text("/context/geo", context.get("geo")),
            session_id: checker.text("/context/session_id", context.get("session_id")),
            explain,
        };
        check(raw, checker)
    }

    pub(crate) fn from_query(query: &str) -> Result<Self, Problem> {
        let Some(pairs) = super::parse_query(query) else {
            return Err(Problem::malformed("the query is not UTF-8"));
        };
        let mut checker = Checker::new(Naming::Query);
        let mut raw = Raw::default();
        for (name, value) in &pairs {
            let value = value.as_str();
            match name.as_str() {
                "user_id" => raw.user_id = Some(value),
                "page_type" => raw.page_type = Some(value),
                "item_id" => raw.item_id = Some(value),
                "query" => raw.query = Some(value),
                "device" => raw.device = Some(value),
                "geo" => raw.geo = Some(value),
                "session_id" => raw.session_id = Some(value),
                "limit" => match value.parse() {
                    Ok(limit) => raw.limit = Some(limit),
                    Err(_) => checker.fail("/limit", limit_detail()),
                },
                "explain" => match value {
                    "true" | "1" => raw.explain = Some(true),
                    "false" | "0" => raw.explain = Some(false),
                    _ => checker.fail("/explain", "must be true or false"),
                },
                _ => {
                    let name: String = name.chars().filter(|c| !c.is_control() && *c != '/').take(64).collect();
                    checker.fail(&format!("/{name}"), "is not a known parameter");
                }
            }
        }
        check(raw, checker)
    }
}

fn limit_detail() -> String {
    format!("must be a whole number from 1 to {MAX_LIMIT}")
}

fn check(raw: Raw<'_>, mut checker: Checker) -> Result<Personalize, Problem> {
    let page = match raw.page_type {
        None => PageType::Home,
        Some(text) => PageType::parse(text).unwrap_or_else(|| {
            checker.fail("/page_type", "must be one of home, product, search, cart");
            PageType::Home
        }),
    };
    let limit = match raw.limit {
        None => DEFAULT_LIMIT,
        Some(n) => u16::try_from(n).ok().filter(|n| (1..=MAX_LIMIT).contains(n)).unwrap_or_else(|| {
            checker.fail("/limit", limit_detail());
            DEFAULT_LIMIT
        }),
    };
    let user_id = raw.user_id.and_then(|text| checker.id("/user_id", text));
    let session_id = raw.session_id.and_then(|text| checker.id("/context/session_id", text));
    let item_id = raw.item_id.and_then(|text| checker.id("/item_id", text));
    if page == PageType::Product && raw.item_id.is_none() {
        checker.fail("/item_id", "is needed on a product page");
    }
    let query = raw.query.map(str::to_owned);
    if let Some(query) = &query
        && (query.is_empty() || query.len() > MAX_QUERY_BYTES || query.chars().any(char::is_control))
    {
        checker.fail("/query", "must be 1 to 256 bytes without control characters");
    }
    if !checker.errors.is_empty() {
        return Err(Problem::fields(checker.errors));
    }
    let context = Context {
        page,
        device: raw.device.and_then(Device::parse).unwrap_or(Device::Other),
        geo: raw.geo.and_then(Geo::parse).unwrap_or(Geo::Other),
    };
    Ok(Personalize { user_id, session_id, context, limit, item_id, query, explain: raw.explain.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        match Personalize::from_body(body.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(problem) => problem.errors.into_iter().filter_map(|e| e.pointer).collect(),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(pointers(r#"{"user_id":"u1","limit":0}"#), ["/limit"]);
        assert_eq!(pointers(r#"{"user_id":"u1","limit":10000}"#), ["/limit"]);
        assert_eq!(pointers(r#"{"limit":"20","page_type":"hom","color":1}"#), ["/color", "/limit", "/page_type"]);
        assert_eq!(pointers(r#"{"page_type":"product"}"#), ["/item_id"]);
        assert_eq!(pointers(r#"{"context":{"device":3,"x~/y":1}}"#), ["/context/x~0~1y", "/context/device"]);
        assert_eq!(pointers("{\"user_id\":\"a\\nb\"}"), ["/user_id"]);
        assert_eq!(pointers("[]"), [""]);
        assert_eq!(pointers(r#"["u1","home",5]"#), [""]);
        assert_eq!(pointers(r#"{"context":["mobile"]}"#), ["/context"]);
        assert_eq!(pointers("{}"), [""; 0]);
    }

    #[test]
    fn body_and_query_say_the_same() {
        let body = br#"{"user_id":"u 1","page_type":"search","limit":5,"query":"caf\u00e9","context":{"device":"mobile","geo":"eu-west"},"explain":true}"#;
        let query = "user_id=u+1&page_type=search&limit=5&query=caf%C3%A9&device=mobile&geo=eu-west&explain=true";
        assert_eq!(Personalize::from_body(body).unwrap(), Personalize::from_query(query).unwrap());
        let errors = Personalize::from_query("limit=x&nope=1").unwrap_err().errors;
        assert_eq!(errors[0].parameter.as_deref(), Some("limit"));
        assert_eq!(errors[1].parameter.as_deref(), Some("nope"));
        assert_eq!(Personalize::from_query("user_id=%ff").unwrap_err().kind.status(), 400);
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in [&b"{"[..], b"\xff\xfe", b"", b"{\"user_id\":\"\xff\"}"] {
            assert_eq!(Personalize::from_body(body).unwrap_err().kind.status(), 400);
        }
    }
}
