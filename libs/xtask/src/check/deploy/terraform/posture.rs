//! checkov's rules over the modules; what is left out is in `terraform/checkov.yaml`, with reasons.

use super::Terraform;
use crate::tools::terraform as tools;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) fn run(terraform: &Terraform) -> anyhow::Result<String> {
    let checkov = tools::checkov(&crate::tools::folder()?)?;
    let settings = terraform.root.join("terraform/checkov.yaml");
    let (passed, failed) = judge(&checkov, &settings, &terraform.tree())?;
    if !failed.is_empty() {
        bail!("{} findings:\n{}", failed.len(), failed.join("\n"));
    }
    if passed < 100 {
        bail!("only {passed} rules were applied: checkov does not see the modules");
    }
    // The same with brokers that speak in the clear.
    let at = terraform.tree().join("modules/streaming/main.tf");
    let right = fs::read_to_string(&at).context("read the brokers")?;
    let wrong = right.replacen("client_broker = \"TLS\"", "client_broker = \"PLAINTEXT\"", 1);
    if wrong == right {
        bail!("the brokers' encryption is not where it was");
    }
    fs::write(&at, wrong).context("write the brokers")?;
    let judged = judge(&checkov, &settings, &terraform.tree().join("modules/streaming"));
    fs::write(&at, right).context("restore the brokers")?;
    if judged?.1.is_empty() {
        bail!("checkov takes brokers that speak in the clear");
    }
    Ok(format!("{passed} passed; brokers in the clear are refused"))
}

/// How many rules passed, and what failed.
fn judge(checkov: &Path, settings: &Path, folder: &Path) -> anyhow::Result<(u64, Vec<String>)> {
    let mut command = Command::new(checkov);
    command.arg("--config-file").arg(settings).arg("--directory").arg(folder).stdin(Stdio::null());
    let output = command.output().context("start checkov")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .with_context(|| format!("read checkov's report: {}", String::from_utf8_lossy(&output.stderr)))?;
    let passed = report["summary"]["passed"].as_u64().context("count what passed")?;
    // A file that it cannot read is one that it does not judge. Tests are none of its business.
    let unread = report["results"]["parsing_errors"].as_array().context("list what was not read")?;
    if let Some(file) = unread.iter().filter_map(Value::as_str).find(|file| file.ends_with(".tf")) {
        bail!("checkov cannot read {file}");
    }
    let failed = report["results"]["failed_checks"].as_array().context("list what failed")?;
    let line = |check: &Value| {
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}: {}", text("check_id"), text("file_path"), text("resource"), text("check_name"))
    };
    Ok((passed, failed.iter().map(line).collect()))
}
