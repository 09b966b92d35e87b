"""OpenAPI documents of real public services, imported whole: each tool is called against a server made from the same document, which
takes no request that the document does not describe (`openapi-core`)."""

import json
import random
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
import rstr
import yaml
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from harness import planted
from harness.places import TESTS
from harness.product import command
from harness.stories import make_workload, workload_token
from harness.upstream import Reply

MODULES = TESTS / "idp" / "node_modules"
DOCUMENTS = {
    "figma": MODULES / "@figma" / "rest-api-spec" / "openapi" / "openapi.yaml",
    "readme": MODULES / "@readme" / "oas-examples" / "3.1" / "json" / "readme.json",
    "train travel": MODULES / "@readme" / "oas-examples" / "3.1" / "json" / "train-travel.json",
    "uspto": MODULES / "@readme" / "oas-examples" / "3.0" / "json" / "uspto.json",
    "star trek": MODULES / "@readme" / "oas-examples" / "3.0" / "json" / "star-trek.json",
}
EDGES = sorted((MODULES / "@readme" / "oas-examples").glob("3.*/json/*.json"))


@pytest.fixture(scope="module")
def allow_egress(upstream):
    return (upstream.address,)


class Asked:
    """A request in the form that `openapi-core` looks at."""

    def __init__(self, server, seen):
        url = urlsplit(seen.path)
        self.host_url, self.path, self.method = server, url.path, seen.method.lower()
        self.content_type = seen.headers.get("content-type", "")
        self.body = seen.body or None
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(parse_qsl(url.query, keep_blank_values=True)), header=Headers(seen.headers),
        )  # fmt: skip


RANDOM = rstr.Rstr(random.Random(7))
FORMATS = {
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "date-time": "2026-11-26T12:00:00Z", "date": "2026-11-26",
    "uri": "https://example.com/", "url": "https://example.com/", "email": "ada@example.com",
}  # fmt: skip


def load(file):
    return yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())


def example(schema, definitions, depth=0):
    """The least that a schema takes."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2].replace("~1", "/").replace("~0", "~")], definitions, depth + 1)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("oneOf", "anyOf"):
        if schema.get(name):
            own = {key: value for key, value in schema.items() if key != name}
            return example(merged([own, schema[name][0]], definitions), definitions, depth + 1)
    if schema.get("allOf"):
        own = {key: value for key, value in schema.items() if key != "allOf"}
        return example(merged([own, *schema["allOf"]], definitions), definitions, depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or schema.get("properties"):
        properties = schema.get("properties", {})
        names = schema.get("required") or list(properties)[: schema.get("minProperties", 0)]
        return {name: example(properties.get(name, {}), definitions, depth + 1) for name in names}
    if kind == "array":
        return [example(schema.get("items", {}), definitions, depth + 1) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    text = FORMATS.get(schema.get("format"), "x" * max(schema.get("minLength", 1), 1))
    if "pattern" in schema:
        known = [it for it in (text, "a.json", "v1.0") if re.search(schema["pattern"], it)]
        made = (RANDOM.xeger(schema["pattern"]) for _ in range(1000))
        return known[0] if known else next(it for it in made if it.isascii() and it.isprintable())
    return text


def merged(parts, definitions):
    whole = {"properties": {}, "required": []}
    for part in parts:
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        if "allOf" in part:
            part = merged([{key: value for key, value in part.items() if key != "allOf"}, *part["allOf"]], definitions)
        whole = {
            **whole, **part,
            "properties": whole["properties"] | part.get("properties", {}), "required": [*whole["required"], *part.get("required", [])],
        }  # fmt: skip
    return whole


@pytest.mark.parametrize("service", DOCUMENTS)
def test_every_tool_of_a_public_service_is_taken_by_its_own_document(server, caller, upstream, fresh, service):
    file, agent, provider = DOCUMENTS[service], make_workload(caller, fresh("agent")), fresh("service")
    secret = planted.new_secret("API key")
    caller.ok("CreateApiKeyCredentialProvider", name=provider, apiKey=secret, tags={"agent-identity:injectable-hosts": upstream.address})
    prefix = fresh("t") + "."
    said = json.loads(command(
        "tools", "import", str(file), "--server", upstream.url, "--allow", agent, "--provider", provider, "--flow", "API_KEY",
        "--placement", '{"location": "HEADER", "name": "x-agent-identity-key"}', "--prefix", prefix,
        "--json", "--data", str(server.data),
    ).stdout)  # fmt: skip
    document = load(file)
    verbs = {"get", "put", "post", "patch", "delete", "head"}
    operations = sum(len(verbs & set(item)) for item in document["paths"].values())
    assert len(said["tools"]) + len(said["leftOut"]) == operations and len(said["tools"]) >= 0.9 * operations, said["leftOut"]
    wat = workload_token(caller, agent)
    # What the document says of who may call is the vault's part here.
    document["servers"] = [{"url": upstream.url}]
    document.pop("security", None)
    for item in document["paths"].values():
        item.pop("servers", None)
        for verb in verbs & set(item):
            item[verb].pop("security", None)
            item[verb].pop("servers", None)
    described, refusals = OpenAPI.from_dict(document), []

    def answer(seen):
        found = described.unmarshal_request(Asked(upstream.url, seen))
        refusals.extend(f"{seen.method} {seen.path}: {error!r} {error.__cause__!r}" for error in found.errors)
        return Reply()

    upstream.reset()
    upstream.answer = answer
    for name in said["tools"]:
        schema = caller.ok("GetTool", name=name)["inputSchema"]
        answered = caller.ok("InvokeTool", workloadIdentityToken=wat, toolName=name, input=example(schema, schema.get("$defs", {})))
        assert answered.get("statusCode") == 200, (name, answered)
        assert upstream.last().headers["x-agent-identity-key"] == secret
    assert len(upstream.seen) == len(said["tools"])
    assert "\n".join(refusals) == ""
    command("tools", "delete", *said["tools"], "--data", str(server.data))


@pytest.mark.parametrize("file", EDGES, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_no_document_is_imported_by_halves_or_ends_the_command(server, file):
    """Each operation is a tool or is named with the reason."""
    done = command("tools", "import", str(file), "--server", "https://api.example.com", "--allow", "*", "--dry-run", "--json",
                   "--data", str(server.data), expect=None)  # fmt: skip
    assert done.returncode in (0, 1) and "panicked" not in done.stderr
    if done.stdout:
        said = json.loads(done.stdout)
        paths = load(file).get("paths") or {}
        verbs = {"get", "put", "post", "patch", "delete", "head"}
        counted = sum(len(verbs & set(item)) for item in paths.values() if isinstance(item, dict) and "$ref" not in item)
        assert len(said["tools"]) + len(said["leftOut"]) >= counted
    else:
        assert done.stderr.startswith("error: ")


def test_some_operations_and_what_is_left_out_is_said(server, fresh):
    file = DOCUMENTS["star trek"]
    done = command("tools", "import", str(file), "--allow", "*", "--dry-run", "--data", str(server.data), expect=1)
    assert "must begin with https://" in done.stderr
    some = command("tools", "import", str(file), "--server", "https://stapi.example", "--allow", "*", "--only", "GET *animal*",
                   "--dry-run", "--json", "--data", str(server.data))  # fmt: skip
    made = json.loads(some.stdout)
    assert 0 < len(made["tools"]) < 5 and made["dryRun"]
    listed = json.loads(command("tools", "list", "--json", "--data", str(server.data)).stdout)
    assert not {it["name"] for it in listed} & set(made["tools"])
    assert command("tools", "import", "/nowhere", "--allow", "*", expect=1).stderr.startswith("error: FILE must name a file")
    assert "--flow" in command("tools", "import", str(file), "--allow", "*", "--provider", "x", expect=2).stderr
