"""Every operation through unmodified boto3 clients, as one story from the first workload identity to the last delete."""

import pytest

from harness import model, planted
from harness.browser import Browser
from harness.stories import SCOPES, custom_config, sign_in, sign_in_at_vendor


@pytest.fixture
def clients(server):
    """Both clients, and the names of the operations that they have sent."""
    sent = set()
    made = server.boto3(model.CONTROL), server.boto3(model.DATA)
    for client in made:
        client.meta.events.register("before-call", lambda model, **_: sent.add(model.name))
    return *made, sent


def planted_token(answer, member):
    return planted.plant(answer[member], member)


def test_boto3_calls_every_operation(clients, normal_vendor, app, fresh):
    control, data, sent = clients
    user, key = fresh("user"), planted.new_secret("API key")
    agent, weather, machine, people = fresh("agent"), fresh("weather"), fresh("machine"), fresh("people")

    control.create_workload_identity(name=agent, tags={"team": "agents"})
    updated = control.update_workload_identity(name=agent, allowedResourceOauth2ReturnUrls=[app.return_url])
    assert control.get_workload_identity(name=agent)["workloadIdentityArn"] == updated["workloadIdentityArn"]
    listed = control.get_paginator("list_workload_identities").paginate()
    assert agent in [item["name"] for page in listed for item in page["workloadIdentities"]]

    control.create_api_key_credential_provider(name=weather, apiKey=planted.new_secret("API key"))
    control.update_api_key_credential_provider(name=weather, apiKey=key)
    assert control.get_api_key_credential_provider(name=weather)["name"] == weather
    listed = control.get_paginator("list_api_key_credential_providers").paginate()
    assert weather in [item["name"] for page in listed for item in page["credentialProviders"]]

    for name in (machine, people):
        first, second = planted.new_secret("client secret"), planted.new_secret("client secret")
        made = control.create_oauth2_credential_provider(
            name=name,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput=custom_config(normal_vendor, name, first),
        )
        control.update_oauth2_credential_provider(
            name=name,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput=custom_config(normal_vendor, name, second),
        )
        assert control.get_oauth2_credential_provider(name=name)["callbackUrl"] == made["callbackUrl"]
        redirects = {"redirect_uris": [made["callbackUrl"]]} if name == people else {}
        normal_vendor.register_client(name, client_secret=second, **redirects)
    listed = control.get_paginator("list_oauth2_credential_providers").paginate()
    names = [item["name"] for page in listed for item in page["credentialProviders"]]
    assert machine in names and people in names

    # The agent itself: an API key, and a machine token that its API accepts.
    alone = planted_token(data.get_workload_access_token(workloadName=agent), "workloadAccessToken")
    got = data.get_resource_api_key(workloadIdentityToken=alone, resourceCredentialProviderName=weather)
    assert got["apiKey"] == key
    got = data.get_resource_oauth2_token(
        workloadIdentityToken=alone,
        resourceCredentialProviderName=machine,
        scopes=["things.read"],
        oauth2Flow="M2M",
    )
    assert normal_vendor.call_api(planted_token(got, "accessToken")) == (
        200, {"subject": None, "client": machine, "scope": "things.read"},
    )  # fmt: skip

    # A user who signed in at an identity provider, and one whom the agent names.
    user_token = sign_in(normal_vendor, user)["access_token"]
    for_jwt = data.get_workload_access_token_for_jwt(workloadName=agent, userToken=user_token)
    for_id = data.get_workload_access_token_for_user_id(workloadName=agent, userId=user)
    for wat, identifier in ((for_jwt, {"userToken": user_token}), (for_id, {"userId": user})):
        members = {
            "workloadIdentityToken": planted_token(wat, "workloadAccessToken"),
            "resourceCredentialProviderName": people,
            "scopes": SCOPES,
            "oauth2Flow": "USER_FEDERATION",
            "resourceOauth2ReturnUrl": app.return_url,
        }
        started = data.get_resource_oauth2_token(**members)
        assert started["sessionStatus"] == "IN_PROGRESS" and "accessToken" not in started
        browser = Browser()
        login = browser.submit(browser.get(started["authorizationUrl"]))
        assert sign_in_at_vendor(browser, login, user).url.startswith(app.return_url)
        done = data.complete_resource_token_auth(sessionUri=started["sessionUri"], userIdentifier=identifier)
        assert done["ResponseMetadata"]["HTTPStatusCode"] == 200
        token = planted_token(
            data.get_resource_oauth2_token(**members, sessionUri=started["sessionUri"]), "accessToken"
        )
        assert data.get_resource_oauth2_token(**members)["accessToken"] == token
        status, body = normal_vendor.call_api(token)
        assert (status, body["subject"], body["client"]) == (200, user, people)

    for name in (machine, people):
        control.delete_oauth2_credential_provider(name=name)
    control.delete_api_key_credential_provider(name=weather)
    control.delete_workload_identity(name=agent)
    with pytest.raises(data.exceptions.UnauthorizedException):
        data.get_resource_api_key(workloadIdentityToken=alone, resourceCredentialProviderName=weather)

    assert sent == set(model.OPERATIONS)
    assert len(sent) == 21
