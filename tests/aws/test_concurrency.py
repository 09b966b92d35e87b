"""Many invocations at once in one process, as Lambda managed instances have them (`AWS_LAMBDA_MAX_CONCURRENCY`): nothing is mixed up,
and what one process does once, many at once do once.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from aws.faulty_operations import machine_request, rules
from aws.faulty_place import ACCOUNT, Deployment, Place, say
from aws.faulty_tokens import METHOD_ARN, Expired, Message
from bench.runtime_api import Bootstrap
from harness import planted
from harness.stories import SCOPES, make_machine_provider, make_user_provider, make_workload, stored_token, workload_token

AT_ONCE = 16
ROUNDS = 8
CROWD = 100


@pytest.fixture(scope="module")
def deployment():
    running = Deployment()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place(deployment):
    made = Place(deployment)
    yield made
    made.stop()


def at_once(jobs: list[Callable[[], object]]) -> list[object]:
    """What the jobs give, all begun at the same moment."""
    together = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> object:
        together.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(run, jobs))


def many(place: Place, function: str, count: int = AT_ONCE, **variables: str):
    """A process that takes so many events at once."""
    return place.process(function, AWS_LAMBDA_MAX_CONCURRENCY=str(count), **variables)


def user_token(place: Place, wat: str, provider: str, **more: object) -> dict[str, object]:
    return place.event(
        "GetResourceOauth2Token", workloadIdentityToken=wat, resourceCredentialProviderName=provider,
        scopes=SCOPES, oauth2Flow="USER_FEDERATION", **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def people(place):
    """Users of one agent at one provider: (who, their workload access token, their access token)."""
    provider = make_user_provider(place.caller, place.vendor, place.fresh("people"))
    found = []
    for _ in range(AT_ONCE):
        user = place.fresh("user")
        consent = place.connected(provider, user)
        token = planted.plant(stored_token(place.caller, consent.wat, provider).json["accessToken"], "access token")
        assert place.vendor.call_api(token)[1]["subject"] == user
        found.append((user, consent.wat, token))
    assert len({token for _, _, token in found}) == AT_ONCE
    return provider, found


def test_events_are_taken_one_by_one_without_the_variable(place, people):
    """What the other tests rely on to be about several at once."""
    provider, found = people
    with place.process("tokens") as process:
        at_once([lambda wat=wat: say(process, user_token(place, wat, provider)) for _, wat, _ in found])
        assert process.most_at_once == 1


def test_each_user_gets_their_own_token(place, people):
    provider, found = people

    def get(process: Bootstrap, wat: str, token: str) -> None:
        for _ in range(ROUNDS):
            said = say(process, user_token(place, wat, provider))
            assert said.ok, said
            assert said.json["accessToken"] == token

    with many(place, "tokens") as process:
        at_once([lambda wat=wat, token=token: get(process, wat, token) for _, wat, token in found])
        assert process.most_at_once == AT_ONCE


def test_users_machines_and_keys_side_by_side(place, people):
    provider, found = people
    machine = make_machine_provider(place.caller, place.vendor, place.fresh("machine"))
    keys = {}
    for _ in range(4):
        name, key = place.fresh("weather"), planted.new_secret("API key")
        place.caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=key)
        keys[name] = key
    alone = workload_token(place.caller, place.agent)

    def of_user(process: Bootstrap, wat: str, token: str) -> None:
        assert say(process, user_token(place, wat, provider)).json["accessToken"] == token

    def of_key(process: Bootstrap, name: str) -> None:
        event = place.event("GetResourceApiKey", workloadIdentityToken=alone, resourceCredentialProviderName=name)
        assert say(process, event).json["apiKey"] == keys[name]

    def of_nobody(process: Bootstrap, name: str) -> None:
        event = place.event("GetResourceApiKey", workloadIdentityToken=alone, resourceCredentialProviderName=name)
        said = say(process, event)
        assert (said.error, name in said.body) == ("ResourceNotFoundException", True), said

    def of_machine(process: Bootstrap) -> str:
        said = say(process, place.event("GetResourceOauth2Token", **machine_request(alone, machine)))
        return planted.plant(said.json["accessToken"], "access token")

    with many(place, "tokens", 40) as process:
        jobs = [lambda wat=wat, token=token: of_user(process, wat, token) for _, wat, token in found]
        jobs += [lambda name=name: of_key(process, name) for name in keys]
        jobs += [lambda name=place.fresh("none"): of_nobody(process, name) for _ in range(8)]
        jobs += [lambda: of_machine(process) for _ in range(12)]
        answers = at_once(jobs)
        assert process.most_at_once > AT_ONCE
    assert len(set(answers[-12:])) == 1
    assert len(place.token_requests(machine)) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crowd_finds_a_token_expired_and_it_is_refreshed_once(place, processes):
    expired = Expired(place)
    with ExitStack() as stack:
        crowd = [stack.enter_context(many(place, "tokens", CROWD)) for _ in range(processes)]
        event = user_token(place, expired.consent.wat, expired.name)
        answers = at_once([lambda n=n: say(crowd[n % processes], event) for n in range(CROWD)])
    assert {answer.ok for answer in answers} == {True}, {answer.body for answer in answers if not answer.ok}
    assert len({answer.json["accessToken"] for answer in answers}) == 1
    expired.check(answers[0], crowd[0])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crowd_asks_for_a_machine_token_and_it_is_fetched_once(place, processes):
    machine = make_machine_provider(place.caller, place.vendor, place.fresh("machine"))
    wat = workload_token(place.caller, place.agent)
    with ExitStack() as stack:
        crowd = [stack.enter_context(many(place, "tokens", CROWD)) for _ in range(processes)]
        event = place.event("GetResourceOauth2Token", **machine_request(wat, machine))
        answers = at_once([lambda n=n: say(crowd[n % processes], event) for n in range(CROWD)])
    assert {answer.ok for answer in answers} == {True}, {answer.body for answer in answers if not answer.ok}
    assert len({planted.plant(answer.json["accessToken"], "access token") for answer in answers}) == 1
    assert len(place.token_requests(machine)) == 1


def test_each_line_of_the_log_is_of_its_request(place, people):
    """Callers of several roles, some of whom may not, for several providers: what a line says is what that request was."""
    provider, found = people
    roles = [f"arn:aws:iam::{ACCOUNT}:role/{place.fresh('role')}" for _ in range(AT_ONCE)]
    for role in roles[::2]:
        place.deployment.give_grants(place.functions.environment, role)
    expected: dict[str, tuple[str, str, int]] = {}

    def ask(process: Bootstrap, role: str, wat: str, token: str) -> None:
        may = role in roles[::2]
        for _ in range(ROUNDS):
            request_id = str(uuid.uuid4())
            operation = "GetResourceOauth2Token"
            event = user_token(place, wat, provider) | {}
            event["requestContext"]["authorizer"]["iam"]["userArn"] = (
                f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.rpartition('/')[2]}/session"
            )
            said = say(process, event, request_id)
            assert said.ok is may, said
            assert not may or said.json["accessToken"] == token
            assert said.headers["x-amzn-requestid"] == request_id
            expected[request_id] = operation, role, said.status

    with many(place, "tokens") as process:
        at_once([
            lambda role=role, wat=wat, token=token: ask(process, role, wat, token)
            for role, (_, wat, token) in zip(roles, found, strict=True)
        ])  # fmt: skip
        assert process.most_at_once == AT_ONCE
        lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    told = {}
    for line in lines:
        if "operation" in line:
            assert line["requestId"] not in told, "one line a request"
            told[line["requestId"]] = line["operation"], line["principal"], line.get("status", 200)
    assert told == expected


def test_the_authorizer_mixes_no_decisions_up(place):
    agent = make_workload(place.caller, place.fresh("agent"))
    place.caller.ok("PutAuthorizer", agentId=agent, name="main", authorizerConfiguration=rules(place))
    allowed = [(place.fresh("user"), None) for _ in range(AT_ONCE // 2)]
    denied = [(place.fresh("user"), "https://others.example.com") for _ in range(AT_ONCE // 2)]

    def ask(process: Bootstrap, user: str, audience: str | None) -> None:
        token = place.vendor.make_jwt(user, **({} if audience is None else {"aud": audience}))
        for _ in range(ROUNDS):
            event = {"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": f"Bearer {token}"}
            answer = process.invoke(event)
            effect = answer["policyDocument"]["Statement"][0]["Effect"]
            assert effect == ("Allow" if audience is None else "Deny")
            assert (answer.get("context") or {}).get("subject") == (user if audience is None else None)

    with many(place, "authorizer", AGENT_IDENTITY_AGENT=agent) as process:
        pairs = [one for pair in zip(allowed, denied, strict=True) for one in pair]
        at_once([lambda user=user, audience=audience: ask(process, user, audience) for user, audience in pairs])
        assert process.most_at_once == AT_ONCE


def test_batches_at_once_refresh_each_connection_once(place):
    """Each message comes twice, in two batches, as a queue may send it."""
    due = [Message(place) for _ in range(4)]
    records = [{"messageId": message.name, "body": message.body} for message in due]
    with many(place, "refresh", 4) as process:
        batches = [records[:2], records[2:], records[::-1], records[1:3]]
        answers = at_once([lambda batch=batch: process.invoke({"Records": batch}) for batch in batches])
    assert [answer["batchItemFailures"] for answer in answers] == [[], [], [], []]
    for message in due:
        message.check_connected(refreshes=1)
