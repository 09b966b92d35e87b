"""Decorators that hand credentials to functions."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from fake_service import Clock, Service

from agent_identity import (
    ConsentFailed,
    ConsentRequired,
    ConsentTimedOut,
    IdentityClient,
    requires_access_token,
    requires_api_key,
)

SESSION = "urn:ietf:params:oauth:request_uri:x"
CONSENT = {"authorizationUrl": "http://127.0.0.1/authorize", "sessionUri": SESSION, "sessionStatus": "IN_PROGRESS"}
WAITING = {"sessionUri": SESSION, "sessionStatus": "IN_PROGRESS"}
TOKEN = {"accessToken": "token"}


def decorated(identity: IdentityClient, kind: str, **options: Any) -> Any:
    """Calls a function, or a coroutine function, that returns the token it gets."""
    decorate = requires_access_token(
        **{"provider_name": "github", "workload": "my-agent", "flow": "USER_FEDERATION", "client": identity, **options}
    )
    if kind == "sync":

        @decorate
        def function(prefix: str, *, access_token: str) -> str:
            return prefix + access_token

        return function

    @decorate
    async def coroutine(prefix: str, *, access_token: str) -> str:
        return prefix + access_token

    return lambda *arguments: asyncio.run(coroutine(*arguments))


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> str:
    async def sleep(seconds: float) -> None:
        clock.sleep(seconds)

    monkeypatch.setattr("agent_identity.consent.asyncio.sleep", sleep)
    kind: str = request.param
    return kind


def test_a_token_goes_into_its_parameter(identity: IdentityClient, service: Service, kind: str) -> None:
    service.answer("GetResourceOauth2Token", TOKEN)
    call = decorated(
        identity,
        kind,
        flow="M2M",
        scopes=["repo"],
        user_id="ada",
        return_url="https://app.example/back",
        custom_parameters={"prompt": "none"},
        resources=["https://r.example"],
        audiences=["a"],
    )
    assert call(">") == ">token"
    assert service.bodies("GetResourceOauth2Token") == [
        {
            "workloadIdentityToken": "wat-user",
            "resourceCredentialProviderName": "github",
            "scopes": ["repo"],
            "oauth2Flow": "M2M",
            "resourceOauth2ReturnUrl": "https://app.example/back",
            "customParameters": {"prompt": "none"},
            "resources": ["https://r.example"],
            "audiences": ["a"],
        }
    ]


def test_a_consent_is_waited_for(identity: IdentityClient, service: Service, clock: Clock, kind: str) -> None:
    service.answer("GetResourceOauth2Token", CONSENT, WAITING, WAITING, TOKEN)
    shown: list[str] = []
    call = decorated(identity, kind, on_auth_url=shown.append, force_authentication=True, connection_label="work")
    assert call("") == "token"
    assert shown == [CONSENT["authorizationUrl"]]
    assert clock.slept == [5.0] * 3
    first, *looks = service.bodies("GetResourceOauth2Token")
    assert first["forceAuthentication"] is True and first["connectionLabel"] == "work" and "sessionUri" not in first
    assert all(look["sessionUri"] == SESSION and "forceAuthentication" not in look for look in looks)


def test_waiting_ends(identity: IdentityClient, service: Service, clock: Clock, kind: str) -> None:
    service.answer("GetResourceOauth2Token", CONSENT, WAITING)
    call = decorated(identity, kind, on_auth_url=len, poll_interval_seconds=2, poll_timeout_seconds=7)
    with pytest.raises(ConsentTimedOut, match="7 seconds"):
        call("")
    assert clock.slept == [2] * 4


def test_it_waits_ten_minutes_unless_told_otherwise(
    identity: IdentityClient, service: Service, clock: Clock, kind: str
) -> None:
    service.answer("GetResourceOauth2Token", CONSENT, WAITING)
    with pytest.raises(TimeoutError):
        decorated(identity, kind, on_auth_url=len)("")
    assert sum(clock.slept) == 600


def test_a_consent_that_failed_ends_it(identity: IdentityClient, service: Service, kind: str) -> None:
    service.answer("GetResourceOauth2Token", CONSENT, {**WAITING, "sessionStatus": "FAILED"})
    with pytest.raises(ConsentFailed):
        decorated(identity, kind, on_auth_url=len)("")


def test_without_anybody_to_show_the_url_it_is_an_error(identity: IdentityClient, service: Service, kind: str) -> None:
    service.answer("GetResourceOauth2Token", CONSENT)
    with pytest.raises(ConsentRequired) as raised:
        decorated(identity, kind)("")
    assert raised.value.session_uri == SESSION


def test_the_user_is_asked_for_at_each_call(identity: IdentityClient, service: Service, kind: str) -> None:
    service.answer("GetResourceOauth2Token", TOKEN)
    user: ContextVar[str] = ContextVar("user")
    call = decorated(identity, kind, user_token=user.get)
    for token in ("a.b.c", "d.e.f"):
        user.set(token)
        call("")
    assert [body["userToken"] for body in service.bodies("GetWorkloadAccessTokenForJWT")] == ["a.b.c", "d.e.f"]


def test_a_coroutine_may_show_the_url(identity: IdentityClient, service: Service, clock: Clock) -> None:
    service.answer("GetResourceOauth2Token", CONSENT, TOKEN)
    shown: list[str] = []

    async def show(url: str) -> None:
        shown.append(url)

    call = decorated(identity, "async", on_auth_url=show, poll_interval_seconds=0)
    assert call("") == "token" and shown == [CONSENT["authorizationUrl"]]
    with pytest.raises(TypeError, match="coroutine"):
        decorated(identity, "sync", on_auth_url=show)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_api_key_goes_into_its_parameter(
    service: Service, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    decorate = requires_api_key(provider_name="weather", workload="my-agent", into="key")

    # The endpoint is needed at the first call, and not where the function is written.
    @decorate
    def function(key: str) -> str:
        return key

    @decorate
    async def coroutine(key: str) -> str:
        return key

    monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
    service.answer("GetResourceApiKey", {"apiKey": "k"})
    call: Any = (lambda: asyncio.run(coroutine())) if asynchronous else function  # type: ignore[call-arg]
    assert [call(), call()] == ["k", "k"]
    assert service.operations() == ["GetWorkloadAccessToken", "GetResourceApiKey", "GetResourceApiKey"]
    assert service.bodies("GetResourceApiKey")[0] == {
        "workloadIdentityToken": "wat",
        "resourceCredentialProviderName": "weather",
    }
