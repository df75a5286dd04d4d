//! The document against the code: closed lists against their types, and what the edge keeps to itself against its source.
//!
//! A running edge shows where the document says too much. Only the code shows where it says too little.

use anyhow::Context as _;
use attune_domain::{
    CacheStatus, Device, EventKind, Geo, LevelReason, MAX_ATTRIBUTES, MAX_CATEGORIES, PageType, Reason, Source, Tier,
    Variant,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const HTTP: &str = "services/edge/src/http.rs";
const OPERATOR: &str = "services/edge/src/operator.rs";
const ADMIN: &str = "libs/runtime/src/admin.rs";
const PROBLEM: &str = "services/edge/src/problem.rs";
const PERSONALIZE: &str = "services/edge/src/request/personalize.rs";
const FEEDBACK: &str = "services/edge/src/request/feedback.rs";
const STATED: &str = "services/edge/src/request/operator.rs";

/// Text of the files that say what the edge takes.
pub(super) struct Sources(Vec<(&'static str, String)>);

impl Sources {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let files = [HTTP, OPERATOR, ADMIN, PROBLEM, PERSONALIZE, FEEDBACK, STATED];
        let read = |file| Ok((file, super::read(&root.join(file))?));
        files.into_iter().map(read).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Without its tests.
    fn text(&self, file: &str) -> &str {
        let text = self.0.iter().find(|(name, _)| *name == file).map_or("", |(_, text)| text);
        text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    /// Literals in what stands between two texts.
    fn literals(&self, file: &str, from: &str, to: &str) -> anyhow::Result<BTreeSet<String>> {
        let (_, rest) = self.text(file).split_once(from).with_context(|| format!("{file}: find {from}"))?;
        let (part, _) = rest.split_once(to).with_context(|| format!("{file}: find {to} after {from}"))?;
        Ok(literals(part))
    }

    fn number(&self, file: &str, name: &str) -> anyhow::Result<u64> {
        let start = format!("const {name}: ");
        let line = self.text(file).lines().find_map(|line| line.trim_start_matches("pub(crate) ").strip_prefix(&start));
        let value = line.and_then(|line| line.split_once(" = ")?.1.strip_suffix(';'));
        value
            .and_then(|value| value.replace('_', "").parse().ok())
            .with_context(|| format!("{file}: find the number {name}"))
    }
}

fn literals(text: &str) -> BTreeSet<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(super) fn problems(document: &Value, sources: &Sources) -> anyhow::Result<Vec<String>> {
    let mut all = Comparison { document, problems: Vec::new() };
    all.lists();
    all.routes(sources)?;
    all.fields(sources)?;
    all.limits(sources)?;
    all.refusals(sources)?;
    Ok(all.problems)
}

struct Comparison<'a> {
    document: &'a Value,
    problems: Vec<String>,
}

impl Comparison<'_> {
    fn same(&mut self, what: &str, code: &BTreeSet<String>, document: &BTreeSet<String>) {
        for only in code.difference(document) {
            self.problems.push(format!("{what}: the document lacks {only}"));
        }
        for only in document.difference(code) {
            self.problems.push(format!("{what}: the code lacks {only}"));
        }
    }

    fn strings(&self, pointer: &str) -> BTreeSet<String> {
        let list = self.document.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    fn keys(&self, pointer: &str) -> BTreeSet<String> {
        let object = self.document.pointer(pointer).and_then(Value::as_object);
        object.into_iter().flat_map(serde_json::Map::keys).cloned().collect()
    }

    fn lists(&mut self) {
        let lists: [(&str, Vec<&str>); 10] = [
            ("PageType/enum", PageType::ALL.iter().map(|one| one.as_str()).collect()),
            ("Device/x-values", Device::ALL.iter().map(|one| one.as_str()).collect()),
            ("Geo/x-values", Geo::ALL.iter().map(|one| one.as_str()).collect()),
            ("Reason/enum", Reason::ALL.iter().map(|one| one.as_str()).collect()),
            ("LevelReason/enum", LevelReason::ALL.iter().map(|one| one.as_str()).collect()),
            ("Page/properties/tier/enum", Tier::ALL.iter().map(|one| one.as_str()).collect()),
            ("Page/properties/cache/enum", CacheStatus::ALL.iter().map(|one| one.as_str()).collect()),
            ("Page/properties/source/enum", Source::ALL.iter().map(|one| one.as_str()).collect()),
            ("Page/properties/variant/enum", Variant::ALL.iter().map(|one| one.as_str()).collect()),
            ("Event/properties/type/enum", EventKind::ALL.iter().map(|one| one.as_str()).collect()),
        ];
        for (place, code) in lists {
            let code = code.into_iter().map(str::to_owned).collect();
            let document = self.strings(&format!("/components/schemas/{place}"));
            self.same(place, &code, &document);
        }
    }

    fn routes(&mut self, sources: &Sources) -> anyhow::Result<()> {
        let is_route = |text: &String| text.starts_with('/') && text.len() > 1;
        let mut routes: BTreeSet<String> = literals(sources.text(HTTP)).into_iter().filter(is_route).collect();
        let prefixes = literals(sources.text(OPERATOR)).into_iter().filter(is_route);
        routes.extend(prefixes.map(|prefix| format!("{prefix}{{id}}")));
        routes.extend(literals(sources.text(ADMIN)).into_iter().filter(is_route));
        let document = self.keys("/paths");
        self.same("routes", &routes, &document);
        Ok(())
    }

    fn fields(&mut self, sources: &Sources) -> anyhow::Result<()> {
        for (file, from, to, schema) in [
            (PERSONALIZE, "const FIELDS: [&str; ", "];", "PersonalizeRequest"),
            (PERSONALIZE, "const CONTEXT_FIELDS: [&str; ", "];", "RequestContext"),
            (FEEDBACK, "const FIELDS: [&str; ", "];", "Event"),
            (FEEDBACK, "unknown_fields(\"\", object, ", "]", "FeedbackRequest"),
            (STATED, "unknown_fields(\"\", &object, ", "]", "Item"),
        ] {
            let code = sources.literals(file, from, to)?;
            let document = self.keys(&format!("/components/schemas/{schema}/properties"));
            self.same(schema, &code, &document);
        }
        let query = sources.literals(PERSONALIZE, "match name.as_str() {", "_ => {\n")?;
        let explain = ["true", "false", "1", "0"].map(str::to_owned);
        let code = query
            .into_iter()
            .filter(|name| !name.starts_with('/') && !explain.contains(name) && !name.contains(' '))
            .collect();
        let parameters = self.document.pointer("/paths/~1v1~1personalize/get/parameters").and_then(Value::as_array);
        let named = |parameter: &Value| Some(parameter.get("name")?.as_str()?.to_owned());
        let document = parameters.into_iter().flatten().filter_map(named).collect();
        self.same("parameters of GET /v1/personalize", &code, &document);
        Ok(())
    }

    fn limits(&mut self, sources: &Sources) -> anyhow::Result<()> {
        for (place, code) in [
            ("PersonalizeRequest/properties/limit/maximum", sources.number(PERSONALIZE, "MAX_LIMIT")?),
            ("PersonalizeRequest/properties/limit/default", sources.number(PERSONALIZE, "DEFAULT_LIMIT")?),
            ("SearchQuery/maxLength", sources.number(PERSONALIZE, "MAX_QUERY_BYTES")?),
            ("FeedbackRequest/properties/events/maxItems", sources.number(FEEDBACK, "MAX_EVENTS")?),
            ("Item/properties/title/maxLength", sources.number(STATED, "MAX_TITLE_BYTES")?),
            ("Text/maxLength", sources.number(STATED, "MAX_TEXT_BYTES")?),
            ("Item/properties/categories/maxItems", MAX_CATEGORIES as u64),
            ("Attributes/maxProperties", MAX_ATTRIBUTES as u64),
        ] {
            let document = self.document.pointer(&format!("/components/schemas/{place}"));
            if document.and_then(Value::as_u64) != Some(code) {
                self.problems.push(format!("{place}: {code} in the code"));
            }
        }
        Ok(())
    }

    fn refusals(&mut self, sources: &Sources) -> anyhow::Result<()> {
        let slugs = sources.literals(PROBLEM, "const fn slug(self)", "\n    }\n")?;
        let code = slugs.into_iter().map(|slug| format!("urn:attune:problem:{slug}")).collect();
        let document = self.strings("/components/schemas/Problem/properties/type/enum");
        self.same("types of problems", &code, &document);

        let (_, rest) =
            sources.text(PROBLEM).split_once("const fn status(self)").context("find the statuses of problems")?;
        let (table, _) = rest.split_once("\n    }\n").context("find the end of the statuses of problems")?;
        let status = |line: &str| Some(line.split_once("=> ")?.1.trim_end_matches(',').to_owned());
        let code = table.lines().filter_map(status).collect();
        let list =
            self.document.pointer("/components/schemas/Problem/properties/status/enum").and_then(Value::as_array);
        let document = list.into_iter().flatten().map(Value::to_string).collect();
        self.same("statuses of problems", &code, &document);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found when a file of the code is changed and the document is not.
    fn found(file: &str, from: &str, to: &str) -> Vec<String> {
        let root = crate::root();
        let mut sources = Sources::read(&root).unwrap();
        let (_, text) = sources.0.iter_mut().find(|(name, _)| *name == file).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replacen(from, to, 1);
        problems(&super::super::document(&root).unwrap(), &sources).unwrap()
    }

    #[test]
    fn the_document_says_what_the_code_does() {
        assert_eq!(found(HTTP, "", ""), [""; 0]);
    }

    #[test]
    fn what_the_document_lacks_is_named() {
        for (file, from, to, wanted) in [
            (
                HTTP,
                "(\"/v1/explain\", &Method::GET)",
                "(\"/v1/secret\", &Method::GET) | (\"/v1/explain\", &Method::GET)",
                "the document lacks /v1/secret",
            ),
            (
                OPERATOR,
                "strip_prefix(\"/v1/users/\")",
                "strip_prefix(\"/v1/models/\")",
                "the document lacks /v1/models/{id}",
            ),
            (ADMIN, "\"/livez\" => ", "\"/debug\" => live, \"/livez\" => ", "the document lacks /debug"),
            (PERSONALIZE, "\"explain\"];", "\"explain\", \"colour\"];", "the document lacks colour"),
            (PERSONALIZE, "\"session_id\" => ", "\"colour\" => none, \"session_id\" => ", "the document lacks colour"),
            (PERSONALIZE, "MAX_LIMIT: u16 = 100", "MAX_LIMIT: u16 = 101", "101 in the code"),
            (FEEDBACK, "MAX_EVENTS: usize = 500", "MAX_EVENTS: usize = 400", "400 in the code"),
            (FEEDBACK, "\"value\"];", "];", "the code lacks value"),
            (STATED, "\"available\"]", "\"available\", \"stock\"]", "the document lacks stock"),
            (PROBLEM, "=> \"unavailable\"", "=> \"away\"", "the document lacks urn:attune:problem:away"),
            (PROBLEM, "=> 413", "=> 414", "the document lacks 414"),
        ] {
            let found = found(file, from, to);
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted}: {found:?}");
        }
    }
}
