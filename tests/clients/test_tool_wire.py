"""Tools and usage on the wire: every request broken in every way that our service model knows, and who may ask (D1)."""

import pytest

from harness import model, planted
from harness.product import create_access_key
from harness.requests_of_operations import encoded
from harness.stories import make_workload, workload_token
from harness.violations import violations

TOOL = {
    "name": "@tool@",
    "description": "Reads a thing",
    "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}, "q": {"type": "string"}}, "required": ["id"]},
    "request": {
        "method": "POST", "url": "https://api.example.com/v1/{id}", "query": {"q": "{q}"}, "headers": {"X-One": "1"}, "body": {"a": "{q}"},
    },
    "credential": {
        "providerName": "@provider@", "flow": "M2M", "scopes": ["read"], "resources": ["https://api.example.com"], "audiences": ["api"],
        "placement": {"location": "HEADER", "name": "x-api-key", "prefix": "Key "},
    },
    "allowedWorkloads": ["@workload@"],
}  # fmt: skip
ANY = {
    "name": "@any@",
    "request": {"methods": ["GET", "POST"], "url": "https://api.example.com/v1"},
    "allowedWorkloads": ["@workload@"],
}
REQUESTS = {
    "PutTool": TOOL,
    "GetTool": {"name": "@tool@"},
    "ListTools": {"workloadName": "@workload@", "maxResults": 5},
    "InvokeTool": {"workloadIdentityToken": "@wat@", "toolName": "@tool@", "input": {"id": "1"}, "resourceOauth2ReturnUrl": "https://app.example/", "customState": "x"},
    "DeleteTool": {"name": "@tool@"},
    "GetUsage": {"workloadName": "@workload@", "providerName": "@provider@", "from": "2026-01-01", "to": "2026-02-01", "maxResults": 5},
}  # fmt: skip
CASES = [
    pytest.param(operation, violation, id=f"{operation}: {violation.what}"[:180])
    for operation, request in REQUESTS.items()
    for violation in violations(operation, request)
] + [pytest.param("PutTool", violation, id=f"PutTool of any request: {violation.what}"[:180]) for violation in violations("PutTool", ANY)]


@pytest.fixture(scope="module")
def things(caller, fresh):
    made = {"workload": make_workload(caller, fresh("agent")), "provider": fresh("machine"), "tool": fresh("tool"), "any": fresh("any")}
    caller.ok(
        "CreateOauth2CredentialProvider", name=made["provider"], credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput={"githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": planted.new_secret("client secret")}},
        tags={"agent-identity:injectable-hosts": "api.example.com"},
    )  # fmt: skip
    made["wat"] = workload_token(caller, made["workload"])
    assert caller.raw("PutTool", encoded(TOOL, made)).status == 200
    return made


def test_there_are_many_ways():
    assert len(CASES) > 100


@pytest.mark.parametrize("operation", REQUESTS)
def test_the_request_is_accepted_before_it_is_broken(caller, things, operation):
    if operation in ("InvokeTool", "DeleteTool"):
        return  # The one calls somebody, the other ends what others need: both are in idp_suite/test_tools.py.
    assert caller.raw(operation, encoded(REQUESTS[operation], things)).status == model.success_status(operation)


@pytest.mark.parametrize(("operation", "violation"), CASES)
def test_a_broken_request_is_refused_and_the_field_is_named(caller, things, operation, violation):
    answer = caller.raw(operation, encoded(violation.request, things))
    assert (answer.status, answer.error) == (400, "ValidationException"), f"{violation.what}: {answer}"
    named = [name for field in answer.wrong_fields for name in field.replace("[", ".").split(".")]
    assert violation.member in named, f"{violation.what}: names {answer.wrong_fields}"


@pytest.mark.parametrize("operation", REQUESTS)
def test_d1_without_a_grant_every_operation_is_denied(server, caller, things, fresh, operation):
    for grants in ((), ("mint-jwt,mint-userid,read",), ("admin,use operation=*Workload*",)):
        asking = server.caller(create_access_key(server.data, fresh("key"), *grants))
        answer = asking.raw(operation, encoded(REQUESTS[operation], things))
        assert (answer.status, answer.error) == (403, "AccessDeniedException"), answer
        assert operation in answer.message
        asking.close()


def test_a_tool_of_any_request_is_read_as_it_was_stored(caller, things):
    assert caller.raw("PutTool", encoded(ANY, things)).status == 200
    got = caller.ok("GetTool", name=things["any"])
    assert got["request"] == {"methods": ["GET", "POST"], "url": "https://api.example.com/v1"}
    assert got["inputSchema"]["properties"]["method"] == {"enum": ["GET", "POST"]}
    # What was read can be stored again.
    members = {name: got[name] for name in ("name", "inputSchema", "request", "allowedWorkloads")}
    assert caller.ok("PutTool", **members)["version"] == got["version"] + 1
    assert caller.raw("PutTool", encoded(ANY | {"inputSchema": {"type": "object"}}, things)).status == 400
    listed = {tool["name"]: tool for tool in caller.ok("ListTools", workloadName=things["workload"])["tools"]}
    assert listed[things["any"]]["request"] == got["request"] and "request" not in listed[things["tool"]]


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"inputSchema": {"type": "object"}}, "inputSchema"),
        ({"request": ANY["request"] | {"method": "GET"}}, "request.method"),
        ({"request": ANY["request"] | {"query": {"a": "b"}}}, "request.query"),
        ({"request": ANY["request"] | {"headers": {}}}, "request.headers"),
        ({"request": ANY["request"] | {"body": {}}}, "request.body"),
        ({"request": ANY["request"] | {"methods": ["GET", "TRACE"]}}, "request.methods"),
        ({"request": ANY["request"] | {"methods": []}}, "request.methods"),
        ({"request": ANY["request"] | {"url": "https://api.example.com/{x}"}}, "request.url"),
        ({"request": ANY["request"] | {"url": "http://api.example.com/"}}, "request.url"),
        ({"request": ANY["request"] | {"url": "https://api.example.com/../x"}}, "request.url"),
        ({"request": {"url": "https://api.example.com"}}, "request.method"),
        ({"request": {"method": "GET", "url": "https://api.example.com"}}, "inputSchema"),
    ],
)
def test_what_a_tool_of_any_request_cannot_have_is_named(caller, things, change, member):
    answer = caller.raw("PutTool", encoded(ANY | change, things))
    assert (answer.status, answer.error) == (400, "ValidationException"), answer
    assert any(field.startswith(member) for field in answer.wrong_fields), answer.wrong_fields
