"""Each function under AWS's runtime emulator with one event of every kind that may come, bad ones included: an answer, and a
process that lives on."""

import json

import pytest

from harness.functions import Instance
from harness.places import REPOSITORY

EVENTS = REPOSITORY / "infra" / "events"
FUNCTIONS = ["credentials", "tokens", "gateway", "refresh", "authorizer", "sample"]
NONSENSE = [None, [], "text", 7, {}, {"Records": None}, {"version": "2.0"}, {"source": "somebody.else"}, {"body": "x" * 100_000}]


def golden(function):
    return [json.loads(file.read_text()) for file in sorted(EVENTS.glob(f"{function}-*.json"))]


@pytest.fixture(scope="module")
def instances(functions):
    running = {name: Instance(name, functions.environment) for name in FUNCTIONS}
    yield running
    for instance in running.values():
        instance.stop()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_there_are_golden_events_of_every_function(function):
    assert golden(function)


@pytest.mark.parametrize("file", sorted(EVENTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_golden_event_is_answered(instances, file):
    answer = instances[file.stem.split("-")[0]].invoke(json.loads(file.read_text()))
    assert answer


@pytest.mark.parametrize("event", NONSENSE, ids=lambda event: str(event)[:30])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_nonsense_is_answered_and_the_process_lives_on(instances, function, event):
    answer = instances[function].invoke(event)
    assert answer.get("errorMessage") or answer["statusCode"] >= 400, answer
    lived = instances[function].process.pid
    instances[function].invoke(golden(function)[0])
    assert instances[function].process.poll() is None and instances[function].process.pid == lived


@pytest.mark.parametrize("function", FUNCTIONS[:-1])
def test_d1_a_function_that_is_not_told_who_says_who_calls_does_not_start(functions, function):
    environment = dict(functions.environment)
    missing = "AGENT_IDENTITY_PRINCIPAL" if function in ("credentials", "tokens", "gateway") else "AGENT_IDENTITY_TABLE"
    del environment[missing]
    broken = Instance(function, environment)
    try:
        broken.invoke(golden(function)[0])
        assert f"{missing} is not set" in broken.log.read_text(errors="replace")
    finally:
        broken.stop()
