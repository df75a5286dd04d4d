//! A walk as it is watched: a few lines that are redrawn on a terminal, plain lines elsewhere, or lines of JSON.

use super::arms::Arm;
use super::report::{Example, Truth, WalkReport};
use crate::output::{note, print_json};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

pub(crate) enum View {
    Json,
    Plain,
    Quiet,
    /// A line each; indicatif cuts them at the terminal's width.
    Terminal {
        all: MultiProgress,
        lines: Vec<ProgressBar>,
    },
}

impl View {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if json {
            Self::Json
        } else if std::io::stderr().is_terminal() {
            Self::Terminal { all: MultiProgress::new(), lines: Vec::new() }
        } else {
            Self::Plain
        }
    }

    pub(crate) fn period(&self) -> Duration {
        match self {
            Self::Terminal { .. } => Duration::from_millis(500),
            Self::Json | Self::Plain | Self::Quiet => Duration::from_secs(5),
        }
    }

    pub(crate) fn show(&mut self, report: &WalkReport) -> anyhow::Result<()> {
        match self {
            Self::Json => return print_json(&serde_json::json!({ "event": "walking", "walk": report })),
            Self::Plain => note(&line(report)),
            Self::Quiet => {}
            Self::Terminal { all, lines } => {
                let text: Vec<String> = table(report).lines().map(str::to_owned).collect();
                while lines.len() < text.len() {
                    let style =
                        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
                    lines.push(all.add(ProgressBar::new_spinner().with_style(style)));
                }
                let rest = std::iter::repeat(String::new());
                lines.iter().zip(text.into_iter().chain(rest)).for_each(|(bar, text)| bar.set_message(text));
            }
        }
        Ok(())
    }

    /// Takes the live lines away: the report follows.
    pub(crate) fn end(&mut self) {
        if let Self::Terminal { all, lines } = self {
            lines.iter().for_each(ProgressBar::finish_and_clear);
            // A terminal that cannot be cleared keeps the last lines, which are true.
            let _ = all.clear();
        }
    }
}

/// The walk in one line.
fn line(report: &WalkReport) -> String {
    let errors: u64 = report.errors.values().sum();
    let known = report.truth.now.or(report.truth.overall).map_or("-".to_owned(), |t| percent(t.known));
    format!(
        "{:>6.0} s  {} answers, {errors} errors, hits {}, p50 {}, p99 {}, ctr {} (holdout {}), known {known}",
        report.seconds,
        report.answers,
        optional_percent(report.hit_share),
        millis(report.latency.p50_ms),
        millis(report.latency.p99_ms),
        optional_percent(report.treatment.ctr),
        optional_percent(report.holdout.ctr),
    )
}

/// The whole walk as text.
pub(crate) fn table(report: &WalkReport) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let rate = if report.seconds > 0.0 { report.answers as f64 / report.seconds } else { 0.0 };
    rows.push((
        "walk",
        format!("{:.0} s, {} visitors, {} answers ({rate:.1}/s)", report.seconds, report.visitors, report.answers),
    ));
    rows.push(("model", report.model_versions.join(", ")));
    rows.push(("errors", errors(report)));
    rows.push(("latency", format!("p50 {}, p99 {}", millis(report.latency.p50_ms), millis(report.latency.p99_ms))));
    rows.push(("edge hits", optional_percent(report.hit_share)));
    rows.push(("levels", levels(report)));
    rows.push((
        "feedback",
        format!(
            "{} events: {} accepted, {} duplicates, {} rejected, {} lost",
            report.feedback.events,
            report.feedback.accepted,
            report.feedback.duplicates,
            report.feedback.rejected,
            report.feedback.lost
        ),
    ));
    if report.unknown_items > 0 {
        rows.push(("unknown", format!("{} of the shown items are not of this world", report.unknown_items)));
    }
    rows.push(("treatment", arm(&report.treatment)));
    rows.push(("holdout", arm(&report.holdout)));
    rows.push((
        "lift",
        match (&report.lift, &report.lift_absent) {
            (Some(lift), _) => {
                format!(
                    "{:+.1} % (95 % interval {:+.1} to {:+.1} %)",
                    lift.value * 100.0,
                    lift.low * 100.0,
                    lift.high * 100.0
                )
            }
            (None, why) => format!("not yet: {}", why.as_deref().unwrap_or("too few samples")),
        },
    ));
    let window = report.truth.window_seconds;
    rows.push(("truth", truth("overall", report.truth.overall.as_ref())));
    rows.push(("", truth(&format!("first {window:.0} s"), report.truth.first.as_ref())));
    rows.push(("", truth(&format!("last {window:.0} s"), report.truth.now.as_ref())));
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    report.examples.iter().for_each(|e| text.push_str(&format!("{}\n", example(e))));
    text.trim_end().to_owned()
}

fn errors(report: &WalkReport) -> String {
    if report.errors.is_empty() {
        return "none".to_owned();
    }
    report.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

fn levels(report: &WalkReport) -> String {
    let share = |count: u64| count as f64 / report.answers.max(1) as f64;
    let some = report.levels.iter().enumerate().filter(|(_, count)| **count > 0);
    let text: Vec<String> = some.map(|(level, &count)| format!("{level}: {}", percent(share(count)))).collect();
    if text.is_empty() { "-".to_owned() } else { text.join("  ") }
}

fn arm(arm: &Arm) -> String {
    format!(
        "ctr {} ({} clicks of {} slots, {} visitors, {} conversions), expected {}",
        optional_percent(arm.ctr),
        arm.clicks,
        arm.impressions,
        arm.visitors,
        arm.conversions,
        optional_percent(arm.expected_ctr)
    )
}

fn truth(name: &str, truth: Option<&Truth>) -> String {
    match truth {
        Some(truth) => format!(
            "{name:<11} shown {} between random {} and oracle {}: {} of what there is to know ({} visits)",
            percent(truth.shown),
            percent(truth.random),
            percent(truth.oracle),
            percent(truth.known),
            truth.samples
        ),
        None => format!("{name:<11} not yet"),
    }
}

fn example(example: &Example) -> String {
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!(
        "{} ({}, likes {}), visit {}: shown {}; clicked {}",
        example.visitor,
        if example.known_to_history { example.variant.to_owned() } else { format!("new, {}", example.variant) },
        list(&example.likes),
        example.visits,
        list(&example.shown),
        list(&example.clicked)
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn optional_percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), percent)
}

fn millis(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"))
}
