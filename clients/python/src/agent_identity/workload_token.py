"""Workload access tokens: what an agent shows to act for a user, or for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from botocore.exceptions import ClientError

from .errors import has_code

LIFE_SECONDS = 14 * 60
"""How long a token is used: a minute less than the service lets it live (D20)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Actor:
    """An agent, and whom it acts for."""

    agent_id: str
    """The name of its workload identity."""
    user_token: Optional[str] = field(default=None, repr=False)
    """The user's JWT, which the service verifies."""
    user_id: Optional[str] = None
    """The user's id, which the caller vouches for."""

    def __post_init__(self) -> None:
        """Refuses two users.

        Raises:
            ValueError: both `user_token` and `user_id` are set.
        """
        if self.user_token is not None and self.user_id is not None:
            raise ValueError("set user_token or user_id: an agent acts for one user")


class WorkloadTokens:
    """Gets workload access tokens, and keeps each until it is nearly over. Threads may share it."""

    def __init__(self, data: Any) -> None:
        """Takes a boto3 client of `bedrock-agentcore`."""
        self._data = data
        self._kept: dict[Actor, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def get(self, actor: Actor) -> str:
        """The token of an actor.

        Raises:
            ClientError: the service gives none.
        """
        with self._lock:
            token, ends = self._kept.get(actor, ("", 0.0))
        if time.monotonic() < ends:
            return token
        began = time.monotonic()
        token = self._ask(actor)
        with self._lock:
            # A server with many users must not keep those who left.
            self._kept = {known: kept for known, kept in self._kept.items() if began < kept[1]}
            self._kept[actor] = (token, began + LIFE_SECONDS)
        return token

    def call(self, actor: Actor, operation: Callable[[str], T]) -> T:
        """Calls an operation with the actor's token. When the service refuses the token, once more with a new one.

        Raises:
            ClientError: the service refuses.
        """
        token = self.get(actor)
        try:
            return operation(token)
        except ClientError as error:
            if not has_code(error, "UnauthorizedException"):
                raise
        # A token may end early: a workload is made anew, a user is signed out, the machine slept.
        with self._lock:
            self._kept.pop(actor, None)
        return operation(self.get(actor))

    def _ask(self, actor: Actor) -> str:
        if actor.user_token is not None:
            answer = self._data.get_workload_access_token_for_jwt(
                workloadName=actor.agent_id, userToken=actor.user_token
            )
        elif actor.user_id is not None:
            answer = self._data.get_workload_access_token_for_user_id(workloadName=actor.agent_id, userId=actor.user_id)
        else:
            answer = self._data.get_workload_access_token(workloadName=actor.agent_id)
        return str(answer["workloadAccessToken"])
