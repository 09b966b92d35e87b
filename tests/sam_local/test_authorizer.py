"""The sample route behind the authorizer, as API Gateway and Lambda put them together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import planted
from harness.stories import FRONT_END_AUDIENCE, make_workload
from harness.vendor import Vendor
from harness.wire import Answer, Caller, Connection

from .sam import LocalApi, Sam

AGENT = "support"


@pytest.fixture(scope="module")
def agent(api: LocalApi, administrator: Any, vendor: Vendor) -> str:
    """An agent whose callers have to come from the vendor, with its audience."""
    caller = Caller(api.port, administrator, timeout_seconds=120)
    make_workload(caller, AGENT)
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}
    body = {"agentId": AGENT, "name": "people", "authorizerConfiguration": {"customJWTAuthorizer": rules}}
    answer = caller.at("/identities/PutAuthorizer", json.dumps(body).encode())
    assert answer.status == 200, answer
    caller.close()
    return AGENT


def sample(api: LocalApi, token: str | None, agent: str | None) -> Answer:
    headers = {"Host": f"127.0.0.1:{api.port}"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if agent is not None:
        headers["X-Agent-Id"] = agent
    with Connection(api.port, timeout_seconds=120) as connection:
        return connection.send("GET", "/sample", headers)


def test_a_good_token_passes_and_the_context_comes_along(api: LocalApi, agent: str, vendor: Vendor) -> None:
    answer = sample(api, vendor.make_jwt("ada"), agent)
    assert answer.status == 200, answer
    session = answer.json
    assert session["agentId"] == agent
    assert (session["issuer"], session["subject"], session["clientId"]) == (vendor.issuer, "ada", "agent-front-end")
    assert session["expiresAt"] > 0


def test_without_token_or_agent_nobody_is_asked(api: LocalApi, agent: str, vendor: Vendor) -> None:
    assert sample(api, None, agent).status == 401
    assert sample(api, vendor.make_jwt("ada"), None).status == 401


@pytest.mark.parametrize(
    "claims",
    [{"aud": "https://elsewhere.example.com"}, {"exp": 1_000_000_000}, {"iss": "https://elsewhere.example.com"}],
    ids=["another audience", "expired", "another issuer"],
)
def test_a_bad_token_is_forbidden(api: LocalApi, agent: str, vendor: Vendor, claims: dict[str, Any]) -> None:
    assert sample(api, vendor.make_jwt("ada", **claims), agent).status == 403


def test_a_token_for_one_agent_does_not_reach_another(api: LocalApi, agent: str, vendor: Vendor) -> None:
    assert sample(api, vendor.make_jwt("ada"), f"{agent}-2").status == 403


def test_a_text_that_is_no_token_is_forbidden(api: LocalApi, agent: str) -> None:
    assert sample(api, planted.new_secret("text that is no token"), agent).status == 403


def test_single_events_are_answered_in_the_form_of_their_api(
    sam: Sam, agent: str, vendor: Vendor, events: Callable[[str], Path]
) -> None:
    token = f"Bearer {vendor.make_jwt('ada')}"
    event = json.loads(events("authorizer-http-1.0").read_text())
    event["headers"]["Authorization"] = token
    answer = sam.invoke("AuthorizerFunction", event)
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert answer["context"]["agentId"] == agent

    event = json.loads(events("authorizer-rest-request").read_text())
    event["headers"]["Authorization"] = token
    answer = sam.invoke("AuthorizerFunction", event)
    assert answer["policyDocument"]["Statement"][0]["Resource"] == event["methodArn"]
