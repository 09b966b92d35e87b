"""Workload access tokens are got once, and again when they end."""

from __future__ import annotations

import pytest
from fake_service import Clock, Refusal, Service

from agent_identity import IdentityClient
from agent_identity.workload_token import Actor


def test_a_token_is_kept_for_each_agent_and_user(identity: IdentityClient, service: Service) -> None:
    for _ in range(2):
        assert identity.workload_token("one") == "wat"
        assert identity.workload_token("two") == "wat"
        assert identity.workload_token("one", user_id="ada") == "wat-user"
        assert identity.workload_token("one", user_id="bob") == "wat-user"
        assert identity.workload_token("one", user_token="a.b.c") == "wat-jwt"
    assert [(call.operation, call.body) for call in service.calls] == [
        ("GetWorkloadAccessToken", {"workloadName": "one"}),
        ("GetWorkloadAccessToken", {"workloadName": "two"}),
        ("GetWorkloadAccessTokenForUserId", {"workloadName": "one", "userId": "ada"}),
        ("GetWorkloadAccessTokenForUserId", {"workloadName": "one", "userId": "bob"}),
        ("GetWorkloadAccessTokenForJWT", {"workloadName": "one", "userToken": "a.b.c"}),
    ]


def test_a_token_is_used_until_a_minute_before_its_end(
    identity: IdentityClient, service: Service, clock: Clock
) -> None:
    identity.workload_token("one")
    clock.now += 14 * 60 - 1
    identity.workload_token("one")
    assert len(service.calls) == 1
    clock.now += 1
    identity.workload_token("one")
    assert len(service.calls) == 2


def test_tokens_that_are_over_are_not_kept(identity: IdentityClient, clock: Clock) -> None:
    for user in ("ada", "bob"):
        identity.workload_token("one", user_id=user)
    clock.now += 14 * 60
    identity.workload_token("one", user_id="eve")
    assert list(identity.tokens._kept) == [Actor("one", user_id="eve")]


def test_two_users_are_refused(identity: IdentityClient) -> None:
    with pytest.raises(ValueError, match="one user"):
        identity.workload_token("one", user_token="a.b.c", user_id="ada")


def test_a_refused_user_is_not_asked_about_again(identity: IdentityClient, service: Service) -> None:
    service.answer("GetWorkloadAccessTokenForJWT", Refusal("UnauthorizedException", 401))
    with pytest.raises(identity.data.exceptions.UnauthorizedException):
        identity.tokens.call(Actor("one", user_token="a.b.c"), lambda token: token)
    assert len(service.calls) == 1


def test_an_actor_does_not_show_its_users_token() -> None:
    assert "secret" not in repr(Actor("one", user_token="secret.a.b"))
