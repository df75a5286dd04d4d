"""The steps of `cargo xtask check deploy helm`, each by its name; see helm/README.md."""

import argparse
import copy
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import assertions
import hooks
import kubernetes_validate
import run
import refusals
import schema
import yaml
from objects import CHART, component, load

EXAMPLES = CHART / "examples"
VERSIONS = ["1.30", "1.37"]
GROUPS = ("monitoring.coreos.com", "keda.sh", "cert-manager.io", "gateway.networking.k8s.io")


def overlays():
    """Case and the overlay beneath it, if any."""
    lines = (EXAMPLES / "overlays.txt").read_text().split("\n")
    return {words[0]: words[1:] for line in lines if (words := line.split())}


def arguments(name):
    files = [CHART / f"values-{overlay}.yaml" for overlay in overlays()[name]] + [EXAMPLES / name / "values.yaml"]
    return files


def helm(program, name, sets=()):
    command = [program, "template", "attune", CHART, "--namespace", "attune"]
    for file in arguments(name):
        command += ["--values", file]
    for pair in sets:
        command += ["--set", pair]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    errors = "\n".join(line for line in done.stderr.split("\n") if "found symbolic link" not in line)
    return done.returncode, done.stdout, errors


def values(name):
    whole = yaml.safe_load((CHART / "values.yaml").read_text())
    for file in arguments(name):
        whole = schema.merged(whole, yaml.safe_load(file.read_text()))
    return whole


def cases(folder):
    return {name: load(folder / f"{name}.yaml", name, values(name)) for name in overlays()}


def render(options):
    for name in overlays():
        code, out, errors = helm(options.helm, name)
        if code:
            raise SystemExit(f"{name}: {errors}")
        (options.folder / f"{name}.yaml").write_text(out)
    return f"{len(overlays())} sets of values"


def plain(case):
    """A rendering as it is compared: sorted, and without what is a copy of observability/, which `alerts` compares."""
    kept = []
    for each in copy.deepcopy(case.objects):
        if each["kind"] == "PrometheusRule":
            each["spec"] = "the file of observability/prometheus/rules"
        if each["kind"] == "ConfigMap" and component(each) == "dashboards":
            each["data"] = "the file of observability/dashboards"
        kept.append(each)
    kept.sort(key=lambda each: (each["kind"], each["metadata"]["name"]))
    return yaml.dump_all(kept, Dumper=Block, sort_keys=True, width=120)


class Block(yaml.SafeDumper):
    """Texts of several lines stand as they are."""

    def ignore_aliases(self, data):
        return True


Block.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", "\n".join(line.rstrip() for line in text.split("\n")) if "\n" in text else text, style="|" if "\n" in text else None))


def compared(name, now):
    file = EXAMPLES / name / "rendered.yaml"
    before = file.read_text() if file.exists() else ""
    return list(difflib.unified_diff(before.split("\n"), now.split("\n"), str(file), "now", lineterm=""))


def golden(options):
    lines = 0
    for name, case in cases(options.folder).items():
        now = plain(case)
        if options.write:
            (EXAMPLES / name / "rendered.yaml").write_text(now)
        if difference := compared(name, now):
            raise SystemExit("\n".join(difference[:60]) + "\nwanted so? check.py golden --write")
        lines += now.count("\n")
    changed = plain(cases(options.folder)["embedded"]).replace("replicas: 1", "replicas: 2", 1)
    if not compared("embedded", changed):
        raise SystemExit("a changed rendering is not noticed")
    return f"{lines} lines as before; a changed one is refused"


def strict(each, version):
    """What the Kubernetes schema of a version has against an object."""
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message


def validate(options):
    objects = [each for case in cases(options.folder).values() for each in case.objects]
    own = [each for each in objects if not each["apiVersion"].startswith(GROUPS)]
    for version in VERSIONS:
        for each in own:
            if problem := strict(each, version):
                raise SystemExit(f"{version}: {each['kind']} {each['metadata']['name']}: {problem}")
    wrong = copy.deepcopy(next(each for each in own if each["kind"] == "Deployment"))
    wrong["spec"]["replica"] = 2
    for version in VERSIONS:
        if not strict(wrong, version):
            raise SystemExit(f"{version}: spec.replica is not refused")
    if not strict(next(each for each in own if each["kind"] == "Deployment"), "1.28"):
        raise SystemExit("1.28 takes the sleep before the end, which it does not have: the floor could be lower")
    return f"{len(own)} objects of Kubernetes' own kinds for {' and '.join(VERSIONS)}; spec.replica is refused, and all of it by 1.28"


def check(options):
    problems = [f"{name}: {check}: {problem}" for name, case in cases(options.folder).items() for check, problem in assertions.run(case)]
    if problems:
        raise SystemExit("\n".join(problems))
    return f"{len(assertions.CHECKS)} checks of {len(overlays())} renderings"


def refuse(options):
    """Every check must refuse something, and each of the broken renderings is refused by the check that is named."""
    there, missing = cases(options.folder), []
    for name, wanted, what, how in refusals.BROKEN:
        found = {check for check, _ in assertions.run(refusals.broken(there[name], how))}
        if wanted not in found:
            missing.append(f"{what}: not refused by {wanted}, but by {sorted(found) or 'nobody'}")
    idle = {check.__name__ for check in assertions.CHECKS} - {wanted for _, wanted, _, _ in refusals.BROKEN}
    missing += [f"{check} refuses nothing here" for check in sorted(idle)]
    for name, said, sets in refusals.VALUES:
        code, _, errors = helm(options.helm, name, sets)
        if code == 0 or said not in errors:
            missing.append(f"{name} with {sets}: {'taken' if code == 0 else errors.strip()[:400]}, instead of: {said}")
    if missing:
        raise SystemExit("\n".join(missing))
    return f"{len(refusals.BROKEN)} broken renderings and {len(refusals.VALUES)} wrong values, each by the check that is named"


def configs(options):
    """Each service's program takes the settings that the chart gives it. Secrets are files that are made up for it."""
    asked = 0
    for name, case in cases(options.folder).items():
        for each in case.servers():
            service, held = component(each), case.named("ConfigMap", each["metadata"]["name"])
            if held is None or service == "attune":
                continue
            text = held["data"]["config.toml"]
            if problem := refused(options.attune, service, text):
                raise SystemExit(f"{name}: {service}: {problem}")
            asked += 1
    worse = text.replace("[process]", "[process]\nadmins = 1", 1)
    if not refused(options.attune, service, worse):
        raise SystemExit(f"{service} takes process.admins")
    return f"{asked} config.toml; an unknown key is refused"


def refused(program, service, text):
    with tempfile.TemporaryDirectory() as folder:
        text = text.replace("/etc/attune/secrets", folder)
        for path in re.findall(re.escape(folder) + r'/[^"]+', text):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("0123456789abcdef0123456789abcdef")
        file = Path(folder) / "config.toml"
        file.write_text(text)
        done = subprocess.run([str(Path(program).resolve()), "service", service, "--config", file, "--check-config"], capture_output=True, text=True)
        return done.stderr.strip() if done.returncode else ""


def journey(options):
    there = cases(options.folder)
    return run.journey(options.attune, there["dev"], there["embedded"])


def scripts(options):
    """The broker is one: topics have one copy."""
    code, out, errors = helm(options.helm, "mesh", ["hooks.topics.replication=1"])
    if code:
        raise SystemExit(errors)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "mesh.yaml").write_text(out)
        return hooks.run(options.kafka, options.kafka_topics, load(work / "mesh.yaml", "mesh", {}), cases(options.folder)["ha"], work)


def settings(_):
    if schema.FILE.read_text() != schema.text():
        raise SystemExit("values.schema.json is not what values.yaml and the services' settings say: schema.py --write")
    return f"values.schema.json is what {len(schema.services.NAMES)} config.toml and values.yaml say"


STEPS = {"settings": settings, "render": render, "golden": golden, "validate": validate, "check": check, "refuse": refuse, "configs": configs, "journey": journey, "hooks": scripts}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--helm", default="helm")
    parser.add_argument("--attune", default="attune")
    parser.add_argument("--kafka", default="kafka")
    parser.add_argument("--kafka-topics", default="kafka-topics.sh")
    parser.add_argument("--folder", type=Path, required=True, help="of the renderings")
    parser.add_argument("--write", action="store_true", help="golden: what is rendered now is right")
    options = parser.parse_args()
    print(STEPS[options.step](options))


if __name__ == "__main__":
    sys.exit(main())
