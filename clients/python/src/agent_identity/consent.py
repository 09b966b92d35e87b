"""Getting an OAuth2 token, and waiting for the user's consent where one is needed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from .client import IdentityClient
from .errors import ConsentFailed, ConsentRequired, ConsentTimedOut, IdentityError
from .workload_token import Actor

OnAuthUrl = Callable[[str], Any]
"""Shows the user where to consent. For coroutine functions it may be a coroutine function."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a consent, and how often to look."""

    interval_seconds: float = 5.0
    """Between two looks; that of the `bedrock-agentcore` SDK."""
    timeout_seconds: float = 600.0
    """In all; a consent session lives as long."""

    def pauses(self) -> Iterator[float]:
        """The pause before each look, in seconds, until the time is over."""
        end = time.monotonic() + self.timeout_seconds
        while time.monotonic() < end:
            yield self.interval_seconds

    def timed_out(self) -> ConsentTimedOut:
        """The error for when it is."""
        return ConsentTimedOut(f"the user did not consent within {self.timeout_seconds:g} seconds")


@dataclass(frozen=True)
class TokenRequest:
    """What is asked of GetResourceOauth2Token."""

    client: IdentityClient
    """Whom to ask."""
    actor: Actor
    """Who asks."""
    members: Mapping[str, Any] = field(repr=False)
    """For what, as the operation has it."""

    def first(self) -> str:
        """The token.

        Raises:
            ConsentRequired: the user must consent first.
        """
        answer = self._ask(self.members)
        if "accessToken" in answer:
            return str(answer["accessToken"])
        if "authorizationUrl" in answer:
            raise ConsentRequired(answer["authorizationUrl"], answer["sessionUri"])
        raise IdentityError("the service gave neither a token nor an authorization URL")

    def look(self, session_uri: str) -> Optional[str]:
        """The token of a consent session, once it is there.

        Raises:
            ConsentFailed: there will be none.
        """
        # Forced again, it would start another consent.
        members = {name: value for name, value in self.members.items() if name != "forceAuthentication"}
        answer = self._ask({**members, "sessionUri": session_uri})
        if answer.get("sessionStatus") == "FAILED":
            raise ConsentFailed("the consent session has failed: start again")
        token: Optional[str] = answer.get("accessToken")
        return token

    def _ask(self, members: Mapping[str, Any]) -> Any:
        return self.client.tokens.call(
            self.actor,
            lambda token: self.client.data.get_resource_oauth2_token(workloadIdentityToken=token, **members),
        )


def obtain(request: TokenRequest, on_auth_url: Optional[OnAuthUrl], patience: Patience) -> str:
    """The token, after the user's consent if need be.

    Raises:
        ConsentRequired: the user must consent, and nobody shows them where.
        ConsentFailed, ConsentTimedOut: the user did not.
    """
    try:
        return request.first()
    except ConsentRequired as consent:
        if on_auth_url is None:
            raise
        required = consent
    on_auth_url(required.authorization_url)
    for pause in patience.pauses():
        time.sleep(pause)
        token = request.look(required.session_uri)
        if token is not None:
            return token
    raise patience.timed_out()


async def obtain_async(request: TokenRequest, on_auth_url: Optional[OnAuthUrl], patience: Patience) -> str:
    """`obtain` for coroutines. No thread is held while the user decides."""
    try:
        return await asyncio.to_thread(request.first)
    except ConsentRequired as consent:
        if on_auth_url is None:
            raise
        required = consent
    shown = on_auth_url(required.authorization_url)
    if inspect.isawaitable(shown):
        await shown
    for pause in patience.pauses():
        await asyncio.sleep(pause)
        token = await asyncio.to_thread(request.look, required.session_uri)
        if token is not None:
            return token
    raise patience.timed_out()
