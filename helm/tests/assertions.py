"""What must be true of every rendering, and no schema says. Each check yields what is wrong."""

import re
from urllib.parse import urlsplit

import services
import yaml
from objects import CHART, WORKLOADS, component, containers, copies, label, matches, paths, pod
from services import ROOT

FACTS = yaml.safe_load((CHART / "files/services.yaml").read_text())
SECRETS = "/etc/attune/secrets/"


def selectors(case):
    """Selectors select: the own pods, and for services, budgets and policies those of exactly one workload."""
    for each in case.servers():
        if not matches(each["spec"]["selector"]["matchLabels"], pod(each)["metadata"]["labels"]):
            yield f"{label(each)} does not select its own pods"
    for each in case.of("Service"):
        if len(case.behind(each)) != 1:
            yield f"{label(each)} selects {len(case.behind(each))} workloads"
    for each in case.of("PodDisruptionBudget", "NetworkPolicy"):
        spec = each["spec"]
        wanted = (spec["selector"] if "selector" in spec else spec["podSelector"])["matchLabels"]
        if sum(matches(wanted, pod(workload)["metadata"]["labels"]) for workload in case.servers()) != 1:
            yield f"{label(each)} does not select one workload"
    for each in case.of("ServiceMonitor"):
        found = [s for s in case.of("Service") if matches(each["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        for endpoint in each["spec"]["endpoints"]:
            if sum(endpoint["port"] in [port["name"] for port in s["spec"]["ports"]] for s in found) != 1:
                yield f"{label(each)} does not find one port {endpoint['port']}"
    for each in case.servers():
        for spread in pod(each)["spec"]["topologySpreadConstraints"]:
            if not matches(spread["labelSelector"]["matchLabels"], pod(each)["metadata"]["labels"]):
                yield f"{label(each)} spreads other pods than its own"


def ports(case):
    """Ports are ports, and whatever names one names one that is there."""
    def number(value):
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535

    for each in case.servers():
        open_ports = {}
        for container in containers(each):
            for port in container.get("ports", []):
                if not number(port["containerPort"]):
                    yield f"{label(each)} opens port {port['containerPort']}"
                if port["containerPort"] in open_ports.values():
                    yield f"{label(each)} opens port {port['containerPort']} twice"
                open_ports[port["name"]] = port["containerPort"]
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if container in pod(each)["spec"].get("initContainers", []):
                    continue
                probe = container.get(kind)
                if probe is None:
                    yield f"{label(each)} has no {kind}"
                    continue
                asked = probe.get("grpc", probe.get("httpGet", {})).get("port")
                if asked not in open_ports and asked not in open_ports.values():
                    yield f"{label(each)} {kind} asks port {asked}"
        config = case.config(each)
        for key, value in paths(config or {}):
            if key.endswith(("listen", "process.admin")) and int(value.rsplit(":", 1)[1]) not in open_ports.values():
                yield f"{label(each)} {key} listens on {value}, which is not a port of its pod"
    for each in case.of("Service"):
        for port in each["spec"]["ports"]:
            if not number(port["port"]):
                yield f"{label(each)} has port {port['port']}"
            for workload in case.behind(each):
                names = [p["name"] for c in containers(workload) for p in c.get("ports", [])]
                if port["targetPort"] not in names:
                    yield f"{label(each)} leads to port {port['targetPort']}, which {label(workload)} has not"
    for each in case.of("NetworkPolicy"):
        for rule in each["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                own = [w for w in case.servers() if matches(each["spec"]["podSelector"]["matchLabels"], pod(w)["metadata"]["labels"])]
                names = [p["name"] for w in own for c in containers(w) for p in c.get("ports", [])]
                if isinstance(port["port"], str) and port["port"] not in names:
                    yield f"{label(each)} opens {port['port']}, which is not there"
    for each in case.of("HTTPRoute", "GRPCRoute"):
        for rule in each["spec"]["rules"]:
            for back in rule["backendRefs"]:
                service = case.named("Service", back["name"])
                if not service or back["port"] not in [port["port"] for port in service["spec"]["ports"]]:
                    yield f"{label(each)} leads to {back['name']}:{back['port']}, which is not there"


def budgets(case):
    """Each workload has a budget, which lets a node be drained and never takes the last copy of several."""
    for each in case.servers():
        own = [b for b in case.of("PodDisruptionBudget") if matches(b["spec"]["selector"]["matchLabels"], pod(each)["metadata"]["labels"])]
        if len(own) != 1:
            yield f"{label(each)} has {len(own)} budgets"
            continue
        away, fewest = own[0]["spec"].get("maxUnavailable"), copies(case, each)[0]
        if not isinstance(away, int) or away < 1:
            yield f"{label(own[0])} lets nobody drain a node"
        elif fewest > 1 and away >= fewest:
            yield f"{label(own[0])} lets all {fewest} copies go at once"


def scaling(case):
    """One scaler at most; none beside a fixed number; no more consumers than partitions."""
    for each in case.servers():
        name = each["metadata"]["name"]
        scalers = [s for s in case.of("HorizontalPodAutoscaler", "ScaledObject") if s["spec"]["scaleTargetRef"]["name"] == name]
        if len(scalers) > 1:
            yield f"{label(each)} has {len(scalers)} scalers"
        if bool(scalers) == ("replicas" in each["spec"]):
            yield f"{label(each)} has {'a number of copies and a scaler' if scalers else 'no number of copies'}"
        for scaler in scalers:
            spec = scaler["spec"]
            if spec["scaleTargetRef"]["kind"] != each["kind"]:
                yield f"{label(scaler)} scales a {spec['scaleTargetRef']['kind']}"
            least, most = copies(case, each)
            if least > most:
                yield f"{label(scaler)} wants {least} to {most} copies"
            if scaler["kind"] == "HorizontalPodAutoscaler" and not all("cpu" in c["resources"]["requests"] for c in containers(each)):
                yield f"{label(each)} is scaled by CPU and requests none"
            for trigger in spec.get("triggers", []):
                if not all(isinstance(value, str) for value in trigger["metadata"].values()):
                    yield f"{label(scaler)} has metadata that is no string"
            if spec.get("fallback", {}).get("replicas", 0) > most:
                yield f"{label(scaler)} falls back to more than {most}"
        if component(each) == "embedder" and copies(case, each)[1] > 1:
            partitions = case.config(each)["engines"]["kafka"]["partitions"]
            if copies(case, each)[1] > partitions:
                yield f"{label(each)}: {copies(case, each)[1]} copies share {partitions} partitions"


def names(case):
    """Variables and keys are those that the services' own settings have."""
    for each in case.servers():
        name = component(each)
        if name not in FACTS:
            continue
        own = services.NAMES if name == "attune" else [name]
        known = {variable for n in own for variable in services.variables(n)}
        for container in pod(each)["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"] not in known:
                    yield f"{label(each)} sets {variable['name']}, which nobody reads"
        config = case.config(each)
        for n in own:
            shape = services.schema(n)
            keys = set(services.keys(shape))
            for key, _ in paths(config.get(n, {}) if name == "attune" else config):
                if key not in keys and not (n == "llm" and re.fullmatch(r"prices\..+\.(input|output)", key)):
                    yield f"{label(each)} has {key} in its config.toml, which {n} does not know"


def graph(case):
    """The map of services says what their own files say, and policies let through what it says and no more."""
    listens = {n: services.defaults(n)["process"].get("grpc", {}).get("listen", "").rsplit(":", 1)[-1] for n in services.NAMES}
    by_port = {port: n for n, port in listens.items() if port}
    for n in services.NAMES:
        own = services.defaults(n).get("own", {})
        peers = {key for key, value in own.items() if isinstance(value, str) and value.startswith("http://") and by_port.get(value.rsplit(":", 1)[1]) == key}
        if peers != set(FACTS[n]["peers"]):
            yield f"{n} has addresses of {sorted(peers)}, and the map says {FACTS[n]['peers']}"
        # The origin hosts the bus on which traces are decided; everybody else calls it.
        called = peers | ({"origin"} if n != "origin" else set())
        if called != set(FACTS[n]["calls"]):
            yield f"{n} calls {sorted(called)}, and the map says {FACTS[n]['calls']}"
        admin = services.defaults(n)["process"]["admin"].rsplit(":", 1)[1]
        mapped = case.values["services"][n]["ports"]
        ours = [services.defaults(n)["listen"].rsplit(":", 1)[1]] if n == "edge" else [listens[n]]
        if case.name == "embedded" and {str(p) for p in mapped.values()} != {admin, *ours}:
            yield f"{n} has ports {mapped} here and {admin}, {ours} in its own file"
    policies = {component(each): each["spec"] for each in case.of("NetworkPolicy")}
    if not policies:
        return
    running = {component(each) for each in case.servers()}
    if running != set(policies):
        yield f"{sorted(running ^ set(policies))} have no policy, or are not there"
    for callee, spec in policies.items():
        for rule in spec.get("ingress", []):
            if "grpc" not in [port["port"] for port in rule.get("ports", [])]:
                continue
            heard = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"] if "podSelector" in peer}
            want = {caller for caller in running & set(FACTS) if callee in FACTS[caller]["calls"]}
            if heard != want:
                yield f"{callee} hears {sorted(heard)}, and {sorted(want)} call it"
    for caller in running & set(FACTS):
        reached = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
                   for rule in policies.get(caller, {}).get("egress", []) for peer in rule.get("to", []) if "podSelector" in peer}
        want = {callee for callee in FACTS[caller]["calls"] if callee in running}
        if caller == "llm" and "llm-server" in running:
            want.add("llm-server")
        if reached != want:
            yield f"{caller} may reach {sorted(reached)}, and calls {sorted(want)}"


def addresses(case):
    """Addresses of neighbours in the settings are services that are there."""
    release = case.values.get("release", "attune")
    for each in case.servers():
        for key, value in paths(case.config(each) or {}):
            if not isinstance(value, str) or not value.startswith("http://") or value == case.values["externalOrigin"]:
                continue
            at = urlsplit(value)
            if key.endswith("telemetry.otlp"):
                continue
            service = case.named("Service", at.hostname)
            if not service or at.port not in [port["port"] for port in service["spec"]["ports"]]:
                yield f"{label(each)} {key} is {value}, which is no service of {release}"


def secrets(case):
    """Secrets are files of somebody else's Secret objects: none is made, none is a variable, each that is named is there."""
    if case.of("Secret"):
        yield "a Secret is rendered"
    known = {value for key, value in paths(case.values) if key.endswith("existingSecret") and value}
    for each in case.of(*WORKLOADS):
        spec = pod(each)["spec"]
        held = {}
        for volume in spec.get("volumes", []):
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                if name not in known:
                    yield f"{label(each)} mounts the secret {name or 'without a name'}, which no value names"
                held[volume["name"]] = {item["path"] for item in volume["secret"].get("items", [])}
        for container in containers(each):
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    yield f"{label(each)} has a secret in {variable['name']}"
        mounted = {mount["mountPath"]: mount["name"] for container in containers(each) for mount in container.get("volumeMounts", [])}
        for key, value in paths(case.config(each) or {}) if each["kind"] in ("Deployment", "StatefulSet") else ():
            if isinstance(value, str) and value.startswith(SECRETS):
                volume, file = value.removeprefix(SECRETS).split("/", 1)
                if file not in held.get(mounted.get(SECRETS + volume), ()):
                    yield f"{label(each)} reads {value} ({key}), which is not mounted"


def storage(case):
    """A store has one owner with a volume of its own; what keeps nothing has none."""
    for each in case.servers():
        config, name = case.config(each), component(each)
        mounts = [mount["mountPath"] for container in containers(each) for mount in container.get("volumeMounts", [])]
        kept = [value for _, value in paths(config or {}) if isinstance(value, str) and value.startswith("/var/lib/attune")]
        if kept and "/var/lib/attune" not in mounts:
            yield f"{label(each)} keeps {kept[0]} without a volume"
        if ("/var/lib/attune" in mounts) != (each["kind"] == "StatefulSet"):
            yield f"{label(each)} is a {each['kind']}, and {'has' if '/var/lib/attune' in mounts else 'has not'} a volume"
        for mount in (m for c in containers(each) for m in c.get("volumeMounts", [])):
            if mount["name"] == "state" and "subPath" not in mount:
                yield f"{label(each)} has the root of a volume as its state folder"
        most = copies(case, each)[1]
        owner = name in ("origin", "attune") or (name == "embedder" and not (
            config["own"]["event_log"].startswith("kafka://") and config["own"]["state"].startswith("redis")))
        if owner and most > 1:
            yield f"{label(each)} owns a store and may have {most} copies"
        if name == "origin":
            embedder = case.named("StatefulSet", each["metadata"]["name"].replace("origin", "embedder"))
            theirs = case.config(embedder)
            kafka = config["own"]["event_log"] if "://" in config["own"]["event_log"] else ""
            if kafka != theirs["own"]["event_log"]:
                yield "origin and embedder are on different event logs"
            redis = theirs["own"]["state"] if "://" in theirs["own"]["state"] else ""
            if redis != config["own"]["features"]:
                yield "origin and embedder are on different feature stores"
            if bool(theirs["own"].get("checkpoints")) != ("checkpoint_every" in config):
                yield "the origin does not know of the embedder's checkpoints, which hold an erased visitor for a while"


def security(case):
    """Pod security standard `restricted`, and a little more."""
    for each in case.of(*WORKLOADS):
        spec = pod(each)["spec"]
        context = spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < 10000 or context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{label(each)} may run as root, or without seccomp"
        if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
            yield f"{label(each)} is given a token, or every service's address"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                yield f"{label(each)} has {key}"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{label(each)} mounts the host"
        for container in containers(each):
            held = container.get("securityContext", {})
            if held.get("allowPrivilegeEscalation") is not False or not held.get("readOnlyRootFilesystem") or held.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{label(each)} {container['name']} has rights that it does not need"
            if "memory" not in container.get("resources", {}).get("limits", {}) or not container["resources"].get("requests"):
                yield f"{label(each)} {container['name']} has no bound"


def drain(case):
    """Endpoints forget a pod before it hears of its end, and it has the time that its own draining takes."""
    for each in case.servers():
        config, spec = case.config(each), pod(each)["spec"]
        sleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        if config is None:
            limit = 0
        elif component(each) == "attune":
            limit = int(config["edge"]["process"]["grpc"]["drain"].removesuffix("s"))
        else:
            limit = int(config["process"]["grpc"]["drain"].removesuffix("s"))
        if sleep < 1 or spec["terminationGracePeriodSeconds"] < sleep + 2 * limit + 10:
            yield f"{label(each)} is killed after {spec['terminationGracePeriodSeconds']} s, and drains for {sleep} + 2 x {limit} + 10"
        if config is not None and not re.fullmatch("[0-9a-f]{64}", pod(each)["metadata"]["annotations"].get("checksum/config", "")):
            yield f"{label(each)} does not start anew when its settings change"


def alerts(case):
    """Rules and dashboards are the files of observability/, and every alert leads to a runbook that is there."""
    held = {rule["metadata"]["name"].split("-", 1)[1]: rule for rule in case.of("PrometheusRule")}
    files = {file.stem: file for file in (ROOT / "observability/prometheus/rules").glob("*.yml")}
    if held and set(held) != set(files):
        yield f"of the rules {sorted(set(held) ^ set(files))} are here or there only"
    for name, rule in held.items():
        base = case.values["monitoring"]["rules"]["runbooks"]
        theirs = yaml.safe_load(files[name].read_text())
        for group in rule["spec"]["groups"]:
            for each in group["rules"]:
                if "alert" not in each:
                    continue
                url = each.get("annotations", {}).get("runbook_url", "")
                runbook = re.fullmatch(re.escape(base) + r"docs/runbooks/(\w+)\.md", url)
                if not runbook or runbook[1] not in case.runbooks:
                    yield f"alert {each['alert']} leads to {url or 'no runbook'}, which is not there"
                each["annotations"]["runbook_url"] = url.removeprefix(base)
        if rule["spec"] != theirs:
            yield f"{label(rule)} differs from {files[name].relative_to(ROOT)}"
    boards = {key: text for each in case.of("ConfigMap") if component(each) == "dashboards" for key, text in each["data"].items()}
    files = {file.name: file for file in (ROOT / "observability/dashboards").glob("*.json")}
    if boards and set(boards) != set(files):
        yield f"of the dashboards {sorted(set(boards) ^ set(files))} are here or there only"
    for name, text in boards.items():
        if text.strip() != files[name].read_text().strip():
            yield f"dashboard {name} differs from observability/dashboards/{name}"
    if case.of("ServiceMonitor"):
        watched = {component(each) for each in case.of("ServiceMonitor")}
        for each in case.servers():
            if component(each) in FACTS and component(each) not in watched:
                yield f"{label(each)} is not scraped"


def gpus(case):
    """What needs a GPU says so once, tolerates the taint of its nodes, and does not need a second one to be replaced."""
    for each in case.servers():
        for container in containers(each):
            limits = container["resources"]["limits"]
            if any(name.endswith("/gpu") for name in limits):
                if each["spec"]["strategy"]["rollingUpdate"] != {"maxSurge": 0, "maxUnavailable": 1}:
                    yield f"{label(each)} needs a spare GPU to be replaced"
                if not pod(each)["spec"].get("tolerations"):
                    yield f"{label(each)} tolerates no GPU node"


CHECKS = [selectors, ports, budgets, scaling, names, graph, addresses, secrets, storage, security, drain, alerts, gpus]


def run(case):
    """(check, problem) of everything that is wrong."""
    return [(check.__name__, problem) for check in CHECKS for problem in check(case)]
