//! The chart on a real control plane with simulated nodes: what the API server takes, where pods land, and what an upgrade, a
//! rollback and a drained node do to them.

use super::Steps;
use crate::check::process::said;
use crate::cluster::{Cluster, condition, list};
use crate::tools::kubernetes;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Examples, and the overlays beneath them.
const CASES: [(&str, Option<&str>); 6] = [
    ("dev", Some("dev")),
    ("embedded", None),
    ("ha", Some("ha")),
    ("gpu", Some("gpu")),
    ("edge-pop", Some("edge-pop")),
    ("mesh", None),
];

/// Misspelt or wrong, by the definition of each kind: what to change in which rendering.
const WRONG: [(&str, &str, &str, &str); 7] = [
    ("ha", "ServiceMonitor", "interval: 15s", "interval: soon"),
    ("ha", "PrometheusRule", "- alert: HighErrorRate", "- allert: HighErrorRate"),
    ("ha", "ScaledObject", "maxReplicaCount: ", "maxReplicasCount: "),
    ("ha", "TriggerAuthentication", "- {parameter: username", "- {parametre: username"),
    ("ha", "Certificate", "dnsNames:", "dnsName:"),
    ("ha", "Gateway", "protocol: HTTPS", "protocols: HTTPS"),
    ("edge-pop", "HTTPRoute", "type: PathPrefix", "type: Prefix"),
];

struct Place {
    cluster: Cluster,
    helm: PathBuf,
    root: PathBuf,
}

pub(super) fn run(steps: &mut Steps, root: &Path) {
    let Some(place) = steps.take("cluster: start", || start(root)) else { return };
    if steps.take("cluster: definitions", || place.definitions().map(|seen| ((), seen))).is_none() {
        return;
    }
    steps.check("cluster: every object is taken", || place.dry_run());
    steps.check("cluster: wrong objects are refused", || place.refusals());
    if steps.take("cluster: install", || place.install().map(|seen| ((), seen))).is_some() {
        steps.check("cluster: pods land in every zone", || place.spread());
        steps.check("cluster: services find their pods", || place.endpoints());
        steps.check("cluster: upgrade", || place.upgrade());
        steps.check("cluster: rollback", || place.rollback());
        steps.check("cluster: evictions respect the budget", || place.evictions());
        steps.check("cluster: drain of a node", || place.drain());
        steps.check("cluster: uninstall", || place.uninstall());
    }
    steps.check("cluster: GPU pods land on GPU nodes", || place.gpus());
    steps.check("cluster: one process", || place.single());
}

fn start(root: &Path) -> anyhow::Result<(Place, String)> {
    let tools = crate::tools::folder()?;
    let cluster = Cluster::start(&tools)?;
    let helm = kubernetes::helm(&tools)?;
    let root = root.canonicalize().context("find the checkout")?;
    let version: Value =
        serde_json::from_str(&cluster.kubectl(&["version", "--output=json"])?).context("read the server's version")?;
    let nodes = list(&cluster.get(&["nodes"])?).count();
    let seen = format!("{} with {nodes} nodes", version["serverVersion"]["gitVersion"].as_str().unwrap_or_default());
    Ok((Place { cluster, helm, root }, seen))
}

impl Place {
    fn chart(&self) -> PathBuf {
        self.root.join("helm/attune")
    }

    fn helm(&self, arguments: &[&str], case: Option<usize>, more: &[&str]) -> Command {
        let mut command = Command::new(&self.helm);
        command.env("KUBECONFIG", &self.cluster.kubeconfig).args(arguments);
        if let Some((name, overlay)) = case.map(|case| CASES[case]) {
            command.arg(self.chart());
            if let Some(overlay) = overlay {
                command.arg("--values").arg(self.chart().join(format!("values-{overlay}.yaml")));
            }
            command.arg("--values").arg(self.chart().join(format!("examples/{name}/values.yaml")));
        }
        command.args(more);
        command
    }

    fn definitions(&self) -> anyhow::Result<String> {
        let folder = kubernetes::definitions(&crate::tools::folder()?)?;
        self.cluster.kubectl(&["apply", "--server-side", "--filename", &folder.display().to_string()])?;
        let mut count = 0;
        self.cluster.eventually("the definitions to be established", || {
            let all = self.cluster.get(&["customresourcedefinitions"])?;
            count = list(&all).count();
            Ok(list(&all).all(|each| condition(each, "Established")))
        })?;
        Ok(format!("{count} definitions of custom resources"))
    }

    /// A namespace that takes restricted pods only, with the claims that the examples name.
    fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let claim = |claim: &str| {
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": name},
                "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}},
            })
        };
        self.cluster.create(&[
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            }),
            claim("attune-model"),
            claim("qwen-weights"),
        ])?;
        self.cluster.eventually("a service account", || {
            Ok(self.cluster.kubectl(&["--namespace", name, "get", "serviceaccount", "default"]).is_ok())
        })
    }

    fn render(&self, case: usize) -> anyhow::Result<String> {
        said(&mut self.helm(&["template", "attune"], Some(case), &["--namespace", "attune"]), "render")
    }

    fn offer(&self, text: &str) -> anyhow::Result<String> {
        let arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"];
        self.cluster.with_input(&arguments, text)
    }

    fn dry_run(&self) -> anyhow::Result<String> {
        self.namespace("attune")?;
        let mut kinds = BTreeSet::new();
        let mut taken = 0;
        for (case, (name, _)) in CASES.iter().enumerate() {
            let text = self.render(case)?;
            let answer = self.offer(&text).with_context(|| format!("offer {name}"))?;
            taken += answer.lines().filter(|line| line.contains("serverside-applied")).count();
            kinds.extend(text.lines().filter_map(|line| line.strip_prefix("kind: ").map(str::to_owned)));
        }
        Ok(format!("{taken} objects of {} kinds, validated strictly", kinds.len()))
    }

    fn refusals(&self) -> anyhow::Result<String> {
        for (name, kind, right, wrong) in WRONG {
            let case = CASES.iter().position(|(case, _)| *case == name).context("find an example")?;
            let text = self.render(case)?;
            let of_kind = text.split("\n---\n").filter(|each| each.contains(&format!("\nkind: {kind}\n")));
            let object = of_kind.into_iter().find(|each| each.contains(right));
            let object = object.with_context(|| format!("find {right} in a {kind} of {name}"))?;
            self.offer(object).with_context(|| format!("offer a {kind}"))?;
            if self.offer(&object.replacen(right, wrong, 1)).is_ok() {
                bail!("a {kind} with {wrong} is taken");
            }
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "attune"},
            "spec": {"containers": [{"name": "root", "image": "root"}]},
        });
        if self.cluster.create(&[pod]).is_ok() {
            bail!("the namespace takes a pod that may be root");
        }
        Ok(format!("{} custom resources, and a pod that may be root", WRONG.len()))
    }

    /// The highly available platform. Nobody here is KEDA: what it scales has one copy.
    fn install(&self) -> anyhow::Result<String> {
        let wait = ["--namespace", "attune", "--wait", "--timeout", "120s"];
        said(&mut self.helm(&["install", "attune"], Some(HA), &wait), "install the chart")?;
        let mut pods = 0;
        // The autoscaler's first look comes later than helm's.
        self.cluster.eventually("three edges", || {
            let all = self.pods("attune")?;
            pods = all.len();
            Ok(all.iter().filter(|pod| component(pod) == "edge").count() == 3 && all.iter().all(|pod| condition(pod, "Ready")))
        })?;
        Ok(format!("{pods} pods ready in a namespace that enforces `restricted`"))
    }

    fn pods(&self, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let all = self.cluster.get(&["--namespace", namespace, "pods"])?;
        Ok(list(&all).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Succeeded").cloned().collect())
    }

    fn zones(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let nodes = self.cluster.get(&["nodes"])?;
        let zone = |node: &Value| Some((text(&node["metadata"]["name"]), text(node["metadata"]["labels"].get("topology.kubernetes.io/zone")?)));
        Ok(list(&nodes).filter_map(zone).collect())
    }

    fn spread(&self) -> anyhow::Result<String> {
        let zones = self.zones()?;
        let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in self.pods("attune")? {
            let node = text(&pod["spec"]["nodeName"]);
            ensure!(!node.starts_with("gpu"), "{} is on a GPU node", text(&pod["metadata"]["name"]));
            of.entry(component(&pod)).or_default().insert(zones.get(&node).cloned().unwrap_or_default());
        }
        for service in ["edge", "bandit", "llm"] {
            let found = of.get(service).map_or(0, BTreeSet::len);
            ensure!(found == 3, "the copies of {service} are in {found} zones");
        }
        Ok("three zones for three copies; none on a GPU node".to_owned())
    }

    fn endpoints(&self) -> anyhow::Result<String> {
        let services = self.cluster.get(&["--namespace", "attune", "services"])?;
        let mut count = 0;
        for service in list(&services) {
            let name = text(&service["metadata"]["name"]);
            let of = format!("kubernetes.io/service-name={name}");
            let mut addresses = 0;
            self.cluster.eventually(&format!("addresses of {name}"), || {
                let slices = self.cluster.get(&["--namespace", "attune", "endpointslices", "--selector", &of])?;
                let each = |slice: &Value| slice["endpoints"].as_array().map_or(0, Vec::len);
                addresses = list(&slices).map(each).sum();
                Ok(addresses > 0)
            })?;
            count += addresses;
        }
        Ok(format!("{count} addresses of {} services", list(&services).count()))
    }

    fn names(&self) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in self.pods("attune")? {
            names.entry(component(&pod)).or_default().insert(text(&pod["metadata"]["uid"]));
        }
        Ok(names)
    }

    /// One service's settings change: its pods are replaced, and nobody else's.
    fn upgrade(&self) -> anyhow::Result<String> {
        let before = self.names()?;
        let more = ["--namespace", "attune", "--wait", "--timeout", "120s", "--set", "services.bandit.config.max_limit=50"];
        said(&mut self.helm(&["upgrade", "attune"], Some(HA), &more), "upgrade the chart")?;
        self.settled()?;
        let after = self.names()?;
        let changed: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).cloned().collect();
        ensure!(changed == ["bandit"], "settings of bandit changed, and pods of {changed:?} were replaced");
        ensure!(before["bandit"].is_disjoint(&after["bandit"]), "a bandit kept its old settings");
        ensure!(self.limit()?.contains("max_limit = 50"), "the new settings are not there");
        Ok(format!("{} pods of bandit replaced, {} others left alone", after["bandit"].len(), after.values().map(BTreeSet::len).sum::<usize>() - after["bandit"].len()))
    }

    fn limit(&self) -> anyhow::Result<String> {
        let held = self.cluster.get(&["--namespace", "attune", "configmap", "attune-bandit"])?;
        Ok(text(&held["data"]["config.toml"]))
    }

    fn settled(&self) -> anyhow::Result<()> {
        self.cluster.eventually("the old pods to be gone", || {
            let all = self.pods("attune")?;
            let bandits = all.iter().filter(|pod| component(pod) == "bandit").count();
            Ok(bandits == 3 && all.iter().all(|pod| condition(pod, "Ready")))
        })
    }

    fn rollback(&self) -> anyhow::Result<String> {
        said(&mut self.helm(&["rollback", "attune", "1"], None, &["--namespace", "attune", "--wait", "--timeout", "120s"]), "roll back")?;
        self.settled()?;
        ensure!(!self.limit()?.contains("max_limit"), "the settings of the upgrade are still there");
        let history = said(&mut self.helm(&["history", "attune"], None, &["--namespace", "attune", "--output", "json"]), "read the history")?;
        let history: Value = serde_json::from_str(&history).context("read the history")?;
        let revisions = history.as_array().map_or(0, Vec::len);
        ensure!(revisions == 3, "there are {revisions} revisions");
        Ok("revision 3 has the settings of revision 1".to_owned())
    }

    /// With nowhere for a replacement to go, one edge may leave and the next may not.
    fn evictions(&self) -> anyhow::Result<String> {
        let nodes: Vec<String> = self.zones()?.into_keys().collect();
        for node in &nodes {
            self.cluster.kubectl(&["cordon", node])?;
        }
        let edges: Vec<String> = self.pods("attune")?.iter().filter(|pod| component(pod) == "edge").map(|pod| text(&pod["metadata"]["name"])).collect();
        let first = self.evict(&edges[0]);
        let second = self.evict(&edges[1]);
        for node in &nodes {
            self.cluster.kubectl(&["uncordon", node])?;
        }
        first.context("evict one of three edges")?;
        let Err(refused) = second else { bail!("two of three edges were evicted, and the budget is one") };
        let refused = format!("{refused:#}");
        ensure!(refused.contains("disruption budget"), "the second eviction failed for another reason: {refused}");
        self.three_edges()?;
        Ok("the first edge left, the second was refused by the budget until the first was replaced".to_owned())
    }

    fn evict(&self, pod: &str) -> anyhow::Result<()> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "attune"},
        });
        let path = format!("/api/v1/namespaces/attune/pods/{pod}/eviction");
        self.cluster.with_input(&["create", "--raw", &path, "--filename", "-"], &eviction.to_string()).map(drop)
    }

    fn three_edges(&self) -> anyhow::Result<()> {
        self.cluster.eventually("three ready edges", || {
            let all = self.pods("attune")?;
            Ok(all.iter().filter(|pod| component(pod) == "edge" && condition(pod, "Ready")).count() == 3)
        })
    }

    fn drain(&self) -> anyhow::Result<String> {
        let pods = self.pods("attune")?;
        let edge = pods.iter().find(|pod| component(pod) == "edge").context("find an edge")?;
        let node = text(&edge["spec"]["nodeName"]);
        let there = pods.iter().filter(|pod| pod["spec"]["nodeName"] == edge["spec"]["nodeName"]).count();
        self.cluster.kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "120s"])?;
        let drained = self.cluster.eventually("all pods elsewhere", || {
            let all = self.pods("attune")?;
            Ok(all.len() == pods.len() && all.iter().all(|pod| condition(pod, "Ready") && pod["spec"]["nodeName"] != edge["spec"]["nodeName"]))
        });
        self.cluster.kubectl(&["uncordon", &node])?;
        drained?;
        Ok(format!("{there} pods left {node} and are ready elsewhere"))
    }

    /// What is stored stays.
    fn uninstall(&self) -> anyhow::Result<String> {
        said(&mut self.helm(&["uninstall", "attune"], None, &["--namespace", "attune", "--wait", "--timeout", "120s"]), "uninstall")?;
        self.cluster.eventually("the pods to be gone", || Ok(self.pods("attune")?.is_empty()))?;
        let claims = self.cluster.get(&["--namespace", "attune", "persistentvolumeclaims"])?;
        let kept: BTreeSet<_> = list(&claims).map(|claim| text(&claim["metadata"]["name"])).collect();
        for claim in ["state-attune-origin-0", "state-attune-embedder-0"] {
            ensure!(kept.contains(claim), "{claim} went with the chart");
        }
        Ok("the claims of origin and embedder are left".to_owned())
    }

    fn gpus(&self) -> anyhow::Result<String> {
        self.namespace("gpu")?;
        let wait = ["--namespace", "gpu", "--wait", "--timeout", "120s", "--set", "llmServer.replicas=2"];
        said(&mut self.helm(&["install", "attune"], Some(GPU), &wait), "install the chart")?;
        let on = |pods: &[Value]| -> Vec<(String, String)> {
            pods.iter().map(|pod| (component(pod), text(&pod["spec"]["nodeName"]))).collect()
        };
        let placed = on(&self.pods("gpu")?);
        for (component, node) in &placed {
            ensure!((component == "llm-server") == node.starts_with("gpu"), "{component} is on {node}");
        }
        let servers = placed.iter().filter(|(component, _)| component == "llm-server").count();
        ensure!(servers == 2, "there are {servers} servers on GPUs");
        // There are two nodes with one GPU each.
        self.cluster.kubectl(&["--namespace", "gpu", "scale", "deployment", "attune-llm-server", "--replicas=3"])?;
        self.cluster.eventually("the third server to find no GPU", || {
            let pods = self.pods("gpu")?;
            let mut servers = pods.iter().filter(|pod| component(pod) == "llm-server");
            Ok(servers.any(|pod| pod["status"]["conditions"].as_array().into_iter().flatten().any(|each| {
                each["reason"] == "Unschedulable" && text(&each["message"]).contains("Insufficient nvidia.com/gpu")
            })))
        })?;
        said(&mut self.helm(&["uninstall", "attune"], None, &["--namespace", "gpu"]), "uninstall")?;
        Ok(format!("2 servers on the GPU nodes, {} other pods on none of them, a third server waits for a GPU", placed.len() - 2))
    }

    fn single(&self) -> anyhow::Result<String> {
        self.namespace("dev")?;
        said(&mut self.helm(&["install", "attune"], Some(DEV), &["--namespace", "dev", "--wait", "--timeout", "120s"]), "install the chart")?;
        let pods = self.pods("dev")?;
        ensure!(pods.len() == 1 && condition(&pods[0], "Ready"), "there are {} pods", pods.len());
        said(&mut self.helm(&["uninstall", "attune"], None, &["--namespace", "dev"]), "uninstall")?;
        Ok("one pod with a bound volume is ready".to_owned())
    }
}

const DEV: usize = 0;
const HA: usize = 2;
const GPU: usize = 3;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn component(pod: &Value) -> String {
    text(&pod["metadata"]["labels"]["app.kubernetes.io/component"])
}
