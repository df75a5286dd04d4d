//! The report: one page without anything from elsewhere.

use super::Outcome;
use super::plot::{Line, Plot, Scale, escape};
use super::series::{LEVELS, Second, quantile};
use std::fmt::Write as _;

/// Points of a plot at most.
const POINTS: usize = 320;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
                     table{border-collapse:collapse;font-size:13px}td,th{border:1px solid #ccc;padding:2px 8px;text-align:right}\
                     td:first-child,th:first-child{text-align:left}svg{width:100%;font-size:11px}h3{margin:1.2em 0 .2em}\
                     .ok{color:#2a7f62}.failed{color:#d1495b;font-weight:bold}code{background:#f3f3f3;padding:0 3px}";

/// Some seconds of a run, taken together.
struct Moment {
    at: f64,
    length: f64,
    sum: Second,
}

fn moments(seconds: &[Second]) -> Vec<Moment> {
    let length = seconds.len().div_ceil(POINTS).max(1);
    let sum = |chunk: &[Second]| {
        let mut sum = Second::default();
        for second in chunk {
            sum.pages.extend(&second.pages);
            sum.page_failures += second.page_failures;
            sum.feedback += second.feedback;
            sum.feedback_failures += second.feedback_failures;
            sum.explanations += second.explanations;
            sum.listing += second.listing;
            sum.listing_hits += second.listing_hits;
            sum.answers += second.answers;
            sum.hits += second.hits;
            sum.dropped += second.dropped;
            for (all, one) in sum.levels.iter_mut().zip(second.levels) {
                *all += one;
            }
        }
        sum
    };
    let chunks = seconds.chunks(length).enumerate();
    chunks.map(|(i, chunk)| Moment { at: (i * length) as f64, length: chunk.len() as f64, sum: sum(chunk) }).collect()
}

pub(crate) fn page(outcome: &Outcome) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escape(&format!("Load test {}", outcome.question.name()))
    );
    let _ = write!(html, "<p><code>{}</code></p>\n<table>", escape(&outcome.command));
    for (name, value) in &outcome.facts {
        let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    html.push_str("</table>\n<h2>Objectives</h2>\n<table>");
    for (name, verdict) in &outcome.verdicts {
        let (class, text) = match verdict {
            Ok(seen) => ("ok", format!("held: {seen}")),
            Err(reason) => ("failed", format!("missed: {reason}")),
        };
        let _ = write!(html, "<tr><td>{}</td><td class=\"{class}\">{}</td></tr>", escape(name), escape(&text));
    }
    html.push_str("</table>\n<h2>Pages by phase</h2>\n");
    html.push_str(&phases(outcome));
    html.push_str("<h2>Over time</h2>\n");
    html.push_str(&over_time(outcome));
    html.push_str("</html>\n");
    html
}

fn phases(outcome: &Outcome) -> String {
    let mut table =
        "<table><tr><th>phase</th><th>pages</th><th>p50 ms</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th>\
                     <th>refused</th><th>hits, listings</th><th>hits, all</th><th>degraded</th></tr>"
            .to_owned();
    for (_, phase) in outcome.ran.series.phases() {
        let latency = format!("http_req_duration{{name:personalize,phase:{phase}}}");
        // k6 keeps the figures of those phases only that a threshold names.
        if outcome.ran.count(&latency) == 0 {
            continue;
        }
        let ms = |figure: &str| outcome.ran.figure(&latency, figure).map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let share = |metric: String| outcome.ran.figure(&metric, "rate").map_or("-".to_owned(), super::percent);
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(phase),
            outcome.ran.count(&latency),
            ms("med"),
            ms("p(95)"),
            ms("p(99)"),
            ms("p(99.9)"),
            ms("max"),
            share(format!("http_req_failed{{name:personalize,phase:{phase}}}")),
            share(format!("edge_hits{{kind:listing,phase:{phase}}}")),
            share(format!("edge_hits{{phase:{phase}}}")),
            share(format!("degraded{{phase:{phase}}}")),
        );
    }
    table
        + "</table>\n<p>The edge asks the origin for every product page and every search, by design: listings are the \
             other pages. Degraded is level 2 or worse, without the holdout.</p>\n"
}

fn over_time(outcome: &Outcome) -> String {
    let seconds = outcome.ran.series.seconds();
    let mut moments = moments(&seconds);
    let last = seconds.len() as f64;
    let step = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0];
    let step = step.into_iter().find(|step| last / step <= 12.0).unwrap_or(14_400.0);
    let ticks: Vec<_> = (0..)
        .map(|i| f64::from(i) * step)
        .take_while(|at| *at <= last)
        .map(|at| (at, if step < 60.0 { format!("{at:.0} s") } else { format!("{:.0} min", at / 60.0) }))
        .collect();
    let mut marks: Vec<_> = outcome.ran.series.phases().into_iter().map(|(at, phase)| (at, phase.to_owned())).collect();
    let begin = outcome.ran.series.begin() as f64;
    marks.extend(outcome.faults.iter().map(|fault| (fault.at - begin, fault.name.clone())));
    let plot = |title, scale, at_least, bound| Plot {
        title,
        scale,
        at_least,
        until: last,
        ticks: ticks.clone(),
        marks: marks.clone(),
        bound,
    };

    let latency = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)].map(|(name, q)| Line {
        name: name.to_owned(),
        points: moments.iter_mut().map(|m| (m.at, quantile(&mut m.sum.pages, q).map(f64::from))).collect(),
    });
    let mut svg = plot("Latency of pages, ms", Scale::Logarithmic, 100.0, Some(100.0)).lines(&latency);
    svg.push_str(&percentiles(&seconds));

    let per_second = |name: &str, count: &dyn Fn(&Second) -> u32| Line {
        name: name.to_owned(),
        points: moments.iter().map(|m| (m.at, Some(f64::from(count(&m.sum)) / m.length))).collect(),
    };
    let rates = [
        per_second("pages", &|s| s.pages.len() as u32),
        per_second("feedback batches", &|s| s.feedback),
        per_second("explanations", &|s| s.explanations),
        per_second("failed requests", &|s| s.page_failures + s.feedback_failures),
        per_second("dropped", &|s| s.dropped),
    ];
    svg.push_str(&plot("Requests a second", Scale::Linear, 1.0, None).lines(&rates));

    let share = |name: &str, parts: &dyn Fn(&Second) -> (u32, u32)| Line {
        name: name.to_owned(),
        points: moments
            .iter()
            .map(|m| {
                let (part, all) = parts(&m.sum);
                (m.at, (all > 0).then(|| f64::from(part) / f64::from(all)))
            })
            .collect(),
    };
    let hits = [share("listings", &|s| (s.listing_hits, s.listing)), share("all pages", &|s| (s.hits, s.answers))];
    svg.push_str(&plot("Share of pages that the edge's caches answered", Scale::Linear, 1.0, Some(0.82)).lines(&hits));

    let levels: Vec<_> = moments.iter().map(|m| (m.at, m.sum.levels.iter().map(|n| f64::from(*n)).collect())).collect();
    let names: [&str; LEVELS] = ["0 fresh", "1 stale", "2 no ranking", "3 cohort", "4 global", "5 static"];
    svg.push_str(&plot("Level of pages, share", Scale::Linear, 1.0, None).shares(&names, &levels));

    let busy = outcome.watched.busy.iter().enumerate().map(|(at, busy)| (at as f64, Some(*busy))).collect();
    let busy = Line { name: "all processes, this machine".to_owned(), points: busy };
    svg + &plot("Busy share of the cores", Scale::Linear, 1.0, None).lines(&[busy])
}

/// Over all pages of the run, by nines.
fn percentiles(seconds: &[Second]) -> String {
    let mut all: Vec<f32> = seconds.iter().flat_map(|second| second.pages.iter().copied()).collect();
    let Some(resolution) = all.len().checked_sub(1).filter(|last| *last > 0) else { return String::new() };
    let deepest = (resolution as f64).log10();
    let points = (0..=200)
        .map(|i| f64::from(i) / 200.0 * deepest)
        .map(|nines| (nines, quantile(&mut all, 1.0 - 10f64.powf(-nines)).map(f64::from)))
        .collect();
    let ticks = [(0.0, "0"), (0.301, "50"), (1.0, "90"), (1.301, "95"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99")];
    let ticks = ticks.into_iter().filter(|(nines, _)| *nines <= deepest);
    Plot {
        title: "Latency of pages by percentile, ms",
        scale: Scale::Logarithmic,
        at_least: 100.0,
        until: deepest,
        ticks: ticks.map(|(nines, word)| (nines, word.to_owned())).collect(),
        marks: Vec::new(),
        bound: Some(100.0),
    }
    .lines(&[Line { name: "whole run".to_owned(), points }])
}
