//! `live/platform` applied to an API server, looked at, applied again, and taken down.

use super::Terraform;
use crate::check::process::said;
use crate::cluster::Cluster;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const LAYER: &str = "live/platform";
/// Base64 of a word that stands nowhere else.
const VALUE: (&str, &str) = ("only-the-operator-knows", "b25seS10aGUtb3BlcmF0b3Ita25vd3M=");

pub(super) fn run(terraform: &Terraform) -> anyhow::Result<String> {
    let cluster = Cluster::start(&crate::tools::folder()?)?;
    let layer = Layer { terraform, cluster: &cluster };
    // The state lies beside the copy; where there is a bucket the layer's own backend keeps it.
    let local = "terraform {\n  backend \"local\" {}\n}\n";
    fs::write(terraform.tree().join(LAYER).join("backend_override.tf"), local).context("write the local backend")?;
    said(&mut terraform.terraform(LAYER, &["init", "-reconfigure", "-input=false"]), "init the platform layer")?;

    layer.apply(&[])?;
    let made = layer.resources()?;
    layer.unchanged("after the first apply")?;
    layer.secret()?;
    layer.pods()?;
    layer.rights()?;
    layer.drift()?;
    layer.refusals()?;
    said(&mut layer.command("destroy", &["-auto-approve"]), "destroy")?;
    let left = layer.resources()?;
    if left != 0 {
        bail!("{left} objects are left after destroy");
    }
    Ok(format!("{made} objects made, used, drifted, mended and removed; values of secrets stay out of the state"))
}

struct Layer<'a> {
    terraform: &'a Terraform,
    cluster: &'a Cluster,
}

impl Layer<'_> {
    fn command(&self, what: &str, more: &[&str]) -> Command {
        let kubeconfig = format!("kubeconfig={}", self.cluster.kubeconfig.display());
        let mut arguments = vec![what, "-input=false", "-var", &kubeconfig];
        arguments.extend(more);
        self.terraform.terraform(LAYER, &arguments)
    }

    fn apply(&self, more: &[&str]) -> anyhow::Result<()> {
        let arguments: Vec<_> = ["-auto-approve"].iter().chain(more).copied().collect();
        said(&mut self.command("apply", &arguments), "apply").map(drop)
    }

    fn resources(&self) -> anyhow::Result<usize> {
        let listed = said(&mut self.terraform.terraform(LAYER, &["state", "list"]), "list the state")?;
        Ok(listed.lines().count())
    }

    /// 0: nothing to do; 2: something.
    fn plan(&self) -> anyhow::Result<i32> {
        let output = self.command("plan", &["-detailed-exitcode"]).output().context("start terraform")?;
        output
            .status
            .code()
            .filter(|code| *code != 1)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn unchanged(&self, when: &str) -> anyhow::Result<()> {
        if self.plan()? != 0 {
            bail!("{when} there is still something to apply");
        }
        Ok(())
    }

    /// A value that an operator put into its place outlives another apply, and no state has it, nor the way in.
    fn secret(&self) -> anyhow::Result<()> {
        let value = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "attune-kafka", "namespace": "attune"},
            "data": {"password": VALUE.1},
        });
        let apply = ["apply", "--server-side", "--field-manager=operator", "--filename=-"];
        self.cluster.with_input(&apply, &value.to_string())?;
        // Another key in this place, and another place gone: both are applied once more, back and forth.
        self.apply(&["-var", r#"secrets={"attune-kafka":["password","user"],"attune-redis":["password"]}"#])?;
        self.apply(&[])?;
        let kept = self.cluster.get(&["secret", "attune-kafka", "--namespace=attune"])?;
        if kept["data"]["password"] != VALUE.1 {
            bail!("another apply took the secret's value away");
        }
        let at = self.terraform.tree().join(LAYER);
        for file in ["terraform.tfstate", "terraform.tfstate.backup"] {
            let text = fs::read_to_string(at.join(file)).with_context(|| format!("read {file}"))?;
            let settings = fs::read_to_string(&self.cluster.kubeconfig).context("read the way in")?;
            let settings: Value = serde_json::from_str(&settings).context("read the way in")?;
            let token = settings["users"][0]["user"]["token"].as_str().context("find the token")?;
            if [VALUE.0, VALUE.1, token].iter().any(|secret| text.contains(secret)) {
                bail!("{file} has the value of a secret");
            }
        }
        Ok(())
    }

    /// The namespace takes a pod that is held short, and no other; the quota counts.
    fn pods(&self) -> anyhow::Result<()> {
        // The controller manager makes it a moment after the namespace.
        self.cluster.eventually("the namespace's service account", || {
            Ok(self.cluster.kubectl(&["get", "serviceaccount", "default", "--namespace=attune"]).is_ok())
        })?;
        let good = pod("good", &json!({}));
        self.cluster.with_input(&["create", "--filename=-"], &good.to_string())?;
        let placed = self.cluster.get(&["pod", "good", "--namespace=attune"])?;
        if placed["spec"]["priority"] != 1_000_000
            || placed["spec"]["containers"][0]["resources"]["requests"]["cpu"] != "100m"
        {
            bail!("a pod does not get the priority or the requests of its namespace");
        }
        let privileged = pod("privileged", &json!({"securityContext": {"allowPrivilegeEscalation": true}}));
        self.refused(&privileged, "violates PodSecurity")?;
        let greedy = pod("greedy", &json!({"resources": {"requests": {"cpu": "1000"}}}));
        self.refused(&greedy, "exceeded quota")
    }

    fn refused(&self, object: &Value, words: &str) -> anyhow::Result<()> {
        let name = &object["metadata"]["name"];
        let answer = self.cluster.with_input(&["create", "--filename=-"], &object.to_string());
        let said = answer.err().with_context(|| format!("the pod {name} is taken"))?.to_string();
        if !said.contains(words) {
            bail!("the pod {name} is refused for another reason: {said}");
        }
        Ok(())
    }

    fn rights(&self) -> anyhow::Result<()> {
        let may = |group: &str, verb: &str, what: &str, namespace: &str| {
            let (group, space) = (format!("--as-group={group}"), format!("--namespace={namespace}"));
            self.cluster.kubectl(&["auth", "can-i", verb, what, "--as=somebody", &group, &space]).is_ok()
        };
        let expected = [
            ("attune:deployers", "create", "deployments.apps", "attune", true),
            ("attune:deployers", "create", "deployments.apps", "kube-system", false),
            ("attune:deployers", "create", "clusterroles.rbac.authorization.k8s.io", "attune", false),
            ("attune:viewers", "list", "pods", "attune", true),
            ("attune:viewers", "get", "secrets", "attune", false),
            ("attune:viewers", "delete", "pods", "attune", false),
        ];
        for (group, verb, what, namespace, allowed) in expected {
            if may(group, verb, what, namespace) != allowed {
                let word = if allowed { "may not" } else { "may" };
                bail!("{group} {word} {verb} {what} in {namespace}");
            }
        }
        Ok(())
    }

    /// What somebody changed by hand is seen and mended.
    fn drift(&self) -> anyhow::Result<()> {
        let weaker = "pod-security.kubernetes.io/enforce=privileged";
        self.cluster.kubectl(&["label", "namespace", "attune", weaker, "--overwrite"])?;
        if self.plan()? != 2 {
            bail!("a weaker namespace goes unseen");
        }
        self.apply(&[])?;
        let namespace = self.cluster.get(&["namespace", "attune"])?;
        if namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted" {
            bail!("a weaker namespace is not mended");
        }
        self.unchanged("after mending")
    }

    /// A wrong variable by Terraform, a misspelt field by the API server.
    fn refusals(&self) -> anyhow::Result<()> {
        let said =
            self.apply(&["-var", "namespace=kube-system"]).err().context("a namespace of Kubernetes is taken")?;
        if !said.to_string().contains("not one of Kubernetes' own") {
            bail!("a namespace of Kubernetes is refused for another reason: {said}");
        }
        let at = self.terraform.tree().join(LAYER).join("main.tf");
        let right = fs::read_to_string(&at).context("read the platform layer")?;
        let wrong = right.replacen("policyTypes = ", "policyType = ", 1);
        if wrong == right {
            bail!("the policy is not where it was");
        }
        fs::write(&at, wrong).context("write the platform layer")?;
        let outcome = self.apply(&[]);
        fs::write(&at, right).context("restore the platform layer")?;
        let said = outcome.err().context("a misspelt field is taken")?.to_string();
        if !said.contains("policyType") {
            bail!("a misspelt field is refused for another reason: {said}");
        }
        Ok(())
    }
}

/// Held as short as the namespace asks, unless its container says otherwise.
fn pod(name: &str, container: &Value) -> Value {
    let mut own = json!({
        "name": "main", "image": "registry.example.com/attune",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    if let (Some(own), Some(more)) = (own.as_object_mut(), container.as_object()) {
        own.extend(more.clone());
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "attune"},
        "spec": {
            "priorityClassName": "attune-serving",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [own],
        },
    })
}
