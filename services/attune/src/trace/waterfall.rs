//! A trace as text: each span on a line, below its parent, with a bar for its time.

use super::files::{Placed, rfc3339, text};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::collections::HashMap;
use std::fmt::Write as _;

const SHORTEST_BAR: usize = 10;
const LONGEST_NAME: usize = 60;
/// Everything on a line but the name and the bar.
const FIXED: usize = 9 + 1 + 1 + 8 + 1 + 9 + 1 + 9 + 1 + 1 + 1;

/// A span at its place in the tree.
struct Row<'s, 'k> {
    span: &'s Placed<'k>,
    depth: usize,
    /// Its parent was not kept.
    cut_off: bool,
}

pub(super) fn draw(spans: &[Placed<'_>], width: usize) -> String {
    let rows = rows(spans);
    let begun = spans.iter().map(|s| s.span.start_time_unix_nano).min().unwrap_or(0);
    let ended = spans.iter().map(|s| s.span.end_time_unix_nano).max().unwrap_or(begun);
    let total = ended.saturating_sub(begun).max(1);
    let mut services: Vec<_> = spans.iter().map(|s| s.service).collect();
    services.sort_unstable();
    services.dedup();

    let longest = rows.iter().map(|row| label(row).chars().count()).max().unwrap_or(0);
    let name = longest.min(LONGEST_NAME).min(width.saturating_sub(FIXED + SHORTEST_BAR)).max(12);
    let bar = width.saturating_sub(FIXED + name).max(SHORTEST_BAR);
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "{} spans of {} services, {:.2} ms, {}",
        rows.len(),
        services.len(),
        millis(total),
        rfc3339(begun)
    );
    let _ = writeln!(out, "{:9} {:name$} {:8} {:>9} {:>9}", "service", "span", "kind", "start ms", "took ms");
    for row in &rows {
        let span = row.span.span;
        let from = span.start_time_unix_nano.saturating_sub(begun);
        let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        let mark = if row.span.failed() { '!' } else { ' ' };
        let line = format!(
            "{:9} {:name$} {:8} {:9.2} {:9.2} {mark} {}",
            row.span.service,
            fitting(&label(row), name),
            kind(span.kind()),
            millis(from),
            millis(took),
            bar_of(from, took, total, bar)
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for row in &rows {
        if row.span.failed() {
            let error = row.span.text("error.type").unwrap_or_else(|| "failed".into());
            let _ = writeln!(out, "! {} {}: {error}", row.span.service, row.span.span.name);
        }
    }
    if rows.iter().any(|row| row.cut_off) {
        let _ = writeln!(out, "? the parent of such a span was not kept");
    }
    out
}

/// What the spans say of the answer, of the sampling and of versions.
pub(super) fn summary(spans: &[Placed<'_>]) -> String {
    let said = |key: &str| spans.iter().find_map(|span| span.text(key));
    let mut out = String::new();
    if let Some(level) = said("level") {
        let reason = said("level_reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
        let _ = writeln!(out, "level      {level}{reason}");
    }
    let class = said("sampling.reason").unwrap_or_else(|| "unknown: the edge's part is not there".into());
    let weight = said("sampling.adjusted_count").map(|count| format!(", stands for {count}")).unwrap_or_default();
    let missing = said("sampling.missing_subtrees").map(|n| format!(", {n} parts of it not kept")).unwrap_or_default();
    let _ = writeln!(out, "kept as    {class}{weight}{missing}");
    let mut versions: Vec<String> = Vec::new();
    for span in spans {
        let program = span.version.and_then(text).map(|version| format!("attune {version}"));
        let models = ["model_version", "model"].iter().filter_map(|key| {
            let area = span.span.name.split('.').next().unwrap_or_default();
            span.text(key).map(|model| format!("{area} model {model}"))
        });
        for version in program.into_iter().chain(models) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
    }
    let _ = write!(out, "versions   {}", versions.join(", "));
    out
}

/// Depth first, siblings by their beginning.
fn rows<'s, 'k>(spans: &'s [Placed<'k>]) -> Vec<Row<'s, 'k>> {
    let known: HashMap<&[u8], usize> = spans.iter().enumerate().map(|(i, s)| (&s.span.span_id[..], i)).collect();
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut tops = Vec::new();
    for (i, span) in spans.iter().enumerate() {
        match known.get(&span.span.parent_span_id[..]) {
            Some(&parent) => children.entry(parent).or_default().push(i),
            None => tops.push(i),
        }
    }
    let newest_first =
        |list: &mut Vec<usize>| list.sort_by_key(|&i| std::cmp::Reverse(spans[i].span.start_time_unix_nano));
    newest_first(&mut tops);
    let mut open: Vec<_> = tops.into_iter().map(|i| (i, 0)).collect();
    let mut rows = Vec::with_capacity(spans.len());
    while let Some((i, depth)) = open.pop() {
        let cut_off = depth == 0 && !spans[i].span.parent_span_id.is_empty();
        rows.push(Row { span: &spans[i], depth, cut_off });
        // Taken out, so that ids that come twice or in a circle end here.
        let mut below = children.remove(&i).unwrap_or_default();
        newest_first(&mut below);
        open.extend(below.into_iter().map(|child| (child, depth + 1)));
    }
    rows
}

fn label(row: &Row<'_, '_>) -> String {
    let mark = if row.cut_off { "? " } else { "" };
    format!("{}{mark}{}", "  ".repeat(row.depth), row.span.span.name)
}

fn fitting(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn bar_of(from: u64, took: u64, total: u64, width: usize) -> String {
    let cells = |nanos: u64| (nanos as f64 / total as f64 * width as f64).round() as usize;
    let begin = cells(from).min(width - 1);
    let length = cells(took).clamp(1, width - begin);
    format!("{}{}", " ".repeat(begin), "█".repeat(length))
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified | SpanKind::Internal => "",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};

    fn span(name: &str, id: u8, parent: u8, begun: u64, ended: u64) -> Span {
        Span {
            name: name.to_owned(),
            span_id: vec![id; 8],
            parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
            start_time_unix_nano: begun * 1_000_000,
            end_time_unix_nano: ended * 1_000_000,
            ..Span::default()
        }
    }

    fn drawn(spans: &[Span], width: usize) -> Vec<String> {
        let placed: Vec<_> = spans.iter().map(|span| Placed { service: "s", version: None, span }).collect();
        draw(&placed, width).lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn spans_stand_below_their_parents_in_time() {
        let mut failed = span("c", 4, 2, 60, 80);
        failed.status = Some(Status { code: StatusCode::Error as i32, message: String::new() });
        let spans = [failed, span("b", 3, 1, 50, 100), span("a", 2, 1, 0, 90), span("root", 1, 0, 0, 100)];
        let lines = drawn(&spans, 80);
        let names: Vec<_> = lines.iter().take(4).map(|line| line[10..22].trim_end()).collect();
        assert_eq!(names, ["root", "  a", "    c", "  b"]);
        assert!(lines[2].contains(" ! ") && lines[4] == "! s c: failed", "{lines:?}");
        assert!(lines.iter().take(4).all(|line| line.chars().count() <= 80));
        let bar = |line: &str| line.chars().filter(|c| *c == '█').count();
        assert!(bar(&lines[0]) > bar(&lines[3]) && bar(&lines[3]) > bar(&lines[2]), "{lines:?}");
    }

    #[test]
    fn nothing_that_a_file_says_is_too_much() {
        let lines = drawn(&[span("lost", 2, 9, 5, 6)], 80);
        assert!(lines[0].contains("? lost") && lines[1].starts_with("? "), "{lines:?}");
        // In a circle, twice the same id, ended before it began, on a terminal of no width.
        let spans = [span("x", 1, 2, 5, 1), span("y", 2, 1, 0, 9), span("z", 3, 3, 0, 0), span("z", 3, 0, 0, 0)];
        assert!(drawn(&spans, 0).iter().any(|line| line.contains('z')));
        assert!(drawn(&[], 80).is_empty());
    }
}
