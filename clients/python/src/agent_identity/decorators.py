"""Decorators that hand a credential to a function when it is called.

They are those of the `bedrock-agentcore` SDK for code that runs anywhere: the agent is named, and nothing is read
from the context of AWS's runtime. Where the service can make the call itself, prefer a tool: then no credential is in
the agent's hands.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar, Union

from .client import IdentityClient
from .config import Flow
from .consent import OnAuthUrl, Patience, TokenRequest, obtain, obtain_async
from .workload_token import Actor

R = TypeVar("R")

User = Union[str, Callable[[], Optional[str]], None]
"""A user, or what tells at each call whose turn it is, such as `ContextVar.get`."""


def requires_access_token(
    *,
    provider_name: str,
    workload: str,
    flow: Flow,
    scopes: Sequence[str] = (),
    user_token: User = None,
    user_id: User = None,
    on_auth_url: Optional[OnAuthUrl] = None,
    return_url: Optional[str] = None,
    custom_state: Optional[str] = None,
    custom_parameters: Optional[Mapping[str, str]] = None,
    resources: Sequence[str] = (),
    audiences: Sequence[str] = (),
    force_authentication: bool = False,
    connection_label: Optional[str] = None,
    into: str = "access_token",
    poll_interval_seconds: float = 5.0,
    poll_timeout_seconds: float = 600.0,
    client: Optional[IdentityClient] = None,
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Hands an OAuth2 access token to a function, or to a coroutine function.

    Args:
        provider_name: the name of the credential.
        workload: the agent.
        flow: `USER_FEDERATION`, `M2M` or `ON_BEHALF_OF_TOKEN_EXCHANGE`.
        scopes: what the token must be good for.
        user_token: the user's JWT, or a function that knows it.
        user_id: the user's id, or a function that knows it.
        on_auth_url: shows the user where to consent, and then it waits. Without it, `ConsentRequired` is raised.
        return_url: where the user comes back to; one of the agent's return URLs.
        custom_state: what comes back there as `state`.
        custom_parameters: further parameters of the authorization request.
        resources: the token's resources (RFC 8707).
        audiences: its audiences.
        force_authentication: whether the user must consent even if there is a token.
        connection_label: which of the user's accounts at the provider; `default` if it is not said.
        into: the parameter that gets it.
        poll_interval_seconds: how often to look whether the user has consented.
        poll_timeout_seconds: how long to wait for that.
        client: the client to use; else one that all decorators share.

    Raises:
        TypeError: `on_auth_url` is a coroutine function, and the function is not.

    The decorated function raises `ConsentRequired`, `ConsentFailed`, `ConsentTimedOut`, and what `IdentityClient` does.
    """
    optional = {
        "resourceOauth2ReturnUrl": return_url,
        "customState": custom_state,
        "customParameters": custom_parameters,
        "resources": list(resources),
        "audiences": list(audiences),
        "forceAuthentication": force_authentication,
        "connectionLabel": connection_label,
    }
    members = {
        "resourceCredentialProviderName": provider_name,
        "scopes": list(scopes),
        "oauth2Flow": flow,
        **{name: value for name, value in optional.items() if value},
    }
    patience = Patience(poll_interval_seconds, poll_timeout_seconds)

    def request() -> TokenRequest:
        actor = Actor(workload, _now(user_token), _now(user_id))
        return TokenRequest(client or _shared_client(), actor, members)

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        if inspect.iscoroutinefunction(on_auth_url) and not inspect.iscoroutinefunction(function):
            raise TypeError("on_auth_url must not be a coroutine function where the function is none")
        return _handing(
            function,
            into,
            get=lambda: obtain(request(), on_auth_url, patience),
            get_async=lambda: obtain_async(request(), on_auth_url, patience),
        )

    return decorate


def requires_api_key(
    *,
    provider_name: str,
    workload: str,
    into: str = "api_key",
    client: Optional[IdentityClient] = None,
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Hands an API key to a function, or to a coroutine function.

    Args:
        provider_name: the name of the credential.
        workload: the agent.
        into: the parameter that gets it.
        client: the client to use; else one that all decorators share.

    The decorated function raises what `IdentityClient` raises.
    """

    def get() -> str:
        known = client or _shared_client()
        answer = known.tokens.call(
            Actor(workload),
            lambda token: known.data.get_resource_api_key(
                workloadIdentityToken=token, resourceCredentialProviderName=provider_name
            ),
        )
        return str(answer["apiKey"])

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        return _handing(function, into, get=get, get_async=lambda: asyncio.to_thread(get))

    return decorate


@functools.lru_cache(maxsize=1)
def _shared_client() -> IdentityClient:
    # Not made before it is needed: a module with decorators can be imported where no endpoint is set.
    return IdentityClient()


def _now(user: User) -> Optional[str]:
    return user() if callable(user) else user


def _handing(
    function: Callable[..., R], into: str, get: Callable[[], str], get_async: Callable[[], Awaitable[str]]
) -> Callable[..., R]:
    """The function, called with what `get` gives as its parameter `into`."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **{**kwargs, into: await get_async()})

        return call_async  # type: ignore[return-value]  # R is a coroutine here.

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        return function(*args, **{**kwargs, into: get()})

    return call
