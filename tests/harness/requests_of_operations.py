"""A valid request of each operation, with as many of its members as can stand together.

`@name@` stands for something that exists only when the server runs; `fill` puts it in.
"""

from __future__ import annotations

import json
from typing import Any

EXTERNAL = {
    "clientSecretSource": "EXTERNAL",
    "clientSecretConfig": {
        "secretId": "arn:aws:secretsmanager:us-east-1:000000000000:secret:from-elsewhere", "jsonKey": "secret",
    },
}  # fmt: skip
METADATA = {
    "issuer": "https://login.example.com",
    "authorizationEndpoint": "https://login.example.com/authorize",
    "tokenEndpoint": "https://login.example.com/token",
    "responseTypes": ["code"],
    "tokenEndpointAuthMethods": ["client_secret_basic"],
}
KMS_KEY = "arn:aws:kms:us-east-1:000000000000:key/12345678-1234-1234-1234-123456789012"
OAUTH2_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "google": ("GoogleOauth2", {"googleOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret", "clientSecretSource": "MANAGED"}}),
    "github, external secret": ("GithubOauth2", {"githubOauth2ProviderConfig": {"clientId": "one"} | EXTERNAL}),
    "slack": ("SlackOauth2", {"slackOauth2ProviderConfig": {"clientId": "one", "clientSecret": "a secret"}}),
    "salesforce": ("SalesforceOauth2", {"salesforceOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret"}}),
    "atlassian": ("AtlassianOauth2", {"atlassianOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret"}}),
    "linkedin": ("LinkedinOauth2", {"linkedinOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret"}}),
    "microsoft": ("MicrosoftOauth2", {"microsoftOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret", "tenantId": "contoso.onmicrosoft.com"}}),
    "okta": ("OktaOauth2", {"includedOauth2ProviderConfig": {
        "clientId": "one", "clientSecret": "a secret", "issuer": METADATA["issuer"],
        "authorizationEndpoint": METADATA["authorizationEndpoint"], "tokenEndpoint": METADATA["tokenEndpoint"]}}),
    "custom, discovery": ("CustomOauth2", {"customOauth2ProviderConfig": {
        "oauthDiscovery": {"discoveryUrl": "https://login.example.com/.well-known/openid-configuration"},
        "clientId": "one", "clientSecret": "a secret", "clientAuthenticationMethod": "CLIENT_SECRET_POST"}}),
    "custom, metadata": ("CustomOauth2", {"customOauth2ProviderConfig": {
        "oauthDiscovery": {"authorizationServerMetadata": METADATA},
        "clientId": "one", "clientSecret": "a secret", "clientSecretSource": "MANAGED"}}),
    "custom, private key": ("CustomOauth2", {"customOauth2ProviderConfig": {
        "oauthDiscovery": {"authorizationServerMetadata": METADATA},
        "clientId": "one", "clientAuthenticationMethod": "PRIVATE_KEY_JWT",
        "privateKeyJwtConfig": {
            "privateKeySource": {"kmsKeySource": {"kmsKeyArn": KMS_KEY}}, "signingAlgorithm": "ES256",
            "additionalHeaderClaims": {"key": "value"}, "additionalPayloadClaims": {"key": "value"}}}}),
}  # fmt: skip

TAGS = {"team": "agents"}
RETURN_URLS = ["https://agents.example.com/return"]
USER = "alice"


def _requests() -> dict[tuple[str, str], dict[str, Any]]:
    made: dict[tuple[str, str], dict[str, Any]] = {
        ("CreateWorkloadIdentity", ""): {
            "name": "@fresh@", "allowedResourceOauth2ReturnUrls": RETURN_URLS, "tags": TAGS},
        ("GetWorkloadIdentity", ""): {"name": "@workload@"},
        ("UpdateWorkloadIdentity", ""): {"name": "@workload@", "allowedResourceOauth2ReturnUrls": RETURN_URLS},
        ("DeleteWorkloadIdentity", ""): {"name": "@doomed workload@"},
        ("ListWorkloadIdentities", ""): {"maxResults": 5},
        ("GetTokenVault", ""): {"tokenVaultId": "default"},
        ("ResetTokenVaultKeyMaterial", ""): {"tokenVaultId": "default"},
        ("SetTokenVaultCMK", ""): {
            "tokenVaultId": "default", "kmsConfiguration": {"keyType": "ServiceManagedKey"}},
        ("CreateApiKeyCredentialProvider", ""): {
            "name": "@fresh@", "apiKey": "an API key", "apiKeySecretSource": "MANAGED", "tags": TAGS},
        ("CreateApiKeyCredentialProvider", "external"): {
            "name": "@fresh@", "apiKeySecretSource": "EXTERNAL",
            "apiKeySecretConfig": EXTERNAL["clientSecretConfig"]},
        ("GetApiKeyCredentialProvider", ""): {"name": "@api key@"},
        ("UpdateApiKeyCredentialProvider", ""): {
            "name": "@api key@", "apiKey": "an API key", "apiKeySecretSource": "MANAGED"},
        ("DeleteApiKeyCredentialProvider", ""): {"name": "@doomed api key@"},
        ("ListApiKeyCredentialProviders", ""): {"maxResults": 5},
        ("GetOauth2CredentialProvider", ""): {"name": "@oauth2@"},
        ("DeleteOauth2CredentialProvider", ""): {"name": "@doomed oauth2@"},
        ("ListOauth2CredentialProviders", ""): {"maxResults": 5},
        ("GetWorkloadAccessToken", ""): {"workloadName": "@workload@"},
        ("GetWorkloadAccessTokenForJWT", ""): {"workloadName": "@workload@", "userToken": "@user token@"},
        ("GetWorkloadAccessTokenForUserId", ""): {"workloadName": "@workload@", "userId": USER},
        ("GetResourceApiKey", ""): {
            "workloadIdentityToken": "@wat@", "resourceCredentialProviderName": "@api key@"},
        ("GetResourceOauth2Token", "new session"): {
            "workloadIdentityToken": "@wat@", "resourceCredentialProviderName": "@oauth2@", "scopes": ["repo"],
            "oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": RETURN_URLS[0],
            "forceAuthentication": True, "customParameters": {"login_hint": USER}, "customState": "state"},
        ("GetResourceOauth2Token", "resource and audience"): {
            "workloadIdentityToken": "@wat@", "resourceCredentialProviderName": "@oauth2@", "scopes": ["repo"],
            "oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": RETURN_URLS[0],
            "resources": ["https://api.example.com"], "audiences": ["https://api.example.com"]},
        ("GetResourceOauth2Token", "poll"): {
            "workloadIdentityToken": "@wat@", "resourceCredentialProviderName": "@oauth2@", "scopes": ["repo"],
            "oauth2Flow": "USER_FEDERATION", "sessionUri": "@session@"},
        ("CompleteResourceTokenAuth", "user id"): {
            "userIdentifier": {"userId": USER}, "sessionUri": "@completed session@"},
        ("CompleteResourceTokenAuth", "user token"): {
            "userIdentifier": {"userToken": "@user token@"}, "sessionUri": "@completed jwt session@"},
    }  # fmt: skip
    for operation in ("Create", "Update"):
        for label, (vendor, config) in OAUTH2_CONFIGS.items():
            made[f"{operation}Oauth2CredentialProvider", label] = {
                "name": "@fresh@" if operation == "Create" else "@oauth2 to update@",
                "credentialProviderVendor": vendor,
                "oauth2ProviderConfigInput": config,
            } | ({"tags": TAGS} if operation == "Create" else {})
    return made


REQUESTS = _requests()

DISCOVERY_URL = "https://login.example.com/tenant/.well-known/openid-configuration"
# The same for the operations of ours.
OWN_REQUESTS: dict[tuple[str, str], dict[str, Any]] = {
    ("PutAuthorizer", "all members"): {
        "agentId": "@workload@", "name": "@authorizer@", "authorizerConfiguration": {"customJWTAuthorizer": {
            "discoveryUrl": DISCOVERY_URL, "allowedAudience": ["agents"], "allowedClients": ["front-end"],
            "allowedScopes": ["chat.write"], "customClaims": [{
                "inboundTokenClaimName": "groups", "inboundTokenClaimValueType": "STRING_ARRAY",
                "authorizingClaimMatchValue": {
                    "claimMatchValue": {"matchValueStringList": ["staff"]}, "claimMatchOperator": "CONTAINS_ANY"}}],
            "advertisedScopeMapping": {"chat.write": "api://agents/chat.write"},
            "allowedWorkloadConfiguration": {
                "hostingEnvironments": [{"arn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/g"}],
                "workloadIdentities": ["caller"]}}},
        "options": {
            "leewaySeconds": 30, "requiredTyp": "at+jwt", "azpAsClient": True, "algorithms": ["ES256"],
            "maxTokenAgeSeconds": 600, "subjectClaim": "sub", "issueWorkloadAccessToken": True, "introspection": {
                "endpoint": "https://login.example.com/tenant/introspect", "clientId": "agents",
                "clientSecret": "of the client that asks", "clientAuthentication": "client_secret_post"}}},
    ("PutAuthorizer", "a claim"): {
        "agentId": "@workload@", "name": "@authorizer@", "authorizerConfiguration": {"customJWTAuthorizer": {
            "discoveryUrl": DISCOVERY_URL, "customClaims": [{
                "inboundTokenClaimName": "group", "inboundTokenClaimValueType": "STRING",
                "authorizingClaimMatchValue": {
                    "claimMatchValue": {"matchValueString": "staff"}, "claimMatchOperator": "EQUALS"}}]}}},
    ("PutAuthorizer", "one rule"): {
        "agentId": "@workload@", "name": "@authorizer@", "authorizerConfiguration": {"customJWTAuthorizer": {
            "discoveryUrl": DISCOVERY_URL, "allowedScopes": ["chat.write"]}}},
    ("GetAuthorizer", ""): {"agentId": "@workload@", "name": "@authorizer@"},
    ("ListAuthorizers", ""): {"agentId": "@workload@", "maxResults": 5},
    ("DeleteAuthorizer", ""): {"agentId": "@workload@", "name": "@authorizer@"},
} | {
    (operation, label): request
    for operation in ("BlockUser", "UnblockUser", "SignOutUser")
    for label, request in (
        ("by subject", {"agentId": "@workload@", "issuer": "https://login.example.com/tenant", "subject": "nobody"}),
        ("by id, for all", {"userId": "nobody"}),
    )
}  # fmt: skip


def fill(request: Any, things: dict[str, str]) -> Any:
    """Puts what exists now in the place of `@name@`; lone surrogates and NUL survive."""
    if isinstance(request, dict):
        return {fill(key, things): fill(value, things) for key, value in request.items()}
    if isinstance(request, list):
        return [fill(value, things) for value in request]
    if isinstance(request, str):
        for name, value in things.items():
            if f"@{name}@" in request:
                request = request.replace(f"@{name}@", value)
    return request


def encoded(request: Any, things: dict[str, str]) -> bytes:
    return json.dumps(fill(request, things)).encode()
