"""Tools: called with a credential that the caller never gets. A third party's API is on the other side, and a real OpenID provider
issues the tokens."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from harness import model, planted
from harness.browser import Browser
from harness.busy import write_lock_held
from harness.product import command, create_access_key
from harness.stories import (
    make_guarded_agent,
    make_user_provider,
    make_workload,
    sign_in,
    sign_in_at_vendor,
    workload_token,
)
from harness.upstream import Reply, Upstream, echo
from harness.wire import Connection

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": ["string", "integer"]},
        "q": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "note": {"type": "string"},
        "amount": {"type": "number"},
    },
    "required": ["id"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def as_before(upstream):
    upstream.reset()


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


@pytest.fixture(scope="module")
def hosts(upstream):
    return {"agent-identity:injectable-hosts": upstream.address}


@pytest.fixture(scope="module")
def agent(caller, app, fresh):
    return make_workload(caller, fresh("agent"), app.return_url)


@pytest.fixture(scope="module")
def api_key(caller, hosts, fresh):
    """A provider of an API key, and the key."""
    name, secret = fresh("weather"), planted.new_secret("API key")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=secret, tags=hosts)
    return name, secret


def put(caller, name, url, agent, credential=None, method="GET", **request):
    members = {} if credential is None else {"credential": credential}
    caller.ok(
        "PutTool", name=name, inputSchema=SCHEMA, allowedWorkloads=[agent],
        request={"method": method, "url": url, **request}, **members,
    )  # fmt: skip
    return name


def invoke(caller, wat, tool, expect=200, **input):
    answer = caller.call("InvokeTool", workloadIdentityToken=wat, toolName=tool, input=input)
    assert answer.status == expect, f"{answer.status} {answer.error} {answer.body!r}"
    return answer.json


@pytest.mark.parametrize(
    ("placement", "where", "shown"),
    [
        (None, "authorization", "Bearer {}"),
        ({"location": "BEARER"}, "authorization", "Bearer {}"),
        ({"location": "HEADER", "name": "X-API-Key"}, "x-api-key", "{}"),
        ({"location": "HEADER", "name": "Authorization", "prefix": "Token "}, "authorization", "Token {}"),
        ({"location": "BASIC", "username": "ada"}, "authorization", "Basic ada:{}"),
        ({"location": "QUERY", "name": "key"}, None, "key={}"),
    ],
)
def test_a_key_goes_where_it_is_placed_and_never_comes_back(caller, agent, upstream, api_key, fresh, placement, where, shown):
    provider, secret = api_key
    credential = {"providerName": provider, "flow": "API_KEY"} | ({} if placement is None else {"placement": placement})
    tool = put(
        caller, fresh("tool"), upstream.url + "/v1/{id}", agent, credential, "POST",
        query={"q": "{q}", "tag": "{tags}", "absent": "{note}"},
        headers={"X-Note": "n={id}", "X-Absent": "{note}"},
        body={"amount": "{amount}", "text": "for {q}", "fixed": True, "absent": "{note}"},
    )  # fmt: skip
    wat = workload_token(caller, agent)
    answer = invoke(caller, wat, tool, id=7, q="a&b=c", tags=["x", "y z"], amount=1.5)
    seen = upstream.last()
    sent = shown.format(secret)
    if sent.startswith("Basic "):
        sent = "Basic " + base64.b64encode(sent.removeprefix("Basic ").encode()).decode()
    query = "/v1/7?q=a%26b%3Dc&tag=x&tag=y%20z"
    assert seen.path == (query if where else f"{query}&{sent}")
    if where:
        assert seen.headers[where] == sent
    assert json.loads(seen.body) == {"amount": 1.5, "text": "for a&b=c", "fixed": True}
    assert (seen.headers["x-note"], "x-absent" in seen.headers) == ("n=7", False)
    # The caller's own signature stays here.
    assert "AWS4" not in json.dumps(seen.headers) and "x-amz-date" not in seen.headers
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
    echoed = json.dumps(answer)
    assert secret not in echoed and sent.removeprefix("Basic ") not in echoed and "[redacted]" in echoed
    assert "content-length" not in answer["headers"]


def test_the_workloads_own_token(caller, agent, vendor, upstream, hosts, fresh):
    provider = fresh("machine")
    secret = planted.new_secret("client secret")
    vendor.register_client(provider, client_secret=secret, token_endpoint_auth_method="client_secret_basic")
    caller.ok(
        "CreateOauth2CredentialProvider", name=provider, credentialProviderVendor="CustomOauth2", tags=hosts,
        oauth2ProviderConfigInput={"customOauth2ProviderConfig": {
            "oauthDiscovery": {"discoveryUrl": vendor.discovery_url}, "clientId": provider, "clientSecret": secret}},
    )  # fmt: skip
    credential = {"providerName": provider, "flow": "M2M", "scopes": ["things.read"]}
    tool = put(caller, fresh("tool"), upstream.url + "/m2m/{id}", agent, credential)
    refused, asked = [], vendor.count("client_credentials")

    def picky(seen):
        token = seen.headers["authorization"].removeprefix("Bearer ")
        planted.plant(token, "access token")
        if refused:
            return Reply(status=401) if token in refused else echo(seen)
        return echo(seen)

    upstream.answer = picky
    wat = workload_token(caller, agent)
    for _ in range(2):
        assert invoke(caller, wat, tool, id="1")["statusCode"] == 200
    assert vendor.count("client_credentials") == asked + 1
    first = upstream.last().headers["authorization"].removeprefix("Bearer ")
    assert vendor.call_api(first)[0] == 200
    refused.append(first)
    answer = invoke(caller, wat, tool, id="1")
    assert answer["statusCode"] == 200 and first not in json.dumps(answer)
    assert vendor.count("client_credentials") == asked + 2
    # One that refuses everything does not have a token fetched with each call.
    upstream.answer = lambda seen: Reply(status=401)
    for _ in range(3):
        said = caller.refused("InvokeTool", 403, "AccessDeniedException", workloadIdentityToken=wat, toolName=tool, input={"id": 1})
        assert provider in said.message and "401" in said.message
    assert vendor.count("client_credentials") == asked + 2


@pytest.fixture(scope="module")
def people(caller, agent, vendor, app, upstream, hosts, fresh):
    """A tool that needs its user's consent."""
    provider = make_user_provider(caller, vendor, fresh("people"), hosts)
    credential = {"providerName": provider, "flow": "USER_FEDERATION", "scopes": ["openid", "things.read"]}
    return put(caller, fresh("tool"), upstream.url + "/people/{id}", agent, credential), provider


def consent(caller, wat, tool, app, user):
    asked = caller.ok(
        "InvokeTool", workloadIdentityToken=wat, toolName=tool, input={"id": 1},
        resourceOauth2ReturnUrl=app.return_url, customState="my-state",
    )  # fmt: skip
    assert asked["sessionStatus"] == "IN_PROGRESS" and "statusCode" not in asked
    browser = Browser()
    page = browser.submit(browser.get(asked["authorizationUrl"]))
    sign_in_at_vendor(browser, page, user)
    caller.ok("CompleteResourceTokenAuth", sessionUri=asked["sessionUri"], userIdentifier={"userId": user})


def test_a_user_consents_once_and_the_tool_is_called_in_their_name(caller, agent, people, vendor, app, upstream, fresh):
    (tool, provider), user = people, fresh("user")
    wat = workload_token(caller, agent, user)
    consent(caller, wat, tool, app, user)
    assert upstream.seen == []
    answer = invoke(caller, wat, tool, id=1)
    token = planted.plant(upstream.last().headers["authorization"].removeprefix("Bearer "), "access token")
    assert vendor.call_api(token)[1]["subject"] == user
    assert answer["statusCode"] == 200 and token not in json.dumps(answer)
    # Another user has consented to nothing.
    other = workload_token(caller, agent, fresh("user"))
    said = caller.ok("InvokeTool", workloadIdentityToken=other, toolName=tool, input={"id": 1}, resourceOauth2ReturnUrl=app.return_url)
    assert "authorizationUrl" in said
    # Nobody's.
    caller.refused("InvokeTool", 400, "ValidationException", workloadIdentityToken=workload_token(caller, agent), toolName=tool, input={"id": 1})


def test_a_401_is_one_refresh_and_one_retry_and_then_an_error(caller, agent, people, vendor, app, upstream, fresh):
    (tool, provider), user = people, fresh("user")
    wat = workload_token(caller, agent, user)
    consent(caller, wat, tool, app, user)
    assert invoke(caller, wat, tool, id=1)["statusCode"] == 200
    first = upstream.last().headers["authorization"]
    before, called = vendor.count("refresh_token"), len(upstream.seen)
    upstream.answer = lambda seen: Reply(status=401) if seen.headers["authorization"] == first else echo(seen)
    assert invoke(caller, wat, tool, id=1)["statusCode"] == 200
    assert vendor.count("refresh_token") == before + 1
    assert len(upstream.seen) == called + 2 and upstream.last().headers["authorization"] != first
    # The new one is in the vault.
    assert invoke(caller, wat, tool, id=1)["statusCode"] == 200
    assert len(upstream.seen) == called + 3
    upstream.answer = lambda seen: Reply(status=401, body=b'{"why": "not for you"}')
    for _ in range(3):
        said = caller.refused("InvokeTool", 403, "AccessDeniedException", workloadIdentityToken=wat, toolName=tool, input={"id": 1})
        assert provider in said.message and "forceAuthentication" in said.message
    assert vendor.count("refresh_token") == before + 1
    # A refusal of the API for another reason is its answer.
    upstream.answer = lambda seen: Reply(status=403, body=b'{"why": "not for you"}')
    assert invoke(caller, wat, tool, id=1)["body"] == '{"why": "not for you"}'


def test_what_an_upstream_answers_is_data_whatever_it_is(caller, agent, upstream, fresh):
    tool = put(caller, fresh("tool"), upstream.url + "/open/{id}", agent)
    wat = workload_token(caller, agent)

    def answered(**reply):
        upstream.answer = lambda seen: Reply(**reply)
        return invoke(caller, wat, tool, id=1)

    said = answered(status=503, body=b"busy", headers=(("Retry-After", "3"), ("Set-Cookie", "a=b"), ("X-A", "1"), ("X-A", "2")))
    assert (said["statusCode"], said["body"]) == (503, "busy")
    assert (said["headers"]["retry-after"], said["headers"]["x-a"], "set-cookie" in said["headers"]) == ("3", "1, 2", False)
    said = answered(status=302, body=b"", headers=(("Location", "http://10.0.0.1/"),))
    assert (said["statusCode"], said["headers"]["location"]) == (302, "http://10.0.0.1/")
    binary = bytes(range(256))
    said = answered(body=binary)
    assert said["isBase64Encoded"] and base64.b64decode(said["body"]) == binary
    # Too large, cut off, garbled, encoded although nobody asked: whether it was done is said.
    said = answered(body=b"x" * (1024 * 1024 + 1))
    assert said["error"]["code"] == "UNKNOWN_OUTCOME" and "larger than" in said["error"]["message"]
    said = answered(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
    assert said["error"]["code"] == "UNKNOWN_OUTCOME"
    said = answered(raw=b"\x00\x01\x02 nonsense\r\n\r\n")
    assert said["error"]["code"] == "UNKNOWN_OUTCOME"
    said = answered(body=b"\x1f\x8b", headers=(("Content-Encoding", "gzip"),))
    assert said["error"]["code"] == "UNREADABLE"
    many = tuple((f"X-{n}", "v" * 1000) for n in range(60))
    said = answered(headers=many)
    assert said["statusCode"] == 200 and 10 < len(said["headers"]) < 20


def test_a_slow_upstream_is_waited_for_25_seconds_and_stops_nobody_else(caller, agent, upstream, fresh):
    tool = put(caller, fresh("tool"), upstream.url + "/open/{id}", agent)
    wat = workload_token(caller, agent)
    enough = threading.Event()

    def answer(seen):
        if seen.path == "/open/1":
            enough.wait(60)
        return Reply(pause=lambda: enough.wait(60)) if seen.path == "/open/2" else Reply(body=b"here")

    upstream.answer = answer
    with ThreadPoolExecutor() as pool:
        # One says nothing, one sends its head and then nothing more.
        began = time.monotonic()
        slow = [pool.submit(invoke, replace(caller), wat, tool, id=number) for number in (1, 2)]
        assert invoke(caller, wat, tool, id=3)["body"] == "here"
        try:
            wait(slow, 40)
            took = time.monotonic() - began
        finally:
            enough.set()
        said = [call.result()["error"] for call in slow]
    assert took > 24, "a slow answer is an answer"
    assert [error["code"] for error in said] == ["UNKNOWN_OUTCOME"] * 2
    assert all("no whole answer in 25s" in error["message"] for error in said), said


def test_what_does_not_listen_was_sent_nothing(caller, agent, fresh, upstream):
    gone = Upstream()
    url = gone.url
    gone.stop()
    server_side = put(caller, fresh("tool"), url + "/{id}", agent)
    said = caller.call("InvokeTool", workloadIdentityToken=workload_token(caller, agent), toolName=server_side, input={"id": 1})
    # The egress guard does not know that address: it is refused before anything is sent.
    assert (said.status, said.error) == (400, "ValidationException") and "not allowed" in said.message


@pytest.mark.parametrize("url", ["https://10.0.0.1/{id}", "https://169.254.169.254/{id}", "https://127.0.0.2/{id}", "https://localhost/{id}"])
def test_private_addresses_are_forbidden_targets(caller, agent, fresh, url):
    tool = put(caller, fresh("tool"), url, agent)
    said = caller.refused("InvokeTool", 400, "ValidationException", workloadIdentityToken=workload_token(caller, agent), toolName=tool, input={"id": 1})
    assert "not allowed" in said.message


def test_d3_a_credential_goes_to_the_hosts_of_its_provider_and_no_others(caller, agent, upstream, api_key, fresh):
    provider, _ = api_key
    elsewhere, secret = fresh("elsewhere"), planted.new_secret("API key")
    caller.ok("CreateApiKeyCredentialProvider", name=elsewhere, apiKey=secret, tags={"agent-identity:injectable-hosts": "api.example.com .svc.example.org"})
    bare = fresh("bare")
    caller.ok("CreateApiKeyCredentialProvider", name=bare, apiKey=secret)

    def refused(url, provider):
        said = caller.refused(
            "PutTool", 400, "ValidationException", name=fresh("tool"), inputSchema=SCHEMA, allowedWorkloads=[agent],
            request={"method": "GET", "url": url}, credential={"providerName": provider, "flow": "API_KEY"},
        )  # fmt: skip
        assert "agent-identity:injectable-hosts" in said.message and provider in said.message

    refused(upstream.url + "/{id}", elsewhere)
    refused("https://evil.example/{id}", elsewhere)
    refused("https://api.example.com:8443/{id}", elsewhere)
    refused("https://svc.example.org/{id}", elsewhere)
    refused("https://api.example.com/{id}", bare)
    put(caller, fresh("tool"), "https://a.svc.example.org/{id}", agent, {"providerName": elsewhere, "flow": "API_KEY"})
    caller.refused("PutTool", 404, "ResourceNotFoundException", name="x", inputSchema=SCHEMA, allowedWorkloads=[agent],
                   request={"method": "GET", "url": "https://api.example.com/{id}"}, credential={"providerName": "nobody", "flow": "API_KEY"})  # fmt: skip
    for hosts in ("*.example.com", "https://api.example.com", ".com", "a@b.example"):
        said = caller.refused("CreateApiKeyCredentialProvider", 400, "ValidationException", name=fresh("x"), apiKey=secret, tags={"agent-identity:injectable-hosts": hosts})
        assert "tags" in said.message


def test_who_may_use_may_not_read_and_a_foreign_workload_finds_no_tool(server, caller, agent, upstream, api_key, fresh):
    provider, secret = api_key
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent, {"providerName": provider, "flow": "API_KEY"})
    wat = workload_token(caller, agent)
    user = server.caller(create_access_key(server.data, fresh("key"), f"use workload={agent} provider={provider}"))
    assert user.ok("InvokeTool", workloadIdentityToken=wat, toolName=tool, input={"id": 1})["statusCode"] == 200
    user.refused("GetResourceApiKey", 403, "AccessDeniedException", workloadIdentityToken=wat, resourceCredentialProviderName=provider)
    assert [it["name"] for it in user.ok("ListTools", workloadName=agent)["tools"]].count(tool) == 1
    user.refused("ListTools", 403, "AccessDeniedException")
    user.refused("GetTool", 403, "AccessDeniedException", name=tool)
    for grant in (f"read workload={agent} provider={provider}", f"use workload=other provider={provider}", f"use workload={agent} provider=other", "admin"):
        other = server.caller(create_access_key(server.data, fresh("key"), grant))
        other.refused("InvokeTool", 403, "AccessDeniedException", workloadIdentityToken=wat, toolName=tool, input={"id": 1})
        other.close()
    called = len(upstream.seen)
    stranger = workload_token(caller, make_workload(caller, fresh("agent")))
    caller.refused("InvokeTool", 404, "ResourceNotFoundException", workloadIdentityToken=stranger, toolName=tool, input={"id": 1})
    caller.refused("InvokeTool", 401, "UnauthorizedException", workloadIdentityToken="nonsense", toolName=tool, input={"id": 1})
    assert len(upstream.seen) == called
    user.close()


def test_a_provider_may_be_for_some_workloads_only(caller, agent, upstream, hosts, fresh):
    provider, secret = fresh("bound"), planted.new_secret("API key")
    tags = hosts | {"agent-identity:allowed-workloads": agent}
    caller.ok("CreateApiKeyCredentialProvider", name=provider, apiKey=secret, tags=tags)
    other = make_workload(caller, fresh("agent"))
    tool = fresh("tool")
    caller.ok("PutTool", name=tool, inputSchema=SCHEMA, allowedWorkloads=["agent-*"], request={"method": "GET", "url": upstream.url + "/{id}"},
              credential={"providerName": provider, "flow": "API_KEY"})  # fmt: skip
    assert invoke(caller, workload_token(caller, agent), tool, id=1)["statusCode"] == 200
    wat = workload_token(caller, other)
    for operation, members in (("InvokeTool", {"toolName": tool, "input": {"id": 1}}), ("GetResourceApiKey", {"resourceCredentialProviderName": provider})):
        said = caller.refused(operation, 403, "AccessDeniedException", workloadIdentityToken=wat, **members)
        assert other in said.message


def test_an_administrator_of_one_provider_cannot_take_over_anothers_tool(server, caller, agent, upstream, api_key, hosts, fresh):
    provider, _ = api_key
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent, {"providerName": provider, "flow": "API_KEY"})
    mine = fresh("mine")
    caller.ok("CreateApiKeyCredentialProvider", name=mine, apiKey=planted.new_secret("API key"), tags=hosts)
    admin = server.caller(create_access_key(server.data, fresh("key"), f"admin provider={mine}"))
    members = {"inputSchema": SCHEMA, "allowedWorkloads": [agent], "request": {"method": "GET", "url": upstream.url + "/{id}"}}
    own = {"providerName": mine, "flow": "API_KEY"}
    admin.refused("PutTool", 403, "AccessDeniedException", name=tool, credential=own, **members)
    admin.refused("PutTool", 403, "AccessDeniedException", name=tool, **members)
    admin.refused("DeleteTool", 403, "AccessDeniedException", name=tool)
    admin.refused("GetTool", 403, "AccessDeniedException", name=tool)
    made = admin.ok("PutTool", name=fresh("tool"), credential=own, **members)
    assert [it["name"] for it in admin.ok("ListTools")["tools"]] == [made["name"]]
    # Not an administrator of all workloads: whoever may call it is for these to say.
    narrow = server.caller(create_access_key(server.data, fresh("key"), f"admin workload={agent} provider={mine}"))
    narrow.refused("PutTool", 403, "AccessDeniedException", name=fresh("tool"), credential=own, **members)
    for other in (admin, narrow):
        other.close()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"inputSchema": None}, "inputSchema"),
        ({"inputSchema": {"type": "string"}}, "inputSchema"),
        ({"inputSchema": {"type": "object", "properties": 3}}, "inputSchema"),
        ({"inputSchema": {"type": "object", "$ref": "https://example.com/schema.json"}}, "inputSchema"),
        ({"inputSchema": {"type": "object", "properties": {"id": {}}}}, "inputSchema.required"),
        ({"request": {"method": "TRACE", "url": "https://a.example/"}}, "request.method"),
        ({"request": {"method": "GET", "url": "http://a.example/"}}, "request.url"),
        ({"request": {"method": "GET", "url": "https://{id}.example/"}}, "request.url"),
        ({"request": {"method": "GET", "url": "https://a.example/../b"}}, "request.url"),
        ({"request": {"method": "GET", "url": "https://a.example/?q=1"}}, "request.url"),
        ({"request": {"method": "GET", "url": "https://a.example/{unknown}"}}, "request"),
        ({"request": {"method": "GET", "url": "https://a.example/", "headers": {"Cookie": "a"}}}, "request.headers.Cookie"),
        ({"request": {"method": "GET", "url": "https://a.example/", "headers": {"a\r\nb": "a"}}}, "request.headers.a\r\nb"),
        ({"request": {"method": "GET", "url": "https://a.example/", "body": {}}}, "request.body"),
        ({"request": {"method": "GET", "url": "https://a.example/", "query": {"q": "{"}}}, "request.query.q"),
        ({"credential": {"providerName": "x"}}, "credential.flow"),
        ({"credential": {"providerName": "x", "flow": "API_KEY", "placement": {"location": "COOKIE"}}}, "credential.placement.location"),
        ({"credential": {"providerName": "x", "flow": "API_KEY", "placement": {"location": "HEADER", "name": "Host"}}}, "credential.placement.name"),
        ({"credential": {"providerName": "x", "flow": "API_KEY", "scopes": ["a"]}}, "credential"),
        ({"allowedWorkloads": []}, "allowedWorkloads"),
        ({"allowedWorkloads": None}, "allowedWorkloads"),
        ({"allowedWorkloads": ["a b"]}, "allowedWorkloads[0]"),
    ],
)
def test_a_tool_that_is_none_is_refused_by_the_name_of_what_is_wrong(caller, change, field):
    good = {"name": "tool", "inputSchema": SCHEMA, "allowedWorkloads": ["*"], "request": {"method": "GET", "url": "https://a.example/{id}"}}
    said = caller.refused("PutTool", 400, "ValidationException", **(good | change))
    assert field in [it["name"] for it in said.json["fieldList"]], said.json


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({}, "input"),
        ({"id": True}, "input.id"),
        ({"id": "a/b"}, "input.id"),
        ({"id": ".."}, "input.id"),
        ({"id": ""}, "input.id"),
        ({"id": 1, "more": 2}, "input"),
        ({"id": 1, "q": "a\r\nx: y"}, "input.q"),
    ],
)
def test_input_that_is_not_as_the_schema_says_reaches_nobody(caller, agent, upstream, fresh, input, field):
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent, headers={"X-Q": "{q}"})
    said = caller.refused("InvokeTool", 400, "ValidationException", workloadIdentityToken=workload_token(caller, agent), toolName=tool, input=input)
    assert field in [it["name"] for it in said.json["fieldList"]], said.json
    assert upstream.seen == []


def test_a_tool_is_replaced_listed_and_deleted(caller, agent, upstream, fresh):
    name = fresh("tool")
    put(caller, name, upstream.url + "/one/{id}", agent)
    wat = workload_token(caller, agent)
    invoke(caller, wat, name, id=1)
    assert upstream.last().path == "/one/1"
    made = caller.ok("GetTool", name=name)
    put(caller, name, upstream.url + "/two/{id}", agent)
    invoke(caller, wat, name, id=1)
    assert upstream.last().path == "/two/1"
    now = caller.ok("GetTool", name=name)
    assert (made["version"], now["version"], now["createdTime"]) == (1, 2, made["createdTime"])
    assert now["request"] == {"method": "GET", "url": upstream.url + "/two/{id}", "query": {}, "headers": {}}
    found, more = [], {}
    while more is not None:
        page = caller.ok("ListTools", workloadName=agent, maxResults=2, **more)
        found += [it["name"] for it in page["tools"]]
        more = {"nextToken": page["nextToken"]} if "nextToken" in page else None
    assert found == sorted(found) and name in found
    caller.ok("DeleteTool", name=name)
    caller.refused("InvokeTool", 404, "ResourceNotFoundException", workloadIdentityToken=wat, toolName=name, input={"id": 1})
    caller.refused("DeleteTool", 404, "ResourceNotFoundException", name=name)


def test_boto3_has_these_operations(server, agent, upstream, fresh, monkeypatch):
    import boto3

    monkeypatch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
    key = server.credentials()
    session = boto3.session.Session(aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region)
    control, data = (session.client(name, endpoint_url=server.url) for name in (model.CONTROL, model.DATA))
    name = fresh("tool")
    control.put_tool(
        name=name, description="reads", inputSchema=SCHEMA, allowedWorkloads=[agent],
        request={"method": "POST", "url": upstream.url + "/{id}", "body": ["{q}", {"n": 1}]},
    )  # fmt: skip
    got = control.get_tool(name=name)
    assert (got["inputSchema"], got["request"]["body"]) == (SCHEMA, ["{q}", {"n": 1}])
    wat = planted.plant(data.get_workload_access_token(workloadName=agent)["workloadAccessToken"], "workload access token")
    answer = data.invoke_tool(workloadIdentityToken=wat, toolName=name, input={"id": 1, "q": "x"})
    assert answer["statusCode"] == 200 and json.loads(upstream.last().body) == ["x", {"n": 1}]
    assert name in [it["name"] for it in control.list_tools(workloadName=agent)["tools"]]
    control.delete_tool(name=name)


def test_a_call_is_on_record(server, caller, agent, upstream, api_key, fresh):
    provider, secret = api_key
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent, {"providerName": provider, "flow": "API_KEY"})
    invoke(caller, workload_token(caller, agent, "ada"), tool, id=1)
    listed = command("audit", "list", "--data", str(server.data), "--json").stdout
    records = [json.loads(line) for line in listed.splitlines()]
    calls = [it for it in records if it.get("operation") == "InvokeTool" and it.get("provider") == provider]
    assert calls and calls[-1]["workload"] == agent and calls[-1]["outcome"] == "ok" and calls[-1]["user"]
    [used] = [it for it in caller.ok("GetUsage", workloadName=agent, providerName=provider)["usage"] if it["path"] == "gateway"]
    assert used["given"] >= 1


def test_d5_a_call_that_could_not_be_put_on_record_is_none_to_repeat(server, caller, agent, upstream, api_key, fresh):
    provider, secret = api_key
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent, {"providerName": provider, "flow": "API_KEY"}, method="POST")
    wat = workload_token(caller, agent)
    held, over = threading.Event(), threading.Event()

    def hold():
        with write_lock_held(server.data):
            held.set()
            over.wait(60)

    holder = threading.Thread(target=hold)

    def lock(seen):
        holder.start()
        held.wait(10)
        return echo(seen)

    upstream.answer = lock
    called = len(upstream.seen)
    answer = caller.call("InvokeTool", workloadIdentityToken=wat, toolName=tool, input={"id": 1})
    over.set()
    holder.join()
    assert len(upstream.seen) == called + 1
    # An SDK repeats 429 and 5xx by itself.
    assert (answer.status, answer.error) == (409, "ConflictException"), answer
    assert "may have been done" in answer.message and secret not in answer.message
    upstream.reset()


# The doors for who has a user's token alone.


def door(server, path, body, token=None, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    said |= {} if token is None else {"Authorization": f"Bearer {token}"}
    with Connection(server.port) as connection:
        answer = connection.send("POST", path, said | headers, data)
    return answer.status, answer.headers, answer.body.decode()


@pytest.fixture(scope="module")
def guarded(caller, vendor, fresh):
    return make_guarded_agent(caller, vendor, fresh("guarded"))


@pytest.fixture(scope="module")
def token(vendor):
    return sign_in(vendor, "grace")["access_token"]


def test_a_users_token_opens_the_door_of_their_agent(server, caller, guarded, token, upstream, api_key, fresh):
    provider, secret = api_key
    tool = put(caller, fresh("tool"), upstream.url + "/door/{id}", guarded, {"providerName": provider, "flow": "API_KEY"})
    path = f"/agents/{guarded}/tools/{tool}"
    status, headers, body = door(server, path, {"input": {"id": 3}}, token)
    assert status == 200 and json.loads(body)["statusCode"] == 200 and secret not in body
    seen = upstream.last()
    # The user's own token goes no further.
    assert seen.path == "/door/3" and token not in json.dumps(seen.headers) and secret in json.dumps(seen.headers)
    called = len(upstream.seen)
    status, headers, _ = door(server, path, {"input": {"id": 3}})
    metadata = f"{server.url}/.well-known/oauth-protected-resource/agents/{guarded}/mcp"
    assert (status, headers["www-authenticate"]) == (401, f'Bearer resource_metadata="{metadata}"')
    assert door(server, path, {"input": {"id": 3}}, token[:-6] + "AAAAAA")[0] == 401
    assert door(server, path, {"input": {"id": 3}}, token, Origin="https://evil.example")[0] == 403
    assert door(server, path, b"not json", token)[0] == 400
    assert door(server, path, {"input": {"id": "a/b"}}, token)[0] == 400
    assert door(server, f"/agents/{guarded}/tools/nothing", {"input": {}}, token)[0] == 404
    assert door(server, f"/agents/{guarded}/tools/a%2Fb", {"input": {}}, token)[0] in (400, 404)
    assert len(upstream.seen) == called
    with Connection(server.port) as connection:
        assert connection.send("GET", path, {"Host": f"127.0.0.1:{server.port}"}).status == 405


def test_another_agents_tools_are_not_behind_this_door(server, caller, agent, guarded, token, upstream, fresh):
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", agent)
    assert door(server, f"/agents/{guarded}/tools/{tool}", {"input": {"id": 3}}, token)[0] == 404
    assert door(server, f"/agents/{agent}/tools/{tool}", {"input": {"id": 3}}, token)[0] == 401


def test_a_banned_user_calls_no_tool(server, caller, guarded, vendor, upstream, fresh):
    token = sign_in(vendor, "mallory")["access_token"]
    tool = put(caller, fresh("tool"), upstream.url + "/{id}", guarded)
    caller.ok("BlockUser", agentId=guarded, issuer=vendor.issuer, subject="mallory")
    assert door(server, f"/agents/{guarded}/tools/{tool}", {"input": {"id": 3}}, token)[0] == 403
