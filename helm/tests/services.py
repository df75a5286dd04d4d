"""What the services' own files say of their settings: config.toml of each, and the structs that every process has."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"]

SECRET = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "required": ["file"], "additionalProperties": False, "properties": {"file": {"type": "string"}}}]}
LOGS = {"anyOf": [{"enum": ["stdout", "stderr", "off"]}, {"type": "object", "required": ["file"], "additionalProperties": False, "properties": {"file": {"type": "string"}}}]}
KINDS = {
    "String": {"type": "string"}, "PathBuf": {"type": "string"}, "SocketAddr": {"type": "string"},
    "HumanDuration": {"type": "string", "pattern": "^[0-9.]+(ns|us|ms|s|m|h|d)$"},
    "ByteSize": {"type": "string"}, "f64": {"type": "number"}, "bool": {"type": "boolean"},
    "u32": {"type": "integer", "minimum": 0}, "usize": {"type": "integer", "minimum": 0},
    "Secret": SECRET, "LogTarget": LOGS, "Record": {"type": "string"}, "RequestLogs": {"type": "string"},
    "LogLevel": {"type": "string"},
}


def table(properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


def struct(file, name, known):
    """The public fields of a struct of settings, as a schema."""
    text = (ROOT / file).read_text()
    body = re.search(rf"pub struct {name} \{{\n(.*?)\n\}}", text, re.S)
    if not body:
        raise SystemExit(f"{file} has no struct {name}")
    fields = re.findall(r"^    pub (\w+): (.+),$", body[1], re.M)
    properties = {}
    for field, kind in fields:
        kind = re.sub(r"^Option<(.+)>$", r"\1", kind).split("::")[-1]
        properties[field] = known[kind]
    return table(properties)


def process():
    telemetry = struct("libs/telemetry/src/config.rs", "TelemetryConfig", KINDS)
    grpc = struct("libs/runtime/src/grpc.rs", "GrpcConfig", KINDS)
    known = KINDS | {"TelemetryConfig": telemetry, "GrpcConfig": grpc}
    return struct("libs/runtime/src/program.rs", "ProcessConfig", known)


def defaults(name):
    return tomllib.loads((ROOT / "services" / name / "config.toml").read_text())


def schema(name):
    """Of a service's config.toml: its keys, those that stand there as comments, and those of every process."""
    text = (ROOT / "services" / name / "config.toml").read_text()
    text = re.sub(r"^# ([a-z_]+ = .+)$", r"\1", text, flags=re.M)
    whole = tomllib.loads(text)
    whole.pop("process")
    shape = of(whole)
    if name == "llm":
        price = table({"input": {"type": "number"}, "output": {"type": "number"}})
        shape["properties"]["prices"] = {"type": "object", "additionalProperties": price}
    shape["properties"]["process"] = {"$ref": "#/$defs/process"}
    return shape


def of(value):
    match value:
        case {"file": str()}:
            return SECRET
        case dict():
            return table({key: of(inner) for key, inner in value.items()})
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
    raise SystemExit(f"no schema for {value!r}")


def keys(shape, prefix=()):
    """Every dotted key of a schema's leaves."""
    if "$ref" in shape:
        shape = process()
    if "properties" not in shape:
        yield ".".join(prefix)
        if shape in (SECRET, LOGS):
            yield ".".join((*prefix, "file"))
        return
    for key, inner in shape["properties"].items():
        yield from keys(inner, (*prefix, key))


def variables(name):
    return sorted(f"ATTUNE_{name.upper()}__{key.replace('.', '__').upper()}" for key in keys(schema(name)))
