"""D1 on AWS: callers are IAM principals, whom API Gateway names in the request context; what they may do is in the table."""

import json

import pytest

from harness import model
from harness.functions import ADMIN_GRANT, Functions, http_event
from harness.grants_walk import *  # noqa: F403
from harness.places import BOOTSTRAPS
from harness.product import command
from harness.wire import Answer

ACCOUNT = "123456789012"
ADMIN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/ops/Admin"


def session_of(role, session="i-0123"):
    """The ARN that API Gateway says when somebody calls with a role's temporary credentials."""
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}"


@pytest.fixture(scope="module")
def deployment():
    running = Functions(environment={
        "AGENT_IDENTITY_PRINCIPAL": "iam",
        "AGENT_IDENTITY_API_ID": "testapi",
        "AGENT_IDENTITY_ACCOUNT_ID": ACCOUNT,
        "AGENT_IDENTITY_ADMIN_ROLE": ADMIN_ROLE,
    }).start()  # fmt: skip
    yield running
    running.stop()


@pytest.fixture(scope="module")
def as_iam(deployment):
    """Callers with the credentials of these IAM principals."""
    opened = []

    def make(user_arn):
        opened.append(deployment.caller(deployment.iam_credentials(user_arn)))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


@pytest.fixture(scope="module")
def caller(as_iam):
    return as_iam(session_of("Admin", "ada@example.com"))


@pytest.fixture(scope="module")
def principals(deployment):
    """`agent-identity principals …` on the deployment's table."""

    def run(*arguments, expect=0):
        arguments = ("principals", *arguments, "--store", "dynamodb")
        return command(*arguments, binary=BOOTSTRAPS / "agent-identity", expect=expect, **deployment.environment)

    return run


@pytest.fixture(scope="module")
def put(principals):
    def run(arn, *grants):
        options = [part for grant in grants for part in ("--grant", grant)]
        return json.loads(principals("put", arn, *options, "--json").stdout)

    return run


@pytest.fixture(scope="module")
def principal(as_iam, put, fresh):
    """Callers with just these grants, each a role of its own."""

    def make(*grants):
        role = fresh("role")
        put(f"arn:aws:iam::{ACCOUNT}:role/{role}", *grants)
        return as_iam(session_of(role))

    return make


def test_d1_whom_nobody_granted_anything_is_denied(as_iam, fresh):
    stranger = as_iam(session_of(fresh("stranger")))
    answer = stranger.refused("ListWorkloadIdentities", 403, "AccessDeniedException")
    assert "ListWorkloadIdentities" in answer.message
    stranger.refused("GetWorkloadAccessToken", 403, "AccessDeniedException", workloadName="any-agent")


@pytest.mark.parametrize("session", ["ci", "ada@example.com"])
def test_d1_every_session_of_the_administrators_role_may_do_everything(as_iam, fresh, session):
    admin, name = as_iam(session_of("Admin", session)), fresh("agent")
    admin.ok("CreateWorkloadIdentity", name=name)
    admin.ok("GetWorkloadAccessTokenForUserId", workloadName=name, userId="ada")
    admin.ok("DeleteWorkloadIdentity", name=name)


@pytest.mark.parametrize("other", [f"arn:aws:iam::{ACCOUNT}:user/Admin", "arn:aws:iam::999999999999:role/Admin"])
def test_d1_nobody_else_is_the_administrator(as_iam, other):
    as_iam(other).refused("ListWorkloadIdentities", 403, "AccessDeniedException")


def test_d1_grants_of_a_session_are_those_of_its_role_and_hold_for_all_sessions(put, as_iam, fresh):
    role = fresh("role")
    stored = put(session_of(role, "first"), "admin")
    assert (stored["principal"], stored["grants"]) == (f"arn:aws:iam::{ACCOUNT}:role/{role}", ["admin"])
    as_iam(session_of(role, "second")).ok("ListWorkloadIdentities")
    as_iam(f"arn:aws:iam::{ACCOUNT}:user/{role}").refused("ListWorkloadIdentities", 403, "AccessDeniedException")


def test_a_user_keeps_its_path(put, as_iam, fresh):
    user = fresh("user")
    put(f"arn:aws:iam::{ACCOUNT}:user/team/{user}", "admin")
    as_iam(f"arn:aws:iam::{ACCOUNT}:user/team/{user}").ok("ListWorkloadIdentities")
    as_iam(f"arn:aws:iam::{ACCOUNT}:user/{user}").refused("ListWorkloadIdentities", 403, "AccessDeniedException")


@pytest.mark.parametrize("operation", ["ListWorkloadIdentities", "GetWorkloadAccessToken"])
@pytest.mark.parametrize(
    "change",
    [{"apiId": "other"}, {"apiId": ""}, {"accountId": "999999999999"}, {"accountId": ""}, {"authorizer": None},
     {"authorizer": {"iam": None}}, {"authorizer": {"iam": {"userArn": "Admin"}}}, {"authorizer": {"jwt": {"claims": {}}}}],
    ids=json.dumps,
)  # fmt: skip
def test_d1_a_context_that_is_not_our_apis_is_refused(deployment, operation, change):
    signed = deployment.iam_credentials(session_of("Admin"))
    context = deployment.iam_context(f"AWS4-HMAC-SHA256 Credential={signed.access_key_id}/")
    headers = [("Host", "testapi.example.com"), ("Content-Type", "application/json")]
    event = http_event("POST", model.path_of(operation), headers, b"{}", **context)
    allowed = invoke(deployment, event)
    assert allowed.status == (200 if operation == "ListWorkloadIdentities" else 400), "the context is right as it is"
    event["requestContext"] |= change
    refused = invoke(deployment, event)
    assert (refused.status, refused.error) == (403, "UnrecognizedClientException")


def invoke(deployment, event):
    answer = deployment.pool_of(event["rawPath"]).invoke(event)
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    return Answer(answer["statusCode"], headers, (answer.get("body") or "").encode())


@pytest.mark.parametrize("operation", ["ListWorkloadIdentities", "GetWorkloadAccessToken"])
def test_d1_a_signature_alone_is_refused_even_with_a_key_of_ours(deployment, fresh, operation):
    ours = deployment.caller(deployment.create_access_key(fresh("key"), ADMIN_GRANT))
    answer = ours.call(operation, workloadName="any-agent")
    assert (answer.status, answer.error) == (403, "UnrecognizedClientException")
    ours.close()


def test_who_has_grants_is_listed_until_they_are_taken(principals, put, as_iam, fresh):
    role = fresh("role")
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    put(arn, "admin")
    stored = put(arn, "read workload=support-*", "use")
    assert stored["grants"] == ["read workload=support-*", "use"] and stored["createdAt"] <= stored["updatedAt"]
    listed = json.loads(principals("list", "--json").stdout)
    assert stored in listed
    assert [item["principal"] for item in listed] == sorted(item["principal"] for item in listed)
    shown = principals("list").stdout
    assert arn in shown and "read workload=support-*" in shown
    assert json.loads(principals("delete", arn, "--json").stdout) == {"principal": arn}
    assert arn not in principals("list").stdout
    as_iam(session_of(role)).refused("ListWorkloadIdentities", 403, "AccessDeniedException")
    assert arn in principals("delete", arn, expect=1).stderr


def test_without_a_grant_there_is_a_warning(principals, fresh):
    arn = f"arn:aws:iam::{ACCOUNT}:role/{fresh('role')}"
    said = principals("put", arn)
    assert "may do nothing" in said.stderr and arn in said.stdout
    assert arn in principals("delete", arn).stdout


@pytest.mark.parametrize("wrong", ["Admin", f"arn:aws:iam::{ACCOUNT}:group/x", f"arn:aws:iam::{ACCOUNT}:role/*"])
def test_what_is_no_principal_is_a_wrong_command_line(principals, wrong):
    assert "ARN" in principals("put", wrong, "--grant", "admin", expect=2).stderr


def test_a_data_directory_has_no_iam_principals(tmp_path):
    arn = f"arn:aws:iam::{ACCOUNT}:role/x"
    refused = command(
        "principals", "put", arn, "--data", str(tmp_path), binary=BOOTSTRAPS / "agent-identity", expect=1
    )  # fmt: skip
    assert "--store dynamodb" in refused.stderr
