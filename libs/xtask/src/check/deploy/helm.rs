//! The chart: lint, schema, renderings, Kubernetes' own schemas, and assertions in Python (`helm/tests`) with what each of
//! them must refuse.

use super::Steps;
use crate::check::process::said;
use crate::tools::kubernetes;
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The floor of `kubeVersion` and a version below it.
const FLOOR: (&str, &str) = ("1.30.0", "1.29.0");

/// What the steps of `helm/tests/check.py` run with.
struct Chart {
    root: PathBuf,
    helm: PathBuf,
    python: PathBuf,
    renderings: tempfile::TempDir,
}

pub(super) fn run(steps: &mut Steps, root: &Path, attune: Option<&Path>) {
    let Some(chart) = steps.take("helm: tools", || prepare(root)) else { return };
    steps.check("helm: lint --strict", || chart.lint());
    steps.check("helm: package", || chart.package());
    steps.check("helm: floor of versions", || chart.floor());
    steps.check("helm: values.schema.json", || chart.step("settings", &[]));
    if steps.take("helm: render", || chart.step("render", &[]).map(|seen| ((), seen))).is_none() {
        return;
    }
    steps.check("helm: golden", || chart.step("golden", &[]));
    steps.check("helm: Kubernetes' schemas", || chart.step("validate", &[]));
    steps.check("helm: assertions", || chart.step("check", &[]));
    steps.check("helm: refusals", || chart.step("refuse", &[]));
    let program = steps.take("helm: the program", || {
        let program = crate::check::process::attune(root, attune)?;
        let seen = program.display().to_string();
        Ok((program, seen))
    });
    if let Some(program) = program {
        steps.check("helm: settings taken by the services", || chart.step("configs", &[&program]));
        steps.check("helm: journey through what is rendered", || chart.step("journey", &[&program]));
    }
}

fn prepare(root: &Path) -> anyhow::Result<(Chart, String)> {
    let tools = crate::tools::folder()?;
    std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    let helm = kubernetes::helm(&tools)?;
    let python = kubernetes::chart_python(&tools)?;
    let renderings = tempfile::tempdir().context("create a folder for renderings")?;
    let version = said(Command::new(&helm).args(["version", "--short"]), "ask helm for its version")?;
    let root = root.canonicalize().context("find the checkout")?;
    Ok((Chart { root, helm, python, renderings }, format!("helm {}", version.trim())))
}

impl Chart {
    fn folder(&self) -> PathBuf {
        self.root.join("helm/attune")
    }

    fn example(&self) -> PathBuf {
        self.folder().join("examples/embedded/values.yaml")
    }

    fn step(&self, name: &str, attune: &[&Path]) -> anyhow::Result<String> {
        let mut python = Command::new(&self.python);
        python.arg(self.root.join("helm/tests/check.py")).arg(name).arg("--helm").arg(&self.helm);
        python.arg("--folder").arg(self.renderings.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        for program in attune {
            python.arg("--attune").arg(program);
        }
        said(&mut python, name).map(|seen| seen.trim().to_owned())
    }

    fn lint(&self) -> anyhow::Result<String> {
        let mut lint = Command::new(&self.helm);
        lint.args(["lint", "--strict"]).arg(self.folder()).arg("--values").arg(self.example());
        said(&mut lint, "lint the chart")?;
        let refused = said(lint.args(["--set", "services.edge.replica=2"]), "lint").is_err();
        if !refused {
            bail!("lint takes services.edge.replica, which is no value");
        }
        Ok("1 chart; an unknown value is refused".to_owned())
    }

    /// The packaged chart, in which the linked folders are files, renders what the folder does.
    fn package(&self) -> anyhow::Result<String> {
        let to = tempfile::tempdir().context("create a folder for the package")?;
        said(
            Command::new(&self.helm).arg("package").arg(self.folder()).arg("--destination").arg(to.path()),
            "package the chart",
        )?;
        let package = std::fs::read_dir(to.path()).context("look for the package")?.next().context("find the package")?;
        let package = package.context("find the package")?;
        let values = self.example();
        let more = ["monitoring.rules.enabled=true", "monitoring.dashboards.enabled=true"];
        let template = |chart: &Path| {
            let mut template = Command::new(&self.helm);
            template.args(["template", "attune"]).arg(chart).arg("--values").arg(&values);
            said(template.args(more.map(|value| format!("--set={value}"))), "render the chart")
        };
        if template(&package.path())? != template(&self.folder())? {
            bail!("the package renders something else than the folder");
        }
        let bytes = package.metadata().context("measure the package")?.len();
        Ok(format!("{} KiB; renders what the folder does", bytes / 1024))
    }

    fn floor(&self) -> anyhow::Result<String> {
        let template = |version: &str| {
            let mut template = Command::new(&self.helm);
            template.args(["template", "attune"]).arg(self.folder()).arg("--values").arg(self.example());
            said(template.args(["--kube-version", version]), "render the chart")
        };
        template(FLOOR.0)?;
        if template(FLOOR.1).is_ok() {
            bail!("the chart renders for {}, which is below its floor", FLOOR.1);
        }
        Ok(format!("renders for {}, refused by {}", FLOOR.0, FLOOR.1))
    }
}
