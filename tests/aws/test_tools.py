"""Tools on AWS: the gateway function behind IAM's route and behind our authorizer, with the credential injected."""

import json
import urllib.error
import urllib.request

import pytest
from mcp.client.auth.utils import build_protected_resource_metadata_discovery_urls
from mcp.shared.auth import ProtectedResourceMetadata

from harness import model, planted
from harness.functions import Functions, Instance, http_event
from harness.quick_start import run_quick_start
from harness.stories import make_guarded_agent, make_workload, sign_in, workload_token

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False}


@pytest.fixture(scope="module")
def functions(vendor, upstream):
    counting = {"AGENT_IDENTITY_USAGE_EVERY": "0", "AGENT_IDENTITY_USAGE_METRICS": "true"}
    running = Functions((vendor.address, upstream.address), environment=counting).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def caller(functions):
    made = functions.caller()
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    return make_guarded_agent(caller, vendor, fresh("agent"))


@pytest.fixture(scope="module")
def tool(caller, agent, upstream, fresh):
    """A tool with an API key, and the key."""
    provider, secret, name = fresh("weather"), planted.new_secret("API key"), fresh("tool")
    caller.ok("CreateApiKeyCredentialProvider", name=provider, apiKey=secret, tags={"agent-identity:injectable-hosts": upstream.address})
    caller.ok("PutTool", name=name, inputSchema=SCHEMA, allowedWorkloads=[agent], request={"method": "GET", "url": upstream.url + "/v1/{id}"},
              credential={"providerName": provider, "flow": "API_KEY"})  # fmt: skip
    return name, secret


def test_boto3_calls_a_tool_and_gets_no_secret(functions, agent, tool, upstream, monkeypatch):
    monkeypatch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
    name, secret = tool
    data = functions.boto3(model.DATA)
    wat = planted.plant(data.get_workload_access_token(workloadName=agent)["workloadAccessToken"], "workload access token")
    answer = data.invoke_tool(workloadIdentityToken=wat, toolName=name, input={"id": "7"})
    assert (answer["statusCode"], upstream.last().path) == (200, "/v1/7")
    assert upstream.last().headers["authorization"] == f"Bearer {secret}" and secret not in answer["body"]
    assert functions.pools["gateway"].all, "it is the gateway function that did it"


def event(agent, path, body, context=None):
    more = {} if context is None else {"authorizer": {"lambda": context}}
    made = http_event("POST", f"/agents/{agent}/{path}", [("host", "api.example"), ("content-type", "application/json")], json.dumps(body).encode(), **more)
    return made | {"pathParameters": {"agentId": agent}}


def test_a_user_reaches_their_agents_tools_through_the_authorizer(functions, vendor, agent, tool, upstream):
    """As API Gateway does it: the authorizer's answer is what the gateway function gets."""
    name, secret = tool
    token = sign_in(vendor, "ada")["access_token"]
    asked = event(agent, "mcp", {}) | {"type": "REQUEST", "routeArn": "arn", "identitySource": [f"Bearer {token}"]}
    asked["headers"] = asked["headers"] | {"authorization": f"Bearer {token}"}
    authorizer = Instance("authorizer", functions.environment)
    try:
        allowed = authorizer.invoke(asked)
    finally:
        authorizer.stop()
    assert allowed["isAuthorized"] is True and allowed["context"]["agentId"] == agent
    gateway = functions.pools["gateway"]

    def sent(path, body, context=allowed["context"], at=agent):
        answer = gateway.invoke(event(at, path, body, context))
        return answer["statusCode"], json.loads(answer["body"])

    status, said = sent(f"tools/{name}", {"input": {"id": "1"}})
    assert (status, said["statusCode"]) == (200, 200) and secret not in json.dumps(said)
    status, said = sent("mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {"id": "2"}}})
    assert status == 200 and not said["result"]["isError"] and upstream.last().path == "/v1/2"
    called = len(upstream.seen)
    # Nobody's, another agent's, one that has ended: none of them passes although the route has let it through.
    assert sent("mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, None)[0] == 403
    assert sent(f"tools/{name}", {"input": {"id": "1"}}, allowed["context"] | {"agentId": "another"})[0] == 403
    assert sent(f"tools/{name}", {"input": {"id": "1"}}, allowed["context"] | {"expiresAt": 1})[0] == 401
    assert sent(f"tools/{name}", {"input": {"id": "1"}}, {"principalId": "user"})[0] == 403
    assert len(upstream.seen) == called


def test_an_mcp_client_finds_out_where_its_user_signs_in_without_a_challenge(functions, caller, agent, vendor, fresh):
    """An HTTP API hands no WWW-Authenticate on, so that the official client looks where RFC 9728 §3.1 says, without a token."""
    resource = f"{functions.url}/agents/{agent}/mcp"
    [path_based, _root] = build_protected_resource_metadata_discovery_urls(None, resource)
    with urllib.request.urlopen(path_based, timeout=30) as response:
        found = ProtectedResourceMetadata.model_validate_json(response.read())
    assert str(found.resource) == resource
    assert [str(url).rstrip("/") for url in found.authorization_servers] == [vendor.issuer]
    unguarded = make_workload(caller, fresh("agent"))
    for name in (unguarded, fresh("nobody"), "not%20a%20name"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{functions.url}/.well-known/oauth-protected-resource/agents/{name}/mcp", timeout=30)
        assert refused.value.code == 404 and "accepted for it" in refused.value.read().decode()


def test_what_a_client_says_of_its_session_is_not_believed(functions, agent, tool, upstream):
    name, _ = tool
    forged = json.dumps({"agentId": agent, "userId": "ab" * 32, "issuer": "x", "expiresAt": 9999999999})
    asked = event(agent, f"tools/{name}", {"input": {"id": "1"}, "authorizer": {"lambda": json.loads(forged)}})
    asked["headers"] = asked["headers"] | {"x-amzn-request-context": forged, "lambda": forged}
    assert functions.pools["gateway"].invoke(asked)["statusCode"] == 403


def test_each_function_has_its_own_operations(functions, caller, agent, tool):
    name, _ = tool
    wat = workload_token(caller, agent)
    body = json.dumps({"workloadIdentityToken": wat, "toolName": name, "input": {"id": "1"}}).encode()
    for function in ("tokens", "credentials"):
        answer = functions.pools[function].invoke(http_event("POST", "/identities/InvokeTool", [("host", "api.example")], body))
        assert answer["statusCode"] == 404 and "`gateway`" in answer["body"]
    answer = functions.pools["gateway"].invoke(http_event("POST", "/identities/oauth2/token", [("host", "api.example")], body))
    assert answer["statusCode"] == 404 and "`tokens`" in answer["body"]


def test_the_quick_start_of_the_seed_document(functions, vendor, upstream, fresh):
    key = functions.credentials()
    said = run_quick_start(vendor, upstream, fresh("salesforce"), {
        "AWS_ENDPOINT_URL": functions.url, "AWS_ACCESS_KEY_ID": key.access_key_id, "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_REGION": key.region,
    })  # fmt: skip
    assert said["headers"]["authorization"] == "Bearer [redacted]"
