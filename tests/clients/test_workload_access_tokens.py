"""Workload access tokens: what they open and what they do not."""

import json
import time

import pytest

from harness.product import Server
from harness import planted
from harness.stories import make_workload, workload_token


@pytest.fixture(scope="module")
def workload(caller, fresh):
    return make_workload(caller, fresh("agent"), "http://127.0.0.1/return")


@pytest.fixture(scope="module")
def api_key_provider(caller, fresh):
    name = fresh("weather")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
    return name


@pytest.fixture(scope="module")
def github(caller, fresh):
    name = fresh("github")
    config = {"clientId": "one", "clientSecret": planted.new_secret("client secret")}
    caller.ok(
        "CreateOauth2CredentialProvider",
        name=name,
        credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput={"githubOauth2ProviderConfig": config},
    )
    return name


def api_key(caller, wat, provider):
    return caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=provider)


def test_boto3_gets_one_for_the_agent_itself_and_one_for_a_user(server, workload):
    client = server.boto3("bedrock-agentcore")
    alone = client.get_workload_access_token(workloadName=workload)["workloadAccessToken"]
    for_user = client.get_workload_access_token_for_user_id(workloadName=workload, userId="alice")
    assert alone != for_user["workloadAccessToken"]
    assert 1 <= len(alone) <= 131072


@pytest.mark.parametrize("operation", ["GetWorkloadAccessToken", "GetWorkloadAccessTokenForUserId"])
def test_an_unknown_workload_is_not_found(caller, operation):
    user = {"userId": "alice"} if operation.endswith("UserId") else {}
    caller.refused(operation, 404, "ResourceNotFoundException", workloadName="nobody-made-this", **user)


def test_d20_the_token_tells_nothing_about_the_user(caller, workload):
    token = workload_token(caller, workload, "alice-with-a-long-name")
    assert "alice" not in token and workload not in token


def test_d20_two_tokens_for_the_same_user_differ(caller, workload):
    assert workload_token(caller, workload, "alice") != workload_token(caller, workload, "alice")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_d20_a_changed_token_opens_nothing(caller, workload, api_key_provider, place):
    token = workload_token(caller, workload, "alice")
    index = {"first": 0, "middle": len(token) // 2, "last": len(token) - 2}[place]
    changed = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
    answer = api_key(caller, changed, api_key_provider)
    assert (answer.status, answer.error) == (401, "UnauthorizedException"), answer


@pytest.mark.parametrize("token", ["x", "A" * 300, "a.b.c", "é" * 40, "A" * 131072])
def test_d20_what_was_never_issued_is_unauthorized(caller, api_key_provider, token):
    answer = api_key(caller, token, api_key_provider)
    assert (answer.status, answer.error) == (401, "UnauthorizedException"), answer


def test_d20_a_token_without_a_user_is_refused_for_user_federation(caller, workload, github):
    members = {"resourceCredentialProviderName": github, "scopes": ["repo"], "oauth2Flow": "USER_FEDERATION"}
    alone = caller.call("GetResourceOauth2Token", workloadIdentityToken=workload_token(caller, workload), **members)
    assert alone.status in (400, 401, 403) and "user" in alone.message
    # The same request with a user starts a consent, so it was the user that was missing.
    caller.ok(
        "GetResourceOauth2Token",
        workloadIdentityToken=workload_token(caller, workload, "alice"),
        resourceOauth2ReturnUrl="http://127.0.0.1/return",
        **members,
    )


def test_d9_a_token_of_a_deleted_workload_ends_and_a_new_one_of_the_name_does_not_revive_it(
    caller, api_key_provider, fresh
):
    workload = make_workload(caller, fresh("short-lived"))
    token = workload_token(caller, workload, "alice")
    assert api_key(caller, token, api_key_provider).status == 200
    caller.ok("DeleteWorkloadIdentity", name=workload)
    make_workload(caller, workload)
    deadline = time.monotonic() + 31  # D15 and design section 6: within 30 seconds
    while api_key(caller, token, api_key_provider).status == 200:
        assert time.monotonic() < deadline, "the dead workload's token still opens after 31 s"
        time.sleep(0.5)
    assert api_key(caller, token, api_key_provider).error in ("UnauthorizedException", "AccessDeniedException")


def test_d20_a_token_ends_after_15_minutes(tmp_path):
    server = Server(tmp_path / "store").start()
    caller = server.caller()
    make_workload(caller, "agent")
    caller.ok("CreateApiKeyCredentialProvider", name="weather", apiKey=planted.new_secret("API key"))
    token = workload_token(caller, "agent", "alice")
    caller.close()
    assert server.stop() == 0
    statuses = {}
    for minutes in (14, 16):
        later = Server(server.data, port=server.port, clock_offset_seconds=minutes * 60).start()
        answer = api_key(later.caller(), token, "weather")
        statuses[minutes] = (answer.status, answer.error)
        assert later.stop() == 0
    assert statuses == {14: (200, ""), 16: (401, "UnauthorizedException")}


def test_on_behalf_of_is_refused_as_not_supported_yet(caller, workload, github):
    answer = caller.refused(
        "GetResourceOauth2Token", 400, "ValidationException",
        workloadIdentityToken=workload_token(caller, workload, "alice"),
        resourceCredentialProviderName=github,
        scopes=[],
        oauth2Flow="ON_BEHALF_OF_TOKEN_EXCHANGE",
    )  # fmt: skip
    assert "not supported" in answer.message


def test_an_answer_is_plain_json_with_the_modelled_member_alone(caller, workload):
    answer = caller.call("GetWorkloadAccessToken", workloadName=workload)
    assert list(json.loads(answer.body)) == ["workloadAccessToken"]
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers.get("cache-control") == "no-store"
