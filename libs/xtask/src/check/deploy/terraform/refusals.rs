//! What must not pass: each is put into the copy, refused with the right words, and taken out again.

use super::Terraform;
use crate::check::process::said;
use anyhow::{Context as _, bail};
use std::fs;

struct Wrong {
    what: &'static str,
    file: &'static str,
    /// What stands there, and what takes its place.
    change: (&'static str, &'static str),
    folder: &'static str,
    by: By,
    words: &'static str,
}

enum By {
    Validate,
    Test,
}

const WRONG: [Wrong; 10] = [
    Wrong {
        what: "a misspelt argument of a nested block",
        file: "modules/streaming/main.tf",
        change: ("client_broker = \"TLS\"", "client_brokers = \"TLS\""),
        folder: "modules/streaming",
        by: By::Validate,
        words: "Unsupported argument",
    },
    Wrong {
        what: "a missing argument of a nested block",
        file: "modules/streaming/main.tf",
        change: ("    instance_type   = var.broker_type\n", ""),
        folder: "modules/streaming",
        by: By::Validate,
        words: "Missing required argument",
    },
    Wrong {
        what: "an unknown block in a nested block",
        file: "modules/cluster/main.tf",
        change: ("    provider {\n      key_arn", "    keys {\n      key_arn"),
        folder: "modules/cluster",
        by: By::Validate,
        words: "Unsupported block type",
    },
    Wrong {
        what: "a second block where there may be one",
        file: "modules/cluster/main.tf",
        change: ("  zonal_shift_config {", "  zonal_shift_config {}\n  zonal_shift_config {"),
        folder: "modules/cluster",
        by: By::Validate,
        words: "Too many zonal_shift_config blocks",
    },
    Wrong {
        what: "a word where a number belongs",
        file: "modules/streaming/main.tf",
        change: ("number_of_broker_nodes = var.brokers", "number_of_broker_nodes = \"many\""),
        folder: "modules/streaming",
        by: By::Validate,
        words: "a number is required",
    },
    Wrong {
        what: "an attribute that only the provider gives",
        file: "modules/network/main.tf",
        change: ("  enable_dns_support   = true", "  enable_dns_support   = true\n  arn = \"a\""),
        folder: "modules/network",
        by: By::Validate,
        words: "Value for a read-only attribute",
    },
    Wrong {
        what: "a type that the provider does not have",
        file: "modules/network/main.tf",
        change: ("resource \"aws_flow_log\" \"this\"", "resource \"aws_flow_logs\" \"this\""),
        folder: "modules/network",
        by: By::Validate,
        words: "Invalid resource type",
    },
    Wrong {
        what: "four brokers",
        file: "modules/streaming/tests/streaming.tftest.hcl",
        change: ("  key_arn    = ", "  brokers    = 4\n  key_arn    = "),
        folder: "modules/streaming",
        by: By::Test,
        words: "brokers must be a multiple of 3",
    },
    Wrong {
        what: "a drained region that takes visitors",
        file: "modules/global-entry/main.tf",
        change: ("traffic_dial_percentage       = each.value.dial", "traffic_dial_percentage       = 100"),
        folder: "modules/global-entry",
        by: By::Test,
        words: "a drained region still takes visitors",
    },
    Wrong {
        what: "regions that cannot lose one",
        file: "modules/sizing/main.tf",
        change: ("max(1, var.regions - 1)", "var.regions"),
        folder: "modules/sizing",
        by: By::Test,
        words: "one of three regions away each carries 3,750 pages a second",
    },
];

pub(super) fn run(terraform: &Terraform) -> anyhow::Result<String> {
    for wrong in &WRONG {
        let at = terraform.tree().join(wrong.file);
        let right = fs::read_to_string(&at).with_context(|| format!("read {}", wrong.file))?;
        let (from, to) = wrong.change;
        if right.matches(from).count() != 1 {
            bail!("{} does not have once what {} changes", wrong.file, wrong.what);
        }
        fs::write(&at, right.replacen(from, to, 1)).with_context(|| format!("write {}", wrong.file))?;
        let outcome = match wrong.by {
            By::Validate => said(&mut terraform.terraform(wrong.folder, &["validate"]), "validate").map(drop),
            By::Test => terraform.test(wrong.folder).map(drop),
        };
        fs::write(&at, right).with_context(|| format!("restore {}", wrong.file))?;
        let words = outcome.err().with_context(|| format!("{} passes", wrong.what))?.to_string();
        if !plain(&words).contains(wrong.words) {
            bail!("{} is refused for another reason: {words}", wrong.what);
        }
    }
    unmocked(terraform)?;
    Ok(format!("{} mistakes, each refused by its name", WRONG.len() + 1))
}

/// The provider of schemas pretends nothing: without mocks there is no plan.
fn unmocked(terraform: &Terraform) -> anyhow::Result<()> {
    let mut plan = terraform.terraform("examples/minimal-1-region", &["plan", "-input=false", "-lock=false"]);
    let words = said(&mut plan, "plan").err().context("a plan without mocks passes")?.to_string();
    if !plain(&words).contains("This provider is a schema and nothing else") {
        bail!("a plan without mocks is refused for another reason: {words}");
    }
    Ok(())
}

/// Without the frame and the line breaks that Terraform puts around its words.
fn plain(words: &str) -> String {
    words.replace(['│', '╷', '╵'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}
