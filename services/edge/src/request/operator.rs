//! `PUT /v1/items/{id}` and `PUT /v1/users/{id}`: what the shop states about items and visitors.

use super::{Checker, parse_time};
use crate::problem::{Naming, Problem};
use attune_domain::{Item, ItemId, MAX_ATTRIBUTES, MAX_CATEGORIES, UserAttributes};
use serde_json::{Map, Value};

const MAX_TITLE_BYTES: usize = 512;
const MAX_TEXT_BYTES: usize = 256;

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::fields(vec![Naming::Body.error("", "must be an object")])),
        Err(e) => Err(Problem::malformed(format!("not a JSON document (line {}, column {})", e.line(), e.column()))),
    }
}

/// An item's new description. Absent fields are empty; an absent `available` is true.
pub(crate) fn item(id: ItemId, bytes: &[u8]) -> Result<Item, Problem> {
    let object = object(bytes)?;
    let mut checker = Checker::new(Naming::Body);
    checker.unknown_fields("", &object, &["title", "categories", "attributes", "price", "created_at", "available"]);
    let title = checker.text("/title", object.get("title")).unwrap_or_default().to_owned();
    if title.len() > MAX_TITLE_BYTES {
        checker.fail("/title", format!("must be at most {MAX_TITLE_BYTES} bytes"));
    }
    let categories = match object.get("categories") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) if list.len() <= MAX_CATEGORIES => list
            .iter()
            .enumerate()
            .filter_map(|(i, value)| text(&mut checker, &format!("/categories/{i}"), value))
            .collect(),
        Some(_) => {
            checker.fail("/categories", format!("must be an array of at most {MAX_CATEGORIES} strings"));
            Vec::new()
        }
    };
    let attributes = attributes(&mut checker, "/attributes", object.get("attributes"));
    let price = match object.get("price") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let price = value.as_i64().filter(|p| *p >= 0);
            if price.is_none() {
                checker.fail("/price", "must be a whole number of minor currency units, 0 or more");
            }
            price
        }
    };
    let created_at = checker.text("/created_at", object.get("created_at")).and_then(|text| {
        let at = parse_time(text);
        if at.is_none() {
            checker.fail("/created_at", "must be an RFC 3339 time");
        }
        at
    });
    let available = match object.get("available") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(available)) => *available,
        Some(_) => {
            checker.fail("/available", "must be true or false");
            true
        }
    };
    if !checker.errors.is_empty() {
        return Err(Problem::fields(checker.errors));
    }
    Ok(Item { id, title, categories, attributes, price, created_at, available })
}

/// A visitor's attributes: `{"attributes": {"age_bucket": "25-34"}}`. They replace what was stated before.
pub(crate) fn user(bytes: &[u8]) -> Result<UserAttributes, Problem> {
    let object = object(bytes)?;
    let mut checker = Checker::new(Naming::Body);
    checker.unknown_fields("", &object, &["attributes"]);
    if !object.contains_key("attributes") {
        checker.fail("/attributes", "is missing");
    }
    let attributes = attributes(&mut checker, "/attributes", object.get("attributes"));
    if checker.errors.is_empty() { Ok(UserAttributes(attributes)) } else { Err(Problem::fields(checker.errors)) }
}

fn attributes(checker: &mut Checker, path: &str, value: Option<&Value>) -> Vec<(String, String)> {
    let mut out = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(map)) if map.len() <= MAX_ATTRIBUTES => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(name, value)| {
                let field = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
                    checker.fail(path, "names must be 1 to 64 bytes without control characters");
                    return None;
                }
                text(checker, &field, value).map(|value| (name.clone(), value))
            })
            .collect(),
        Some(_) => {
            checker.fail(path, format!("must be an object of at most {MAX_ATTRIBUTES} strings"));
            Vec::new()
        }
    };
    out.sort();
    out
}

fn text(checker: &mut Checker, path: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text)
            if !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control) =>
        {
            Some(text.clone())
        }
        _ => {
            checker.fail(path, format!("must be a string of 1 to {MAX_TEXT_BYTES} bytes without control characters"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_checked_field_by_field() {
        let id = ItemId::new("318").unwrap();
        let good = br#"{"title":"T","categories":["Drama"],"price":999,"created_at":"2026-01-01T00:00:00Z","attributes":{"b":"2","a":"1"}}"#;
        let parsed = item(id.clone(), good).unwrap();
        assert_eq!(parsed.attributes[0].0, "a");
        assert!(parsed.available);
        for (body, pointer) in [
            (r#"{"price":-1}"#, "/price"),
            (r#"{"categories":[3]}"#, "/categories/0"),
            (r#"{"created_at":"yesterday"}"#, "/created_at"),
            (r#"{"attributes":{"a/b":1}}"#, "/attributes/a~1b"),
            (r#"{"nope":1}"#, "/nope"),
        ] {
            let problem = item(id.clone(), body.as_bytes()).unwrap_err();
            assert_eq!(problem.errors[0].pointer.as_deref(), Some(pointer));
        }
        assert_eq!(user(b"{}").unwrap_err().errors[0].pointer.as_deref(), Some("/attributes"));
    }
}
