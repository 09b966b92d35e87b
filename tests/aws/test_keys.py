"""The keys of issuers on the functions: the schedule brings them, and a process that starts needs no identity provider (D16, D25)."""

import pytest

from aws.test_authorizer import put_authorizer, token_event
from aws.test_refresh import TICK
from harness import planted
from harness.functions import Functions, Instance
from harness.stories import FRONT_END_AUDIENCE
from harness.vendor import Vendor


@pytest.fixture
def issuer():
    running = Vendor()
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def deployment(issuer):
    trusted = f"issuer={issuer.issuer},audience={FRONT_END_AUDIENCE}"
    running = Functions((issuer.address,), {"AGENT_IDENTITY_TRUSTED_ISSUERS": trusted}).start()
    yield running
    running.stop()


@pytest.fixture
def agent(deployment, issuer, fresh):
    caller, name = deployment.caller(), fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    put_authorizer(caller, name, issuer)
    yield name
    caller.close()


@pytest.fixture
def authorizers(deployment, agent):
    """Starts processes of the authorizer."""
    started = []

    def start():
        started.append(Instance("authorizer", deployment.environment | {"AGENT_IDENTITY_AGENT": agent}))
        return started[-1]

    yield start
    for instance in started:
        instance.stop()


def effect(answer):
    return answer["policyDocument"]["Statement"][0]["Effect"]


def tick(deployment):
    answer = deployment.pools["refresh"].invoke(TICK)
    assert "errorMessage" not in answer, answer
    return answer


def rows(deployment, kind):
    table, dynamodb = deployment.environment["AGENT_IDENTITY_TABLE"], deployment.client_of("dynamodb")
    items = [item for page in dynamodb.get_paginator("scan").paginate(TableName=table) for item in page["Items"]]
    return [item for item in items if item["pk"]["S"].startswith(f"{kind}#")]


def unknown(issuer, name="invented"):
    return issuer.make_jwt("ada", header={"kid": name, "typ": "at+jwt"})


def test_a_function_that_starts_needs_no_identity_provider_once_the_tick_was_there(deployment, issuer, agent, authorizers):
    token, caller = issuer.make_jwt("ada"), deployment.caller()
    assert rows(deployment, "jwks") == []
    first = tick(deployment)
    assert (first["issuers"], first["renewed"], first["failed"]) == (1, 1, 0)
    assert [row["pk"]["S"] for row in rows(deployment, "jwks")] == [f"jwks#{issuer.issuer}"]
    assert tick(deployment)["renewed"] == 0, "they are fresh"
    issuer.stop()
    assert effect(authorizers().invoke(token_event(token))) == "Allow"
    deployment.pools["tokens"].stop()
    wat = caller.ok("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=token)["workloadAccessToken"]
    planted.plant(wat, "workload access token")
    caller.close()


def test_without_the_row_it_would_need_one(issuer, authorizers):
    """So that the test above could fail; and an outage is no refusal."""
    token = issuer.make_jwt("ada")
    issuer.stop()
    answer = authorizers().invoke(token_event(token))
    assert answer["errorMessage"] != "Unauthorized", answer


def test_d25_of_several_authorizers_one_asks_for_an_unknown_key_and_the_tick_brings_it_to_all(deployment, issuer, authorizers):
    tick(deployment)
    one, two = authorizers(), authorizers()
    known = token_event(issuer.make_jwt("ada"))
    assert [effect(each.invoke(known)) for each in (one, two)] == ["Allow", "Allow"]
    before = issuer.published()["keys"]
    assert one.invoke(token_event(unknown(issuer)))["errorMessage"] == "Unauthorized", "it looked, and there is none"
    for number in range(20):
        answer = two.invoke(token_event(unknown(issuer, f"invented-{number}")))
        assert answer["errorMessage"] != "Unauthorized", "it did not look"
    assert effect(two.invoke(known)) == "Allow"
    assert issuer.published()["keys"] == before + 1
    assert len(rows(deployment, "jwks-cooldown")) == 1
    assert tick(deployment)["renewed"] == 1, "somebody had to ask"


def test_a_dead_issuer_hinders_neither_the_tick_nor_the_keys_that_are_there(deployment, issuer, authorizers):
    tick(deployment)
    kept = rows(deployment, "jwks")
    authorizers().invoke(token_event(unknown(issuer)))
    token = issuer.make_jwt("ada")
    issuer.stop()
    answer = tick(deployment)
    assert (answer["due"], answer["failed"]) == (0, 1)
    assert rows(deployment, "jwks") == kept
    assert effect(authorizers().invoke(token_event(token))) == "Allow"
