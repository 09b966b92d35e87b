"""Errors of this package. What the service refuses is a `botocore.exceptions.ClientError`, as with any boto3 client."""

from __future__ import annotations

from botocore.exceptions import ClientError


class IdentityError(Exception):
    """Every error of this package is one."""


class EndpointNotSet(IdentityError):
    """No endpoint of agent-identity is known, and AWS's own AgentCore must not be called in its place."""


class StaleModels(IdentityError):
    """The models that `agent-identity aws-models install` wrote are older than this package."""


class CredentialConflict(IdentityError):
    """A credential of this name is there, and it is not the one that is meant."""


class ConsentRequired(IdentityError):
    """The user must consent first.

    Attributes:
        authorization_url: where to send the user. It is for this user only: show it to nobody else.
        session_uri: names the consent session, for `IdentityClient.complete_consent`.
    """

    def __init__(self, authorization_url: str, session_uri: str) -> None:
        """Takes what the service answered. The text of the error has neither, since it may be logged."""
        super().__init__("the user must consent first: send them to `authorization_url`")
        self.authorization_url = authorization_url
        self.session_uri = session_uri


class ConsentFailed(IdentityError):
    """The consent session ended without a token."""


class ConsentTimedOut(IdentityError, TimeoutError):
    """The user did not consent in time."""


class ToolError(IdentityError):
    """The tool could not be called, or did not answer.

    Attributes:
        code: a stable code.
        message: what went wrong.
    """

    def __init__(self, code: str, message: str) -> None:
        """Takes what the service answered."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def has_code(error: ClientError, code: str) -> bool:
    """Whether the service answered with this error, such as `ConflictException`."""
    return bool(error.response.get("Error", {}).get("Code") == code)
