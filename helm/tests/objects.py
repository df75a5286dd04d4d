"""Rendered objects, and what of them is asked again and again."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from services import ROOT

CHART = ROOT / "helm/attune"
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Pod")


@dataclass
class Case:
    """One set of values, rendered."""

    name: str
    values: dict
    objects: list
    runbooks: set = field(default_factory=lambda: {file.stem for file in (ROOT / "docs/runbooks").glob("*.md")})

    def of(self, *kinds):
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind, name):
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def servers(self):
        """What runs until it is told to end."""
        return self.of("Deployment", "StatefulSet")

    def config(self, workload):
        """The config.toml that a workload is given, if any."""
        held = self.named("ConfigMap", workload["metadata"]["name"])
        text = held and held["data"].get("config.toml")
        return tomllib.loads(text) if text is not None else None

    def behind(self, service):
        """The workloads that a Service's selector finds."""
        return [each for each in self.servers() if matches(service["spec"]["selector"], pod(each)["metadata"]["labels"])]


def load(path, name, values):
    objects = [each for each in yaml.safe_load_all(Path(path).read_text()) if each]
    return Case(name, values, objects)


def pod(workload):
    """Metadata and spec of a workload's pods."""
    return workload if workload["kind"] == "Pod" else workload["spec"]["template"]


def component(each):
    return each["metadata"]["labels"]["app.kubernetes.io/component"]


def label(each):
    return f"{each['kind']} {each['metadata']['name']}"


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def containers(workload):
    spec = pod(workload)["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def copies(case, workload):
    """Fewest and most of a workload."""
    for scaler in case.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"]):
            spec = scaler["spec"]
            return spec.get("minReplicas", spec.get("minReplicaCount")), spec.get("maxReplicas", spec.get("maxReplicaCount"))
    return (workload["spec"].get("replicas", 1),) * 2


def paths(value, prefix=()):
    """Dotted key and value of every leaf of nested tables."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from paths(inner, (*prefix, key))
        else:
            yield ".".join((*prefix, key)), inner
