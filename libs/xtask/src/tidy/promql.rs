//! PromQL against the catalogue: names, labels and values that exist, and counters looked at as counters.

use super::rules::Rules;
use attune_telemetry::catalogue::{self, Applies, Kind, LabelKey, Metric, names};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use std::collections::BTreeSet;
use std::time::Duration;

/// What Prometheus puts on every series, and `service`, which tells services of one process apart.
const TARGET: [&str; 4] = ["job", "instance", "region", "service"];
/// Series of others: of Prometheus and Alertmanager about themselves, and of the log pipeline.
const FOREIGN: &[(&str, &[&str])] = &[
    ("ALERTS", &["alertname", "alertstate", "severity"]),
    ("alertmanager_notifications_failed_total", &["integration", "reason"]),
    ("log_scrubbed_total", &[]),
    ("log_sequence_gaps_total", &[]),
    ("prometheus_notifications_alertmanagers_discovered", &[]),
    ("prometheus_notifications_dropped_total", &[]),
    ("prometheus_rule_evaluation_failures_total", &["rule_group"]),
    ("prometheus_rule_group_iterations_missed_total", &["rule_group"]),
    ("prometheus_target_scrapes_exceeded_sample_limit_total", &[]),
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_post_metric_relabeling", &[]),
    ("up", &[]),
];
/// Grafana's intervals while they are parsed: durations that nobody writes.
const RATE_INTERVAL: (&str, Duration) = ("4m17s", Duration::from_secs(4 * 60 + 17));
const RANGE: (&str, Duration) = ("3h17s", Duration::from_secs(3 * 3600 + 17));
const HOUR: Duration = Duration::from_secs(3600);

/// What a query may name beside the catalogue.
pub(super) struct Known {
    recorded: BTreeSet<String>,
    /// Set by recording rules.
    labels: BTreeSet<String>,
}

impl Known {
    pub(super) fn new(rules: &Rules) -> Self {
        let recorded = rules.all.iter().filter(|rule| rule.record.is_some());
        let labels = recorded.clone().flat_map(|rule| rule.labels.keys().cloned()).collect();
        Self { recorded: recorded.filter_map(|rule| rule.record.clone()).collect(), labels }
    }

    pub(super) fn has(&self, series: &str) -> bool {
        catalogue::exposing(series).is_some() || foreign(series).is_some() || self.recorded.contains(series)
    }
}

fn foreign(series: &str) -> Option<&'static [&'static str]> {
    FOREIGN.iter().find(|(name, _)| *name == series).map(|(_, labels)| *labels)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Dashboard,
    Alert,
    /// With the name it is recorded under: a counter may be renamed.
    Recording(&'a str),
}

/// What is wrong with a query, a line each.
pub(super) fn problems(expr: &str, place: Place<'_>, known: &Known) -> Vec<String> {
    let parsed = match parse(expr) {
        Ok(parsed) => parsed,
        Err(why) => return vec![format!("does not parse: {why}")],
    };
    let mut check =
        Check { known, place, problems: Vec::new(), labels: BTreeSet::new(), used: Vec::new(), free: false };
    let renamed =
        matches!((&parsed, place), (Expr::VectorSelector(_), Place::Recording(name)) if !name.ends_with("_total"));
    check.walk(&parsed, if renamed { Counters::Free } else { Counters::Strict });
    check.grouping();
    check.problems
}

/// Whether the query has a value wherever the platform runs: no metric in it needs hardware, an engine, samples, a foreign
/// process or a mishap.
pub(crate) fn always_there(expr: &str) -> bool {
    let Ok(parsed) = parse(expr) else { return false };
    let mut names = selectors(&parsed).into_iter().map(|selector| selector.name.as_deref().unwrap_or_default());
    names.all(|name| match catalogue::exposing(name) {
        Some(metric) => {
            let exact = metric.samples == 0 || name.ends_with("_samples");
            metric.applies == Applies::Always && exact && metric.name != names::METRIC_CONFLICTS.name
        }
        None => foreign(name).is_some() && !name.starts_with("alertmanager_") && !name.starts_with("log_"),
    })
}

fn parse(expr: &str) -> Result<Expr, String> {
    parser::parse(&expr.replace("$__rate_interval", RATE_INTERVAL.0).replace("$__range", RANGE.0))
}

/// Metrics of the catalogue that the query does not narrow to the job and the instances chosen on the dashboard.
pub(super) fn unchosen(expr: &str) -> Vec<String> {
    let Ok(parsed) = parse(expr) else { return Vec::new() };
    let follows = |selector: &VectorSelector, label: &str| {
        let value = format!("${label}");
        selector.matchers.matchers.iter().any(|matcher| matcher.name == label && matcher.value == value)
    };
    let bare = selectors(&parsed).into_iter().filter_map(|selector| {
        let metric = catalogue::exposing(selector.name.as_deref()?)?;
        let narrowed = follows(selector, "job") && follows(selector, "instance");
        (!narrowed).then(|| format!("{} is not narrowed by $job and $instance", metric.name))
    });
    bare.collect()
}

fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    match expr {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        _ => parts(expr).into_iter().flat_map(selectors).collect(),
    }
}

fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Aggregate(aggregate) => {
            let parameter = aggregate.param.iter().map(AsRef::as_ref);
            parameter.chain([aggregate.expr.as_ref()]).collect()
        }
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Call(call) => call.args.args.iter().map(AsRef::as_ref).collect(),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Vec::new(),
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) | Expr::Extension(_) => Vec::new(),
    }
}

/// How a counter may be looked at here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counters {
    /// Not at all: its level says when the process began.
    Strict,
    /// Under rate and the like, or where only its presence or whether it ever moved counts.
    Free,
}

struct Check<'a> {
    known: &'a Known,
    place: Place<'a>,
    problems: Vec<String>,
    /// Labels that the query groups or joins by.
    labels: BTreeSet<String>,
    used: Vec<&'static [LabelKey]>,
    /// Series whose labels are not known here.
    free: bool,
}

impl Check<'_> {
    fn walk(&mut self, expr: &Expr, counters: Counters) {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector, counters),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs, counters),
            Expr::Call(call) => {
                let function = call.func.name;
                let growth = matches!(function, "rate" | "irate" | "increase" | "resets");
                let presence = matches!(function, "absent" | "absent_over_time" | "present_over_time");
                if growth && let Some(Expr::MatrixSelector(matrix)) = call.args.args.first().map(AsRef::as_ref) {
                    self.interval(function, matrix.range);
                }
                let inside = if growth || presence { Counters::Free } else { counters };
                parts(expr).into_iter().for_each(|part| self.walk(part, inside));
            }
            Expr::Aggregate(aggregate) => {
                self.modifier(aggregate.modifier.as_ref());
                let presence = matches!(aggregate.op.to_string().as_str(), "count" | "group");
                let inside = if presence { Counters::Free } else { counters };
                parts(expr).into_iter().for_each(|part| self.walk(part, inside));
            }
            Expr::Binary(binary) => {
                let operator = binary.op.to_string();
                if let Some(modifier) = &binary.modifier {
                    self.modifier(modifier.matching.as_ref());
                    self.labels.extend(modifier.card.labels().into_iter().flat_map(|labels| labels.labels.clone()));
                }
                // `and` and `unless` ask whether the right side is there; `> 0` asks whether a counter ever moved.
                let presence = matches!(operator.as_str(), "and" | "unless");
                let moved = operator == ">" && matches!(&*binary.rhs, Expr::NumberLiteral(number) if number.val == 0.0);
                self.walk(&binary.lhs, if moved { Counters::Free } else { counters });
                self.walk(&binary.rhs, if presence { Counters::Free } else { counters });
            }
            _ => parts(expr).into_iter().for_each(|part| self.walk(part, counters)),
        }
    }

    /// On a dashboard the zoom decides the interval of a rate; a total is over the range or over whole hours.
    fn interval(&mut self, function: &str, range: Duration) {
        let whole_hours = range >= HOUR && range.as_secs().is_multiple_of(HOUR.as_secs());
        let total = function == "increase" && (range == RANGE.1 || whole_hours);
        if self.place == Place::Dashboard && range != RATE_INTERVAL.1 && !total {
            self.problems.push(format!("{function} is not over $__rate_interval"));
        }
    }

    fn modifier(&mut self, modifier: Option<&LabelModifier>) {
        match modifier {
            Some(LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) => {
                self.labels.extend(labels.labels.iter().cloned());
            }
            None => {}
        }
    }

    fn selector(&mut self, selector: &VectorSelector, counters: Counters) {
        let Some(name) = selector.name.as_deref() else { return self.pattern(selector, counters) };
        let matchers = || selector.matchers.matchers.iter().chain(selector.matchers.or_matchers.iter().flatten());
        if let Some(metric) = catalogue::exposing(name) {
            if counts(metric, name) && counters == Counters::Strict {
                self.problems.push(format!("{name} is a counter and not under rate or increase"));
            }
            matchers().for_each(|matcher| self.matcher(matcher, name, metric));
            self.used.push(metric.labels);
        } else if let Some(labels) = foreign(name) {
            if name.ends_with("_total") && counters == Counters::Strict {
                self.problems.push(format!("{name} is a counter and not under rate or increase"));
            }
            let unknown = matchers()
                .filter(|matcher| !TARGET.contains(&matcher.name.as_str()) && !labels.contains(&matcher.name.as_str()));
            self.problems.extend(unknown.map(|matcher| format!("{name} has no label {}", matcher.name)));
            // Its own labels may be grouped by.
            self.free |= !labels.is_empty();
        } else if self.known.recorded.contains(name) {
            self.free = true;
        } else {
            self.problems.push(format!("{name} is not in the catalogue"));
        }
    }

    /// A selector by `__name__=~"..."` must find something.
    fn pattern(&mut self, selector: &VectorSelector, counters: Counters) {
        let by_name = selector.matchers.matchers.iter().find_map(|matcher| match &matcher.op {
            MatchOp::Re(pattern) if matcher.name == "__name__" => Some(pattern),
            _ => None,
        });
        let Some(pattern) = by_name else { return self.problems.push("a selector names no metric".into()) };
        self.free = true;
        let series =
            catalogue::all().flat_map(|metric| metric.exposed().into_iter().map(move |series| (metric, series)));
        let found: Vec<(&Metric, String)> = series.filter(|(_, series)| pattern.is_match(series)).collect();
        if found.is_empty() {
            self.problems.push("a selector's pattern matches no metric".into());
        }
        if counters == Counters::Strict && found.iter().any(|(metric, series)| counts(metric, series)) {
            self.problems.push("a selector's pattern finds counters that are not under rate or increase".into());
        }
    }

    fn matcher(&mut self, matcher: &Matcher, name: &str, metric: &Metric) {
        let label = matcher.name.as_str();
        if TARGET.contains(&label) || (label == "le" && name.ends_with("_bucket")) {
            return;
        }
        let Some(key) = metric.labels.iter().find(|key| key.name == label) else {
            return self.problems.push(format!("{name} has no label {label}"));
        };
        let Some(values) = key.closed().filter(|_| !matcher.value.is_empty() && !matcher.value.contains('$')) else {
            return;
        };
        let possible = match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => values.contains(&matcher.value.as_str()),
            MatchOp::Re(pattern) | MatchOp::NotRe(pattern) => values.iter().any(|value| pattern.is_match(value)),
        };
        if !possible {
            self.problems.push(format!("{name}{{{label}}} is never {:?}", matcher.value));
        }
    }

    /// Labels of grouping and joining are those of some series in the query.
    fn grouping(&mut self) {
        if self.free {
            return;
        }
        let own: BTreeSet<&str> = self.used.iter().flat_map(|keys| keys.iter().map(|key| key.name)).collect();
        let known = |label: &str| {
            TARGET.contains(&label) || label == "le" || own.contains(label) || self.known.labels.contains(label)
        };
        let unknown: Vec<String> = self.labels.iter().filter(|label| !known(label)).cloned().collect();
        self.problems.extend(unknown.into_iter().map(|label| format!("no series of the query has a label {label}")));
    }
}

fn counts(metric: &Metric, series: &str) -> bool {
    match metric.kind {
        Kind::Counter => series == metric.name,
        Kind::Histogram(_) => !series.ends_with("_samples"),
        Kind::Gauge => false,
    }
}
