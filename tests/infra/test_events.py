"""infra/events: one event for each function and kind, for `sam local invoke` and the tests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from infra.cloudformation import load
from infra.rules import FUNCTIONS

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "events"
EVENTS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def kind(event: Any) -> str:
    """What AWS would have sent it."""
    if "Records" in event:
        return "sqs"
    if "source" in event:
        return "schedule"
    if event.get("type") == "TOKEN":
        return "rest-token"
    if event.get("requestContext", {}).get("eventType") == "CONNECT":
        return "websocket"
    if "version" not in event:
        return "rest-request"
    return f"http-{event['version']}"


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_every_function_has_one(function: str) -> None:
    assert any(name.startswith(f"{function}-") for name in EVENTS)


@pytest.mark.parametrize("name", EVENTS)
def test_its_name_says_what_it_is(name: str) -> None:
    function, _, rest = name.partition("-")
    assert function in FUNCTIONS.values()
    assert kind(EVENTS[name]) in rest


def test_the_authorizer_has_one_of_each_kind() -> None:
    kinds = {kind(event) for name, event in EVENTS.items() if name.startswith("authorizer-")}
    assert kinds == {"rest-token", "rest-request", "websocket", "http-1.0", "http-2.0"}


def test_the_tick_is_what_the_schedule_sends() -> None:
    sent = load()["Resources"]["RefreshTick"]["Properties"]["Target"]["Input"]["Fn::Sub"]
    tick = EVENTS["refresh-schedule"]
    assert {name: type(value) for name, value in json.loads(sent).items()} == {
        name: type(value) for name, value in tick.items()
    }
    assert (tick["source"], tick["detail-type"]) == ("aws.scheduler", "Scheduled Event")


def test_messages_are_whole() -> None:
    for name in ("refresh-sqs", "refresh-sqs-partial-failure"):
        for record in EVENTS[name]["Records"]:
            assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()


def test_routes_are_those_of_the_api() -> None:
    keys = {
        resource["Properties"]["RouteKey"]
        for resource in load()["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
    }
    for name, event in EVENTS.items():
        if kind(event) == "http-2.0":
            assert event["routeKey"] in keys, name
            assert event["requestContext"]["routeKey"] == event["routeKey"], name
