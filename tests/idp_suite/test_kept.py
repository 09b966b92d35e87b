"""What the vendor gave is kept, although another process holds the store's write lock for eight seconds just then."""

import threading
import time

import pytest

from harness.busy import write_lock_held
from harness.stories import Consent, make_machine_provider, make_user_provider, workload_token

HELD_SECONDS = 8
"""Longer than a write waits (5 s), shorter than a provider's answer is held out to a busy store (60 s)."""


def while_the_store_is_held_from_the_vendors_commit_on(server, vendor, call):
    """Runs `call`, whose answer the vendor holds back until the write lock is taken."""
    answers = []
    calling = threading.Thread(target=lambda: answers.append(call()))
    calling.start()
    deadline = time.monotonic() + 5
    while vendor.counters()["total"] == 0:
        assert time.monotonic() < deadline, "the request never reached the vendor"
        time.sleep(0.02)
    with write_lock_held(server.data):
        time.sleep(HELD_SECONDS)
    calling.join(30)
    return answers[0]


@pytest.fixture
def slow_to_answer(normal_vendor):
    def make(provider):
        normal_vendor.set_client_behaviour(
            provider, access_token_ttl=3600, keeps_refresh_token=True, answers_after_ms=1500
        )
        return provider

    return make


def test_d11_a_users_first_consent_outlives_a_busy_store(
    server, caller, workload, app, browser, normal_vendor, slow_to_answer, fresh
):
    provider, user = slow_to_answer(make_user_provider(caller, normal_vendor, fresh("vendor"))), fresh("user")
    wat = workload_token(caller, workload, user)
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(browser, user)
    completed = while_the_store_is_held_from_the_vendors_commit_on(
        server, normal_vendor, lambda: consent.complete(userId=user)
    )
    assert (completed.status, completed.json) == (200, {}), completed
    assert normal_vendor.call_api(consent.token())[1]["subject"] == user
    assert normal_vendor.count("authorization_code") == 1


def test_a_machines_first_token_outlives_a_busy_store(
    server, caller, workload, normal_vendor, slow_to_answer, fresh
):
    provider = slow_to_answer(make_machine_provider(caller, normal_vendor, fresh("machine")))
    members = {
        "workloadIdentityToken": workload_token(caller, workload), "resourceCredentialProviderName": provider,
        "scopes": ["things.read"], "oauth2Flow": "M2M",
    }  # fmt: skip
    answer = while_the_store_is_held_from_the_vendors_commit_on(
        server, normal_vendor, lambda: caller.call("GetResourceOauth2Token", **members)
    )
    assert answer.status == 200, answer
    assert caller.call("GetResourceOauth2Token", **members).json == answer.json
    assert normal_vendor.count("client_credentials") == 1
