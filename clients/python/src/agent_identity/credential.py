"""Stored credentials: from what callers write to a credential provider of the service, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union, cast
from urllib.parse import urlsplit

from .config import ApiKeyConfig, CredentialType, Oauth2Config, refuse_unknown_keys

ALLOWED_WORKLOADS = "agent-identity:allowed-workloads"
"""The tag that binds a provider to agents: their names, with spaces between. AWS's shapes have no member for it."""

INJECTABLE_HOSTS = "agent-identity:injectable-hosts"
"""The tag that says where tools may send its credential: hosts, with spaces between."""

_MAX_JSON_KEY = 128  # `SecretJsonKeyType`


@dataclass(frozen=True)
class Credential:
    """A stored credential. The secret itself is never shown."""

    name: str
    """Its name."""
    arn: str
    """Its ARN."""
    credential_type: CredentialType
    """`oauth2` or `api_key`."""
    callback_url: Optional[str] = None
    """What to register at the OAuth2 provider as redirect URI. Lists do not show it."""
    vendor: Optional[str] = None
    """The OAuth2 vendor, such as `GithubOauth2`. What store_credential returns may lack it."""

    @classmethod
    def of(cls, answer: Mapping[str, Any], credential_type: CredentialType) -> Credential:
        """What the service answered."""
        return cls(
            name=answer["name"],
            arn=answer["credentialProviderArn"],
            credential_type=credential_type,
            callback_url=answer.get("callbackUrl"),
            vendor=answer.get("credentialProviderVendor"),
        )


def tags(agent_id: str, config: Union[Oauth2Config, ApiKeyConfig]) -> dict[str, str]:
    """The tags of a credential that is one agent's."""
    hosts = config.get("injectable_hosts", ())
    if isinstance(hosts, str):
        raise ValueError("injectable_hosts is a list of hosts")
    return {ALLOWED_WORKLOADS: agent_id, **({INJECTABLE_HOSTS: " ".join(hosts)} if hosts else {})}


def serves(shown_tags: Mapping[str, str], agent_id: str) -> bool:
    """Whether a provider with these tags is for this agent. One that is bound to none is for all."""
    bound = shown_tags.get(ALLOWED_WORKLOADS)
    return bound is None or agent_id in bound.split()


def api_key_members(config: ApiKeyConfig) -> dict[str, Any]:
    """The members of Create- and UpdateApiKeyCredentialProvider, but for name and tags.

    Raises:
        ValueError: a key is unknown; not exactly one of `api_key` and `api_key_secret_arn` is set.
    """
    refuse_unknown_keys(config, ApiKeyConfig)
    return _secret(config, "api_key", "api_key_secret", "apiKey", "apiKeySecret")


def oauth2_members(config: Oauth2Config, vendors: Sequence[str], unions: Sequence[str]) -> dict[str, Any]:
    """The members of Create- and UpdateOauth2CredentialProvider, but for name and tags.

    Args:
        config: what the caller wrote.
        vendors: the vendors that the model of the service knows.
        unions: the members of its `Oauth2ProviderConfigInput`.

    Raises:
        ValueError: a key is unknown, or is not for the vendor; something is missing, or contradicts.
    """
    refuse_unknown_keys(config, Oauth2Config)
    vendor = _vendor(config.get("vendor", "custom"), vendors)
    member = f"{vendor[0].lower()}{vendor[1:]}ProviderConfig"
    if member not in unions:
        member = "includedOauth2ProviderConfig"
    if not config.get("client_id"):
        raise ValueError("client_id is missing")
    client = {
        "clientId": config["client_id"],
        **_secret(config, "client_secret", "client_secret", "clientSecret", "clientSecret"),
        **_endpoints(config, member),
    }
    return {"credentialProviderVendor": vendor, "oauth2ProviderConfigInput": {member: client}}


def _vendor(name: str, vendors: Sequence[str]) -> str:
    suffix = "Oauth2"
    known = {vendor[: -len(suffix)].lower(): vendor for vendor in vendors}
    found = known.get(name.lower()) or (name if name in vendors else None)
    if found is None:
        raise ValueError(f"`{name}` is no vendor that the service knows: {', '.join(sorted(known))}")
    return found


def _endpoints(config: Oauth2Config, member: str) -> dict[str, Any]:
    """Where the authorization server is, in the form that the vendor takes."""
    if member == "customOauth2ProviderConfig":
        _refuse(config, ["tenant_id"])
        method = config.get("auth_method")
        return {
            "oauthDiscovery": _discovery(config),
            **({"clientAuthenticationMethod": method.upper()} if method else {}),
        }
    _refuse(config, ["discovery_url", "auth_method"])
    if member == "includedOauth2ProviderConfig":
        _refuse(config, ["tenant_id"])
        names = {"issuer": "issuer", "authorization_url": "authorizationEndpoint", "token_url": "tokenEndpoint"}
    else:
        _refuse(config, ["issuer", "authorization_url", "token_url"])
        names = {"tenant_id": "tenantId"}
    given = cast(Mapping[str, Any], config)
    return {member: given[key] for key, member in names.items() if key in given}


def _refuse(config: Oauth2Config, keys: Sequence[str]) -> None:
    for key in keys:
        if key in config:
            raise ValueError(f"{key} is not for the vendor `{config.get('vendor', 'custom')}`")


def _discovery(config: Oauth2Config) -> dict[str, Any]:
    token_url, discovery_url = config.get("token_url"), config.get("discovery_url")
    if token_url and discovery_url:
        raise ValueError("set discovery_url or token_url: the endpoints are read there, or they are given")
    if token_url:
        url = urlsplit(token_url)
        return {
            "authorizationServerMetadata": {
                "issuer": config.get("issuer") or f"{url.scheme}://{url.netloc}",
                # The service requires one. M2M has no use for it, and to consent there leads nowhere (D25).
                "authorizationEndpoint": config.get("authorization_url") or token_url,
                "tokenEndpoint": token_url,
            }
        }
    if "authorization_url" in config:
        raise ValueError("authorization_url needs a token_url beside it")
    issuer = config.get("issuer", "").rstrip("/")
    if not discovery_url and not issuer:
        raise ValueError("token_url, issuer, discovery_url or vendor is needed: it says where the provider is")
    return {"discoveryUrl": discovery_url or f"{issuer}/.well-known/openid-configuration"}


def _secret(
    config: Union[Oauth2Config, ApiKeyConfig], value: str, reference: str, member: str, reference_member: str
) -> dict[str, Any]:
    """A secret that is given, or that its owner keeps elsewhere."""
    given = cast(Mapping[str, Any], config)
    arn, json_key = f"{reference}_arn", f"{reference}_json_key"
    if (value in given) == (arn in given):
        raise ValueError(f"set one of {value} and {arn}")
    if value in given:
        if json_key in given:
            raise ValueError(f"{json_key} is for {arn}")
        return {member: given[value]}
    key = given.get(json_key, value)
    if not 1 <= len(key) <= _MAX_JSON_KEY:
        raise ValueError(f"{json_key} must have 1 to {_MAX_JSON_KEY} characters")
    return {
        f"{reference_member}Source": "EXTERNAL",
        f"{reference_member}Config": {"secretId": given[arn], "jsonKey": key},
    }
