"""The scripts of the hooks, twice each: topics on a real broker, the index against a stand-in that notes what it is asked."""

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controllers}
advertised.listeners=PLAINTEXT://127.0.0.1:{clients}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controllers}
log.dirs={folder}/log
offsets.topic.replication.factor=1
log.cleaner.dedupe.buffer.size=2097152
"""


def free():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def said(command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=180, **more)
    if done.returncode:
        raise SystemExit(f"{command[0]}: {(done.stdout + done.stderr).strip()[-800:]}")
    return done.stdout


@contextmanager
def broker(kafka, work):
    clients, controllers = free(), free()
    file = work / "server.properties"
    file.write_text(PROPERTIES.format(clients=clients, controllers=controllers, folder=work))
    said([kafka, "kafka.tools.StorageTool", "format", "-t", "AttuneTestClusterAAAAA", "-c", file, "--standalone"])
    log = (work / "kafka.log").open("wb")
    child = subprocess.Popen([kafka, "kafka.Kafka", file], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", clients), 1).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the broker did not start: " + (work / "kafka.log").read_text()[-800:]) from None
                time.sleep(0.1)
        yield f"127.0.0.1:{clients}"
    finally:
        child.terminate()
        child.wait(30)


def files(case, name, work):
    """What the job's pod finds in /files."""
    folder = work / name
    folder.mkdir()
    for file, text in case.named("ConfigMap", f"attune-{name}")["data"].items():
        (folder / file).write_text(text)
    return folder


def topics(kafka, tool, case, work):
    folder = files(case, "topics", work)
    wanted = {line.split()[0]: line.split()[1] for line in (folder / "topics").read_text().split("\n") if line}
    with broker(kafka, work) as address:
        own = {"PATH": os.environ["PATH"], "BROKERS": address, "FILES": str(folder), "KAFKA_TOPICS": str(tool)}
        for _ in range(2):
            said(["sh", folder / "topics.sh"], env=own)
        described = said([tool, "--bootstrap-server", address, "--describe"])
        for topic, partitions in wanted.items():
            line = next((line for line in described.split("\n") if line.startswith(f"Topic: {topic}\t")), "")
            if f"PartitionCount: {partitions}\t" not in line or "retention.ms=" not in line:
                raise SystemExit(f"{topic} is not as asked: {line or described}")
        (folder / "topics").write_text("logs.broken 3 7 \n")
        if subprocess.run(["sh", folder / "topics.sh"], env=own, capture_output=True, timeout=60).returncode == 0:
            raise SystemExit("seven copies on one broker are no failure")
    return wanted


class Index(BaseHTTPRequestHandler):
    """Holds what was put, by its path; an index brings its alias."""

    held, puts, broken = {}, [], False

    def do_GET(self):
        self.answer(200 if self.path in self.held else 404)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.puts.append(self.path)
        if self.broken:
            return self.answer(400)
        self.held[self.path] = body
        if self.path == "/attune-logs-000001":
            self.held["/_alias/attune-logs"] = body
        return self.answer(201)

    def answer(self, code):
        self.send_response(code)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def index(case, work):
    folder = files(case, "index", work)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        own = {"PATH": os.environ["PATH"], "FILES": str(folder), "OPENSEARCH": f"http://127.0.0.1:{server.server_port}"}
        said(["sh", folder / "index.sh"], env=own)
        first = list(Index.puts)
        said(["sh", folder / "index.sh"], env=own)
        again = Index.puts[len(first):]
        if first != ["/_plugins/_ism/policies/attune-logs", "/_index_template/attune-logs", "/attune-logs-000001"] or again != ["/_index_template/attune-logs"]:
            raise SystemExit(f"written were {first}, then {again}")
        Index.broken = True
        if subprocess.run(["sh", folder / "index.sh"], env=own, capture_output=True, timeout=60).returncode == 0:
            raise SystemExit("an answer of 400 is no failure")
    finally:
        server.shutdown()


def run(kafka, tool, topics_case, index_case, work):
    if not shutil.which("curl"):
        raise SystemExit("curl is missing: apt-get install curl")
    made = topics(Path(kafka).resolve(), Path(tool).resolve(), topics_case, work)
    index(index_case, work)
    return f"{len(made)} topics on a broker, made once; policy, template and index written once; failures are failures"
