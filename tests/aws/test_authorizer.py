"""The authorizer function under the Lambda runtime emulator, with tokens of a real OpenID provider."""

import json
import time

import pytest

from harness import planted
from harness.functions import Instance, http_event
from harness.places import REPOSITORY
from harness.stories import FRONT_END_AUDIENCE, sign_in, workload_token_for_jwt

METHOD_ARN = "arn:aws:execute-api:us-east-1:123456789012:testapi/prod/GET/orders/1"
STAGE_ARN = "arn:aws:execute-api:us-east-1:123456789012:testapi/prod/*"


@pytest.fixture(scope="module")
def caller(functions):
    made = functions.caller()
    yield made
    made.close()


def put_authorizer(caller, agent, vendor, **rules):
    configuration = {"discoveryUrl": vendor.discovery_url} | (rules or {"allowedAudience": [FRONT_END_AUDIENCE]})
    caller.ok(
        "PutAuthorizer",
        agentId=agent, name="main", authorizerConfiguration={"customJWTAuthorizer": configuration},
    )  # fmt: skip


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    name = fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    put_authorizer(caller, name, vendor)
    return name


@pytest.fixture(scope="module")
def environment(functions):
    wanted = ("AWS_", "AGENT_IDENTITY_TABLE", "AGENT_IDENTITY_EGRESS_ALLOW")
    return {name: value for name, value in functions.environment.items() if name.startswith(wanted)}


@pytest.fixture(scope="module")
def of_one_agent(environment, agent):
    """An authorizer whose configuration names its agent."""
    instance = Instance("authorizer", environment | {"AGENT_IDENTITY_AGENT": agent})
    yield instance
    instance.stop()


@pytest.fixture(scope="module")
def of_any_agent(environment):
    instance = Instance("authorizer", environment)
    yield instance
    instance.stop()


@pytest.fixture(scope="module")
def token(vendor):
    return sign_in(vendor, "ada")["access_token"]


def token_event(token):
    return {"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": f"Bearer {token}"}


def http_2(token, agent, sources=None):
    headers = [("authorization", f"Bearer {token}"), ("x-agent-id", agent), ("host", "api.example")]
    event = http_event("GET", "/sample", headers, b"")
    return event | {
        "type": "REQUEST", "routeArn": METHOD_ARN,
        "identitySource": [f"Bearer {token}", agent] if sources is None else sources,
    }  # fmt: skip


def test_a_rest_api_gets_a_policy_for_its_stage_and_the_session(of_one_agent, token, agent, vendor):
    answer = of_one_agent.invoke(token_event(token))
    statement = answer["policyDocument"]["Statement"][0]
    assert (statement["Effect"], statement["Resource"]) == ("Allow", STAGE_ARN)
    context = answer["context"]
    assert (context["agentId"], context["subject"], context["issuer"]) == (agent, "ada", vendor.issuer)
    assert context["userId"] == answer["principalId"]
    assert all(isinstance(value, str | int | bool) for value in context.values()), "API Gateway takes flat values only"
    assert token not in json.dumps(answer)


def test_an_http_api_gets_a_simple_answer_with_the_same_session(of_any_agent, of_one_agent, token, agent):
    answer = of_any_agent.invoke(http_2(token, agent))
    assert answer["isAuthorized"] is True
    assert answer["context"] == of_one_agent.invoke(token_event(token))["context"]


# Every kind of API: the event for a token and an agent, and what the function is told of the API.
def rest_request(token, agent):
    return {
        "type": "REQUEST", "methodArn": f"{STAGE_ARN[:-1]}GET/agents/{agent}/orders", "path": f"/agents/{agent}/orders",
        "headers": {"Authorization": f"Bearer {token}"}, "multiValueHeaders": {"Authorization": [f"Bearer {token}"]},
        "pathParameters": {"agentId": agent}, "stageVariables": None, "queryStringParameters": None,
    }  # fmt: skip


def websocket(token, agent):
    return {
        "type": "REQUEST", "methodArn": f"{STAGE_ARN[:-1]}$connect",
        "headers": {"Connection": "upgrade"}, "multiValueHeaders": {"Connection": ["upgrade"]},
        "queryStringParameters": {"token": token}, "multiValueQueryStringParameters": {"token": [token]},
        "stageVariables": {"agentId": agent}, "requestContext": {"routeKey": "$connect", "eventType": "CONNECT"},
    }  # fmt: skip


def http_1(token, agent):
    return rest_request(token, agent) | {"version": "1.0", "identitySource": f"Bearer {token}"}


KINDS = {
    "REST TOKEN": (lambda token, agent: token_event(token), {"AGENT_IDENTITY_AGENT": "AGENT"}, STAGE_ARN, 401),
    "REST REQUEST": (rest_request, {}, f"{STAGE_ARN[:-1]}GET/agents/AGENT/orders", 401),
    "REST REQUEST, routes of the agent": (
        rest_request, {"AGENT_IDENTITY_ROUTES": "*/agents/{agentId}/*"}, f"{STAGE_ARN[:-1]}*/agents/AGENT/*", 401,
    ),
    "WebSocket": (websocket, {"AGENT_IDENTITY_IDENTITY_SOURCES": "route.request.querystring.token"}, STAGE_ARN, 401),
    "HTTP API, payload 1.0": (http_1, {}, f"{STAGE_ARN[:-1]}GET/agents/AGENT/orders", 401),
    "HTTP API, payload 2.0, simple": (http_2, {}, None, 403),
    "HTTP API, payload 2.0, policy": (http_2, {"AGENT_IDENTITY_RESPONSE": "policy"}, STAGE_ARN, 403),
}  # fmt: skip


def status(answer):
    """The status that API Gateway answers with, and what a policy is for."""
    if answer.get("errorMessage") == "Unauthorized":
        return 401, None
    if "isAuthorized" in answer:
        return 200 if answer["isAuthorized"] else 403, None
    statement = answer["policyDocument"]["Statement"][0]
    return 200 if statement["Effect"] == "Allow" else 403, statement["Resource"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_api_gets_its_401_and_403_and_the_session(environment, agent, token, vendor, kind):
    event, variables, resource, refused = KINDS[kind]
    instance = Instance("authorizer", environment | {name: agent if text == "AGENT" else text for name, text in variables.items()})
    try:
        answer = instance.invoke(event(token, agent))
        assert status(answer) == (200, resource and resource.replace("AGENT", agent))
        assert answer["context"]["agentId"] == agent
        assert all(isinstance(value, str | int | bool) for value in answer["context"].values())
        assert status(instance.invoke(event(token[:-8] + "AAAAAAAA", agent)))[0] == refused
        other = vendor.make_jwt("ada", aud="https://somebody.else.example")
        assert status(instance.invoke(event(other, agent)))[0] == 403
    finally:
        instance.stop()


def test_the_user_of_the_session_is_the_user_of_a_workload_access_token(functions, caller, token, agent, vendor):
    """D10: what the authorizer calls the user is how the vault knows them."""
    caller.ok("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=token)


def test_d16_a_session_carries_a_workload_access_token_on_request(functions, environment, caller, vendor, token, fresh):
    """The API behind the authorizer goes straight to the data plane with it: for this user, and for this agent alone."""
    agent, provider, key = fresh("agent"), fresh("weather"), planted.new_secret("API key")
    caller.ok("CreateWorkloadIdentity", name=agent)
    caller.ok("CreateApiKeyCredentialProvider", name=provider, apiKey=key)
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}
    put = {"agentId": agent, "name": "main", "authorizerConfiguration": {"customJWTAuthorizer": rules}}
    caller.ok("PutAuthorizer", **put, options={"issueWorkloadAccessToken": True})
    with_root = environment | {"AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID": functions.environment["AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID"]}
    minting, without_root = Instance("authorizer", with_root), Instance("authorizer", environment)
    try:
        for event in (http_2(token, agent), rest_request(token, agent)):
            answer = minting.invoke(event)
            wat = planted.plant(answer["context"]["workloadAccessToken"], "workload access token")
            answer = caller.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=provider)
            assert answer["apiKey"] == key
        assert "workloadAccessToken" not in without_root.invoke(http_2(token, agent))["context"]
        # Who may read for another workload alone has no use for it.
        other = fresh("other")
        caller.ok("CreateWorkloadIdentity", name=other)
        stranger = functions.caller(functions.create_access_key(fresh("key"), f"read workload={other}"))
        refused = stranger.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=provider)
        assert (refused.status, refused.error) == (403, "AccessDeniedException")
        stranger.close()
        caller.ok("DeleteAuthorizer", agentId=agent, name="main")
        # By a process that knows nothing yet; for one that does, it is 30 s.
        functions.pools["tokens"].stop()
        refused = caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=provider)
        assert (refused.status, refused.error) == (401, "UnauthorizedException")
    finally:
        minting.stop()
        without_root.stop()
        caller.ok("DeleteWorkloadIdentity", name=agent)


def test_an_opaque_token_is_asked_about(functions, environment, caller, vendor, fresh):
    """As the client whose secret PutAuthorizer has sealed, without a key of the vault, Secrets Manager, or another key's Decrypt."""
    agent, client, secret = fresh("agent"), fresh("agents"), planted.new_secret("client secret")
    vendor.register_client(client, client_secret=secret)
    front_end = fresh("front-end")
    token = sign_in(vendor, "ada", resource=None, client=front_end)["access_token"]
    caller.ok("CreateWorkloadIdentity", name=agent)
    asked = {"endpoint": f"{vendor.issuer}/token/introspection", "clientId": client, "clientSecret": secret}
    rules = {"discoveryUrl": vendor.discovery_url, "allowedClients": [front_end]}
    put = {"agentId": agent, "name": "main", "authorizerConfiguration": {"customJWTAuthorizer": rules}}
    caller.ok("PutAuthorizer", **put, options={"introspection": asked})
    with_root = environment | {"AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID": functions.environment["AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID"]}
    asking, without_root = Instance("authorizer", with_root), Instance("authorizer", environment)
    try:
        before = vendor.introspections()
        for event in (http_2(token, agent), rest_request(token, agent)):
            answer = asking.invoke(event)
            context = answer["context"]
            assert (context["subject"], context["clientId"], context["issuer"]) == ("ada", front_end, vendor.issuer)
            assert token not in json.dumps(answer) and secret not in json.dumps(answer)
        assert vendor.introspections() == before + 1
        workload_token_for_jwt(caller, agent, token)
        assert asking.invoke(http_2("invented-by-somebody", agent)) == {"isAuthorized": False}
        # Nobody is told that a token is bad because nobody can be asked.
        assert without_root.invoke(rest_request(token, agent))["errorMessage"] == "Unavailable"
        vendor.make_introspection_trouble("status", status=503)
        assert asking.invoke(rest_request("invented-by-another", agent))["errorMessage"] == "Unavailable"
        assert asking.invoke(http_2(token, agent))["isAuthorized"] is True
    finally:
        vendor.make_introspection_trouble()
        asking.stop()
        without_root.stop()
        caller.ok("DeleteWorkloadIdentity", name=agent)


@pytest.mark.parametrize("spoil", [
    lambda token: token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB"),
    lambda token: token.rsplit(".", 1)[0] + ".",
    lambda token: "not.a.token",
    lambda token: "",
    lambda token: token + "x" * 20_000,
])  # fmt: skip
def test_what_is_no_genuine_token_is_401_at_a_rest_api(of_one_agent, token, spoil):
    answer = of_one_agent.invoke(token_event(spoil(token)))
    assert answer["errorMessage"] == "Unauthorized", "API Gateway answers 401 to exactly this"


def test_a_header_that_is_no_bearer_token_is_401(of_one_agent, token):
    for header in (token, f"Basic {token}", f"Bearer {token}, Bearer {token}", None):
        answer = of_one_agent.invoke({"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": header})
        assert answer["errorMessage"] == "Unauthorized", header


def test_an_expired_token_is_401(of_one_agent, vendor):
    expired = vendor.make_jwt("ada", exp=1_700_000_000)
    assert of_one_agent.invoke(token_event(expired))["errorMessage"] == "Unauthorized"


def test_a_token_for_another_audience_is_403(of_one_agent, of_any_agent, vendor, agent):
    other = vendor.make_jwt("ada", aud="https://somebody.else.example")
    denied = of_one_agent.invoke(token_event(other))
    assert denied["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert denied["context"] == {}
    assert of_any_agent.invoke(http_2(other, agent)) == {"isAuthorized": False}


def test_all_scopes_are_asked_for(environment, caller, vendor, fresh):
    name = fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    put_authorizer(caller, name, vendor, allowedScopes=["things.read", "things.write"])
    instance = Instance("authorizer", environment | {"AGENT_IDENTITY_AGENT": name})
    try:
        one = vendor.make_jwt("ada", scope="openid things.read")
        both = vendor.make_jwt("ada", scope="things.write things.read")
        effects = [
            instance.invoke(token_event(token))["policyDocument"]["Statement"][0]["Effect"] for token in (one, both)
        ]
        assert effects == ["Deny", "Allow"]
    finally:
        instance.stop()


def test_d14_the_caller_chooses_the_agent_only_by_an_identity_source(of_any_agent, token, agent):
    assert of_any_agent.invoke(http_2(token, agent, sources=[f"Bearer {token}"])) == {"isAuthorized": False}


def test_d14_a_token_event_without_a_configured_agent_is_refused(of_any_agent, token):
    assert of_any_agent.invoke(token_event(token))["errorMessage"] == "Unauthorized"


def test_an_agent_without_authorizers_lets_nobody_in(of_any_agent, token, fresh):
    assert of_any_agent.invoke(http_2(token, fresh("nobody"))) == {"isAuthorized": False}


@pytest.mark.parametrize("file", sorted((REPOSITORY / "infra" / "events").glob("authorizer-*.json")), ids=lambda f: f.stem)
def test_every_golden_event_gets_an_answer(of_any_agent, file):
    answer = of_any_agent.invoke(json.loads(file.read_text()))
    assert answer.get("isAuthorized") is False or answer.get("errorMessage") == "Unauthorized", answer


def test_each_decision_is_one_line_that_says_for_which_request(environment, agent, token):
    """A refusal too, though it is a failure for Lambda: its bytes are paid for like its instructions (P2, P8)."""
    instance = Instance("authorizer", environment | {"AGENT_IDENTITY_AGENT": agent})
    try:
        instance.invoke(token_event(token))
        assert instance.invoke(token_event("not.a.token"))["errorMessage"] == "Unauthorized"
    finally:
        instance.stop()
    lines = [json.loads(line) for line in instance.log.read_text().splitlines() if line.startswith("{")]
    assert [line["outcome"] for line in lines] == ["allowed", "unauthorized"]
    requests = {line["requestId"] for line in lines}
    assert len(requests) == 2 and all(len(request) == 36 for request in requests)


@pytest.mark.parametrize("event", [None, [], "text", 7, {}, {"type": "TOKEN"}, {"Records": []}], ids=str)
def test_nonsense_is_answered_and_the_function_lives_on(of_one_agent, token, event):
    assert of_one_agent.invoke(event)["errorMessage"]
    assert of_one_agent.invoke(token_event(token))["policyDocument"]


def test_d15_a_blocked_user_is_refused_and_nobody_else(environment, caller, agent, vendor):
    """By processes that know nothing yet; for one that does, it is 30 s (`shared/inbound/tests/authorize.rs`)."""
    user = {"issuer": vendor.issuer, "subject": "bob"}

    tokens = [vendor.make_jwt(name, iat=int(time.time()) - 5) for name in ("bob", "ada")]

    def verdicts():
        instance = Instance("authorizer", environment | {"AGENT_IDENTITY_AGENT": agent})
        try:
            return [status(instance.invoke(token_event(token)))[0] for token in tokens]
        finally:
            instance.stop()

    for where in ({"agentId": agent}, {}):
        caller.ok("BlockUser", **user, **where)
        assert verdicts() == [403, 200]
        caller.ok("UnblockUser", **user, **where)
        assert verdicts() == [200, 200]
    caller.ok("SignOutUser", **user, agentId=agent)
    assert verdicts() == [401, 200]
