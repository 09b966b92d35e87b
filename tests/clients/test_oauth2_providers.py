"""OAuth2 credential providers of all vendors through unmodified boto3."""

import pytest

from harness import model, planted

NAMED = {
    "GoogleOauth2": "googleOauth2ProviderConfig",
    "GithubOauth2": "githubOauth2ProviderConfig",
    "SlackOauth2": "slackOauth2ProviderConfig",
    "SalesforceOauth2": "salesforceOauth2ProviderConfig",
    "MicrosoftOauth2": "microsoftOauth2ProviderConfig",
    "AtlassianOauth2": "atlassianOauth2ProviderConfig",
    "LinkedinOauth2": "linkedinOauth2ProviderConfig",
    "CustomOauth2": "customOauth2ProviderConfig",
}
WITH_TENANT = (
    "OktaOauth2", "OneLoginOauth2", "PingOneOauth2", "CyberArkOauth2", "FusionAuthOauth2", "Auth0Oauth2",
    "CognitoOauth2",
)  # fmt: skip
METADATA = {
    "issuer": "https://login.example.com",
    "authorizationEndpoint": "https://login.example.com/authorize",
    "tokenEndpoint": "https://login.example.com/token",
    "responseTypes": ["code"],
    "tokenEndpointAuthMethods": ["client_secret_basic"],
}


def config_for(vendor, secret):
    config = {"clientId": f"client-of-{vendor}", "clientSecret": secret}
    if vendor == "CustomOauth2":
        config["oauthDiscovery"] = {"authorizationServerMetadata": METADATA}
    if vendor in WITH_TENANT:
        config |= {name: METADATA[name] for name in ("issuer", "authorizationEndpoint", "tokenEndpoint")}
    return {NAMED.get(vendor, "includedOauth2ProviderConfig"): config}


@pytest.fixture
def control(server):
    return server.boto3("bedrock-agentcore-control")


def create(control, name, vendor, config=None):
    return control.create_oauth2_credential_provider(
        name=name,
        credentialProviderVendor=vendor,
        oauth2ProviderConfigInput=config or config_for(vendor, planted.new_secret("client secret")),
    )


@pytest.mark.parametrize("vendor", model.vendors())
def test_a_provider_of_each_vendor_can_be_created_read_and_deleted(control, fresh, vendor):
    name = fresh(vendor)
    made = create(control, name, vendor)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    region = control.meta.region_name
    assert made["credentialProviderArn"] == (
        f"arn:aws:bedrock-agentcore:{region}:000000000000:token-vault/default/oauth2credentialprovider/{name}"
    )
    assert made["clientSecretArn"]["secretArn"].startswith("arn:aws:secretsmanager:")
    assert made["status"] == "READY"
    (output,) = made["oauth2ProviderConfigOutput"].values()
    assert output["clientId"] == f"client-of-{vendor}"
    (discovery,) = output["oauthDiscovery"].values()
    assert discovery, "the built-in endpoints are shown"
    assert "clientSecret" not in output

    got = control.get_oauth2_credential_provider(name=name)
    assert got["credentialProviderVendor"] == vendor
    assert got["oauth2ProviderConfigOutput"] == made["oauth2ProviderConfigOutput"]
    assert got["callbackUrl"] == made["callbackUrl"]
    assert got["createdTime"] == got["lastUpdatedTime"]

    deleted = control.delete_oauth2_credential_provider(name=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        control.get_oauth2_credential_provider(name=name)


def test_there_are_the_25_vendors_of_the_model():
    assert len(model.vendors()) == 25


def test_each_provider_has_a_callback_url_of_its_own_on_this_server(control, server, fresh):
    urls = {create(control, fresh("google"), "GoogleOauth2")["callbackUrl"] for _ in range(3)}
    assert len(urls) == 3
    for url in urls:
        assert url.startswith(f"{server.url}/identities/oauth2/callback/")


def test_a_custom_provider_with_a_discovery_url_needs_no_network_to_be_created(control, fresh):
    discovery = {"discoveryUrl": "https://login.unreachable.example/.well-known/openid-configuration"}
    config = {"customOauth2ProviderConfig": {"oauthDiscovery": discovery, "clientId": "one"}}
    made = create(control, fresh("custom"), "CustomOauth2", config)
    assert made["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]["oauthDiscovery"] == discovery


def test_a_provider_without_a_secret_still_answers_a_secret_arn_object(control, fresh):
    config = {"customOauth2ProviderConfig": {
        "oauthDiscovery": {"authorizationServerMetadata": METADATA}, "clientId": "public-client"}}  # fmt: skip
    assert "clientSecretArn" in create(control, fresh("custom"), "CustomOauth2", config)


def test_update_replaces_the_configuration_and_keeps_the_callback_url(control, fresh):
    name = fresh("google")
    made = create(control, name, "GoogleOauth2")
    updated = control.update_oauth2_credential_provider(
        name=name,
        credentialProviderVendor="GoogleOauth2",
        oauth2ProviderConfigInput={"googleOauth2ProviderConfig": {
            "clientId": "another-client", "clientSecret": planted.new_secret("client secret")}},
    )  # fmt: skip
    assert updated["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert updated["callbackUrl"] == made["callbackUrl"]
    assert updated["oauth2ProviderConfigOutput"]["googleOauth2ProviderConfig"]["clientId"] == "another-client"
    assert updated["lastUpdatedTime"] > updated["createdTime"]


def test_list_shows_name_vendor_and_arn(control, fresh):
    name = fresh("github")
    made = create(control, name, "GithubOauth2")
    pages = control.get_paginator("list_oauth2_credential_providers").paginate()
    listed = [item for page in pages for item in page["credentialProviders"] if item["name"] == name]
    assert [(item["credentialProviderVendor"], item["credentialProviderArn"]) for item in listed] == [
        ("GithubOauth2", made["credentialProviderArn"])
    ]


def test_a_second_create_of_the_name_is_a_conflict(control, fresh):
    name = fresh("google")
    create(control, name, "GoogleOauth2")
    with pytest.raises(control.exceptions.ConflictException):
        create(control, name, "GoogleOauth2")


@pytest.mark.parametrize("operation", ["get", "delete"])
def test_an_unknown_name_is_not_found(control, operation):
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        getattr(control, f"{operation}_oauth2_credential_provider")(name="nobody-made-this")


def test_a_configuration_of_another_vendor_is_refused_with_the_right_member_named(control, fresh):
    with pytest.raises(control.exceptions.ValidationException) as refused:
        create(control, fresh("google"), "GoogleOauth2", config_for("GithubOauth2", planted.new_secret("secret")))
    assert "googleOauth2ProviderConfig" in str(refused.value.response)


def test_the_wrong_key_of_the_vendors_documentation_is_refused_with_a_hint(caller, fresh):
    answer = caller.refused(
        "CreateOauth2CredentialProvider", 400, "ValidationException",
        name=fresh("google"),
        credentialProviderVendor="GoogleOauth2",
        oauth2ProviderConfigInput={"GoogleOauth2ProviderConfigInput": {"clientId": "a", "clientSecret": "b"}},
    )  # fmt: skip
    assert "googleOauth2ProviderConfig" in answer.body.decode()


def test_external_without_a_reference_is_refused(control, fresh):
    config = {"googleOauth2ProviderConfig": {"clientId": "one", "clientSecretSource": "EXTERNAL"}}
    with pytest.raises(control.exceptions.ValidationException) as refused:
        create(control, fresh("google"), "GoogleOauth2", config)
    assert any("clientSecretConfig" in entry["name"] for entry in refused.value.response["fieldList"])


@pytest.mark.parametrize("endpoint", ["authorizationEndpoint", "tokenEndpoint"])
def test_d24_an_endpoint_that_is_no_web_address_is_refused(control, fresh, endpoint):
    metadata = METADATA | {endpoint: "javascript:alert(1)"}
    config = {"customOauth2ProviderConfig": {
        "oauthDiscovery": {"authorizationServerMetadata": metadata}, "clientId": "one"}}  # fmt: skip
    with pytest.raises(control.exceptions.ValidationException):
        create(control, fresh("custom"), "CustomOauth2", config)
