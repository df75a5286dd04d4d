//! What a drill did and saw, for people and for programs.

use crate::output;
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something the drill did.
    Did,
    /// Something it saw.
    Saw,
    /// The alert's expression became true.
    Alert,
    Cause,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Did => "did",
            Self::Saw => "saw",
            Self::Alert => "ALERT",
            Self::Cause => "CAUSE",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// Since the drill began.
    pub(crate) seconds: f64,
    /// Since the failure began.
    pub(crate) after: Option<f64>,
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct AlertReport {
    pub(crate) name: String,
    pub(crate) severity: String,
    pub(crate) service: String,
    /// As Prometheus loaded it.
    pub(crate) expression: String,
    /// What was evaluated, where its time was shortened.
    pub(crate) shortened: Option<String>,
    pub(crate) divisor: u32,
    /// How long it has to be true before it fires; a drill does not wait for that.
    pub(crate) for_seconds: f64,
    /// What Prometheus made of the unshortened rule by then.
    pub(crate) state: String,
    /// Since the failure began.
    pub(crate) true_after: Option<f64>,
    pub(crate) runbook: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DrillReport {
    pub(crate) drill: &'static str,
    pub(crate) passed: bool,
    pub(crate) seconds: f64,
    pub(crate) alerts: Vec<AlertReport>,
    /// What the signals point at.
    pub(crate) cause: Option<String>,
    /// What was broken.
    pub(crate) truth: String,
    pub(crate) evidence: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

impl DrillReport {
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::print_json(&serde_json::json!({ "event": "drilled", "report": self }));
        }
        output::print(self.text().trim_end())
    }

    fn text(&self) -> String {
        let mut text = format!("drill {}\n\n      at   after\n", self.drill);
        for step in &self.steps {
            let after = step.after.map_or(String::new(), |after| format!("{after:.1} s"));
            let _infallible = writeln!(
                text,
                "{:>6.1} s {after:>7}  {:<5}  {}",
                step.seconds,
                step.kind.as_str(),
                step.what.replace('\n', "\n                         ")
            );
        }
        text.push('\n');
        for alert in &self.alerts {
            let when = match alert.true_after {
                Some(after) => format!("its expression was true {after:.1} s after the failure began"),
                None => "its expression did not become true".to_owned(),
            };
            let _infallible = writeln!(
                text,
                "alert    {} ({}, {}): {when}; it would fire {} s later; Prometheus calls the rule {}",
                alert.name, alert.severity, alert.service, alert.for_seconds, alert.state
            );
            if let Some(shortened) = &alert.shortened {
                let _infallible = writeln!(
                    text,
                    "         evaluated with its ranges and offsets divided by {}: {}",
                    alert.divisor,
                    shortened.split_whitespace().collect::<Vec<_>>().join(" ")
                );
            }
            let _infallible = writeln!(text, "runbook  {}", alert.runbook);
        }
        let cause = self.cause.as_deref().unwrap_or("not found");
        let _infallible = writeln!(text, "cause    {cause}\nbroken   {}", self.truth);
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let _infallible = writeln!(text, "{verdict}   in {:.0} s", self.seconds);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_that_failed_says_so() {
        let alert = AlertReport {
            name: "FeatureDrift".into(),
            severity: "warning".into(),
            service: "ranking".into(),
            expression: "a[5m]".into(),
            shortened: Some("a[30s]".into()),
            divisor: 10,
            for_seconds: 300.0,
            state: "inactive".into(),
            true_after: None,
            runbook: "docs/runbooks/FeatureDrift.md".into(),
        };
        let step = Step { seconds: 3.0, after: Some(1.25), kind: Kind::Saw, what: "CTR fell".into() };
        let mut report = DrillReport {
            drill: "silent-drift",
            passed: false,
            seconds: 12.0,
            alerts: vec![alert],
            cause: None,
            truth: "x".into(),
            evidence: Vec::new(),
            steps: vec![step],
        };
        let text = report.text();
        for part in ["FAILED", "did not become true", "divided by 10: a[30s]", "cause    not found", "1.2 s  saw"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        report.passed = true;
        report.alerts[0].true_after = Some(4.0);
        assert!(report.text().contains("true 4.0 s after") && report.text().contains("passed"));
    }
}
