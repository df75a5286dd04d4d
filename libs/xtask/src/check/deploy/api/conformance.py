"""Holds a running edge against an OpenAPI document.

    conformance.py DOCUMENT.json EDGE ADMIN             everything but what sheds
    conformance.py --shed DOCUMENT.json EDGE ADMIN      an edge that takes few connections and few requests of one client

Every answer must be one that the document has: its status, media type, headers and body. Every body and query that can be made
from the document's own schemas, at and beyond each limit, must be taken by the edge exactly where the schema takes it. Every
operation must have been used, and every type of problem seen. Ends with 1 and the first differences.
"""

import datetime
import http.client
import json
import re
import socket
import sys
import urllib.parse

import jsonschema

SHOWN = 20
FORMATS = jsonschema.FormatChecker(formats=[])
RFC3339 = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$")


@FORMATS.checks("date-time")
def is_time(value):
    return not isinstance(value, str) or RFC3339.match(value) is not None


class Contract:
    def __init__(self, document):
        self.document = document
        self.differences = []
        self.asked = 0
        self.seen = set()
        self.problems = set()

    def differ(self, text):
        if text not in self.differences:
            self.differences.append(text)

    def resolved(self, node):
        while "$ref" in node:
            pointer = node["$ref"].removeprefix("#/").split("/")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            node = self.document
            for part in pointer:
                node = node[part.replace("~1", "/").replace("~0", "~")]
            node = {**node, **rest}
        return node

    def errors(self, schema, value):
        whole = {"components": self.document["components"], "allOf": [schema]}
        validator = jsonschema.Draft202012Validator(whole, format_checker=FORMATS)
        return [f"{error.json_path}: {error.message[:160]}" for error in validator.iter_errors(value)]

    def operation(self, method, template):
        return self.document["paths"].get(template, {}).get(method.lower())

    def methods(self, template):
        names = ("get", "put", "post", "delete", "patch", "options", "head", "trace")
        return {name.upper() for name in names if name in self.document["paths"][template]}

    def hold(self, method, template, answer):
        """What is answered is one of the document's answers."""
        what = f"{method} {template} {answer.status}"
        operation = self.operation(method, template)
        if operation is None:
            return self.differ(f"{method} {template}: the document has no such operation")
        response = operation["responses"].get(str(answer.status))
        if response is None:
            return self.differ(f"{what}: the document has no such status: {answer.text[:160]}")
        response = self.resolved(response)
        media = answer.header("content-type").split(";")[0].strip()
        content = response.get("content", {}).get(media)
        if content is None:
            return self.differ(f"{what}: the document has no {media or 'answer without a type'}")
        self.seen.add((operation["operationId"], answer.status, media))
        self.headers(what, response.get("headers", {}), answer)
        body = answer.json() if media.endswith("json") else answer.text
        for error in self.errors(content["schema"], body):
            self.differ(f"{what}: {error}")
        if media == "application/problem+json":
            self.problem(what, answer)

    def headers(self, what, headers, answer):
        for name, header in headers.items():
            header = self.resolved(header)
            value = answer.header(name)
            if value == "":
                if header.get("required"):
                    self.differ(f"{what}: {name} is missing")
                continue
            for error in self.errors(header["schema"], value):
                self.differ(f"{what}: {name}: {error}")

    def problem(self, what, answer):
        """Also of answers that belong to no operation."""
        schema = {"$ref": "#/components/schemas/Problem"}
        problem = answer.json()
        for error in self.errors(schema, problem):
            self.differ(f"{what}: {error}")
        if answer.header("content-type") != "application/problem+json":
            self.differ(f"{what}: {answer.header('content-type')} is not a problem's type")
        if problem.get("status") != answer.status or problem.get("trace_id", "?") not in answer.header("traceresponse"):
            self.differ(f"{what}: the problem does not agree with its answer")
        self.problems.add(problem.get("type"))


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.raw = response.read()
        self.text = self.raw.decode("utf-8", "replace")
        self.names = {name.lower(): value for name, value in response.getheaders()}

    def header(self, name):
        return self.names.get(name, "")

    def json(self):
        try:
            return json.loads(self.raw)
        except ValueError:
            return None


class Peer:
    """One connection, opened again where the other end closed it."""

    def __init__(self, contract, url):
        self.contract = contract
        address = urllib.parse.urlsplit(url)
        self.host, self.port = address.hostname, address.port
        self.connection = None

    def ask(self, method, path, body=None, headers=None):
        self.contract.asked += 1
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        for last in (False, True):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
                self.connection.request(method, path, body, sent)
                return Answer(self.connection.getresponse())
            except (http.client.HTTPException, OSError):
                self.connection = None
                if last:
                    raise

    def hold(self, method, template, path=None, body=None, headers=None):
        answer = self.ask(method, path or template, body, headers)
        self.contract.hold(method, template, answer)
        return answer


def values(contract, schema):
    """At and beyond each limit of a schema; the schema itself says which of them it takes."""
    schema = contract.resolved(schema)
    for part in schema.get("anyOf", []):
        yield from values(contract, part)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    yield from (None, 1.5, True, "\u0007", [], [1], {"a": 1})
    for value in schema.get("enum", []) + schema.get("x-values", []):
        yield value
        if isinstance(value, str):
            yield value + "x"
    if "const" in schema:
        yield schema["const"]
    if "string" in kinds:
        yield "nonsense"
        for limit in (schema.get("minLength"), schema.get("maxLength")):
            if limit is not None:
                yield from ("7" * length for length in (limit - 1, limit, limit + 1) if length >= 0)
    if "integer" in kinds or "number" in kinds:
        for limit in (schema.get("minimum"), schema.get("maximum")):
            if limit is not None:
                yield from (limit - 1, limit, limit + 1)
    if "array" in kinds and "maxItems" in schema:
        item = next(value for value in ("7", 1) if not contract.errors(schema["items"], value) or value == 1)
        if item == "7":
            yield from ([item] * count for count in (1, schema["maxItems"], schema["maxItems"] + 1))
            yield from ([value] for value in values(contract, schema["items"]))
    if "maxProperties" in schema:
        for count in (0, schema["maxProperties"], schema["maxProperties"] + 1):
            yield {f"n{number}": "7" for number in range(count)}
        names = contract.resolved(schema.get("propertyNames", {}))
        for length in (names.get("maxLength", 1), names.get("maxLength", 1) + 1, 0):
            yield {"n" * length: "7"}
        yield from ({"n": value} for value in values(contract, schema["additionalProperties"]))


def bodies(contract, schema, base):
    """`base` with one thing changed at a time, all the way down."""
    schema = contract.resolved(schema)
    for part in schema.get("anyOf", []):
        part = contract.resolved(part)
        if "properties" in part and isinstance(base, dict):
            yield from bodies(contract, part, base)
    yield base
    yield {**base, "nothing": 1}
    for name, inner in schema.get("properties", {}).items():
        yield {key: value for key, value in base.items() if key != name}
        for value in values(contract, inner):
            yield {**base, name: value}
        if isinstance(base.get(name), dict):
            yield from ({**base, name: value} for value in bodies(contract, inner, base[name]))
        if isinstance(base.get(name), list) and base[name] and isinstance(base[name][0], dict):
            items = contract.resolved(inner)["items"]
            yield from ({**base, name: [value]} for value in bodies(contract, items, base[name][0]))


def agree(contract, peer, method, template, path, base):
    """The edge takes a body exactly where the schema does."""
    operation = contract.operation(method, template)
    if operation is None:
        return contract.differ(f"{method} {template}: the document has no such operation")
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for body in bodies(contract, schema, base):
        errors = contract.errors(schema, body)
        answer = peer.hold(method, template, path, body)
        shown = json.dumps(body)
        shown = shown if len(shown) < 200 else shown[:200] + "..."
        if errors and answer.status != 422:
            contract.differ(f"{method} {template} took {shown}, and the document refuses it: {errors[0]}")
        if not errors and answer.status >= 300:
            contract.differ(f"{method} {template} refused {shown}, and the document takes it: {answer.text[:200]}")


def agree_by_query(contract, peer, template, base):
    """The same for each query parameter, as text."""
    operation = contract.operation("GET", template)
    if operation is None:
        return contract.differ(f"GET {template}: the document has no such operation")
    parameters = [contract.resolved(parameter) for parameter in operation["parameters"]]
    parameters = [parameter for parameter in parameters if parameter["in"] == "query"]
    needed = {parameter["name"] for parameter in parameters if parameter.get("required")}

    def ask(query, valid):
        answer = peer.hold("GET", template, f"{template}?{urllib.parse.urlencode(query)}")
        if valid != (answer.status < 300):
            word = "refused" if valid else "took"
            contract.differ(f"GET {template} {word} {json.dumps(query)[:200]}, unlike the document: {answer.text[:160]}")

    ask(base, True)
    ask({**base, "nothing": "1"}, False)
    for parameter in parameters:
        name, schema = parameter["name"], contract.resolved(parameter["schema"])
        if name in base:
            ask({key: value for key, value in base.items() if key != name}, name not in needed)
        if name in needed and schema.get("pattern", "").endswith("{32}$"):
            ask({**base, name: "nonsense"}, False)
            continue
        for value in values(contract, schema):
            if isinstance(value, (list, dict, bool)) or value is None:
                continue
            text = str(value)
            is_number = schema.get("type") == "integer"
            typed = int(text) if is_number and re.fullmatch(r"\d+", text) else text
            query = {**base, name: text}
            if name == "page_type" and text == "product":
                query["item_id"] = "i1"
            if name == "item_id" and name in needed:
                continue
            ask(query, not contract.errors(schema, typed))


def event(**change):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event_id": "e-1", "type": "click", "user_id": "u1", "item_id": "i1", "occurred_at": now, **change}


def everything(contract, edge, admin):
    page = edge.hold("POST", "/v1/personalize", body={"user_id": "u1", "limit": 5, "explain": True}).json()
    item, request = page["items"][0]["item_id"], page["request_id"]
    edge.hold("POST", "/v1/personalize", body={"user_id": "u1"}, headers={"x-attune-version": "0"})
    edge.hold("POST", "/v1/personalize", body={"user_id": "u1"}, headers={"x-attune-version": "soon"})
    for body in (b"{", b"", b"\xff\xfe", b'{"user_id":"\xff"}'):
        for template in ("/v1/personalize", "/v1/feedback"):
            edge.hold("POST", template, body=body)
    for method, template, peer in (
        ("POST", "/v1/personalize", edge),
        ("POST", "/v1/feedback", edge),
        ("PUT", "/v1/items/{id}", admin),
        ("PUT", "/v1/users/{id}", admin),
    ):
        path = template.replace("{id}", "c1")
        peer.hold(method, template, path, b"{}", {"content-type": "text/plain"})
        peer.hold(method, template, path, b'"' + b"x" * (1 << 20) + b'"')
        peer.hold(method, template, path, b"{")
    edge.hold("GET", "/v1/personalize", "/v1/personalize?user_id=%ff")
    edge.hold("GET", "/v1/explain", "/v1/explain?request_id=%ff")

    context = {"device": "mobile", "geo": "us-west", "session_id": "s1"}
    agree(contract, edge, "POST", "/v1/personalize", None, {"user_id": "u1", "limit": 5, "item_id": item, "query": "film", "context": context})
    agree(contract, edge, "POST", "/v1/feedback", None, {"events": [event(request_id=request, position=0, value=1.0)]})
    agree(contract, edge, "POST", "/v1/feedback", None, {"events": [event(session_id="s1", user_id=None)]})
    agree_by_query(contract, edge, "/v1/personalize", {"user_id": "u1", "limit": "5"})
    agree_by_query(contract, edge, "/v1/explain", {"request_id": request, "item_id": item})
    for count in (500, 501):
        answer = edge.hold("POST", "/v1/feedback", body={"events": [event(event_id=f"m-{n}") for n in range(count)]})
        errors = contract.errors({"$ref": "#/components/schemas/FeedbackRequest"}, {"events": [event()] * count})
        if bool(errors) == (answer.status == 202):
            contract.differ(f"POST /v1/feedback: {count} events are answered {answer.status}, unlike the document")
    mixed = edge.hold("POST", "/v1/feedback", body={"events": [event(event_id="good"), event(type="clack")]})
    if mixed.status != 202 or len(mixed.json()["rejected"]) != 1:
        contract.differ("POST /v1/feedback: a good event beside a bad one is not taken")

    query = urllib.parse.urlencode({"request_id": request, "item_id": item})
    edge.hold("GET", "/v1/explain", f"/v1/explain?{query}", headers={"accept": "text/event-stream"})
    edge.hold("GET", "/v1/explain", f"/v1/explain?request_id={'0' * 32}&item_id={item}")
    edge.hold("GET", "/v1/about")

    described = {"title": "T", "categories": ["Drama"], "attributes": {"a": "1"}, "price": 9, "created_at": event()["occurred_at"]}
    agree(contract, admin, "PUT", "/v1/items/{id}", "/v1/items/c1", described)
    agree(contract, admin, "PUT", "/v1/users/{id}", "/v1/users/c1", {"attributes": {"a": "1"}})
    for template in ("/v1/items/{id}", "/v1/users/{id}"):
        for method in ("PUT", "DELETE"):
            for identifier in ("%00", "%ff", "x" * 129):
                admin.hold(method, template, template.replace("{id}", identifier), b"{}" if method == "PUT" else None)
    admin.hold("DELETE", "/v1/items/{id}", "/v1/items/c1")
    admin.hold("DELETE", "/v1/items/{id}", "/v1/items/nothing")
    admin.hold("DELETE", "/v1/users/{id}", "/v1/users/c1")
    admin.hold("GET", "/livez")
    admin.hold("GET", "/readyz")
    admin.hold("GET", "/metrics")
    admin.hold("GET", "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    for peer, path in ((edge, "/v1/nothing"), (edge, "/"), (admin, "/v1/nothing")):
        answer = peer.ask("GET", path)
        contract.problem(f"GET {path} {answer.status}", answer)
        if answer.status != 404:
            contract.differ(f"GET {path} is answered {answer.status}")
    methods(contract, edge, admin)


def methods(contract, edge, admin):
    """Each route takes exactly the document's methods, and says so."""
    for template, item in contract.document["paths"].items():
        peer = admin if "servers" in item else edge
        documented = contract.methods(template)
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            if method in documented:
                continue
            answer = peer.ask(method, template.replace("{id}", "c1"))
            if template == "/v1/about":
                # There is nothing there for any other method.
                if answer.status != 404:
                    contract.differ(f"{method} {template} is answered {answer.status}")
                continue
            allowed = set(answer.header("allow").split(", ")) - {"HEAD"}
            if answer.status != 405 or allowed != documented:
                contract.differ(f"{method} {template} is answered {answer.status} and allows {sorted(allowed)}, not {sorted(documented)}")
            # Every operation of a route has the answer.
            for known in documented:
                contract.hold(known, template, answer)


def shed(contract, edge, admin):
    del admin
    for _ in range(50):
        answer = edge.hold("POST", "/v1/personalize", body={"user_id": "u1"})
        if answer.status == 429:
            break
    else:
        contract.differ("50 requests at once were all taken")
    for method, template in (("GET", "/v1/personalize"), ("POST", "/v1/feedback"), ("GET", "/v1/explain"), ("GET", "/v1/about")):
        edge.hold(method, template, body={} if method == "POST" else None)
    held = [socket.create_connection((edge.host, edge.port)) for _ in range(8)]
    other = Peer(contract, f"http://{edge.host}:{edge.port}")
    if other.hold("POST", "/v1/personalize", body={"user_id": "u1"}).status != 503:
        contract.differ("a connection above the cap is taken")
    for connection in held:
        connection.close()


def main():
    arguments = sys.argv[1:]
    is_shed = arguments[0] == "--shed"
    document, edge, admin = arguments[-3:]
    with open(document, encoding="utf-8") as file:
        contract = Contract(json.load(file))
    (shed if is_shed else everything)(contract, Peer(contract, edge), Peer(contract, admin))
    kinds = set(contract.document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"])
    shedding = {"urn:attune:problem:too-many-requests", "urn:attune:problem:unavailable"}
    expected = shedding if is_shed else kinds - shedding
    for kind in sorted(expected - contract.problems):
        contract.differ(f"{kind}: was never answered")
    if not is_shed:
        used = {operation for operation, status, _ in contract.seen if status < 300}
        for template, item in contract.document["paths"].items():
            for method in contract.methods(template):
                if item[method.lower()]["operationId"] not in used:
                    contract.differ(f"{method} {template}: was never answered with success")
    if contract.differences:
        for difference in contract.differences[:SHOWN]:
            print(difference)
        print(f"{len(contract.differences)} differences")
        return 1
    print(f"{contract.asked} requests, {len(contract.seen)} kinds of answers, {len(contract.problems)} types of problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
