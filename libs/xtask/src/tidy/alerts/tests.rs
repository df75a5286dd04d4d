use super::*;

/// A kit of one alert, with nothing to find fault with.
fn sound() -> Kit {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let rule = Rule {
        alert: Some("Broken".into()),
        expr: "rate(x_bucket[5m]) > 1".into(),
        labels: pairs(&[("severity", "critical"), ("service", "edge")]),
        annotations: pairs(&[
            ("summary", "s"),
            ("description", "d"),
            ("runbook_url", "docs/runbooks/Broken.md"),
            ("dashboard", "operations"),
            ("panel", "Error Rate"),
        ]),
        ..Rule::default()
    };
    let check = |samples: usize| Check {
        expr: r#"count(ALERTS{alertname="Broken"})"#.into(),
        exp_samples: (0..samples).map(|_| Sample {}).collect(),
    };
    let test = |name: &str, checks: &[usize]| Test {
        name: name.into(),
        promql_expr_test: checks.iter().map(|&samples| check(samples)).collect(),
    };
    let runbook = "# Broken\n## Meaning\n## Impact\n## Diagnosis\nsee *Error Rate*\n## Resolution\n## Escalation\n";
    Kit {
        rules: vec![rule],
        tests: vec![
            test("Broken: quiet, fires, alone, resets", &[0, 1, 0]),
            test("Broken: absent in one region", &[1]),
        ],
        runbooks: [("Broken".to_owned(), runbook.to_owned())].into(),
        index: "- [Broken](Broken.md)".into(),
    }
}

#[track_caller]
fn finds(change: impl FnOnce(&mut Kit), wanted: &str) {
    let mut kit = sound();
    change(&mut kit);
    let found = of_kit(&kit);
    assert!(found.iter().any(|problem| problem == wanted), "{wanted:?} is not among {found:#?}");
}

#[test]
fn nothing_is_found_in_a_sound_kit() {
    assert_eq!(of_kit(&sound()), Vec::<String>::new());
}

#[test]
fn a_missing_runbook_is_found() {
    finds(|kit| kit.runbooks.clear(), "Broken: docs/runbooks/Broken.md is missing");
    finds(|kit| kit.index.clear(), "Broken: docs/runbooks/README.md does not link its runbook");
}

#[test]
fn a_runbook_of_no_alert_is_found() {
    finds(
        |kit| drop(kit.runbooks.insert("Gone".into(), "# Gone".into())),
        "docs/runbooks/Gone.md: no alert has this name",
    );
}

#[test]
fn an_incomplete_runbook_is_found() {
    let changed = |from: &'static str, to: &'static str| {
        move |kit: &mut Kit| kit.runbooks.values_mut().for_each(|text| *text = text.replace(from, to))
    };
    finds(changed("# Broken", "# Other"), "docs/runbooks/Broken.md: the first line must be `# Broken`");
    finds(changed("*Error Rate*", "it"), "docs/runbooks/Broken.md: the panel *Error Rate* is not named");
    finds(changed("## Impact\n", ""), "docs/runbooks/Broken.md: `## Impact` is missing");
}

#[test]
fn an_incomplete_rule_is_found() {
    let without = |key: &'static str| {
        move |kit: &mut Kit| {
            kit.rules[0].labels.remove(key);
            kit.rules[0].annotations.remove(key);
        }
    };
    finds(without("severity"), "Broken: severity must be one of critical, warning, info, none");
    finds(without("service"), "Broken: the label service is missing");
    finds(without("summary"), "Broken: the annotation summary is missing");
    finds(without("runbook_url"), "Broken: runbook_url must be docs/runbooks/Broken.md");
}

#[test]
fn a_missing_test_is_found() {
    finds(|kit| kit.tests.truncate(1), "Broken: no test shows absent");
    finds(|kit| kit.tests.clear(), "Broken: no test shows quiet, fires, alone, resets, absent");
}

#[test]
fn a_test_that_asserts_nothing_of_what_it_claims_is_found() {
    let silent = |kit: &mut Kit| kit.tests[0].promql_expr_test.iter_mut().for_each(|check| check.exp_samples.clear());
    finds(silent, "Broken: no test shows fires, alone");
}

#[test]
fn a_histogram_is_not_shadowed() {
    let record = |kit: &mut Kit| kit.rules.push(Rule { record: Some("x".into()), ..Rule::default() });
    finds(record, "x: recorded under the name of a histogram");
}
