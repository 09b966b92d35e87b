"""Tokens that only their issuer can read: it is asked (RFC 7662), in embedded mode, with tokens of a real OpenID provider."""

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import planted
from harness.product import Server
from harness.stories import FRONT_END_AUDIENCE, make_workload, sign_in
from harness.wire import Connection

ANSWER_LIFE_SECONDS = 30
# What may be asked about at once of tokens that nobody knows, and then each second.
BURST, REFILL = 50, 5
CLIENT = "front-end-with-opaque-tokens"


@pytest.fixture(scope="module")
def asker(vendor):
    """The clients as which authorizers ask, by how they prove who they are."""
    made = {}
    for method in ("client_secret_basic", "client_secret_post"):
        # A colon and a percent sign, which the header must not take for its own.
        secret = planted.plant(f"s:cr%t+{secrets.token_hex(16)}", "client secret")
        name = f"agents-{method}"
        vendor.register_client(name, client_secret=secret, token_endpoint_auth_method=method)
        made[method] = {"clientId": name, "clientSecret": secret, "clientAuthentication": method}
    return made


@pytest.fixture(scope="module")
def token(vendor):
    return opaque(vendor)


@pytest.fixture
def agent(caller, vendor, asker, fresh):
    name = make_workload(caller, fresh("agent"))
    put(caller, name, vendor, asker["client_secret_basic"])
    return name


@pytest.fixture(autouse=True)
def no_trouble(vendor):
    vendor.make_introspection_trouble()
    yield
    vendor.make_introspection_trouble()


def opaque(vendor, user="ada", client=CLIENT):
    made = sign_in(vendor, user, resource=None, client=client)["access_token"]
    assert "." not in made
    return made


def put(caller, agent, vendor, client, name="main", options=None, **rules):
    asked = {"endpoint": f"{vendor.issuer}/token/introspection"} | client
    return caller.ok(
        "PutAuthorizer", agentId=agent, name=name, options={"introspection": asked} | (options or {}),
        authorizerConfiguration={"customJWTAuthorizer": {"discoveryUrl": vendor.discovery_url} | (rules or {"allowedClients": [CLIENT]})},
    )  # fmt: skip


def session(server, agent, token):
    """Status and body of the agent's sample API, behind what the authorizer function runs."""
    with Connection(server.port) as connection:
        headers = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {token}"}
        answer = connection.send("GET", f"/agents/{agent}/sample", headers)
        return answer.status, answer.body.decode()


def exchange(caller, agent, token):
    answer = caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=token)
    if answer.status == 200:
        planted.plant(answer.json["workloadAccessToken"], "workload access token")
    return answer


def another_process(server, vendor):
    """It has asked about nothing yet."""
    return Server(server.data, (vendor.address,)).start()


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_the_user_of_an_opaque_token_is_the_user_of_a_jwt(server, caller, vendor, asker, agent, token, method):
    put(caller, agent, vendor, asker[method], allowedClients=[CLIENT, "agent-front-end"])
    status, body = session(server, agent, token)
    assert status == 200, body
    by_jwt = json.loads(session(server, agent, vendor.make_jwt("ada"))[1])
    by_token = json.loads(body)
    assert by_token["userId"] == by_jwt["userId"]
    assert (by_token["subject"], by_token["issuer"], by_token["clientId"]) == ("ada", vendor.issuer, CLIENT)
    assert "things.read" in by_token["scopes"].split()
    assert exchange(caller, agent, token).status == 200


def test_the_rules_hold_for_what_the_issuer_says(server, caller, vendor, asker, agent, token):
    client = asker["client_secret_basic"]
    for rules, status in (
        ({"allowedClients": [CLIENT], "allowedScopes": ["things.read"]}, 200),
        ({"allowedScopes": ["things.read", "things.write"]}, 403),
        ({"allowedClients": ["another-front-end"]}, 403),
        ({"allowedAudience": [FRONT_END_AUDIENCE]}, 403),
    ):
        # An agent each: its rules may be kept for 30 seconds.
        agent = make_workload(caller, f"agent-{secrets.token_hex(4)}")
        put(caller, agent, vendor, client, **rules)
        assert session(server, agent, token)[0] == status, rules
        assert exchange(caller, agent, token).status == (200 if status == 200 else 401), rules


def test_a_refresh_token_and_a_token_of_nobody_are_refused(server, caller, vendor, agent):
    tokens = sign_in(vendor, "ada", resource=None, client=CLIENT)
    assert session(server, agent, tokens["access_token"])[0] == 200
    for other in (tokens["refresh_token"], secrets.token_urlsafe(32)):
        assert session(server, agent, other)[0] == 401
        refused = exchange(caller, agent, other)
        assert (refused.status, refused.error) == (401, "UnauthorizedException")


def test_many_requests_with_one_token_cost_the_issuer_one(server, caller, vendor, asker, fresh):
    agent, token = make_workload(caller, fresh("agent")), opaque(vendor)
    put(caller, agent, vendor, asker["client_secret_basic"])
    vendor.make_introspection_trouble("slow", milliseconds=300)
    before = vendor.introspections()
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: session(server, agent, token)[0], range(64)))
    assert statuses == [200] * 64
    assert exchange(caller, agent, token).status == 200
    assert vendor.introspections() == before + 1


def test_a_revoked_token_ends_within_half_a_minute_and_at_once_for_who_has_not_asked(server, caller, vendor, agent):
    token = opaque(vendor)
    assert session(server, agent, token)[0] == 200
    asked_at = time.monotonic()
    vendor.revoke(token, CLIENT)
    other = another_process(server, vendor)
    try:
        assert session(other, agent, token)[0] == 401
    finally:
        assert other.stop() == 0
    while session(server, agent, token)[0] != 401:
        assert time.monotonic() < asked_at + ANSWER_LIFE_SECONDS + 1
        time.sleep(0.5)
    assert exchange(caller, agent, token).status == 401


def test_a_token_that_has_ended_is_refused_whatever_was_said_of_it(server, caller, vendor, agent):
    vendor.set_access_token_ttl(3)
    try:
        token = opaque(vendor)
    finally:
        vendor.reset()
    assert session(server, agent, token)[0] == 200
    time.sleep(3.5)
    assert session(server, agent, token)[0] == 401
    assert exchange(caller, agent, token).status == 401


def test_a_jwt_is_shown_to_nobody(server, caller, vendor, asker, agent):
    put(caller, agent, vendor, asker["client_secret_basic"], allowedClients=[CLIENT, "agent-front-end"])
    before = vendor.introspections()
    jwt = vendor.make_jwt("ada")
    header, payload, signature = jwt.split(".")
    assert session(server, agent, jwt)[0] == 200
    for broken in (f"{header}.{payload}.AAAA", f"{header}.{payload}.", f"{header}=.{payload}.{signature}", vendor.make_jwt("ada", exp=1)):
        assert session(server, agent, broken)[0] == 401
        assert exchange(caller, agent, broken).status == 401
    assert vendor.introspections() == before


@pytest.mark.parametrize("trouble", [
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 403},
    {"kind": "redirect", "to": "http://169.254.169.254/"},
    {"kind": "text", "text": "<html>"},
    {"kind": "text", "text": '{"active": "true"}'},
    {"kind": "text", "text": '{"active": false, "active": true}'},
    {"kind": "large", "bytes": 300_000},
    {"kind": "slow", "milliseconds": 6000},
], ids=json.dumps)  # fmt: skip
def test_an_issuer_that_does_not_answer_is_nobodys_401(server, caller, vendor, agent, trouble):
    token = opaque(vendor)
    vendor.make_introspection_trouble(**trouble)
    assert session(server, agent, token)[0] == 503
    refused = exchange(caller, agent, token)
    assert (refused.status, refused.error) == (429, "ThrottlingException"), refused
    vendor.make_introspection_trouble()
    assert session(server, agent, token)[0] == 200
    said = [json.dumps(record) for record in server.log_records() if "cannot be asked about a token" in json.dumps(record)]
    assert said, "and the log says why"


def test_a_client_whose_secret_is_wrong_is_nobodys_401(server, caller, vendor, asker, agent, token):
    wrong = asker["client_secret_basic"] | {"clientSecret": planted.new_secret("client secret")}
    agent = make_workload(caller, f"agent-{secrets.token_hex(4)}")
    put(caller, agent, vendor, wrong)
    assert session(server, agent, token)[0] == 503
    assert "does not let the authorizer's client ask" in server.log_tail()


def test_an_endpoint_that_may_not_be_reached_is_not_asked(server, caller, asker, vendor, token):
    agent = make_workload(caller, f"agent-{secrets.token_hex(4)}")
    put(caller, agent, vendor, asker["client_secret_basic"] | {"endpoint": "http://169.254.169.254/introspect"})
    assert session(server, agent, token)[0] == 503


def test_a_flood_of_invented_tokens_is_bounded_and_locks_no_known_user_out(server, caller, vendor, agent):
    fresh_process = another_process(server, vendor)
    try:
        known = opaque(vendor)
        assert session(fresh_process, agent, known)[0] == 200
        invented = [planted.plant(secrets.token_urlsafe(32), "invented token") for _ in range(400)]
        before, began = vendor.introspections(), time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda it: session(fresh_process, agent, it)[0], invented))
        most = BURST + REFILL * (time.monotonic() - began + 1)
        assert set(statuses) == {401, 503}
        assert vendor.introspections() - before <= most < len(invented)
        time.sleep(max(0, began + ANSWER_LIFE_SECONDS + 1 - time.monotonic()))
        for token in invented[:BURST + REFILL * 40]:
            session(fresh_process, agent, token)
        before = vendor.introspections()
        assert session(fresh_process, agent, known)[0] == 200
        assert vendor.introspections() == before + 1, "what was known is asked about again, whatever the others do"
    finally:
        assert fresh_process.stop() == 0


def test_a_ban_holds_for_opaque_tokens_too(server, caller, vendor, agent, fresh):
    user = fresh("user")
    token = opaque(vendor, user)
    assert exchange(caller, agent, token).status == 200
    caller.ok("BlockUser", issuer=vendor.issuer, subject=user)
    other = another_process(server, vendor)
    try:
        assert session(other, agent, token)[0] == 403
        own = other.caller()
        assert exchange(own, agent, token).status == 403
        own.close()
    finally:
        assert other.stop() == 0
