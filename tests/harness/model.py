"""The service model of the installed botocore: what AWS says about each operation, and what we say about those of ours."""

from __future__ import annotations

from functools import cache

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

from .places import REPOSITORY

CONTROL = "bedrock-agentcore-control"
DATA = "bedrock-agentcore"

# Operations of ours, in the form in which boto3 and the AWS CLI load them too: a directory for AWS_DATA_PATH.
OWN_MODELS = REPOSITORY / "shared" / "api" / "models"
AUTHORIZER_OPERATIONS = ("PutAuthorizer", "GetAuthorizer", "DeleteAuthorizer", "ListAuthorizers")
BAN_OPERATIONS = ("BlockUser", "UnblockUser", "SignOutUser")
OWN_OPERATIONS = AUTHORIZER_OPERATIONS + BAN_OPERATIONS
CONNECTION_OPERATIONS = ("ListConnections", "GetConnection", "DeleteConnection", "RetryConnection", "OffboardUser")

# What issue 2 delivers; later work appends.
OPERATIONS = (
    "CreateWorkloadIdentity",
    "GetWorkloadIdentity",
    "UpdateWorkloadIdentity",
    "DeleteWorkloadIdentity",
    "ListWorkloadIdentities",
    "CreateApiKeyCredentialProvider",
    "GetApiKeyCredentialProvider",
    "UpdateApiKeyCredentialProvider",
    "DeleteApiKeyCredentialProvider",
    "ListApiKeyCredentialProviders",
    "CreateOauth2CredentialProvider",
    "GetOauth2CredentialProvider",
    "UpdateOauth2CredentialProvider",
    "DeleteOauth2CredentialProvider",
    "ListOauth2CredentialProviders",
    "GetTokenVault",
    "SetTokenVaultCMK",
    "ResetTokenVaultKeyMaterial",
    "GetWorkloadAccessToken",
    "GetWorkloadAccessTokenForJWT",
    "GetWorkloadAccessTokenForUserId",
    "GetResourceApiKey",
    "GetResourceOauth2Token",
    "CompleteResourceTokenAuth",
)


@cache
def service(name: str) -> ServiceModel:
    loader = Loader(extra_search_paths=[str(OWN_MODELS)])
    return ServiceModel(loader.load_service_model(name, "service-2"), service_name=name)


@cache
def operation(name: str) -> OperationModel:
    plane = DATA if name in service(DATA).operation_names else CONTROL
    return service(plane).operation_model(name)


def path_of(name: str) -> str:
    return operation(name).http["requestUri"]


def success_status(name: str) -> int:
    return operation(name).http.get("responseCode", 200)


def modelled_errors(name: str) -> set[str]:
    return {shape.name for shape in operation(name).error_shapes}


def vendors() -> list[str]:
    return service(CONTROL).shape_for("CredentialProviderVendorType").enum
