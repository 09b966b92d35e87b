"""The scheduled refresh on the functions: a tick finds what is due, the queue carries it, a message refreshes it."""

import json
import time

import pytest

from harness.browser import Browser
from harness.places import REPOSITORY
from harness.stories import Consent, make_user_provider, make_workload, workload_token

TICK = json.loads((REPOSITORY / "infra" / "events" / "refresh-schedule.json").read_text())


@pytest.fixture(scope="module")
def caller(functions):
    made = functions.caller()
    yield made
    made.close()


@pytest.fixture
def connection(caller, vendor, app, fresh):
    """A user who has agreed, with a token of a few seconds."""
    vendor.reset()
    vendor.set_access_token_ttl(6)
    agent, user = make_workload(caller, fresh("agent"), app.return_url), fresh("user")
    provider = make_user_provider(caller, vendor, fresh("people"))
    wat = workload_token(caller, agent, user)
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(Browser(), user)
    assert consent.complete(userId=user).status == 200
    yield consent, consent.token(), user
    vendor.reset()


def tick(functions):
    answer = functions.pools["refresh"].invoke(TICK)
    assert "errorMessage" not in answer, answer
    return answer["due"]


def deliver(functions, records):
    return functions.pools["refresh"].invoke({"Records": records})["batchItemFailures"]


def until_due(functions):
    deadline = time.monotonic() + 10
    while True:
        tick(functions)
        if records := functions.take_messages():
            return records
        assert time.monotonic() < deadline, "the connection was never due"
        time.sleep(0.5)


def test_a_connection_is_refreshed_without_a_reader(functions, vendor, connection):
    consent, first, _ = connection
    records = until_due(functions)
    vendor.set_access_token_ttl(3600)
    assert deliver(functions, records) == []
    assert vendor.count("refresh_token") == 1
    second = consent.ask().json["accessToken"]
    assert second != first
    assert vendor.call_api(second)[0] == 200
    assert vendor.count("refresh_token") == 1, "the reader found it refreshed"


def test_the_same_message_twice_refreshes_once(functions, vendor, connection):
    records = until_due(functions)
    vendor.set_access_token_ttl(3600)
    assert deliver(functions, records) == []
    assert deliver(functions, records) == []
    assert vendor.count("refresh_token") == 1


def test_two_ticks_at_once_refresh_once(functions, vendor, connection):
    records = until_due(functions)
    vendor.set_access_token_ttl(3600)
    assert deliver(functions, records + records) == []
    assert vendor.count("refresh_token") == 1


def test_a_message_that_is_none_fails_alone(functions, vendor, connection):
    records = until_due(functions)
    vendor.set_access_token_ttl(3600)
    bad = [{"messageId": "bad-1", "body": "nonsense"}, {"messageId": "bad-2", "body": '{"version":2,"key":{}}'}]
    failures = deliver(functions, bad[:1] + records + bad[1:])
    assert sorted(failure["itemIdentifier"] for failure in failures) == ["bad-1", "bad-2"]
    assert vendor.count("refresh_token") == 1


@pytest.fixture
def announced(functions, fresh):
    """What comes over the bus from now on, one at each call."""
    events, sqs = functions.client_of("events"), functions.client_of("sqs")
    queue = sqs.create_queue(QueueName=fresh("events"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule, bus = fresh("rule"), functions.environment["AGENT_IDENTITY_EVENT_BUS"]
    events.put_rule(Name=rule, EventBusName=bus, EventPattern='{"source":["agent-identity"]}')
    events.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
    yield lambda: json.loads(sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"][0]["Body"])
    events.remove_targets(Rule=rule, EventBusName=bus, Ids=["q"])
    events.delete_rule(Name=rule, EventBusName=bus)


def test_a_grant_that_is_dead_is_announced_and_not_due_again(functions, vendor, connection, announced):
    consent, _, user = connection
    records = until_due(functions)
    assert vendor.control("revoke-grants-of", {"refreshTokenOf": user})["revoked"] == 1
    assert deliver(functions, records) == []
    event = announced()
    assert (event["detail-type"], event["detail"]["reason"]) == ("Connection Needs Consent", "invalid_grant")
    assert tick(functions) == 0
    deadline = time.monotonic() + 10
    while "accessToken" in (answer := consent.ask()).json:
        assert time.monotonic() < deadline, "the old token is served to its end, and not beyond"
        time.sleep(0.5)
    assert "authorizationUrl" in answer.json, "then the user is asked again"


def test_a_deleted_connection_is_revoked_and_announced(caller, vendor, connection, announced):
    _, token, user = connection
    [shown] = caller.ok("ListConnections", userId=user)["connections"]
    ended = caller.ok("DeleteConnection", connectionId=shown["connectionId"])
    assert ended == {"local": "destroyed", "upstream": "revoked"}
    assert vendor.call_api(token)[0] == 401 and vendor.live_grants_of(user) == 0
    event = announced()
    assert (event["detail-type"], event["detail"]["upstream"]) == ("Connection Revoked", "revoked")
    assert caller.ok("ListConnections", userId=user)["connections"] == []


def test_a_provider_that_does_not_hear_is_told_by_the_schedule(functions, caller, vendor, connection, announced):
    _, token, user = connection
    vendor.make_revocation_trouble("status", status=503)
    gone = caller.ok("OffboardUser", userId=user)
    [ended] = gone["connections"]
    assert (gone["complete"], ended["local"], ended["upstream"]) == (True, "destroyed", "queued")
    assert "503" in ended["reason"] and vendor.call_api(token)[0] == 200
    assert caller.ok("ListConnections", userId=user)["connections"] == []
    vendor.make_revocation_trouble()
    assert deliver(functions, until_due(functions)) == []
    assert vendor.call_api(token)[0] == 401 and vendor.live_grants_of(user) == 0
    event = announced()
    assert (event["detail-type"], event["detail"]["upstream"]) == ("Connection Revoked", "revoked")
    assert tick(functions) == 0


def test_d9_the_grants_of_a_deleted_workload_end_too(functions, caller, vendor, connection, announced):
    _, token, user = connection
    [shown] = caller.ok("ListConnections", userId=user)["connections"]
    caller.ok("DeleteWorkloadIdentity", name=shown["workloadName"])
    assert deliver(functions, until_due(functions)) == []
    assert vendor.live_grants_of(user) == 0
    assert announced()["detail-type"] == "Connection Revoked"
    assert caller.ok("ListConnections", userId=user)["connections"] == []
