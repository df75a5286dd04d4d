//! A line as one regular expression, for a pipeline that trusts no line: the fields are in a fixed order and each has a
//! closed list or a narrow form of values, so what matches holds nothing else.

use super::events::EventSpec;
use super::{EVENTS, Failure, LogLevel, Loggable, Shape};

/// In the syntax that Java, RE2 and Rust share. Levels are separate branches, because an event has only one.
pub fn log_line_pattern() -> String {
    let time = r#"^\{"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","#;
    let services = super::schema::SERVICES.join("|");
    let source = format!(
        r#","service":"(?:{services})","service_version":"[0-9A-Za-z.+-]{{1,32}}","instance":"[A-Za-z0-9._:/-]{{1,64}}","boot_id":"[0-9a-f]{{16}}","seq":\d{{1,19}}(?:,"trace_id":"[0-9a-f]{{32}}","span_id":"[0-9a-f]{{16}}")?"#
    );
    let branches: Vec<_> = LogLevel::ALL
        .into_iter()
        .filter(|level| EVENTS.iter().any(|event| event.level == *level))
        .map(|level| {
            let events: Vec<_> = EVENTS.iter().filter(|event| event.level == level).map(|event| one(event)).collect();
            let (word, number) = (level.as_str(), level.number());
            format!(r#""level":"{word}","severity_number":{number}{source}(?:{})"#, events.join("|"))
        })
        .collect();
    format!(r#"{time}(?:{}),"sampled_weight":{NUMBER}\}}$"#, branches.join("|"))
}

const NUMBER: &str = r"\d{1,20}(?:\.\d{1,20})?(?:e\d{1,3})?";

fn one(event: &EventSpec) -> String {
    let has = |part| event.subject.contains(&part);
    let user = r#"(?:,"user_id_hash":"hmac-sha256:(?:w\d{1,6}:[A-Za-z0-9_-]{22}|none:-)")?"#;
    let request = r#","request_id":"[0-9a-f]{32}""#;
    let place = r#"(?:,"at":"[A-Za-z0-9._:/-]{1,75}")?"#;
    let suppressed = match (event.level >= LogLevel::Warn, event.metrics.is_empty()) {
        (false, _) => "",
        (true, true) => r#"(?:"suppressed":\d{1,19})?"#,
        (true, false) => r#"(?:,"suppressed":\d{1,19})?"#,
    };
    format!(
        r#"{}{},"event":"{}","metrics":\{{{}{suppressed}\}},"context":\{{{}\}}{}"#,
        if has("user") { user } else { "" },
        if has("request_id") { request } else { "" },
        event.name,
        fields(event.metrics),
        fields(event.context),
        if has("failure") {
            format!(r#","error":\{{"kind":{}{place}\}}"#, value(Failure::SHAPE))
        } else {
            String::new()
        },
    )
}

fn fields(fields: &[(&'static str, Shape)]) -> String {
    let one = |(name, shape): &(&str, Shape)| format!(r#""{name}":{}"#, value(*shape));
    fields.iter().map(one).collect::<Vec<_>>().join(",")
}

fn value(shape: Shape) -> String {
    match shape {
        Shape::Integer => r"-?\d{1,20}".to_owned(),
        Shape::Number => NUMBER.to_owned(),
        Shape::Boolean => "(?:true|false)".to_owned(),
        Shape::Words(list) => {
            let words: Vec<_> = list().into_iter().map(|word| word.replace('{', r"\{").replace('}', r"\}")).collect();
            format!(r#""(?:{})""#, words.join("|"))
        }
        Shape::Text(pattern) => format!(r#""{}""#, pattern.trim_start_matches('^').trim_end_matches('$')),
    }
}
