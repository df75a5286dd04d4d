//! Exposition of one or more services' registries: Prometheus text, and OpenMetrics with exemplars.

use crate::Telemetry;
use crate::metrics::Exemplar;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// What the `Accept` header asks for; text unless OpenMetrics is named.
    pub fn of_accept(accept: &str) -> Self {
        let asks = |part: &str| part.trim_start().starts_with("application/openmetrics-text");
        if accept.split(',').any(asks) { Self::OpenMetrics } else { Self::Text }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything the given services expose. A name that several of them have gets a `service` label.
pub fn encode(services: &[Telemetry], format: Format) -> String {
    let mut families: BTreeMap<String, Vec<(&Telemetry, MetricFamily)>> = BTreeMap::new();
    for service in services {
        for family in service.registry().gather() {
            families.entry(family.name().to_owned()).or_default().push((service, family));
        }
    }
    let mut out = String::with_capacity(64 << 10);
    for (name, parts) in &families {
        write_family(&mut out, name, parts, format);
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_family(out: &mut String, name: &str, parts: &[(&Telemetry, MetricFamily)], format: Format) {
    let Some((_, first)) = parts.first() else { return };
    let kind = first.get_field_type();
    // OpenMetrics names a counter's family without `_total`, and knows no counter without it.
    let (family, kind_name) = match (format, kind) {
        (Format::Text, MetricType::COUNTER) => (name, "counter"),
        (Format::OpenMetrics, MetricType::COUNTER) => match name.strip_suffix("_total") {
            Some(family) => (family, "counter"),
            None => (name, "unknown"),
        },
        (_, MetricType::GAUGE) => (name, "gauge"),
        (_, MetricType::HISTOGRAM) => (name, "histogram"),
        (_, MetricType::SUMMARY) => (name, "summary"),
        (Format::Text, MetricType::UNTYPED) => (name, "untyped"),
        (Format::OpenMetrics, MetricType::UNTYPED) => (name, "unknown"),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# HELP {family} {}", escaped(first.help(), format == Format::OpenMetrics));
    let _ = writeln!(out, "# TYPE {family} {kind_name}");
    for (service, part) in parts.iter().filter(|(_, part)| part.get_field_type() == kind) {
        let extra = (parts.len() > 1).then(|| service.info().service);
        for metric in part.get_metric() {
            write_metric(out, name, metric, kind, extra, service, format);
        }
    }
}

fn write_metric(
    out: &mut String,
    name: &str,
    metric: &Metric,
    kind: MetricType,
    service_label: Option<&'static str>,
    service: &Telemetry,
    format: Format,
) {
    let labels = metric.get_label();
    let mut sample = |suffix: &str, extra: Option<(&str, String)>, value: f64, exemplar: Option<Exemplar>| {
        let _ = write!(out, "{name}{suffix}");
        write_labels(out, labels, service_label, extra);
        let _ = write!(out, " {}", number(value));
        if let (Format::OpenMetrics, Some(exemplar)) = (format, exemplar) {
            let seconds = exemplar.at as f64 / 1e3;
            let span_id = u64::from_be_bytes(exemplar.span_id);
            let _ = write!(
                out,
                " # {{trace_id=\"{}\",span_id=\"{span_id:016x}\"}} {} {seconds:.3}",
                exemplar.trace_id,
                number(exemplar.value)
            );
        }
        out.push('\n');
    };
    match kind {
        MetricType::COUNTER => sample("", None, metric.get_counter().get_value(), None),
        MetricType::GAUGE => sample("", None, metric.get_gauge().get_value(), None),
        // The registry's crate has no way to make one.
        MetricType::UNTYPED => {}
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let exemplars = match format {
                Format::OpenMetrics => exemplars(service, name, labels),
                Format::Text => Vec::new(),
            };
            let exemplar = |index: usize| exemplars.get(index).copied().flatten();
            for (index, bucket) in histogram.get_bucket().iter().enumerate() {
                let le = bound(bucket.upper_bound(), format);
                sample("_bucket", Some(("le", le)), bucket.cumulative_count() as f64, exemplar(index));
            }
            let last = exemplar(histogram.get_bucket().len());
            let count = histogram.get_sample_count() as f64;
            sample("_bucket", Some(("le", "+Inf".into())), count, last);
            sample("_sum", None, histogram.get_sample_sum(), None);
            sample("_count", None, count, None);
        }
        MetricType::SUMMARY => {
            let summary = metric.get_summary();
            for quantile in summary.get_quantile() {
                let text = bound(quantile.quantile(), format);
                sample("", Some(("quantile", text)), quantile.value(), None);
            }
            sample("_sum", None, summary.sample_sum(), None);
            sample("_count", None, summary.sample_count() as f64, None);
        }
    }
}

fn exemplars(service: &Telemetry, name: &str, labels: &[LabelPair]) -> Vec<Option<Exemplar>> {
    let Some(family) = service.metrics().histogram_family(name) else { return Vec::new() };
    let value = |wanted: &String| labels.iter().find(|label| label.name() == wanted).map_or("", LabelPair::value);
    let values: Vec<&str> = family.labels().iter().map(value).collect();
    family.exemplars(&values)
}

fn write_labels(out: &mut String, labels: &[LabelPair], service: Option<&str>, extra: Option<(&str, String)>) {
    let own = labels.iter().map(|label| (label.name(), label.value()));
    let service = service.filter(|_| labels.iter().all(|label| label.name() != "service"));
    let all = own.chain(service.map(|service| ("service", service)));
    let all = all.chain(extra.as_ref().map(|(name, value)| (*name, value.as_str())));
    let mut open = false;
    for (name, value) in all {
        out.push(if open { ',' } else { '{' });
        open = true;
        let _ = write!(out, "{name}=\"{}\"", escaped(value, true));
    }
    if open {
        out.push('}');
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

/// OpenMetrics writes bounds as floats (`1.0`), the text format as they come (`1`).
fn bound(value: f64, format: Format) -> String {
    match format {
        Format::OpenMetrics if value.is_finite() => format!("{value:?}"),
        _ => number(value),
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}
