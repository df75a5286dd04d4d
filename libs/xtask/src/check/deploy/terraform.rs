//! The Terraform modules. For the cloud: formatted, checked against the AWS provider's schema and tested with mocked
//! resources, never applied. For Kubernetes: applied to a real API server.
//!
//! Everything happens in a copy, so that the checkout has no lock files, plugins or states afterwards.

mod edge;
mod platform;
mod posture;
mod refusals;
mod values;

use super::Steps;
use crate::check::process::said;
use crate::tools::terraform as tools;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What tests ran, and the outputs that they left.
#[derive(Debug, Default)]
struct Tested {
    runs: u64,
    outputs: Vec<Value>,
}

struct Terraform {
    root: PathBuf,
    program: PathBuf,
    work: tempfile::TempDir,
}

pub(super) fn run(steps: &mut Steps, root: &Path) {
    let Some(terraform) = steps.take("terraform: tools", || Terraform::prepare(root)) else { return };
    steps.check("terraform: schema", || terraform.mirror());
    steps.check("terraform: fmt -check", || terraform.formatted());
    steps.check("terraform: states and secrets", || terraform.states());
    let Some(folders) = steps.take("terraform: init and validate", || terraform.validated()) else { return };
    let tested = steps.take("terraform: test", || terraform.tested(&folders));
    steps.check("terraform: refusals", || refusals::run(&terraform));
    if let Some(tested) = tested {
        steps.check("terraform: values of the chart", || values::run(&terraform, &tested));
    }
    steps.check("terraform: settings of an edge", || edge::run(&terraform));
    steps.check("terraform: checkov", || posture::run(&terraform));
    steps.check("terraform: apply to Kubernetes", || platform::run(&terraform));
}

impl Terraform {
    fn prepare(root: &Path) -> anyhow::Result<(Self, String)> {
        let (program, version) = tools::terraform()?;
        let root = root.canonicalize().context("find the checkout")?;
        let work = tempfile::tempdir().context("create a folder")?;
        copy(&root.join("terraform"), &work.path().join("terraform"))?;
        Ok((Self { root, program, work }, format!("terraform {version}")))
    }

    fn tree(&self) -> PathBuf {
        self.work.path().join("terraform")
    }

    fn terraform(&self, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.tree().join(folder)).args(arguments).arg("-no-color");
        command.env("TF_CLI_CONFIG_FILE", self.work.path().join("terraform.rc"));
        command.env("TF_IN_AUTOMATION", "1").env("CHECKPOINT_DISABLE", "1");
        for variable in ["TF_DATA_DIR", "TF_WORKSPACE", "TF_CLI_ARGS"] {
            command.env_remove(variable);
        }
        command
    }

    /// Providers in a folder of the form that Terraform looks for: AWS as a schema, Kubernetes' as it is.
    fn mirror(&self) -> anyhow::Result<String> {
        let cache = crate::tools::folder()?;
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        let package = self.work.path().join("package");
        let wanted = self.types()?;
        unpack(&tools::schemas(&cache)?, &package, &wanted)?;
        let mut derive = Command::new("node");
        derive.arg(self.root.join("terraform/stub/schema.mjs")).arg(&package).args(&wanted);
        let schema = said(&mut derive, "read the schema")?;
        let read: Value = serde_json::from_str(&schema).context("read the schema")?;
        if read["unknown"].as_array().is_none_or(|unknown| !unknown.is_empty()) {
            bail!("the provider has no {}", read["unknown"]);
        }
        let version = read["version"].as_str().context("find the provider's version")?;
        let mirror = self.work.path().join("mirror/registry.terraform.io");
        let aws = mirror.join(format!("hashicorp/aws/{version}/linux_amd64"));
        place(&tools::stub(&self.root, &cache)?, &aws, &format!("terraform-provider-aws_v{version}"))?;
        fs::write(aws.join("schema.json"), &schema).context("write the schema")?;
        let kubectl = mirror.join(format!("gavinbunney/kubectl/{}/linux_amd64", tools::KUBECTL));
        place(&tools::kubectl(&cache)?, &kubectl, &format!("terraform-provider-kubectl_v{}", tools::KUBECTL))?;
        let path = self.work.path().join("mirror");
        let settings = format!("provider_installation {{\n  filesystem_mirror {{\n    path = {path:?}\n  }}\n}}\n");
        fs::write(self.work.path().join("terraform.rc"), settings).context("write Terraform's settings")?;
        Ok(format!("{} types of AWS provider {version}", wanted.len()))
    }

    /// What the modules make and ask for, as `resource:TYPE` and `data:TYPE`.
    fn types(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut types = BTreeSet::new();
        for file in files(&self.tree(), "tf")? {
            for line in fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?.lines() {
                for kind in ["resource", "data"] {
                    let named = line.strip_prefix(kind).and_then(|rest| rest.trim_start().strip_prefix('"'));
                    if let Some((name, _)) =
                        named.and_then(|rest| rest.split_once('"')).filter(|(name, _)| name.starts_with("aws_"))
                    {
                        types.insert(format!("{kind}:{name}"));
                    }
                }
            }
        }
        Ok(types)
    }

    fn formatted(&self) -> anyhow::Result<String> {
        said(&mut self.terraform("", &["fmt", "-check", "-recursive"]), "terraform fmt")?;
        fs::write(self.tree().join("bad.tf"), "locals {\n    a   = 1\n}\n").context("write a badly formatted file")?;
        let refused = said(&mut self.terraform("", &["fmt", "-check", "-recursive"]), "terraform fmt").is_err();
        fs::remove_file(self.tree().join("bad.tf")).context("remove the badly formatted file")?;
        if !refused {
            bail!("terraform fmt takes a file that is badly formatted");
        }
        Ok(format!("{} files", files(&self.tree(), "tf")?.len() + files(&self.tree(), "hcl")?.len()))
    }

    /// Every layer keeps its state remotely, locked and encrypted, and nothing puts a secret's value into one.
    fn states(&self) -> anyhow::Result<String> {
        let mut layers = 0;
        for layer in ["region", "global", "platform"] {
            let text = fs::read_to_string(self.tree().join("live").join(layer).join("versions.tf"))
                .with_context(|| format!("read the backend of {layer}"))?;
            backend(&text).with_context(|| format!("live/{layer}"))?;
            layers += 1;
        }
        let files = files(&self.tree(), "tf")?;
        for file in &files {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            no_secrets(&text).with_context(|| file.display().to_string())?;
        }
        Ok(format!("{layers} remote states with lock files, {} files without a secret's value", files.len()))
    }

    fn folders(&self) -> anyhow::Result<Vec<String>> {
        let mut folders = Vec::new();
        for group in ["modules", "live", "examples"] {
            let at = self.tree().join(group);
            for entry in fs::read_dir(&at).with_context(|| format!("read {}", at.display()))? {
                let entry = entry.context("read a folder")?;
                if entry.path().is_dir() {
                    folders.push(format!("{group}/{}", entry.file_name().to_string_lossy()));
                }
            }
        }
        folders.sort();
        Ok(folders)
    }

    fn validated(&self) -> anyhow::Result<(Vec<String>, String)> {
        let folders = self.folders()?;
        for folder in &folders {
            said(&mut self.terraform(folder, &["init", "-backend=false", "-input=false"]), &format!("init {folder}"))?;
            said(&mut self.terraform(folder, &["validate"]), &format!("validate {folder}"))?;
        }
        let seen = format!("{} folders", folders.len());
        Ok((folders, seen))
    }

    fn tested(&self, folders: &[String]) -> anyhow::Result<(Tested, String)> {
        let mut tested = Tested::default();
        for folder in folders {
            let one = self.test(folder).with_context(|| format!("test {folder}"))?;
            tested.runs += one.runs;
            tested.outputs.extend(one.outputs);
        }
        let seen = format!("{} runs in {} folders", tested.runs, folders.len());
        Ok((tested, seen))
    }

    /// All tests of a folder; one without any, or with one that was left out, fails.
    fn test(&self, folder: &str) -> anyhow::Result<Tested> {
        let mut command = self.terraform(folder, &["test", "-json", "-verbose"]);
        let output = command.stdin(Stdio::null()).output().context("start terraform")?;
        let mut tested = Tested::default();
        let mut summary = Value::Null;
        let mut complaints = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let event: Value = serde_json::from_str(line).with_context(|| format!("read {line}"))?;
            match event["type"].as_str() {
                Some("diagnostic") => {
                    complaints.push(format!("{}\n{}", event["@message"], event["diagnostic"]["detail"]))
                }
                Some("test_state") => tested.outputs.push(event["test_state"]["outputs"].clone()),
                Some("test_summary") => summary = event["test_summary"].clone(),
                _ => {}
            }
        }
        tested.runs = summary["passed"].as_u64().unwrap_or(0);
        let clean = ["failed", "errored", "skipped"].iter().all(|key| summary[*key] == 0);
        if !output.status.success() || !clean || tested.runs == 0 {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}\n{}{summary}", complaints.join("\n"), said);
        }
        Ok(tested)
    }
}

fn backend(text: &str) -> anyhow::Result<()> {
    let block = text.split_once("backend \"s3\" {").and_then(|(_, rest)| rest.split_once('}')).map(|(block, _)| block);
    let lines: Vec<_> = block.context("the state is not kept remotely")?.lines().map(words).collect();
    for setting in ["use_lockfile = true", "encrypt = true"] {
        if !lines.iter().any(|line| line == setting) {
            bail!("the state's backend does not say {setting}");
        }
    }
    Ok(())
}

/// Arguments and resources whose values end in the state.
fn no_secrets(text: &str) -> anyhow::Result<()> {
    const RESOURCES: [&str; 4] = [
        "\"aws_secretsmanager_secret_version\"",
        "\"random_password\"",
        "\"tls_private_key\"",
        "\"aws_iam_access_key\"",
    ];
    const ARGUMENTS: [&str; 6] =
        ["auth_token", "master_user_password", "password", "passwords", "secret_string", "stringData"];
    for line in text.lines().map(words) {
        if let Some(resource) = RESOURCES.iter().find(|resource| line.contains(*resource)) {
            bail!("{resource} keeps a secret's value in the state");
        }
        if let Some(argument) = ARGUMENTS.iter().find(|argument| line.starts_with(&format!("{argument} ="))) {
            bail!("{argument} keeps a secret's value in the state");
        }
    }
    Ok(())
}

/// A line with single spaces.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Only the folders of the types that are asked for: the whole has 400 MB.
fn unpack(archive: &Path, into: &Path, wanted: &BTreeSet<String>) -> anyhow::Result<()> {
    fs::create_dir_all(into).context("create a folder for the schema's package")?;
    let listed = said(Command::new("tar").arg("-tzf").arg(archive), "list the schema's package")?;
    let folders: BTreeSet<String> =
        wanted.iter().map(|name| schema_folder(name)).chain(["provider".to_owned()]).collect();
    let named: Vec<_> = listed
        .lines()
        .filter(|path| {
            let folder = path.strip_prefix("package/lib/").and_then(|rest| rest.strip_suffix("/index.js"));
            folder.is_some_and(|folder| folders.contains(folder))
        })
        .collect();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(into).arg("--strip-components=1").args(named);
    said(&mut tar, "unpack the schema's package").map(drop)
}

/// `resource:aws_eks_cluster` is described in `eks-cluster`.
fn schema_folder(name: &str) -> String {
    let (kind, name) = name.split_once(':').unwrap_or(("resource", name));
    let name = name.trim_start_matches("aws_").replace('_', "-");
    if kind == "data" { format!("data-aws-{name}") } else { name }
}

fn place(program: &Path, folder: &Path, name: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    fs::copy(program, folder.join(name)).with_context(|| format!("put {name} into the mirror"))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry.context("read a folder")?;
        let name = entry.file_name();
        // What a user's own runs left there.
        if name.to_string_lossy().starts_with(".terraform") || name.to_string_lossy().contains(".tfstate") {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// Files of an ending below a folder, without what Terraform put there.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.context("read a folder")?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != ".terraform") {
                found.extend(files(&path, ending)?);
            }
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{backend, no_secrets, schema_folder};

    #[test]
    fn a_state_is_remote_locked_and_encrypted() {
        let good = "backend \"s3\" {\n  use_lockfile = true\n  encrypt      = true\n}";
        assert!(backend(good).is_ok());
        assert!(backend(&good.replace("use_lockfile = true", "use_lockfile = false")).is_err());
        assert!(backend(&good.replace("  encrypt      = true\n", "")).is_err());
        assert!(backend("terraform {}").is_err());
    }

    #[test]
    fn a_secret_has_no_value() {
        assert!(no_secrets("resource \"aws_secretsmanager_secret\" \"a\" {\n  name = \"a\"\n}").is_ok());
        assert!(no_secrets("resource \"aws_secretsmanager_secret_version\" \"a\" {}").is_err());
        assert!(no_secrets("  auth_token     = var.token").is_err());
        assert!(no_secrets("    ignore_changes = [auth_token]").is_ok());
    }

    #[test]
    fn types_have_folders() {
        assert_eq!(schema_folder("resource:aws_eks_cluster"), "eks-cluster");
        assert_eq!(schema_folder("data:aws_caller_identity"), "data-aws-caller-identity");
    }
}
