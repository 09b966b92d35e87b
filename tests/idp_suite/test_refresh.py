"""Refresh with a vendor that rotates refresh tokens and revokes the grant when an old one comes back."""

import threading
import time

import jwt
import pytest

from harness import planted
from harness.browser import Browser
from harness.product import ON_READ_ALONE, Server
from harness.stories import (
    Consent, connected_user, custom_config, make_user_provider, stored_token, workload_token,
)  # fmt: skip

TTL = 4
"""Seconds that the vendor's access tokens live; the product refreshes after half of it, see `design.md` section 8."""


@pytest.fixture(scope="module")
def serve_environment():
    return ON_READ_ALONE


@pytest.fixture
def short_lived(normal_vendor):
    normal_vendor.set_access_token_ttl(TTL)
    return normal_vendor


@pytest.fixture
def user(fresh):
    return fresh("user")


@pytest.fixture
def connected(short_lived, caller, workload, provider, app, user):
    """A user whose access token lives for four seconds: (what a new WAT is, a read)."""
    connected_user(caller, workload, provider, user, app.return_url)
    wat = workload_token(caller, workload, user)

    def read(by=caller):
        answer = stored_token(by, wat, provider)
        assert answer.status == 200 and "accessToken" in answer.json, answer
        return planted.plant(answer.json["accessToken"], "access token")

    return read


def test_a_token_is_served_until_half_of_its_life_and_then_refreshed(short_lived, connected, user):
    first = connected()
    assert connected() == first and short_lived.count("refresh_token") == 0
    time.sleep(TTL * 0.6)
    second = connected()
    assert second != first
    assert short_lived.count("refresh_token") == 1
    assert short_lived.call_api(second) == (200, {"subject": user, "client": short_lived.token_requests()[-1]["clientId"],
                                                  "scope": "openid things.read"})  # fmt: skip


def test_each_refresh_uses_the_newest_refresh_token(short_lived, connected):
    tokens = [connected()]
    for _ in range(4):
        time.sleep(TTL + 0.2)
        tokens.append(connected())
    assert len(set(tokens)) == 5
    counters = short_lived.counters()
    assert counters["refresh_token"] == 4
    assert counters["reuse_detections"] == 0 and counters["refused"] == 0


def test_a_token_for_a_resource_stays_one_for_that_resource(short_lived, caller, workload, provider, app, user):
    """RFC 8707 §2.2: a refresh that names no resource may give a token for another."""
    resource = "https://things.example.com/api"
    more = {"resourceOauth2ReturnUrl": app.return_url, "resources": [resource]}

    def read():
        wat = workload_token(caller, workload, user)
        answer = Consent(caller, wat, provider, more=more).ask()
        assert answer.status == 200 and "accessToken" in answer.json, answer
        return planted.plant(answer.json["accessToken"], "access token")

    consent = Consent(caller, workload_token(caller, workload, user), provider, more=more).begin()
    consent.agree(Browser(), user)
    assert consent.complete(userId=user).status == 200
    tokens = [read()]
    for _ in range(2):
        time.sleep(TTL + 0.2)
        tokens.append(read())
    assert len(set(tokens)) == 3
    audiences = [jwt.decode(token, options={"verify_signature": False})["aud"] for token in tokens]
    assert audiences == [resource] * 3
    requests = [request for request in short_lived.token_requests() if request["grantType"] == "refresh_token"]
    assert [request["resource"] for request in requests] == [resource] * 2


def test_a_hundred_reads_of_one_expired_token_over_two_processes_are_one_refresh(
    short_lived, connected, server, caller
):
    second_process = Server(server.data, server.allow_egress, environment=ON_READ_ALONE).start()
    first = connected()
    time.sleep(TTL + 0.2)
    short_lived.make_trouble("slow", milliseconds=300)
    before = short_lived.count("refresh_token")
    tokens, failures, together = [], [], threading.Barrier(100)

    def read(target):
        own = target.caller(caller.credentials)
        together.wait()
        try:
            tokens.append(connected(own))
        except AssertionError as failure:
            failures.append(str(failure))
        own.close()

    threads = [threading.Thread(target=read, args=((server, second_process)[n % 2],)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(tokens) == 100 and len(set(tokens)) == 1 and tokens[0] != first
    assert short_lived.count("refresh_token") == before + 1
    assert short_lived.counters()["reuse_detections"] == 0
    assert second_process.stop() == 0


def test_while_the_old_token_is_valid_it_is_served_whatever_the_vendor_does(short_lived, connected):
    first = connected()
    short_lived.make_trouble("status", status=503)
    time.sleep(TTL * 0.6)
    assert connected() == first
    short_lived.end_trouble()


def test_when_the_token_has_ended_and_the_vendor_is_down_the_client_is_asked_to_come_back(
    short_lived, caller, connected, workload, provider, user
):
    first = connected()
    short_lived.make_trouble("status", status=503)
    time.sleep(TTL + 0.2)
    answer = stored_token(caller, workload_token(caller, workload, user), provider)
    assert (answer.status, answer.error) == (429, "ThrottlingException"), answer
    short_lived.end_trouble()
    deadline = time.monotonic() + 30
    while (answer := stored_token(caller, workload_token(caller, workload, user), provider)).status != 200:
        assert time.monotonic() < deadline, answer
        assert answer.error == "ThrottlingException", answer
        time.sleep(0.5)
    assert answer.json["accessToken"] != first
    assert short_lived.counters()["reuse_detections"] == 0


def test_d5_after_a_lost_answer_the_old_token_is_served_to_its_end_and_replayed_once(
    short_lived, caller, connected, workload, provider, user
):
    first = connected()
    short_lived.make_trouble("drop", remaining=1)
    time.sleep(TTL * 0.6)
    assert connected() == first, "the access token is still good"
    assert connected() == first
    assert short_lived.count("refresh_token") == 1, "no second attempt while the outcome is unknown"
    time.sleep(TTL)
    wat = workload_token(caller, workload, user)
    answer = stored_token(caller, wat, provider)
    assert short_lived.count("refresh_token") == 2, "exactly one replay"
    assert "accessToken" not in answer.json
    for _ in range(3):
        stored_token(caller, wat, provider)
    assert short_lived.count("refresh_token") == 2


def test_a_grant_that_the_vendor_revoked_needs_a_new_consent(short_lived, caller, connected, workload, provider, app, user):
    connected()
    assert short_lived.control("revoke-grants-of", {"refreshTokenOf": user})["revoked"] == 1
    time.sleep(TTL + 0.2)
    wat = workload_token(caller, workload, user)
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    assert consent.authorization_url
    assert short_lived.count("refresh_token") == 1
    Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    assert short_lived.count("refresh_token") == 1, "a dead grant is not tried again"


def test_d3_after_a_change_of_client_no_old_token_goes_anywhere(short_lived, caller, workload, app, fresh, user):
    provider = make_user_provider(caller, short_lived, fresh("vendor"))
    connected_user(caller, workload, provider, user, app.return_url)
    callback = caller.ok("GetOauth2CredentialProvider", name=provider)["callbackUrl"]
    client, secret = fresh("vendor"), planted.new_secret("client secret")
    short_lived.register_client(client, client_secret=secret, redirect_uris=[callback])
    caller.ok(
        "UpdateOauth2CredentialProvider",
        name=provider,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(short_lived, client, secret),
    )
    more = {"resourceOauth2ReturnUrl": app.return_url}
    wat = workload_token(caller, workload, user)
    assert "accessToken" not in Consent(caller, wat, provider, more=more).ask().json
    time.sleep(TTL + 0.2)
    Consent(caller, wat, provider, more=more).begin()
    assert short_lived.count("refresh_token") == 0, "the old refresh token stayed where it was"


def test_d3_a_change_of_the_secret_alone_keeps_the_connections(short_lived, caller, workload, app, fresh, user):
    provider = make_user_provider(caller, short_lived, fresh("vendor"))
    connected_user(caller, workload, provider, user, app.return_url)
    wat = workload_token(caller, workload, user)
    token = stored_token(caller, wat, provider).json["accessToken"]
    caller.ok(
        "UpdateOauth2CredentialProvider",
        name=provider,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput=custom_config(short_lived, provider, planted.new_secret("client secret")),
    )
    assert stored_token(caller, wat, provider).json.get("accessToken") == token
