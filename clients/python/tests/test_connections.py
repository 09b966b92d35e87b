"""Users' connections, and the end of a user."""

from __future__ import annotations

from datetime import date

import pytest
from fake_service import Service

from agent_identity import IdentityClient

ENDED = {"connectionId": "1", "local": "destroyed", "upstream": "revoked"}


def test_connections_are_listed_page_by_page(identity: IdentityClient, service: Service) -> None:
    one = {"connectionId": "1", "status": "ACTIVE"}
    service.answer(
        "ListConnections", {"connections": [one], "nextToken": "n"}, {"connections": [{**one, "connectionId": "2"}]}
    )
    found = identity.list_connections(agent_id="my-agent", credential_name="github", user_id="ada")
    assert [it["connectionId"] for it in found] == ["1", "2"]
    first = {"workloadName": "my-agent", "providerName": "github", "userId": "ada"}
    assert service.bodies("ListConnections") == [first, {**first, "nextToken": "n"}]


def test_usage_is_listed_page_by_page(identity: IdentityClient, service: Service) -> None:
    one = {"workloadName": "my-agent", "providerName": "a", "path": "direct", "given": 1, "waiting": 0, "refused": 2}
    service.answer("GetUsage", {"usage": [one], "nextToken": "n"}, {"usage": [{**one, "providerName": "b"}]}, {"usage": []})
    found = identity.usage(agent_id="my-agent", first_day=date(2026, 11, 1), last_day=date(2026, 11, 26))
    assert [(it["providerName"], it["refused"]) for it in found] == [("a", 2), ("b", 2)]
    assert list(identity.usage(credential_name="a")) == []
    first = {"workloadName": "my-agent", "from": "2026-11-01", "to": "2026-11-26"}
    assert service.bodies("GetUsage") == [first, {**first, "nextToken": "n"}, {"providerName": "a"}]


def test_a_deleted_connection_says_what_became_of_it(identity: IdentityClient, service: Service) -> None:
    service.answer("DeleteConnection", {"local": "destroyed", "upstream": "queued", "reason": "no answer"})
    assert identity.delete_connection("1") == {"local": "destroyed", "upstream": "queued", "reason": "no answer"}


def test_a_refused_connection_is_tried_again(identity: IdentityClient, service: Service) -> None:
    service.answer("RetryConnection", {"connectionId": "1", "status": "ACTIVE"})
    assert identity.retry_connection("1") == {"connectionId": "1", "status": "ACTIVE"}
    assert service.bodies("RetryConnection") == [{"connectionId": "1"}]


def test_a_user_is_offboarded_to_the_end(identity: IdentityClient, service: Service) -> None:
    service.answer(
        "OffboardUser",
        {"connections": [ENDED], "complete": False},
        {"connections": [{**ENDED, "connectionId": "2"}], "complete": True},
    )
    ended = identity.offboard_user(issuer="https://idp.example", subject="00u1")
    assert [it["connectionId"] for it in ended] == ["1", "2"]
    assert service.bodies("OffboardUser") == [{"issuer": "https://idp.example", "subject": "00u1"}] * 2


def test_a_consent_is_completed_for_one_user(identity: IdentityClient, service: Service) -> None:
    service.answer("CompleteResourceTokenAuth", {})
    session = "urn:ietf:params:oauth:request_uri:x"
    identity.complete_consent(session, user_id="ada")
    identity.complete_consent(session, user_token="a.b.c")
    assert [body["userIdentifier"] for body in service.bodies("CompleteResourceTokenAuth")] == [
        {"userId": "ada"},
        {"userToken": "a.b.c"},
    ]
    for both in ({}, {"user_id": "ada", "user_token": "a.b.c"}):
        with pytest.raises(ValueError, match="one of"):
            identity.complete_consent(session, **both)
