"""Client of agent-identity: secure authentication and credential management for AI agents."""

from .aio import AsyncGatewayClient, AsyncIdentityClient
from .client import IdentityClient
from .config import (
    ApiKeyConfig,
    CredentialType,
    Flow,
    JwtConfig,
    Oauth2Config,
    Placement,
    ToolCredential,
    ToolRequest,
)
from .credential import Credential
from .decorators import requires_access_token, requires_api_key
from .errors import (
    ConsentFailed,
    ConsentRequired,
    ConsentTimedOut,
    CredentialConflict,
    EndpointNotSet,
    IdentityError,
    StaleModels,
    ToolError,
)
from .gateway import GatewayClient
from .tool import ToolResult

__all__ = [
    "ApiKeyConfig",
    "AsyncGatewayClient",
    "AsyncIdentityClient",
    "ConsentFailed",
    "ConsentRequired",
    "ConsentTimedOut",
    "Credential",
    "CredentialConflict",
    "CredentialType",
    "EndpointNotSet",
    "Flow",
    "GatewayClient",
    "IdentityClient",
    "IdentityError",
    "JwtConfig",
    "Oauth2Config",
    "Placement",
    "StaleModels",
    "ToolCredential",
    "ToolError",
    "ToolRequest",
    "ToolResult",
    "requires_access_token",
    "requires_api_key",
]
