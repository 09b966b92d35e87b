"""From a provider to a token, and the scheduled refresh, through `sam local start-api` and `sam local invoke`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import planted
from harness.app import App
from harness.browser import Browser
from harness.stories import (
    Consent,
    machine_token,
    make_machine_provider,
    make_user_provider,
    make_workload,
    stored_token,
    workload_token,
)
from harness.vendor import Vendor
from harness.wire import Caller, Connection

from .sam import LocalApi, Sam

# A refresh is due when half of this is over.
TOKEN_LIFE_SECONDS = 60


def test_an_unsigned_request_is_refused_by_the_function(api: LocalApi) -> None:
    headers = {"Host": f"127.0.0.1:{api.port}", "Content-Type": "application/json"}
    with Connection(api.port, timeout_seconds=120) as connection:
        answer = connection.send("POST", "/identities/ListWorkloadIdentities", headers, b"{}")
    assert (answer.status, answer.error) == (403, "MissingAuthenticationTokenException")


def test_an_agent_gets_a_token_of_its_own(caller: Caller, vendor: Vendor) -> None:
    make_workload(caller, "machine")
    make_machine_provider(caller, vendor, "machine-provider")
    token = machine_token(caller, workload_token(caller, "machine"), "machine-provider")
    status, seen = vendor.call_api(token)
    assert status == 200, seen
    assert machine_token(caller, workload_token(caller, "machine"), "machine-provider") == token
    assert vendor.count("client_credentials") == 1


def test_an_agent_gets_an_api_key(caller: Caller) -> None:
    key = planted.new_secret("API key")
    make_workload(caller, "reader")
    caller.ok("CreateApiKeyCredentialProvider", name="weather", apiKey=key)
    said = caller.ok(
        "GetResourceApiKey",
        workloadIdentityToken=workload_token(caller, "reader"),
        resourceCredentialProviderName="weather",
    )
    assert said["apiKey"] == key


@pytest.fixture
def connected(caller: Caller, vendor: Vendor, app: App) -> tuple[str, str]:
    """A user who has agreed in a browser: their workload access token, and the access token that came of it."""
    vendor.set_access_token_ttl(TOKEN_LIFE_SECONDS)
    make_workload(caller, "assistant", app.return_url)
    make_user_provider(caller, vendor, "calendar")
    wat = workload_token(caller, "assistant", "ada")
    consent = Consent(caller, wat, "calendar", more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    page = consent.agree(Browser(vendor.trust), "ada")
    assert page.status == 200 and app.visits, page.text
    answer = consent.complete(userId="ada")
    assert answer.status == 200, answer
    return wat, consent.token()


def test_a_tick_finds_what_is_due_and_a_message_refreshes_it(
    connected: tuple[str, str],
    caller: Caller,
    vendor: Vendor,
    sam: Sam,
    client: Callable[[str], Any],
    aws: dict[str, str],
    events: Callable[[str], Path],
) -> None:
    wat, first = connected
    queue = client("sqs")

    def tick() -> list[dict[str, Any]]:
        sam.invoke("RefreshFunction", events("refresh-schedule"))
        received = queue.receive_message(QueueUrl=aws["AGENT_IDENTITY_QUEUE_URL"], MaxNumberOfMessages=10)
        return received.get("Messages", [])

    assert tick() == [], "nothing is due yet"
    time.sleep(TOKEN_LIFE_SECONDS / 2)
    [message] = tick()

    event = json.loads(events("refresh-sqs-partial-failure").read_text())
    good, bad = event["Records"]
    good["body"] = message["Body"]
    good["md5OfBody"] = hashlib.md5(message["Body"].encode()).hexdigest()
    answer = sam.invoke("RefreshFunction", event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": bad["messageId"]}]}
    assert vendor.count("refresh_token") == 1

    answer = stored_token(caller, wat, "calendar")
    assert answer.status == 200, answer
    second = planted.plant(answer.json["accessToken"], "access token")
    assert second != first
    assert vendor.call_api(second)[0] == 200
    assert vendor.count("refresh_token") == 1, "the reader found it refreshed"
