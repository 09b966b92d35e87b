"""Storing, finding and deleting credentials."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from fake_service import CREATED, Refusal, Service

from agent_identity import Credential, CredentialConflict, IdentityClient

ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:x"
TOKEN_URL = "https://login.salesforce.com/services/oauth2/token"
TIMES = {"createdTime": 1, "lastUpdatedTime": 1}
NOT_FOUND = Refusal("ResourceNotFoundException", 404)


def stored(identity: IdentityClient, service: Service, **config: Any) -> dict[str, Any]:
    """The body of the request that creates an OAuth2 provider."""
    service.answer("CreateOauth2CredentialProvider", CREATED)
    identity.store_credential("my-agent", "salesforce", "oauth2", {"client_id": "c", **config})  # type: ignore[arg-type]
    return service.bodies("CreateOauth2CredentialProvider")[-1]


def test_d25_the_seeds_own_example(identity: IdentityClient, service: Service) -> None:
    service.answer("CreateOauth2CredentialProvider", CREATED)
    credential = identity.store_credential(
        agent_id="my-agent",
        credential_name="salesforce",
        credential_type="oauth2",
        config={"client_id": "c", "client_secret_arn": ARN, "token_url": TOKEN_URL},
    )
    assert service.bodies("CreateOauth2CredentialProvider") == [
        {
            "name": "salesforce",
            "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": {
                "customOauth2ProviderConfig": {
                    "clientId": "c",
                    "clientSecretSource": "EXTERNAL",
                    "clientSecretConfig": {"secretId": ARN, "jsonKey": "client_secret"},
                    "oauthDiscovery": {
                        "authorizationServerMetadata": {
                            "issuer": "https://login.salesforce.com",
                            "authorizationEndpoint": TOKEN_URL,
                            "tokenEndpoint": TOKEN_URL,
                        }
                    },
                }
            },
            "tags": {"agent-identity:allowed-workloads": "my-agent"},
        }
    ]
    assert credential == Credential(
        name="salesforce",
        arn=CREATED["credentialProviderArn"],
        credential_type="oauth2",
        callback_url=CREATED["callbackUrl"],
    )


def test_hosts_are_in_a_tag(identity: IdentityClient, service: Service) -> None:
    body = stored(
        identity, service, client_secret="s", token_url=TOKEN_URL, injectable_hosts=["a.example", "b.example:8443"]
    )
    assert body["tags"] == {
        "agent-identity:allowed-workloads": "my-agent",
        "agent-identity:injectable-hosts": "a.example b.example:8443",
    }


@pytest.mark.parametrize(
    ("config", "discovery"),
    [
        ({"issuer": "https://i.example/"}, {"discoveryUrl": "https://i.example/.well-known/openid-configuration"}),
        ({"discovery_url": "https://d.example/x"}, {"discoveryUrl": "https://d.example/x"}),
        (
            {
                "token_url": "https://t.example/t",
                "authorization_url": "https://a.example/a",
                "issuer": "https://i.example",
            },
            {
                "authorizationServerMetadata": {
                    "issuer": "https://i.example",
                    "authorizationEndpoint": "https://a.example/a",
                    "tokenEndpoint": "https://t.example/t",
                }
            },
        ),
    ],
)
def test_a_provider_is_where_its_urls_say(
    identity: IdentityClient, service: Service, config: Any, discovery: Any
) -> None:
    body = stored(identity, service, client_secret="s", auth_method="client_secret_post", **config)
    assert body["oauth2ProviderConfigInput"] == {
        "customOauth2ProviderConfig": {
            "clientId": "c",
            "clientSecret": "s",
            "oauthDiscovery": discovery,
            "clientAuthenticationMethod": "CLIENT_SECRET_POST",
        }
    }


@pytest.mark.parametrize(
    ("config", "vendor", "member", "extra"),
    [
        ({"vendor": "github"}, "GithubOauth2", "githubOauth2ProviderConfig", {}),
        ({"vendor": "GithubOauth2"}, "GithubOauth2", "githubOauth2ProviderConfig", {}),
        ({"vendor": "Auth0", "issuer": "i"}, "Auth0Oauth2", "includedOauth2ProviderConfig", {"issuer": "i"}),
        ({"vendor": "x"}, "XOauth2", "includedOauth2ProviderConfig", {}),
        (
            {"vendor": "microsoft", "tenant_id": "t"},
            "MicrosoftOauth2",
            "microsoftOauth2ProviderConfig",
            {"tenantId": "t"},
        ),
        (
            {"vendor": "okta", "authorization_url": "https://a.example/a", "token_url": "https://a.example/t"},
            "OktaOauth2",
            "includedOauth2ProviderConfig",
            {"authorizationEndpoint": "https://a.example/a", "tokenEndpoint": "https://a.example/t"},
        ),
    ],
)  # fmt: skip
def test_vendors_are_known_by_name(
    identity: IdentityClient, service: Service, config: Any, vendor: str, member: str, extra: Any
) -> None:
    body = stored(identity, service, client_secret="s", scopes=["repo"], **config)
    assert body["credentialProviderVendor"] == vendor
    assert body["oauth2ProviderConfigInput"] == {member: {"clientId": "c", "clientSecret": "s", **extra}}


@pytest.mark.parametrize(
    ("credential_type", "config", "message"),
    [
        ("oauth2", {"client_secret": "s", "token_url": TOKEN_URL, "clientid": "c"}, "`clientid`"),
        ("oauth2", {"token_url": TOKEN_URL}, "one of client_secret and client_secret_arn"),
        ("oauth2", {"client_secret": "s", "client_secret_arn": ARN, "token_url": TOKEN_URL}, "one of"),
        ("oauth2", {"client_secret": "s", "client_secret_json_key": "k", "token_url": TOKEN_URL}, "is for"),
        ("oauth2", {"client_secret_arn": ARN, "client_secret_json_key": "", "token_url": TOKEN_URL}, "1 to 128"),
        ("oauth2", {"client_secret": "s"}, "where the provider is"),
        ("oauth2", {"client_secret": "s", "client_id": "", "token_url": TOKEN_URL}, "client_id is missing"),
        ("oauth2", {"client_secret": "s", "authorization_url": "https://a.example"}, "needs a token_url"),
        ("oauth2", {"client_secret": "s", "token_url": TOKEN_URL, "discovery_url": "https://d.example"}, "set"),
        ("oauth2", {"client_secret": "s", "vendor": "gitlab"}, "`gitlab`"),
        ("oauth2", {"client_secret": "s", "vendor": "github", "token_url": TOKEN_URL}, "not for the vendor `github`"),
        ("oauth2", {"client_secret": "s", "vendor": "okta", "tenant_id": "t"}, "not for the vendor `okta`"),
        ("oauth2", {"client_secret": "s", "token_url": TOKEN_URL, "tenant_id": "t"}, "not for the vendor `custom`"),
        ("oauth2", {"client_secret": "s", "token_url": TOKEN_URL, "injectable_hosts": "a.example"}, "list"),
        ("api_key", {}, "one of api_key and api_key_secret_arn"),
        ("api_key", {"api_key": "k", "client_id": "c"}, "`client_id`"),
        ("basic", {}, "`basic`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_stored(
    identity: IdentityClient, service: Service, credential_type: Any, config: Any, message: str
) -> None:
    config = {"client_id": "c", **config} if credential_type == "oauth2" else config
    with pytest.raises(ValueError, match=message):
        identity.store_credential("my-agent", "x", credential_type, config)
    assert service.calls == []


@pytest.mark.parametrize(
    ("config", "members"),
    [
        ({"api_key": "k"}, {"apiKey": "k"}),
        (
            {"api_key_secret_arn": ARN},
            {"apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": {"secretId": ARN, "jsonKey": "api_key"}},
        ),
        (
            {"api_key_secret_arn": ARN, "api_key_secret_json_key": "v"},
            {"apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": {"secretId": ARN, "jsonKey": "v"}},
        ),
    ],
)
def test_an_api_key_is_given_or_referred_to(
    identity: IdentityClient, service: Service, config: Any, members: Any
) -> None:
    service.answer("CreateApiKeyCredentialProvider", CREATED)
    credential = identity.store_credential(
        "my-agent", "weather", "api_key", {**config, "injectable_hosts": ["a.example"]}
    )
    assert credential.credential_type == "api_key"
    tags = {"agent-identity:allowed-workloads": "my-agent", "agent-identity:injectable-hosts": "a.example"}
    assert service.bodies("CreateApiKeyCredentialProvider") == [{"name": "weather", "tags": tags, **members}]


def there(service: Service, tags: dict[str, str]) -> None:
    """A credential `weather` with these tags."""
    service.answer("CreateApiKeyCredentialProvider", Refusal("ConflictException", 409))
    service.answer("GetApiKeyCredentialProvider", {**CREATED, **TIMES})
    service.answer("UpdateApiKeyCredentialProvider", {**CREATED, **TIMES})
    service.answer("ListTagsForResource", {"tags": tags})


def test_one_that_is_there_is_changed(identity: IdentityClient, service: Service) -> None:
    there(service, {"agent-identity:allowed-workloads": "my-agent"})
    assert identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k2"}).name == "salesforce"
    assert service.bodies("UpdateApiKeyCredentialProvider") == [{"name": "weather", "apiKey": "k2"}]


@pytest.mark.parametrize(
    ("tags", "same"),
    [
        ({"agent-identity:allowed-workloads": "my-agent", "team": "x"}, True),
        ({"agent-identity:allowed-workloads": "other-agent"}, False),
        ({"agent-identity:allowed-workloads": "my-agent other-agent"}, False),
        ({}, False),
    ],
)
def test_d3_one_that_is_anothers_is_not_changed(
    identity: IdentityClient, service: Service, tags: dict[str, str], same: bool
) -> None:
    there(service, tags)
    if same:
        identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k2"})
    else:
        with pytest.raises(CredentialConflict, match="delete it first"):
            identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k2"})
    assert ("UpdateApiKeyCredentialProvider" in service.operations()) is same


def test_d3_its_hosts_are_changed_before_its_secret(identity: IdentityClient, service: Service) -> None:
    mine, hosts = {"agent-identity:allowed-workloads": "my-agent"}, "agent-identity:injectable-hosts"
    service.answer("TagResource", {})
    service.answer("UntagResource", {})
    there(service, mine)
    identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k2", "injectable_hosts": ["a.example", "b.example"]})
    assert service.bodies("TagResource") == [{"tags": {hosts: "a.example b.example"}}]
    assert service.operations()[-2:] == ["TagResource", "UpdateApiKeyCredentialProvider"]
    there(service, {**mine, hosts: "a.example"})
    identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k2"})
    assert service.operations()[-2:] == ["UntagResource", "UpdateApiKeyCredentialProvider"]
    assert service.bodies("UntagResource") == [{"query": "tagKeys=agent-identity%3Ainjectable-hosts"}]


def test_another_refusal_ends_it(identity: IdentityClient, service: Service) -> None:
    service.answer("CreateApiKeyCredentialProvider", Refusal("ServiceQuotaExceededException", 402))
    with pytest.raises(ClientError, match="ServiceQuotaExceeded"):
        identity.store_credential("my-agent", "weather", "api_key", {"api_key": "k"})


def item(name: str) -> dict[str, Any]:
    return {**CREATED, **TIMES, "name": name}


def test_all_pages_of_both_types_are_listed(identity: IdentityClient, service: Service) -> None:
    service.answer(
        "ListOauth2CredentialProviders",
        {"credentialProviders": [{**item("a"), "credentialProviderVendor": "GithubOauth2"}], "nextToken": "2"},
        {"credentialProviders": [], "nextToken": "3"},
        {"credentialProviders": [item("b")]},
    )
    service.answer("ListApiKeyCredentialProviders", {"credentialProviders": [item("c")]})
    listed = [(it.name, it.credential_type, it.vendor) for it in identity.list_credentials()]
    assert listed == [("a", "oauth2", "GithubOauth2"), ("b", "oauth2", None), ("c", "api_key", None)]
    assert service.bodies("ListOauth2CredentialProviders") == [{}, {"nextToken": "2"}, {"nextToken": "3"}]


def test_those_of_an_agent_are_its_own_and_everybodys(identity: IdentityClient, service: Service) -> None:
    service.answer("ListOauth2CredentialProviders", {"credentialProviders": [item(n) for n in "abc"]})
    service.answer("ListApiKeyCredentialProviders", {"credentialProviders": []})
    bound = "agent-identity:allowed-workloads"
    service.answer("ListTagsForResource", *({"tags": tags} for tags in ({bound: "other my-agent"}, {bound: "my-agent-2"}, {})))
    assert [it.name for it in identity.list_credentials(agent_id="my-agent")] == ["a", "c"]


@pytest.mark.parametrize("kind", ["oauth2", "api_key"])
def test_one_is_found_and_deleted_whatever_its_type(identity: IdentityClient, service: Service, kind: str) -> None:
    name = {"oauth2": "Oauth2", "api_key": "ApiKey"}
    for each in name:
        service.answer(f"Get{name[each]}CredentialProvider", item("x") if each == kind else NOT_FOUND)
    service.answer(f"Delete{name[kind]}CredentialProvider", {})
    assert identity.get_credential("x").credential_type == kind
    identity.delete_credential("x")
    assert service.operations()[-1] == f"Delete{name[kind]}CredentialProvider"


def test_two_of_one_name_are_told_apart_by_type(identity: IdentityClient, service: Service) -> None:
    for kind in ("Oauth2", "ApiKey"):
        service.answer(f"Get{kind}CredentialProvider", item("x"))
    service.answer("DeleteApiKeyCredentialProvider", {})
    with pytest.raises(CredentialConflict, match="say which"):
        identity.delete_credential("x")
    identity.delete_credential("x", "api_key")
    assert identity.get_credential("x", "oauth2").credential_type == "oauth2"
    assert "DeleteOauth2CredentialProvider" not in service.operations()


def test_none_of_a_name_is_not_found(identity: IdentityClient, service: Service) -> None:
    for kind in ("Oauth2", "ApiKey"):
        service.answer(f"Get{kind}CredentialProvider", NOT_FOUND)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        identity.get_credential("x")
