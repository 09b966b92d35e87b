"""TagResource, UntagResource and ListTagsForResource with unmodified boto3: some tags are settings, and say where credentials go."""

import pytest
from botocore.exceptions import ClientError

from harness import model, planted
from harness.product import create_access_key
from harness.stories import make_workload


@pytest.fixture(scope="module")
def control(server):
    return server.boto3(model.CONTROL)


@pytest.fixture
def places(control, caller, fresh):
    """(ARN, how to read the resource) of each kind."""
    agent, weather, github = make_workload(caller, fresh("agent")), fresh("weather"), fresh("github")
    key = control.create_api_key_credential_provider(name=weather, apiKey=planted.new_secret("API key"), tags={"team": "a b"})
    oauth = control.create_oauth2_credential_provider(
        name=github, credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput={"githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": planted.new_secret("client secret")}},
    )  # fmt: skip
    return [control.get_workload_identity(name=agent)["workloadIdentityArn"], key["credentialProviderArn"], oauth["credentialProviderArn"]]


def refused(code, call, **members):
    with pytest.raises(ClientError) as error:
        call(**members)
    assert error.value.response["Error"]["Code"] == code
    return error.value.response


def test_tags_are_put_read_and_taken(control, places):
    for arn in places:
        control.tag_resource(resourceArn=arn, tags={"a b": "c/d", "team": "x"})
        control.tag_resource(resourceArn=arn, tags={"team": "y"})
        assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"a b": "c/d", "team": "y"}
        said = control.untag_resource(resourceArn=arn, tagKeys=["a b", "nothing"])
        assert said["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "y"}


def test_what_is_wrong_is_named(control, places):
    arn = places[1]
    for tags, code in (({"aws:x": "y"}, "ValidationException"), ({"agent-identity:unknown": "y"}, "ValidationException"),
                       ({"agent-identity:injectable-hosts": "*.example.com"}, "ValidationException"),
                       ({"agent-identity:allowed-workloads": "a b c"}, "ValidationException"),
                       ({f"k{n}": "v" for n in range(50)}, "ValidationException")):  # fmt: skip
        refused(code, control.tag_resource, resourceArn=arn, tags=tags)
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a b"}
    for other in (arn + "x", "arn:aws:s3:::some-bucket", arn.replace("us-east-1", "eu-west-1")):
        refused("ResourceNotFoundException", control.list_tags_for_resource, resourceArn=other)
        refused("ResourceNotFoundException", control.tag_resource, resourceArn=other, tags={"a": "b"})


def test_d1_d3_who_may_edit_one_provider_may_not_say_where_its_credentials_go(server, control, places):
    arn = places[1]
    name = arn.rpartition("/")[2]
    one = server.boto3(model.CONTROL, create_access_key(server.data, f"tags-{name}", f"admin provider={name}"))
    one.tag_resource(resourceArn=arn, tags={"team": "z"})
    for key, value in (("agent-identity:injectable-hosts", "evil.example"), ("agent-identity:allowed-workloads", "mine")):
        refused("AccessDeniedException", one.tag_resource, resourceArn=arn, tags={key: value})
        control.tag_resource(resourceArn=arn, tags={key: "api.example.com" if "hosts" in key else "agent-one"})
        refused("AccessDeniedException", one.untag_resource, resourceArn=arn, tagKeys=[key])
    for other in (places[0], places[2]):
        for call in (one.list_tags_for_resource, one.tag_resource, one.untag_resource):
            more = {"tag_resource": {"tags": {"a": "b"}}, "untag_resource": {"tagKeys": ["a"]}}.get(call.__name__, {})
            if other == places[0] and call == one.list_tags_for_resource:
                continue  # An administrator of one provider is one of all workloads: its grant names none.
            if other == places[2]:
                refused("AccessDeniedException", call, resourceArn=other, **more)
    assert control.list_tags_for_resource(resourceArn=arn)["tags"]["agent-identity:injectable-hosts"] == "api.example.com"
