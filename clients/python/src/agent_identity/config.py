"""The dictionaries that callers write. A key that is not here is refused, so that no typing error passes for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union

CredentialType = Literal["oauth2", "api_key"]
"""The two kinds of stored credentials."""

Flow = Literal["USER_FEDERATION", "M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE"]
"""How an OAuth2 token is got."""


class JwtConfig(TypedDict, total=False):
    """Whose tokens may speak to an agent. All that is set must hold; an audience or a client must be set."""

    issuer: str
    """The issuer's URL."""
    audience: Union[str, Sequence[str]]
    """Of which a token must have one. For Cognito: app client ids, since its access tokens have no `aud`."""
    client_id: str
    """The client that a token must be for."""
    allowed_clients: Sequence[str]
    """The same, where there are several."""
    scopes: Sequence[str]
    """All of which a token must have."""
    discovery_url: str
    """Where the issuer's metadata is, if not at `/.well-known/openid-configuration` below the issuer."""
    name: str
    """The authorizer's name among those of the agent; `default` where it is not set."""


class Oauth2Config(TypedDict, total=False):
    """A client at an OAuth2 provider."""

    client_id: str
    """The client's id."""
    client_secret: str
    """Its secret, for the vault to keep. Set this or `client_secret_arn`."""
    client_secret_arn: str
    """Where its owner keeps it: the ARN of a secret, which is the value itself or a JSON object with it."""
    client_secret_json_key: str
    """The key under which it stands there; `client_secret` where it is not set."""
    vendor: str
    """A vendor that agent-identity knows, such as `github`. Without one: any provider, by its URLs."""
    tenant_id: str
    """The Entra tenant; for `microsoft`."""
    token_url: str
    """The token endpoint. With nothing else, the provider is for M2M only."""
    authorization_url: str
    """The authorization endpoint, for users' consent."""
    issuer: str
    """The issuer. With no `token_url`, the endpoints are read from its metadata."""
    discovery_url: str
    """Where the metadata is, if not below the issuer."""
    auth_method: Literal["client_secret_basic", "client_secret_post"]
    """How the client proves who it is; else what the metadata says."""
    scopes: Sequence[str]
    """Not stored: whoever asks for a token names its scopes, and so does each tool."""
    injectable_hosts: Sequence[str]
    """`HOST` or `HOST:PORT` that tools may send this credential to. Without it, none."""


class ApiKeyConfig(TypedDict, total=False):
    """An API key."""

    api_key: str
    """The key, for the vault to keep. Set this or `api_key_secret_arn`."""
    api_key_secret_arn: str
    """Where its owner keeps it: the ARN of a secret, which is the value itself or a JSON object with it."""
    api_key_secret_json_key: str
    """The key under which it stands there; `api_key` where it is not set."""
    injectable_hosts: Sequence[str]
    """`HOST` or `HOST:PORT` that tools may send this credential to. Without it, none."""


class _Request(TypedDict):
    url: str


class ToolRequest(_Request, total=False):
    """The request of a tool, as PutTool has it. `{name}` stands for what the input has under `name`. It has a `method`, or `methods`."""

    method: str
    """The method of its one request."""
    methods: Sequence[str]
    """The methods of any request at its URL or below it, which then has no query, headers or body of its own."""
    query: Mapping[str, str]
    """Parameters of the query."""
    headers: Mapping[str, str]
    """Headers."""
    body: Any
    """The body: any JSON."""


class Placement(TypedDict, total=False):
    """Where a credential goes in the request of a tool, as PutTool has it."""

    location: Literal["BEARER", "HEADER", "QUERY", "BASIC"]
    """In which part."""
    name: str
    """The name of the header or parameter."""
    prefix: str
    """What stands before it in a header."""
    username: str
    """The user whose password it is, for `BASIC`."""


class _ToolCredential(TypedDict):
    providerName: str
    flow: Literal["USER_FEDERATION", "M2M", "API_KEY"]


class ToolCredential(_ToolCredential, total=False):
    """Which credential a tool is called with, as PutTool has it."""

    scopes: Sequence[str]
    """Scopes that an OAuth2 token must have."""
    resources: Sequence[str]
    """Its resources (RFC 8707)."""
    audiences: Sequence[str]
    """Its audiences."""
    placement: Placement
    """Where it goes; as a bearer token where this is not set."""


def refuse_unknown_keys(config: Mapping[str, Any], kind: type) -> None:
    """Holds a dictionary to what its kind knows.

    Raises:
        ValueError: it has another key.
    """
    known = kind.__annotations__
    for key in config:
        if key not in known:
            raise ValueError(f"`{key}` is no key of {kind.__name__}, which has {', '.join(sorted(known))}")
