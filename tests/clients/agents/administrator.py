"""Every method of the SDK's IdentityClient that this product answers, one after the other."""

import json
import sys

from bedrock_agentcore.services.identity import IdentityClient, UserIdIdentifier

region, provider, api_key_provider, api_key = sys.argv[1:]
identity = IdentityClient(region)
report = {}

made = identity.create_workload_identity(allowed_resource_oauth_2_return_urls=["http://localhost:8081/oauth2/callback"])
name = made["name"]
report["created"] = name
updated = identity.update_workload_identity(name, ["http://localhost:9090/return"])
report["return_urls"] = identity.get_workload_identity(name)["allowedResourceOauth2ReturnUrls"]
report["updated"] = updated["allowedResourceOauth2ReturnUrls"]

oauth2 = identity.create_oauth2_credential_provider({
    "name": provider,
    "credentialProviderVendor": "GithubOauth2",
    "oauth2ProviderConfigInput": {"githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": api_key}},
})
report["callback_url"] = oauth2["callbackUrl"]
report["oauth2_get"] = identity.get_oauth2_credential_provider(name=provider)["name"]
report["oauth2_listed"] = [item["name"] for item in identity.list_oauth2_credential_providers()["credentialProviders"]]

identity.create_api_key_credential_provider({"name": api_key_provider, "apiKey": api_key})
report["api_key_get"] = identity.get_api_key_credential_provider(name=api_key_provider)["name"]
report["api_key_listed"] = [
    item["name"] for item in identity.list_api_key_credential_providers()["credentialProviders"]
]

alone = identity.get_workload_access_token(name)["workloadAccessToken"]
for_user = identity.get_workload_access_token(name, user_id="alice")["workloadAccessToken"]
report["tokens_differ"] = alone != for_user
report["api_key"] = identity.get_resource_api_key(
    workload_identity_token=for_user, resource_credential_provider_name=api_key_provider
)["apiKey"]
session = identity.get_resource_oauth2_token(
    workload_identity_token=for_user,
    resource_credential_provider_name=provider,
    scopes=["repo"],
    oauth2_flow="USER_FEDERATION",
    resource_oauth2_return_url="http://localhost:9090/return",
)
report["session_uri"] = session["sessionUri"]
try:
    identity.complete_resource_token_auth(session["sessionUri"], UserIdIdentifier(user_id="mallory"))
except Exception as refused:
    report["wrong_user"] = type(refused).__name__

identity.delete_oauth2_credential_provider(name=provider)
identity.delete_api_key_credential_provider(name=api_key_provider)
print(json.dumps(report), flush=True)
