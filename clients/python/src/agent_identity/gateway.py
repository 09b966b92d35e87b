"""The client that calls tools for an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import boto3

from .client import IdentityClient
from .tool import ToolResult
from .workload_token import Actor


class GatewayClient:
    """Calls tools for one agent and one user. The credential is put in by the service, and the agent never has it.

    Threads may share it.
    """

    def __init__(
        self,
        agent_id: str,
        user_token: Optional[str] = None,
        user_id: Optional[str] = None,
        region: Optional[str] = None,
        endpoint_url: Optional[str] = None,
        session: Optional[boto3.Session] = None,
        on_api_gateway: Optional[bool] = None,
        identity: Optional[IdentityClient] = None,
    ) -> None:
        """Says who calls, and for whom.

        Args:
            agent_id: the agent.
            user_token: the JWT of the user for whom it calls, which the service verifies.
            user_id: the user's id, which you vouch for. Without either, the agent calls for itself.
            region: as `IdentityClient` has it.
            endpoint_url: likewise.
            session: likewise.
            on_api_gateway: likewise.
            identity: a client to share, in place of these four: a server makes one of these for each request.

        Raises:
            ValueError: both `user_token` and `user_id` are set.
            EndpointNotSet: no endpoint is set, or it is AWS's own AgentCore.
            StaleModels: `agent-identity aws-models install` was run with an older version.
        """
        self._actor = Actor(agent_id, user_token, user_id)
        self._identity = identity or IdentityClient(region, endpoint_url, session, on_api_gateway)

    def invoke_tool(
        self,
        tool_name: str,
        input: Mapping[str, Any],
        return_url: Optional[str] = None,
        custom_state: Optional[str] = None,
        connection_label: Optional[str] = None,
    ) -> ToolResult:
        """Calls a tool. The request is sent once: nothing that a tool does is done twice.

        Args:
            tool_name: which tool.
            input: what its schema asks for.
            return_url: where the user comes back to, should a consent be needed; one of the agent's return URLs.
            custom_state: what comes back there as `state`, for your application to compare.
            connection_label: which of the user's accounts at the tool's provider; `default` if it is not said.

        Raises:
            ConsentRequired: the user must consent. Send them to its URL; when they are back, call again.
            ToolError: the tool could not be called, or did not answer. Its code says which: `UNREACHABLE` (nothing was
                done), `UNKNOWN_OUTCOME` or `UNREADABLE` (it may have been done).
            ClientError: the service refuses the call, or the tool's API the credential.
        """
        optional = {
            "resourceOauth2ReturnUrl": return_url,
            "customState": custom_state,
            "connectionLabel": connection_label,
        }
        members = {name: value for name, value in optional.items() if value is not None}

        def invoke(token: str) -> Any:
            return self._identity.data_once.invoke_tool(
                workloadIdentityToken=token, toolName=tool_name, input=input, **members
            )

        return ToolResult.of(self._identity.tokens.call(self._actor, invoke))
