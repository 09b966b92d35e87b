"""From an issuer to an authorizer."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from fake_service import Refusal, Service

from agent_identity import IdentityClient

TOKEN_USE = {
    "inboundTokenClaimName": "token_use",
    "inboundTokenClaimValueType": "STRING",
    "authorizingClaimMatchValue": {
        "claimMatchValue": {"matchValueString": "access"},
        "claimMatchOperator": "EQUALS",
    },
}
WORKLOAD = {"name": "my-agent", "workloadIdentityArn": "arn"}


@pytest.fixture(autouse=True)
def answers(service: Service) -> None:
    service.answer("CreateWorkloadIdentity", WORKLOAD)
    service.answer("PutAuthorizer", {"version": 3})


def configured(identity: IdentityClient, service: Service, **config: Any) -> dict[str, Any]:
    assert identity.configure_authorizer(agent_id="my-agent", authorizer_type="jwt", config=config) == 3
    (body,) = service.bodies("PutAuthorizer")
    assert body["agentId"] == "my-agent"
    found: dict[str, Any] = body["authorizerConfiguration"]["customJWTAuthorizer"]
    return found


@pytest.mark.parametrize("suffix", ["", ".cn"])
def test_d25_cognito_compares_clients_and_keeps_id_tokens_out(
    identity: IdentityClient, service: Service, suffix: str
) -> None:
    issuer = f"https://cognito-idp.us-east-1.amazonaws.com{suffix}/us-east-1_xxxxx"
    assert configured(identity, service, issuer=issuer, audience="my-client-id") == {
        "discoveryUrl": f"{issuer}/.well-known/openid-configuration",
        "allowedClients": ["my-client-id"],
        "customClaims": [TOKEN_USE],
    }
    assert service.bodies("CreateWorkloadIdentity") == [{"name": "my-agent"}]


def test_d25_cognito_is_known_by_its_metadata_too(identity: IdentityClient, service: Service) -> None:
    url = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x/.well-known/openid-configuration"
    authorizer = configured(identity, service, discovery_url=url, audience=["a"], allowed_clients=["b"])
    assert authorizer == {"discoveryUrl": url, "allowedClients": ["a", "b"], "customClaims": [TOKEN_USE]}


def test_another_issuer_is_taken_as_it_is(identity: IdentityClient, service: Service) -> None:
    authorizer = configured(
        identity,
        service,
        issuer="https://idp.example.com/",
        audience=["api", "api2"],
        client_id="front-end",
        scopes=["chat.write"],
    )
    assert authorizer == {
        "discoveryUrl": "https://idp.example.com/.well-known/openid-configuration",
        "allowedAudience": ["api", "api2"],
        "allowedClients": ["front-end"],
        "allowedScopes": ["chat.write"],
    }


@pytest.mark.parametrize(
    "issuer",
    [
        "https://cognito-idp.us-east-1.amazonaws.com.example.com/pool",
        "http://cognito-idp.us-east-1.amazonaws.com/pool",
        "https://example.com/https://cognito-idp.us-east-1.amazonaws.com/pool",
    ],
)
def test_what_looks_like_cognito_is_not(identity: IdentityClient, service: Service, issuer: str) -> None:
    assert configured(identity, service, issuer=issuer, audience="api")["allowedAudience"] == ["api"]


def test_the_name_is_default_unless_one_is_given(identity: IdentityClient, service: Service) -> None:
    for config in ({}, {"name": "people"}):
        identity.configure_authorizer("my-agent", config={"issuer": "https://idp.example", "audience": "a", **config})
    assert [body["name"] for body in service.bodies("PutAuthorizer")] == ["default", "people"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"issuer": "https://idp.example"}, "not enough"),
        ({"issuer": "https://idp.example", "audience": []}, "not enough"),
        ({"issuer": "https://cognito-idp.us-east-1.amazonaws.com/p", "scopes": ["a"]}, "not enough"),
        ({"audience": "a"}, "issuer is missing"),
        ({"isuer": "https://idp.example", "audience": "a"}, "`isuer`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    identity: IdentityClient, service: Service, config: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        identity.configure_authorizer(agent_id="my-agent", config=config)
    assert service.calls == []


def test_another_type_is_refused(identity: IdentityClient) -> None:
    with pytest.raises(ValueError, match="saml"):
        identity.configure_authorizer("a", authorizer_type="saml", config={})  # type: ignore[arg-type]


def test_a_workload_that_is_there_stays(identity: IdentityClient, service: Service) -> None:
    service.answer("CreateWorkloadIdentity", Refusal("ConflictException", 409))
    configured(identity, service, issuer="https://idp.example", audience="a")
    assert service.operations() == ["CreateWorkloadIdentity", "PutAuthorizer"]


def test_return_urls_hold_for_a_workload_that_is_there(identity: IdentityClient, service: Service) -> None:
    service.answer("CreateWorkloadIdentity", Refusal("ConflictException", 409))
    service.answer("UpdateWorkloadIdentity", WORKLOAD)
    identity.configure_authorizer(
        "my-agent",
        config={"issuer": "https://idp.example", "audience": "a"},
        return_urls=["https://app.example/back"],
    )
    assert service.bodies("UpdateWorkloadIdentity") == [
        {"name": "my-agent", "allowedResourceOauth2ReturnUrls": ["https://app.example/back"]}
    ]


def test_another_refusal_ends_it(identity: IdentityClient, service: Service) -> None:
    service.answer("CreateWorkloadIdentity", Refusal("AccessDeniedException", 403))
    with pytest.raises(ClientError, match="AccessDenied"):
        identity.configure_authorizer("my-agent", config={"issuer": "https://idp.example", "audience": "a"})
    assert service.operations() == ["CreateWorkloadIdentity"]
