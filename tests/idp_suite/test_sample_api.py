"""The sample API of an agent behind the authorizer, in embedded mode, with tokens of a real OpenID provider."""

import json
import re
import time

import pytest

from harness.product import Server
from harness.stories import FRONT_END_AUDIENCE, make_workload, sign_in
from harness.wire import Connection


@pytest.fixture(scope="module")
def token(vendor):
    return sign_in(vendor, "ada")["access_token"]


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    name = make_workload(caller, fresh("agent"))
    put(caller, name, vendor)
    return name


def put(caller, agent, vendor, options=None, **rules):
    configuration = {"discoveryUrl": vendor.discovery_url} | (rules or {"allowedAudience": [FRONT_END_AUDIENCE]})
    caller.ok(
        "PutAuthorizer", agentId=agent, name="main", options=options or {},
        authorizerConfiguration={"customJWTAuthorizer": configuration},
    )  # fmt: skip


def get(server, path, *headers):
    with Connection(server.port) as connection:
        connection._http.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", f"127.0.0.1:{server.port}"), *headers):
            connection._http.putheader(name, value)
        connection._http.endheaders()
        response = connection._http.getresponse()
        return response.status, dict((name.lower(), value) for name, value in response.getheaders()), response.read().decode()


def sample(server, agent, token=None):
    headers = () if token is None else (("Authorization", f"Bearer {token}"),)
    return get(server, f"/agents/{agent}/sample", *headers)


def test_the_user_of_a_genuine_token_gets_a_verified_session(server, agent, token, vendor):
    status, headers, body = sample(server, agent, token)
    assert (status, headers["cache-control"]) == (200, "no-store")
    session = json.loads(body)
    assert (session["agentId"], session["subject"], session["issuer"]) == (agent, "ada", vendor.issuer)
    assert session["expiresAt"] > time.time()
    assert re.fullmatch(r"[0-9a-f]{64}", session["userId"])
    assert token not in body


def test_the_401_leads_to_the_issuer(server, agent, token, vendor):
    """RFC 6750 §3 and RFC 9728 §5.1: without a token no error code, with a bad one `invalid_token`."""
    bad = token[:-8] + "AAAAAAAA"
    for shown, error in ((None, ""), (bad, 'error="invalid_token", '), ("", 'error="invalid_token", ')):
        status, headers, _ = sample(server, agent, shown)
        metadata = f"{server.url}/.well-known/oauth-protected-resource/agents/{agent}/sample"
        assert (status, headers["www-authenticate"]) == (401, f'Bearer {error}resource_metadata="{metadata}"')
    status, _, body = get(server, metadata.removeprefix(server.url))
    assert (status, json.loads(body)) == (200, {
        "resource": f"{server.url}/agents/{agent}/sample",
        "authorization_servers": [vendor.issuer],
        "bearer_methods_supported": ["header"],
    })  # fmt: skip


def test_a_lacking_scope_is_403_and_the_metadata_says_which_to_ask_for(server, caller, vendor, fresh):
    agent = make_workload(caller, fresh("agent"))
    put(
        caller, agent, vendor, allowedScopes=["things.read", "things.write"],
        advertisedScopeMapping={"things.write": "api/things.write"},
    )  # fmt: skip
    status, headers, _ = sample(server, agent, vendor.make_jwt("ada", scope="things.read"))
    assert status == 403
    assert headers["www-authenticate"].startswith('Bearer error="insufficient_scope", resource_metadata=')
    _, _, body = get(server, f"/.well-known/oauth-protected-resource/agents/{agent}/sample")
    assert json.loads(body)["scopes_supported"] == ["things.read", "api/things.write"]
    assert sample(server, agent, vendor.make_jwt("ada", scope="things.write things.read"))[0] == 200


def test_nobody_speaks_to_an_agent_without_authorizers(server, caller, token, fresh):
    for name in (make_workload(caller, fresh("agent")), fresh("nobody")):
        assert sample(server, name, token)[0] == 401
        assert get(server, f"/.well-known/oauth-protected-resource/agents/{name}/sample")[0] == 404


@pytest.mark.parametrize("name", ["%22x%22", "a%0d%0ab", "x" * 300, "%2e%2e", "a%20b"])
def test_a_name_that_is_none_is_not_repeated(server, token, name):
    status, headers, body = sample(server, name, token)
    assert status in (401, 404)
    assert headers.get("www-authenticate", "Bearer") == "Bearer"
    assert "x" * 40 not in body


def test_two_authorization_headers_are_none(server, agent, token):
    header = ("Authorization", f"Bearer {token}")
    assert get(server, f"/agents/{agent}/sample", header, header)[0] == 401
    assert get(server, f"/agents/{agent}/sample", ("Authorization", f"Bearer {token}, Bearer {token}"))[0] == 401


def test_a_ban_holds_and_its_end_too(server, caller, agent, vendor, fresh):
    user = fresh("user")
    jwt = vendor.make_jwt(user)
    assert sample(server, agent, jwt)[0] == 200
    caller.ok("BlockUser", issuer=vendor.issuer, subject=user)
    deadline = time.monotonic() + 35
    while sample(server, agent, jwt)[0] != 403:
        assert time.monotonic() < deadline, "D15: 30 seconds"
        time.sleep(1)


def test_the_session_of_an_agent_that_asks_for_it_does_not_show_its_workload_access_token(server, caller, vendor, fresh, token):
    agent = make_workload(caller, fresh("agent"))
    put(caller, agent, vendor, {"issueWorkloadAccessToken": True})
    status, _, body = sample(server, agent, token)
    assert status == 200
    assert "workloadAccessToken" not in body


def test_it_is_there_on_loopback_alone(tmp_path, token):
    server = Server(tmp_path / "store", arguments=("--public-base-url", "https://identity.example.com")).start()
    try:
        with Connection(server.port) as connection:
            headers = {"Host": "identity.example.com", "Authorization": f"Bearer {token}"}
            answer = connection.send("GET", "/agents/an-agent/sample", headers)
            assert answer.status == 404
    finally:
        assert server.stop() == 0
