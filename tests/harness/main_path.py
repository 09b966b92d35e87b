"""The main job through unmodified boto3 clients: one story for embedded mode and for the functions."""

import time

import pytest

from . import model, planted
from .browser import Browser
from .stories import SCOPES, custom_config, sign_in, sign_in_at_vendor


def clients(server):
    """Both clients, and the names of the operations that they have sent."""
    sent = set()
    credentials = server.credentials()
    made = server.boto3(model.CONTROL, credentials), server.boto3(model.DATA, credentials)
    for client in made:
        client.meta.events.register("before-call", lambda model, **_: sent.add(model.name))
    return *made, sent


def until_refused(data, workload_token, provider, seconds):
    """The token of a deleted workload ends when no process serves the record from memory any more."""
    deadline = time.monotonic() + seconds + 2
    while True:
        try:
            data.get_resource_api_key(workloadIdentityToken=workload_token, resourceCredentialProviderName=provider)
        except data.exceptions.UnauthorizedException:
            return
        except data.exceptions.ResourceNotFoundException:
            pass  # the provider was forgotten first
        assert time.monotonic() < deadline, "the token of a deleted workload is still taken"
        time.sleep(0.5)


def planted_token(answer, member):
    return planted.plant(answer[member], member)


def call_every_operation(server, vendor, app, fresh):
    """The main job, from the first workload identity to the last delete."""
    control, data, sent = clients(server)
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
            oauth2ProviderConfigInput=custom_config(vendor, name, first),
        )
        control.update_oauth2_credential_provider(
            name=name,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput=custom_config(vendor, name, second),
        )
        assert control.get_oauth2_credential_provider(name=name)["callbackUrl"] == made["callbackUrl"]
        redirects = {"redirect_uris": [made["callbackUrl"]]} if name == people else {}
        vendor.register_client(name, client_secret=second, **redirects)
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
    assert vendor.call_api(planted_token(got, "accessToken")) == (
        200, {"subject": None, "client": machine, "scope": "things.read"},
    )  # fmt: skip

    # A user who signed in at an identity provider, and one whom the agent names.
    user_token = sign_in(vendor, user)["access_token"]
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
        browser = Browser(vendor.trust)
        login = browser.submit(browser.get(started["authorizationUrl"]))
        assert sign_in_at_vendor(browser, login, user).url.startswith(app.return_url)
        done = data.complete_resource_token_auth(sessionUri=started["sessionUri"], userIdentifier=identifier)
        assert done["ResponseMetadata"]["HTTPStatusCode"] == 200
        token = planted_token(
            data.get_resource_oauth2_token(**members, sessionUri=started["sessionUri"]), "accessToken"
        )
        assert data.get_resource_oauth2_token(**members)["accessToken"] == token
        status, body = vendor.call_api(token)
        assert (status, body["subject"], body["client"]) == (200, user, people)

    # The vault's keys are wrapped under the key that is configured: to say so again changes nothing.
    with pytest.raises(control.exceptions.ConflictException, match="no key of the vault is lost"):
        control.reset_token_vault_key_material(tokenVaultId="default")
    vault = control.get_token_vault()
    assert vault["tokenVaultId"] == "default"
    again = control.set_token_vault_cmk(kmsConfiguration=vault["kmsConfiguration"])
    assert again["lastModifiedDate"] == vault["lastModifiedDate"]

    for name in (machine, people):
        control.delete_oauth2_credential_provider(name=name)
    control.delete_api_key_credential_provider(name=weather)
    control.delete_workload_identity(name=agent)
    until_refused(data, alone, weather, server.record_cache_seconds)

    assert sent == set(model.OPERATIONS)
    assert len(sent) == 24
