"""What must be refused, and by which check."""

import copy

from objects import component, pod


def workload(case, name):
    return next(each for each in case.servers() if component(each) == name)


def first(case, name):
    return pod(workload(case, name))["spec"]["containers"][0]


def of(case, kind, name):
    return next(each for each in case.of(kind) if component(each) == name)


def config(case, name, old, new):
    held = of(case, "ConfigMap", name)["data"]
    assert old in held["config.toml"], f"{name} has no {old}"
    held["config.toml"] = held["config.toml"].replace(old, new)


def put(target, value, *path):
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


# case, check that refuses, what it is, how the rendering is broken
BROKEN = [
    ("embedded", "selectors", "pods with another label than their Deployment's selector",
     lambda c: put(workload(c, "edge"), "front", "spec", "template", "metadata", "labels", "app.kubernetes.io/component")),
    ("embedded", "selectors", "a service that selects nothing",
     lambda c: put(of(c, "Service", "ranking"), "rank", "spec", "selector", "app.kubernetes.io/component")),
    ("embedded", "ports", "port 99999", lambda c: put(first(c, "edge"), 99999, "ports", 0, "containerPort")),
    ("embedded", "ports", "a service's port 99999", lambda c: put(of(c, "Service", "edge"), 99999, "spec", "ports", 0, "port")),
    ("embedded", "ports", "a target port that is not there", lambda c: put(of(c, "Service", "edge"), "web", "spec", "ports", 0, "targetPort")),
    ("embedded", "ports", "a probe of another port", lambda c: put(first(c, "bandit"), 9999, "readinessProbe", "grpc", "port")),
    ("embedded", "ports", "a process on another port than its pod", lambda c: config(c, "llm", "0.0.0.0:9006", "0.0.0.0:9016")),
    ("edge-pop", "ports", "a route to a port that is not there", lambda c: put(of(c, "HTTPRoute", "edge"), 80, "spec", "rules", 0, "backendRefs", 0, "port")),
    ("ha", "budgets", "a budget that lets all copies go", lambda c: put(of(c, "PodDisruptionBudget", "edge"), 3, "spec", "maxUnavailable")),
    ("ha", "budgets", "a budget that lets nobody drain", lambda c: put(of(c, "PodDisruptionBudget", "edge"), 0, "spec", "maxUnavailable")),
    ("embedded", "budgets", "no budget", lambda c: c.objects.remove(of(c, "PodDisruptionBudget", "bandit"))),
    ("ha", "scaling", "a number of copies beside a scaler", lambda c: put(workload(c, "edge"), 3, "spec", "replicas")),
    ("ha", "scaling", "more consumers than partitions", lambda c: put(of(c, "ScaledObject", "embedder"), 25, "spec", "maxReplicaCount")),
    ("ha", "scaling", "a threshold that is a number", lambda c: put(of(c, "ScaledObject", "ranking"), 8, "spec", "triggers", 0, "metadata", "threshold")),
    ("embedded", "names", "a variable that nobody reads", lambda c: put(first(c, "edge"), "ATTUNE_EDGE__LIMITS__CONECTIONS", "env", 0, "name")),
    ("embedded", "names", "a key that the service does not know", lambda c: config(c, "origin", "decision_log", "decisions_log")),
    ("embedded", "graph", "a caller that the policy leaves out", lambda c: of(c, "NetworkPolicy", "origin")["spec"]["ingress"][0]["from"].pop()),
    ("embedded", "graph", "a caller too many", lambda c: put(of(c, "NetworkPolicy", "embedder"), "edge", "spec", "ingress", 0, "from", 0, "podSelector", "matchLabels", "app.kubernetes.io/component")),
    ("embedded", "addresses", "a neighbour that is not there", lambda c: config(c, "bandit", "attune-embedder-headless", "attune-embeder-headless")),
    ("embedded", "secrets", "a secret that is not mounted", lambda c: put(pod(workload(c, "edge")), [v for v in pod(workload(c, "edge"))["spec"]["volumes"] if v["name"] != "subject-key"], "spec", "volumes")),
    ("embedded", "secrets", "a secret without a name", lambda c: [put(v, "", "secret", "secretName") for v in pod(workload(c, "edge"))["spec"]["volumes"] if "secret" in v]),
    ("embedded", "secrets", "a secret in a variable", lambda c: put(first(c, "edge"), {"secretKeyRef": {"name": "attune-keys", "key": "subject.key"}}, "env", 0, "valueFrom")),
    ("embedded", "storage", "two owners of one log", lambda c: put(workload(c, "origin"), 2, "spec", "replicas")),
    ("embedded", "storage", "a store without a volume", lambda c: put(first(c, "origin"), [m for m in first(c, "origin")["volumeMounts"] if m["name"] != "state"], "volumeMounts")),
    ("ha", "storage", "an embedder on another log than the origin", lambda c: config(c, "embedder", "kafka://kafka-0.kafka:9093,", "kafka://")),
    ("embedded", "security", "a pod that may be root", lambda c: pod(workload(c, "llm"))["spec"]["securityContext"].pop("runAsNonRoot")),
    ("embedded", "security", "a container with capabilities", lambda c: first(c, "llm")["securityContext"].pop("capabilities")),
    ("embedded", "drain", "no time to drain", lambda c: put(workload(c, "edge"), 20, "spec", "template", "spec", "terminationGracePeriodSeconds")),
    ("embedded", "drain", "no checksum of the settings", lambda c: pod(workload(c, "edge"))["metadata"]["annotations"].pop("checksum/config")),
    ("ha", "alerts", "a runbook that was removed", lambda c: c.runbooks.discard("HighErrorRate")),
    ("ha", "alerts", "a rule that differs from its file", lambda c: put(of(c, "PrometheusRule", "rules"), "vector(1)", "spec", "groups", 0, "rules", 0, "expr")),
    ("ha", "alerts", "a dashboard that differs from its file", lambda c: put(of(c, "ConfigMap", "dashboards"), {"executive.json": "{}"}, "data")),
    ("gpu", "gpus", "a GPU to spare", lambda c: put(workload(c, "llm-server"), 1, "spec", "strategy", "rollingUpdate", "maxSurge")),
]

# case, what the refusal says, values
VALUES = [
    ("embedded", "additional properties 'replica' not allowed", ["services.edge.replica=3"]),
    ("embedded", "additional properties 'conections' not allowed", ["services.edge.config.limits.conections=3"]),
    ("embedded", "invalid propertyName 'ATTUNE_EDGE__LIMIT'", ["services.edge.env.ATTUNE_EDGE__LIMIT=3"]),
    ("embedded", "at '/services/edge/ports/http': maximum: got 99,999, want 65,535", ["services.edge.ports.http=99999"]),
    ("embedded", "at '/mesh/kind': value must be one of", ["mesh.kind=consul"]),
    ("embedded", "image.repository: name the image", ["image.repository="]),
    ("embedded", "subjectKey.existingSecret: edge turns user ids into pseudonyms", ["subjectKey.existingSecret="]),
    ("embedded", "model: edge reads the bundle: name either claim or image", ["model.claim=both"]),
    ("embedded", "services.origin.replicas: it owns the decision log", ["services.origin.replicas=2"]),
    ("embedded", "more than one needs kafka.brokers and redis.url", ["services.embedder.replicas=2"]),
    ("embedded", "services.ranking.enabled: origin calls it", ["services.ranking.enabled=false"]),
    ("embedded", "one process instead of the others", ["services.attune.enabled=true"]),
    ("embedded", "keda knows what ranking and embedder wait for", ["services.edge.autoscaling.kind=keda"]),
    ("edge-pop", "services.origin.enabled: edge calls it, here or at externalOrigin", ["externalOrigin="]),
    ("ha", "8 copies share 4 partitions", ["kafka.partitions=4"]),
    ("ha", "kafka.sasl: username and existingSecret go together", ["kafka.sasl.existingSecret="]),
    ("ha", "gateway.tls: name either existingSecret or issuer", ["gateway.tls.existingSecret=own"]),
    ("ha", "the job speaks to brokers without encryption and login only", ["hooks.topics.enabled=true"]),
    ("gpu", "llmServer: name image and model", ["llmServer.model="]),
]


def broken(case, how):
    """A copy of the case, broken."""
    worse = copy.deepcopy(case)
    how(worse)
    return worse
