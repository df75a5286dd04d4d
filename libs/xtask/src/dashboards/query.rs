//! PromQL over entries of the catalogue, narrowed to what the dashboard's variables choose.

use attune_telemetry::catalogue::{Entry, Metric};
use attune_telemetry::{Counter, Estimate, Gauge, Histogram};

/// Matchers that hold for every query. `All` is `.*`, which also matches series without the label.
const CHOSEN: &str = r#"region=~"$region", job=~"$job", instance=~"$instance""#;

/// The series of a metric; `matchers` as in PromQL, empty for all.
pub(super) fn series(metric: &Metric, suffix: &str, matchers: &str) -> String {
    let pop = metric.labels.iter().any(|label| label.name == "pop").then_some(r#"pop=~"$pop""#);
    let own = Some(matchers).filter(|matchers| !matchers.is_empty());
    let all: Vec<&str> = [Some(CHOSEN), pop, own].into_iter().flatten().collect();
    format!("{}{suffix}{{{}}}", metric.name, all.join(", "))
}

/// Targets as Prometheus sees them.
pub(super) fn up(jobs: &str) -> String {
    format!(r#"up{{region=~"$region", job=~"{jobs}", instance=~"$instance"}}"#)
}

pub(super) fn aggregate(function: &str, by: &str, inner: &str) -> String {
    match by {
        "" => format!("{function}({inner})"),
        by => format!("{function} by ({by}) ({inner})"),
    }
}

pub(super) fn rate(counter: &Entry<Counter>, by: &str, matchers: &str) -> String {
    aggregate("sum", by, &format!("rate({}[$__rate_interval])", series(counter, "", matchers)))
}

/// Growth over a fixed window, as `1d`.
pub(super) fn increase(counter: &Entry<Counter>, window: &str, by: &str, matchers: &str) -> String {
    aggregate("sum", by, &format!("increase({}[{window}])", series(counter, "", matchers)))
}

/// Share of a counter's growth that the matchers pick.
pub(super) fn share(counter: &Entry<Counter>, by: &str, part: &str, whole: &str) -> String {
    format!("{} / {}", rate(counter, by, part), rate(counter, by, whole))
}

pub(super) fn quantile(q: f64, histogram: &Entry<Histogram>, by: &str, matchers: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    let buckets = format!("rate({}[$__rate_interval])", series(histogram, "_bucket", matchers));
    format!("histogram_quantile({q}, {})", aggregate("sum", &by, &buckets))
}

pub(super) fn mean(histogram: &Entry<Histogram>, by: &str, matchers: &str) -> String {
    let part =
        |suffix| aggregate("sum", by, &format!("rate({}[$__rate_interval])", series(histogram, suffix, matchers)));
    format!("{} / {}", part("_sum"), part("_count"))
}

pub(super) fn gauge(function: &str, gauge: &Entry<Gauge>, by: &str, matchers: &str) -> String {
    aggregate(function, by, &series(gauge, "", matchers))
}

pub(super) fn estimate(estimate: &Entry<Estimate>) -> String {
    series(estimate, "", "")
}

/// The query as it is when everything is chosen, for asking Prometheus without Grafana.
pub(super) fn filled_in(expr: &str) -> String {
    let everything = ["$region", "$job", "$instance", "$pop"]
        .iter()
        .fold(expr.to_owned(), |expr, variable| expr.replace(&format!("\"{variable}\""), "\".*\""));
    everything.replace("$__rate_interval", "1m").replace("$__range", "1h")
}
