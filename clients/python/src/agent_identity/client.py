"""The client that configures agents: who may speak to them, which credentials they have, which tools they may call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Callable, Literal, Optional, Union, cast, get_args

import boto3
from botocore.exceptions import ClientError

from . import credential as credentials
from .authorizer import jwt_authorizer
from .config import ApiKeyConfig, CredentialType, JwtConfig, Oauth2Config, ToolCredential, ToolRequest
from .connection import CONTROL, DATA, Connection
from .credential import Credential
from .errors import CredentialConflict, has_code
from .workload_token import Actor, WorkloadTokens

_CREDENTIAL_TYPES: tuple[CredentialType, ...] = get_args(CredentialType)


class IdentityClient:
    """Configures agents, and gets workload access tokens for them. Threads may share it.

    Every method raises `botocore.exceptions.ClientError` when the service refuses.

    Attributes:
        control: a boto3 client of `bedrock-agentcore-control`, for operations that have no method here.
        data: a boto3 client of `bedrock-agentcore`, likewise.
        data_once: the same, which sends no request twice: what a tool has done must not be done again.
        tokens: the workload access tokens that were got.
    """

    def __init__(
        self,
        region: Optional[str] = None,
        endpoint_url: Optional[str] = None,
        session: Optional[boto3.Session] = None,
        on_api_gateway: Optional[bool] = None,
    ) -> None:
        """Connects to agent-identity.

        Args:
            region: the region to sign for; else that of the session, else `us-east-1`.
            endpoint_url: the URL of agent-identity; else what boto3 finds in the environment or the profile, such as
                `agent-identity env` sets it.
            session: whose credentials, profile and region to use; else boto3's default.
            on_api_gateway: whether agent-identity is behind a custom domain of API Gateway. API Gateway's own hosts are
                known without it.

        Raises:
            EndpointNotSet: no endpoint is set, or it is AWS's own AgentCore.
            StaleModels: `agent-identity aws-models install` was run with an older version.
        """
        connection = Connection(region, endpoint_url, session, on_api_gateway)
        self.control = connection.client(CONTROL)
        self.data = connection.client(DATA)
        self.data_once = connection.client(DATA, retries=False)
        self.tokens = WorkloadTokens(self.data)

    def configure_authorizer(
        self,
        agent_id: str,
        *,
        config: JwtConfig,
        authorizer_type: Literal["jwt"] = "jwt",
        return_urls: Optional[Sequence[str]] = None,
    ) -> int:
        """Says whose tokens may speak to an agent. The agent's workload identity is made if it is not there.

        Args:
            agent_id: the agent: the name of its workload identity.
            config: see `JwtConfig`. For a Cognito user pool the audience is its app client ids.
            authorizer_type: `jwt`.
            return_urls: where users may come back to after a consent. Set, they replace those that the agent has.

        Returns:
            The version of the authorizer, which moves by one with every change.

        Raises:
            ValueError: the type or a key of `config` is unknown, or something is missing.
        """
        if authorizer_type != "jwt":
            raise ValueError(f"`{authorizer_type}` is no type of authorizer: there is `jwt`")
        authorizer = jwt_authorizer(config)
        self._ensure_workload(agent_id, return_urls)
        answer = self.control.put_authorizer(
            agentId=agent_id,
            name=config.get("name", "default"),
            authorizerConfiguration={"customJWTAuthorizer": authorizer},
        )
        return int(answer["version"])

    def store_credential(
        self,
        agent_id: str,
        credential_name: str,
        credential_type: CredentialType,
        config: Union[Oauth2Config, ApiKeyConfig],
    ) -> Credential:
        """Stores a credential for one agent, or changes the one of this name.

        Args:
            agent_id: the agent that may use it, and no other.
            credential_name: its name: that of its credential provider.
            credential_type: `oauth2` or `api_key`.
            config: see `Oauth2Config` and `ApiKeyConfig`.

        Raises:
            ValueError: the type or a key of `config` is unknown, or something is missing or contradicts.
            CredentialConflict: it is there for another agent, or for several.
        """
        members = self._provider_members(credential_type, config)
        tags = credentials.tags(agent_id, config)
        try:
            answer = self._provider("create", credential_type, name=credential_name, tags=tags, **members)
        except ClientError as error:
            if not has_code(error, "ConflictException"):
                raise
            there = Credential.of(self._provider("get", credential_type, name=credential_name), credential_type)
            shown = self._tags(there)
            if shown.get(credentials.ALLOWED_WORKLOADS) != tags[credentials.ALLOWED_WORKLOADS]:
                raise CredentialConflict(
                    f"`{credential_name}` is stored, and not for the agent `{agent_id}` alone: delete it first"
                ) from error
            self._put_hosts(there, shown, tags)
            answer = self._provider("update", credential_type, name=credential_name, **members)
        return Credential.of(answer, credential_type)

    def _put_hosts(self, credential: Credential, shown: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Before the secret, so that a new one goes nowhere that it should not."""
        key = credentials.INJECTABLE_HOSTS
        if key in tags and shown.get(key) != tags[key]:
            self.control.tag_resource(resourceArn=credential.arn, tags={key: tags[key]})
        elif key not in tags and key in shown:
            self.control.untag_resource(resourceArn=credential.arn, tagKeys=[key])

    def _tags(self, credential: Credential) -> Mapping[str, str]:
        tags: Mapping[str, str] = self.control.list_tags_for_resource(resourceArn=credential.arn)["tags"]
        return tags

    def get_credential(self, name: str, credential_type: Optional[CredentialType] = None) -> Credential:
        """Reads a credential, but not its secret.

        Raises:
            CredentialConflict: there is one of each type, and the type is not given.
        """
        found, missing = [], None
        for kind in _types(credential_type):
            try:
                found.append(Credential.of(self._provider("get", kind, name=name), kind))
            except ClientError as error:
                if not has_code(error, "ResourceNotFoundException"):
                    raise
                missing = error
        if len(found) > 1:
            raise CredentialConflict(f"there is an oauth2 and an api_key credential named `{name}`: say which")
        if not found and missing:
            raise missing
        return found[0]

    def list_credentials(self, agent_id: Optional[str] = None) -> Iterator[Credential]:
        """Lists credentials; with `agent_id` those that this agent may use, at one more call for each."""
        for kind in _CREDENTIAL_TYPES:
            operation = getattr(self.control, f"list_{kind}_credential_providers")
            for item in _pages(operation, "credentialProviders"):
                credential = Credential.of(item, kind)
                if agent_id is None or credentials.serves(self._tags(credential), agent_id):
                    yield credential

    def delete_credential(self, name: str, credential_type: Optional[CredentialType] = None) -> None:
        """Deletes a credential.

        Raises:
            CredentialConflict: there is one of each type, and the type is not given.
        """
        kind = credential_type or self.get_credential(name).credential_type
        self._provider("delete", kind, name=name)

    def list_connections(
        self,
        agent_id: Optional[str] = None,
        credential_name: Optional[str] = None,
        issuer: Optional[str] = None,
        subject: Optional[str] = None,
        user_id: Optional[str] = None,
    ) -> Iterator[dict[str, Any]]:
        """Lists users' connections to OAuth2 providers, as ListConnections has them: of an agent, a credential, a user.

        Args:
            agent_id: of this agent.
            credential_name: at this provider.
            issuer: of the user whom this issuer's tokens name `subject`.
            subject: see `issuer`.
            user_id: of the user whom callers vouch for.
        """
        return _pages(
            self.control.list_connections,
            "connections",
            workloadName=agent_id,
            providerName=credential_name,
            issuer=issuer,
            subject=subject,
            userId=user_id,
        )

    def usage(
        self,
        agent_id: Optional[str] = None,
        credential_name: Optional[str] = None,
        first_day: Optional[date] = None,
        last_day: Optional[date] = None,
    ) -> Iterator[dict[str, Any]]:
        """How often credentials were asked for, by agent, provider and path, as GetUsage has it.

        Args:
            agent_id: only by this agent.
            credential_name: only at this provider.
            first_day: added up from this day on (UTC); today where it is not set.
            last_day: to the end of this day; today where it is not set.
        """
        return _pages(
            self.control.get_usage,
            "usage",
            workloadName=agent_id,
            providerName=credential_name,
            **{"from": first_day and first_day.isoformat(), "to": last_day and last_day.isoformat()},
        )

    def delete_connection(self, connection_id: str) -> dict[str, Any]:
        """Deletes a connection, and ends its grant at the provider.

        Returns:
            What became of it, as DeleteConnection says: `local`, `upstream`, and `reason` where it was not revoked.
        """
        return _members(self.control.delete_connection(connectionId=connection_id))

    def retry_connection(self, connection_id: str) -> dict[str, Any]:
        """Tries a grant once more that its provider has refused, when the provider was wrong.

        Returns:
            How the connection does then, as GetConnection says.
        """
        return _members(self.control.retry_connection(connectionId=connection_id))

    def offboard_user(
        self, issuer: Optional[str] = None, subject: Optional[str] = None, user_id: Optional[str] = None
    ) -> list[dict[str, Any]]:
        """Lets a user in no more, for any agent, and deletes all their connections.

        Args:
            issuer: the issuer whose tokens name the user `subject`.
            subject: see `issuer`.
            user_id: the user whom callers vouch for. Set this, or `issuer` and `subject`.

        Returns:
            What became of each connection, as OffboardUser says.
        """
        user = _given(issuer=issuer, subject=subject, userId=user_id)
        ended: list[dict[str, Any]] = []
        complete = False
        # One call deletes a limited number.
        while not complete:
            answer = self.control.offboard_user(**user)
            ended += answer["connections"]
            complete = answer["complete"]
        return ended

    def complete_consent(
        self, session_uri: str, user_token: Optional[str] = None, user_id: Optional[str] = None
    ) -> None:
        """Confirms which user came back from a consent. Call it where your return URL leads, with its `session_id`.

        Args:
            session_uri: what came as `session_id`.
            user_token: the JWT of the user who is signed in to your application in this browser.
            user_id: their id, if the agent acts by ids. Set one of the two.

        Raises:
            ValueError: not exactly one of `user_token` and `user_id` is set.
        """
        user = _given(userToken=user_token, userId=user_id)
        if len(user) != 1:
            raise ValueError("set one of user_token and user_id")
        self.data.complete_resource_token_auth(sessionUri=session_uri, userIdentifier=user)

    def put_tool(
        self,
        name: str,
        request: ToolRequest,
        input_schema: Optional[Mapping[str, Any]],
        credential: Optional[ToolCredential],
        allowed_workloads: Sequence[str],
        description: str = "",
    ) -> dict[str, Any]:
        """Makes a tool, or replaces it: one HTTP request that an agent may have sent with a credential of the vault.

        Args:
            name: its name.
            request: what is sent, as PutTool has it; `{account_id}` stands for `account_id` of the input.
            input_schema: what the input must be: a JSON Schema of an object; None for a request with `methods`, whose input is a
                request.
            credential: which credential it is sent with, as PutTool has it; None for an API that is open to all.
            allowed_workloads: names of the agents that may call it; `*` stands for any run of characters.
            description: what it does, for the agent that chooses among tools.

        Returns:
            As PutTool answers: `name`, `version`, `createdTime`, `lastUpdatedTime`.
        """
        answer = self.control.put_tool(
            name=name,
            description=description,
            request=request,
            allowedWorkloads=list(allowed_workloads),
            **_given(credential=credential, inputSchema=input_schema),
        )
        return _members(answer)

    def get_tool(self, name: str) -> dict[str, Any]:
        """Reads a tool, as GetTool answers."""
        return _members(self.control.get_tool(name=name))

    def list_tools(self, agent_id: Optional[str] = None) -> Iterator[dict[str, Any]]:
        """Lists tools, as ListTools has them; with `agent_id` those that this agent may call."""
        return _pages(self.control.list_tools, "tools", workloadName=agent_id)

    def delete_tool(self, name: str) -> None:
        """Deletes a tool."""
        self.control.delete_tool(name=name)

    def workload_token(self, agent_id: str, user_token: Optional[str] = None, user_id: Optional[str] = None) -> str:
        """A token with which an agent acts for a user, or for nobody. It is kept for 14 of its 15 minutes.

        Args:
            agent_id: the agent.
            user_token: the user's JWT, which the service verifies.
            user_id: the user's id, which you vouch for.

        Raises:
            ValueError: both `user_token` and `user_id` are set.
        """
        return self.tokens.get(Actor(agent_id, user_token, user_id))

    def _ensure_workload(self, agent_id: str, return_urls: Optional[Sequence[str]]) -> None:
        urls = _given(allowedResourceOauth2ReturnUrls=None if return_urls is None else list(return_urls))
        try:
            self.control.create_workload_identity(name=agent_id, **urls)
        except ClientError as error:
            if not has_code(error, "ConflictException"):
                raise
            if urls:
                self.control.update_workload_identity(name=agent_id, **urls)

    def _provider_members(
        self, credential_type: CredentialType, config: Union[Oauth2Config, ApiKeyConfig]
    ) -> dict[str, Any]:
        if credential_type == "api_key":
            return credentials.api_key_members(cast(ApiKeyConfig, config))
        _types(credential_type)
        model = self.control.meta.service_model
        return credentials.oauth2_members(
            cast(Oauth2Config, config),
            vendors=model.shape_for("CredentialProviderVendorType").enum,
            unions=list(model.shape_for("Oauth2ProviderConfigInput").members),
        )

    def _provider(self, verb: str, credential_type: CredentialType, **members: Any) -> Any:
        (kind,) = _types(credential_type)
        return getattr(self.control, f"{verb}_{kind}_credential_provider")(**members)


def _types(credential_type: Optional[CredentialType]) -> tuple[CredentialType, ...]:
    """This type, or all."""
    if credential_type is None:
        return _CREDENTIAL_TYPES
    if credential_type not in _CREDENTIAL_TYPES:
        raise ValueError(f"`{credential_type}` is no type of credential: there are oauth2 and api_key")
    return (credential_type,)


def _given(**members: Any) -> dict[str, Any]:
    """Members without those that are not set, which botocore would refuse."""
    return {name: value for name, value in members.items() if value is not None}


def _members(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without what botocore adds to it."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def _pages(operation: Callable[..., Any], items: str, **members: Any) -> Iterator[Any]:
    """The items of all pages. A page may be empty, and another after it."""
    members = _given(**members)
    while True:
        answer = operation(**members)
        yield from answer[items]
        if not answer.get("nextToken"):
            return
        members["nextToken"] = answer["nextToken"]
