"""Workload identities through unmodified boto3."""

from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

RETURN_URLS = ["https://agents.example.com/return", "http://localhost:8081/oauth2/callback", "myapp://return"]


@pytest.fixture
def control(server):
    return server.boto3("bedrock-agentcore-control")


def error_of(refused):
    return refused.value.response


def test_create_answers_201_with_name_arn_and_return_urls(control, fresh):
    name = fresh("agent")
    made = control.create_workload_identity(name=name, allowedResourceOauth2ReturnUrls=RETURN_URLS)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["name"] == name
    assert made["allowedResourceOauth2ReturnUrls"] == RETURN_URLS
    region = control.meta.region_name
    assert made["workloadIdentityArn"] == (
        f"arn:aws:bedrock-agentcore:{region}:000000000000:workload-identity-directory/default/workload-identity/{name}"
    )
    assert "createdTime" not in made


def test_get_gives_back_what_was_created_with_its_times(control, fresh):
    name = fresh("agent")
    made = control.create_workload_identity(name=name, allowedResourceOauth2ReturnUrls=RETURN_URLS)
    got = control.get_workload_identity(name=name)
    for member in ("name", "workloadIdentityArn", "allowedResourceOauth2ReturnUrls"):
        assert got[member] == made[member]
    age = datetime.now(timezone.utc) - got["createdTime"]
    assert timedelta(seconds=-2) < age < timedelta(seconds=60)
    assert got["lastUpdatedTime"] == got["createdTime"]


def test_update_replaces_the_return_urls_and_moves_the_time(control, fresh):
    name = fresh("agent")
    control.create_workload_identity(name=name, allowedResourceOauth2ReturnUrls=RETURN_URLS)
    before = control.get_workload_identity(name=name)
    updated = control.update_workload_identity(name=name, allowedResourceOauth2ReturnUrls=RETURN_URLS[:1])
    assert updated["allowedResourceOauth2ReturnUrls"] == RETURN_URLS[:1]
    assert updated["createdTime"] == before["createdTime"]
    assert updated["lastUpdatedTime"] > before["lastUpdatedTime"]
    assert control.get_workload_identity(name=name)["allowedResourceOauth2ReturnUrls"] == RETURN_URLS[:1]


def test_delete_answers_204_and_the_identity_is_gone(control, fresh):
    name = fresh("agent")
    control.create_workload_identity(name=name)
    assert control.delete_workload_identity(name=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as refused:
        control.get_workload_identity(name=name)
    assert error_of(refused)["Error"]["Code"] == "ResourceNotFoundException"
    assert error_of(refused)["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert name in error_of(refused)["Error"]["Message"]


def test_a_second_create_of_the_name_is_a_conflict(control, fresh):
    name = fresh("agent")
    control.create_workload_identity(name=name)
    with pytest.raises(control.exceptions.ConflictException) as refused:
        control.create_workload_identity(name=name)
    assert error_of(refused)["ResponseMetadata"]["HTTPStatusCode"] == 409


@pytest.mark.parametrize("operation", ["get_workload_identity", "update_workload_identity", "delete_workload_identity"])
def test_an_unknown_name_is_not_found(control, operation):
    with pytest.raises(control.exceptions.ResourceNotFoundException) as refused:
        getattr(control, operation)(name="nobody-made-this")
    assert error_of(refused)["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_deleted_name_can_be_used_again(control, fresh):
    name = fresh("agent")
    control.create_workload_identity(name=name, allowedResourceOauth2ReturnUrls=RETURN_URLS)
    control.delete_workload_identity(name=name)
    control.create_workload_identity(name=name)
    assert control.get_workload_identity(name=name).get("allowedResourceOauth2ReturnUrls", []) == []


def test_list_shows_what_exists(control, fresh):
    names = {fresh("listed") for _ in range(3)}
    for name in names:
        control.create_workload_identity(name=name)
    pages = control.get_paginator("list_workload_identities").paginate()
    listed = {item["name"]: item for page in pages for item in page["workloadIdentities"]}
    assert names <= listed.keys()
    for name in names:
        assert listed[name]["workloadIdentityArn"].endswith(f"workload-identity/{name}")


@pytest.mark.parametrize("scheme", ["javascript", "data", "file", "blob", "vbscript"])
def test_d24_a_return_url_that_a_browser_would_run_is_refused(control, fresh, scheme):
    with pytest.raises(control.exceptions.ValidationException) as refused:
        control.create_workload_identity(
            name=fresh("agent"), allowedResourceOauth2ReturnUrls=[f"{scheme}:alert(1)"]
        )
    assert "allowedResourceOauth2ReturnUrls" in refused.value.response["fieldList"][0]["name"]


def test_d24_a_return_url_with_user_information_is_refused(control, fresh):
    with pytest.raises(control.exceptions.ValidationException):
        control.create_workload_identity(
            name=fresh("agent"), allowedResourceOauth2ReturnUrls=["https://trusted.example@evil.example/return"]
        )
