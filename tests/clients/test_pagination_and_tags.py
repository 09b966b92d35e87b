"""Pages of lists, and the limits of tags."""

import base64

import pytest

from harness import planted
from harness.stories import make_workload

LISTS = {
    "ListWorkloadIdentities": ("workloadIdentities", 20),
    "ListOauth2CredentialProviders": ("credentialProviders", 20),
    "ListApiKeyCredentialProviders": ("credentialProviders", 100),
}


@pytest.fixture(scope="module")
def seven_of_each(caller, fresh):
    for _ in range(7):
        make_workload(caller, fresh("paged"))
        secret = planted.new_secret("API key")
        caller.ok("CreateApiKeyCredentialProvider", name=fresh("paged"), apiKey=secret)
        caller.ok(
            "CreateOauth2CredentialProvider",
            name=fresh("paged"),
            credentialProviderVendor="GithubOauth2",
            oauth2ProviderConfigInput={"githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": secret}},
        )


def pages(caller, operation, size):
    key, _ = LISTS[operation]
    token, found = None, []
    while True:
        said = caller.ok(operation, maxResults=size, **({"nextToken": token} if token else {}))
        found.append([item["name"] for item in said[key]])
        token = said.get("nextToken")
        if not token:
            return found


@pytest.mark.parametrize("operation", LISTS)
def test_pages_of_two_show_everything_once(caller, seven_of_each, operation):
    found = pages(caller, operation, 2)
    assert all(len(page) <= 2 for page in found) and len(found) >= 4
    names = [name for page in found for name in page]
    assert len(names) == len(set(names)) >= 7


@pytest.mark.parametrize("operation", LISTS)
def test_the_largest_page_is_accepted_and_one_more_is_not(caller, operation):
    _, largest = LISTS[operation]
    caller.ok(operation, maxResults=largest)
    answer = caller.refused(operation, 400, "ValidationException", maxResults=largest + 1)
    assert answer.wrong_fields == ["maxResults"]
    assert caller.refused(operation, 400, "ValidationException", maxResults=0).wrong_fields == ["maxResults"]


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize("token", ["never-issued", "AAAA", "é", "../../etc/passwd"])
def test_a_token_that_was_never_issued_is_refused(caller, operation, token):
    assert caller.refused(operation, 400, "ValidationException", nextToken=token).wrong_fields == ["nextToken"]


def test_a_token_of_another_list_is_refused(caller, seven_of_each):
    token = caller.ok("ListWorkloadIdentities", maxResults=1)["nextToken"]
    answer = caller.refused("ListApiKeyCredentialProviders", 400, "ValidationException", nextToken=token)
    assert answer.wrong_fields == ["nextToken"]


def test_a_page_token_tells_nothing_about_names(caller, seven_of_each):
    token = caller.ok("ListWorkloadIdentities", maxResults=1)["nextToken"]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"paged" not in raw and "paged" not in token


def test_fifty_tags_are_accepted_and_fifty_one_are_not(caller, fresh):
    tags = {f"key-{number}": f"value {number}" for number in range(50)}
    caller.ok("CreateWorkloadIdentity", name=fresh("tagged"), tags=tags)
    answer = caller.refused(
        "CreateWorkloadIdentity", 400, "ValidationException", name=fresh("tagged"), tags=tags | {"one": "more"}
    )
    assert answer.wrong_fields == ["tags"]


@pytest.mark.parametrize(
    "tags",
    [
        {"": "empty key"}, {"k" * 129: "long key"}, {"key": "v" * 257}, {"bad|key": "value"},
        {"aws:mine": "value"}, {"AWS:mine": "value"},
    ],
    ids=["empty key", "long key", "long value", "forbidden character", "a key of AWS's", "a key of AWS's in capitals"],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["CreateWorkloadIdentity", "CreateApiKeyCredentialProvider"])
def test_a_tag_beyond_its_limits_is_refused(caller, fresh, operation, tags):
    members = {"apiKey": planted.new_secret("API key")} if "ApiKey" in operation else {}
    answer = caller.refused(operation, 400, "ValidationException", name=fresh("tagged"), tags=tags, **members)
    assert any(name.startswith("tags") for name in answer.wrong_fields)
