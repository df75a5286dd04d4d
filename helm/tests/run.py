"""Runs what is rendered, as processes of this machine: the arguments and settings of the pods, with folders and free ports of
loopback in place of volumes and services."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

from objects import CHART, component, pod

START = 180


class Ports:
    """A free port of loopback for each port of the rendering."""

    def __init__(self):
        self.known = {}

    def of(self, owner, port):
        if (owner, port) not in self.known:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.known[owner, port] = free.getsockname()[1]
        return self.known[owner, port]


def placed(text, owner, ports, folders):
    """Settings or an argument of a pod, for this machine."""
    for inside, here in folders.items():
        text = text.replace(inside, str(here))
    text = re.sub(r"0\.0\.0\.0:(\d+)", lambda at: f"127.0.0.1:{ports.of(owner, int(at[1]))}", text)
    return re.sub(r"http://attune-(\w+)-headless:(\d+)", lambda at: f"http://127.0.0.1:{ports.of(at[1], int(at[2]))}", text)


@contextmanager
def running(program, case, name, ports, folders, work):
    """The process of one pod, told to end at the end; it must do so by itself, with 0."""
    workload = next(each for each in case.servers() if component(each) == name)
    container = pod(workload)["spec"]["containers"][0]
    file = work / f"{name}.toml"
    file.write_text(placed(case.named("ConfigMap", workload["metadata"]["name"])["data"]["config.toml"], name, ports, folders))
    words = [placed(word, name, ports, folders).replace("/etc/attune/config.toml", str(file)) for word in container["args"]]
    own = {each["name"]: each.get("value", f"{name}-0") for each in container.get("env", [])}
    log = (work / f"{name}.log").open("wb")
    child = subprocess.Popen([program, *words], env={"PATH": os.environ["PATH"], "HOME": str(work), **own}, stdout=log, stderr=log)
    try:
        yield child
        grace = pod(workload)["spec"]["terminationGracePeriodSeconds"]
        child.send_signal(signal.SIGTERM)
        if child.wait(grace):
            raise SystemExit(f"{name} ended with {child.returncode}: {tail(work, name)}")
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def tail(work, name):
    return (work / f"{name}.log").read_text(errors="replace")[-800:]


def ready(child, name, port, work):
    until = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if child.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{name} is not ready: {tail(work, name)}")
        time.sleep(0.1)


def walk(port, work):
    """The script of `helm test`: its exit code and what it says."""
    folder = Path(tempfile.mkdtemp(dir=work))
    own = {"PATH": os.environ["PATH"], "EDGE": f"http://127.0.0.1:{port}", "WORK": str(folder)}
    done = subprocess.run(["sh", CHART / "files/journey.sh"], env=own, capture_output=True, text=True, timeout=120)
    return done.returncode, (done.stdout + done.stderr).strip()


def journey(program, single, apart):
    """One process fills a state folder; then seven take over its log, its model and its key."""
    program = str(Path(program).resolve())
    with tempfile.TemporaryDirectory() as folder:
        work, ports = Path(folder), Ports()
        state = work / "state"
        begun = time.monotonic()
        with running(program, single, "attune", ports, {"/var/lib/attune": state}, work) as child:
            ready(child, "attune", ports.of("attune", 9101), work)
            first = time.monotonic() - begun
            code, said = walk(ports.of("attune", 8080), work)
            if code:
                raise SystemExit(f"one process: {said}\n{tail(work, 'attune')}")
            # Where nobody knows the ways of visitors, the journey must not succeed.
            if walk(ports.of("attune", 9101), work)[0] == 0:
                raise SystemExit("the journey succeeds on the admin port")
        live = (state / "bundles/live").read_text().strip()
        begun = time.monotonic()
        shared = {"/model": state / "bundles" / live, "/etc/attune/secrets/subject-key": state / "keys", "/var/cache/attune": work / "cache"}
        volumes = {name: {"/var/lib/attune": state if name == "origin" else work / name} for name in ("origin", "embedder")}
        services = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"]
        with ExitStack() as stack:
            children = {name: stack.enter_context(running(program, apart, name, ports, shared | volumes.get(name, {}), work)) for name in services}
            for name, child in children.items():
                workload = next(each for each in apart.servers() if component(each) == name)
                admin = next(p["containerPort"] for p in pod(workload)["spec"]["containers"][0]["ports"] if p["name"] == "admin")
                ready(child, name, ports.of(name, admin), work)
            second = time.monotonic() - begun
            code, told = walk(ports.of("edge", 8080), work)
            if code:
                raise SystemExit(f"seven processes: {told}\n{tail(work, 'edge')}\n{tail(work, 'origin')}")
        return f"one process after {first:.0f} s, seven on its folder after {second:.0f} s; each page, click and explanation as asked; all ended by themselves"

