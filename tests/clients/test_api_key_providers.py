"""API-key credential providers and the keys that agents get from them."""

import json

import pytest

from harness import planted
from harness.product import put_secret
from harness.stories import make_workload, workload_token


@pytest.fixture
def control(server):
    return server.boto3("bedrock-agentcore-control")


@pytest.fixture
def data_plane(server):
    return server.boto3("bedrock-agentcore")


@pytest.fixture(scope="module")
def wat(caller, fresh):
    return workload_token(caller, make_workload(caller, fresh("agent")), "alice")


def test_create_answers_201_and_never_the_key(control, fresh):
    name, key = fresh("weather"), planted.new_secret("API key")
    made = control.create_api_key_credential_provider(name=name, apiKey=key)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["name"] == name
    region = control.meta.region_name
    assert made["credentialProviderArn"] == (
        f"arn:aws:bedrock-agentcore:{region}:000000000000:token-vault/default/apikeycredentialprovider/{name}"
    )
    assert made["apiKeySecretArn"]["secretArn"].startswith(f"arn:aws:secretsmanager:{region}:000000000000:secret:")
    assert key not in str(made)


def test_get_and_list_show_it_without_the_key(control, fresh):
    name, key = fresh("weather"), planted.new_secret("API key")
    control.create_api_key_credential_provider(name=name, apiKey=key)
    got = control.get_api_key_credential_provider(name=name)
    assert got["name"] == name and got["createdTime"] and got["lastUpdatedTime"]
    pages = control.get_paginator("list_api_key_credential_providers").paginate()
    listed = [item for page in pages for item in page["credentialProviders"] if item["name"] == name]
    assert [item["credentialProviderArn"] for item in listed] == [got["credentialProviderArn"]]
    assert key not in str(got) and key not in str(listed)


def test_an_agent_gets_the_key(control, data_plane, wat, fresh):
    name, key = fresh("weather"), planted.new_secret("API key")
    control.create_api_key_credential_provider(name=name, apiKey=key)
    got = data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert got["apiKey"] == key


def test_an_update_is_what_the_next_get_answers(control, data_plane, wat, fresh):
    name = fresh("weather")
    control.create_api_key_credential_provider(name=name, apiKey=planted.new_secret("API key"))
    data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    replaced = planted.new_secret("API key")
    updated = control.update_api_key_credential_provider(name=name, apiKey=replaced)
    assert updated["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert updated["lastUpdatedTime"] >= updated["createdTime"]
    got = data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert got["apiKey"] == replaced


def test_delete_answers_204_and_the_key_is_gone(control, data_plane, wat, fresh):
    name = fresh("weather")
    control.create_api_key_credential_provider(name=name, apiKey=planted.new_secret("API key"))
    deleted = control.delete_api_key_credential_provider(name=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(data_plane.exceptions.ResourceNotFoundException):
        data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)


def test_d9_a_provider_of_the_same_name_inherits_no_key(control, data_plane, wat, fresh):
    name, old = fresh("weather"), planted.new_secret("API key")
    control.create_api_key_credential_provider(name=name, apiKey=old)
    control.delete_api_key_credential_provider(name=name)
    new = planted.new_secret("API key")
    control.create_api_key_credential_provider(name=name, apiKey=new)
    got = data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert got["apiKey"] == new


def test_a_second_create_of_the_name_is_a_conflict(control, fresh):
    name = fresh("weather")
    control.create_api_key_credential_provider(name=name, apiKey=planted.new_secret("API key"))
    with pytest.raises(control.exceptions.ConflictException) as refused:
        control.create_api_key_credential_provider(name=name, apiKey=planted.new_secret("API key"))
    said = refused.value.response["Error"]["Message"]
    assert said == f"the API key credential provider `{name}` is there already"


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
def test_an_unknown_name_is_not_found(control, operation):
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        getattr(control, f"{operation}_api_key_credential_provider")(name="nobody-made-this")


def test_an_external_key_is_read_from_the_secret_that_its_arn_names(server, control, data_plane, wat, fresh):
    name, key = fresh("external"), planted.new_secret("API key")
    arn = put_secret(server.data, name, json.dumps({"key": key}))
    made = control.create_api_key_credential_provider(
        name=name, apiKeySecretSource="EXTERNAL", apiKeySecretConfig={"secretId": arn, "jsonKey": "key"}
    )
    assert made["apiKeySecretSource"] == "EXTERNAL"
    assert made["apiKeySecretArn"]["secretArn"] == arn and made["apiKeySecretJsonKey"] == "key"
    got = data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert got["apiKey"] == key


def test_an_external_secret_that_does_not_exist_is_refused_at_use_and_named(control, data_plane, wat, fresh):
    name = fresh("external")
    arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:nobody-put-this"
    control.create_api_key_credential_provider(
        name=name, apiKeySecretSource="EXTERNAL", apiKeySecretConfig={"secretId": arn, "jsonKey": "key"}
    )
    with pytest.raises(data_plane.exceptions.ValidationException) as refused:
        data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert arn in refused.value.response["message"]


def test_d2_a_secret_of_another_provider_is_refused(server, control, data_plane, wat, fresh):
    owner, thief, key = fresh("owner"), fresh("thief"), planted.new_secret("API key")
    arn = put_secret(server.data, owner, json.dumps({"key": key}), provider=owner)
    reference = {"apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": {"secretId": arn, "jsonKey": "key"}}
    control.create_api_key_credential_provider(name=owner, **reference)
    got = data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=owner)
    assert got["apiKey"] == key
    with pytest.raises((data_plane.exceptions.AccessDeniedException, control.exceptions.AccessDeniedException)):
        control.create_api_key_credential_provider(name=thief, **reference)
        data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=thief)


def test_a_key_that_the_external_secret_does_not_have_is_an_error_without_the_secret(
    server, control, data_plane, wat, fresh
):
    name, key = fresh("external"), planted.new_secret("API key")
    arn = put_secret(server.data, name, json.dumps({"key": key}))
    control.create_api_key_credential_provider(
        name=name, apiKeySecretSource="EXTERNAL", apiKeySecretConfig={"secretId": arn, "jsonKey": "no-such-key"}
    )
    with pytest.raises(data_plane.exceptions.ValidationException) as refused:
        data_plane.get_resource_api_key(workloadIdentityToken=wat, resourceCredentialProviderName=name)
    assert key not in str(refused.value.response)
    assert "no-such-key" in refused.value.response["message"]
