"""values.schema.json: the keys of values.yaml, bounds that they have, and the services' settings from their own files.

`schema.py --write` writes it; without it, it is compared with what is there."""

import json
import sys
from pathlib import Path

import services
import yaml

CHART = Path(__file__).resolve().parents[1] / "attune"
FILE = CHART / "values.schema.json"

NAMED = {"type": "string", "pattern": "^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$", "maxLength": 253}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT = {"type": "integer", "minimum": 1}
PEERS = {"type": "array", "items": {"type": "object", "additionalProperties": False, "properties": {
    "podSelector": {"type": "object"}, "namespaceSelector": {"type": "object"}, "ipBlock": {"type": "object"}}}}
POLICY = {"type": "array", "items": services.table({"to": PEERS, "ports": {"type": "array", "items": PORT}})}
SCHEDULE = {"enum": ["ScheduleAnyway", "DoNotSchedule"]}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}

# What a default does not say of its key. `*` is any one name.
KNOWN = {
    "fullnameOverride": {"type": "string", "maxLength": 40},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "imagePullSecrets": {"type": "array", "items": services.table({"name": NAMED})},
    "model.claim": NAMED,
    "model.subPath": {"type": "string", "pattern": "^[^/]?.*$"},
    "model.command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "*.existingSecret": NAMED,
    "*.existingClaim": NAMED,
    "kafka.brokers": {"type": "array", "items": {"type": "string", "pattern": "^[^:/]+:[0-9]{1,5}$"}},
    "kafka.partitions": {"type": "integer", "minimum": 1, "maximum": 65535},
    "kafka.replication": COUNT,
    "kafka.sasl.mechanism": {"enum": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]},
    "redis.url": {"type": "string", "pattern": "^((rediss?|rediss?-cluster|rediss?-sentinel)://[^/@]+)?$"},
    "telemetry.otlp": {"type": "string", "pattern": "^(http://[^/]+)?$"},
    "telemetry.logLevel": {"enum": ["error", "warn", "info", "debug"]},
    "mesh.kind": {"enum": ["none", "linkerd", "istio"]},
    "externalOrigin": {"type": "string", "pattern": "^(http://[^/:]+:[0-9]{1,5})?$"},
    "*.replicas": {"type": "integer", "minimum": 0},
    "*.ports.*": PORT,
    "*.resources": services.table({"requests": {"type": "object"}, "limits": {"type": "object"}}),
    "*.podDisruptionBudget.maxUnavailable": COUNT,
    "*.spread.zones": SCHEDULE,
    "*.spread.hosts": SCHEDULE,
    "*.drain.preStopSeconds": {"type": "integer", "minimum": 1, "maximum": 600},
    "*.drain.seconds": {"type": "integer", "minimum": 1, "maximum": 600},
    "*.startSeconds": COUNT,
    "*.autoscaling.kind": {"enum": ["none", "hpa", "keda"]},
    "*.autoscaling.minReplicas": COUNT,
    "*.autoscaling.maxReplicas": COUNT,
    "*.autoscaling.cpu": {"type": "integer", "minimum": 1, "maximum": 100},
    "*.autoscaling.lagThreshold": COUNT,
    "*.autoscaling.concurrentCalls": COUNT,
    "*.autoscaling.fallbackReplicas": COUNT,
    "*.labels": STRINGS,
    "*.annotations": STRINGS,
    "*.podAnnotations": STRINGS,
    "*.nodeSelector": STRINGS,
    "*.tolerations": {"type": "array", "items": {"type": "object"}},
    "*.arguments": {"type": "array", "items": {"type": "string"}},
    "*.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "llmServer.port": PORT,
    "llmServer.gpus": COUNT,
    "llmServer.runAsUser": {"type": "integer", "minimum": 1},
    "gateway.parentRefs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "gateway.origin.parentRefs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "*.hostnames": {"type": "array", "items": {"type": "string"}},
    "gateway.tls.issuer": services.table({"name": NAMED, "kind": {"enum": ["Issuer", "ClusterIssuer"]}, "group": {"type": "string"}}),
    "gateway.timeout": {"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
    "networkPolicy.visitors": PEERS, "networkPolicy.monitoring": PEERS, "networkPolicy.operators": PEERS,
    "networkPolicy.externalEdges": PEERS, "networkPolicy.dns": PEERS,
    "networkPolicy.engines": POLICY, "networkPolicy.mesh": POLICY,
    "hooks.topics.replication": COUNT,
}


def known(path):
    for pattern, shape in KNOWN.items():
        if pattern == path:
            return shape
        # A leading star is any prefix, one at the end is one name.
        if pattern.startswith("*."):
            want, have = pattern[2:].split("."), path.split(".")[-len(pattern[2:].split(".")):]
            if len(want) == len(have) and all(w in ("*", h) for w, h in zip(want, have)):
                return shape
    return None


def of(value, path):
    shape = known(path)
    if shape is not None:
        return shape
    if isinstance(value, dict):
        return services.table({key: of(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()})
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
    raise SystemExit(f"values.yaml: {path} = {value!r} needs a line in schema.py")


def merged(below, above):
    whole = dict(below)
    for key, value in above.items():
        whole[key] = merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
    return whole


def build():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    defs = {"process": services.process()}
    own = values.pop("services")
    beneath = values["defaults"]
    defaults = {key: value for key, value in beneath.items() if key not in ("config", "env")}
    values["defaults"] = defaults
    whole = of(values, "")
    # A service's own, and empty here.
    whole["properties"]["defaults"]["properties"] |= {key: {"type": "object", "maxProperties": 0} for key in ("config", "env")}
    each = {}
    for name, service in own.items():
        shape = of(merged(defaults, service), f"services.{name}")
        if name == "attune":
            config = services.table({n: {"$ref": f"#/$defs/{n}"} for n in services.NAMES})
            names = [v for n in services.NAMES for v in services.variables(n)]
        else:
            defs[name] = services.schema(name)
            config = {"$ref": f"#/$defs/{name}"}
            names = services.variables(name)
        shape["properties"]["config"] = config
        shape["properties"]["env"] = {"type": "object", "propertyNames": {"enum": names},
                                      "additionalProperties": {"type": ["string", "number", "boolean"]}}
        each[name] = shape
    whole["properties"]["services"] = services.table(each)
    # What Helm adds: of charts above, and of the library.
    whole["properties"] |= {"global": {"type": "object"}, "attune-lib": {"type": "object"}}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of Attune's chart", **whole, "$defs": defs}


def text():
    return json.dumps(build(), indent=1) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(text())
    elif FILE.read_text() != text():
        raise SystemExit("values.schema.json is not what values.yaml and the services' settings say: schema.py --write")
    else:
        print(f"{len(build()['$defs'])} definitions")
