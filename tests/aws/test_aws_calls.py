"""docs/aws-calls.md is what a run records, and the roles of infra/template.yaml allow just that."""

import os
from fnmatch import fnmatchcase

import pytest

from aws.call_everything import call_everything
from aws.calls import NONE, TITLES, grants, page
from harness.places import REPOSITORY
from infra.cloudformation import load
from infra.iam import allows, role_of, statements
from infra.rules import everything

PAGE = REPOSITORY / "docs" / "aws-calls.md"
DECIDED = everything(load())
ROLES = {
    function: statements(DECIDED, role_of(DECIDED, f"{function.capitalize()}Function"))
    for function in TITLES
    if function != "command line"
}
KEY_POLICY = DECIDED.resources["VaultKey"]["Properties"]["KeyPolicy"]["Statement"]

ONE_OR_MANY = ["dynamodb:BatchGetItem", "dynamodb:GetItem"]

# (function, action, resource or kind of rows): allowed, and not called in the run. Patterns, each with its reason.
UNCALLED = {
    ("*", "logs:*", "*"): "Lambda writes the log, with the function's role",
    ("refresh", "sqs:ReceiveMessage", "*"): "Lambda's poller, with the function's role",
    ("refresh", "sqs:DeleteMessage", "*"): "Lambda's poller, with the function's role",
    ("refresh", "sqs:GetQueueAttributes", "*"): "Lambda's poller, with the function's role",
    ("refresh", "dynamodb:Query", "vault-key"): "a process renews its vault keys by a query when they are 5 minutes old, "
    "which is longer than the run (jose/src/seal.rs)",
    ("gateway", "dynamodb:PutItem", "vault-key"): "the first of all keys are made by whichever function seals first",
    ("gateway", "kms:Encrypt", "*"): "the same keys",
    ("gateway", "dynamodb:PutItem", "revocation"): "a refresh that loses its connection to a deletion has its provider told "
    "(service/src/refresh.rs)",
    ("tokens", "dynamodb:*", "inbound-jwt"): "inbound JWTs are kept once there is on-behalf-of exchange (D20)",
}


@pytest.fixture(scope="module")
def calls(vendor, app, fresh):
    return call_everything(vendor, app, fresh)


@pytest.fixture(scope="module")
def of_functions(calls):
    return [call for call in calls if call.function in ROLES]


def test_the_page_lists_what_a_run_records(calls):
    text = page(calls)
    if os.environ.get("WRITE_AWS_CALLS"):
        PAGE.write_text(text)
    assert text == PAGE.read_text()


def test_every_write_has_a_condition(calls):
    writes = [call for call in calls if call.service == "DynamoDB" and call.consistency == NONE]
    assert writes and all(call.condition != NONE for call in writes)


def test_d2_secrets_and_keys_of_others_are_used_by_their_tag(calls):
    theirs = {(call.service, call.operation) for call in calls if call.condition.startswith("tag ")}
    assert {("Secrets Manager", "DescribeSecret"), ("KMS", "ListResourceTags")} <= theirs, "the tag is looked at, not only IAM's to hold"


def test_d16_every_call_is_allowed_by_the_role_of_its_function(of_functions):
    refused = sorted(
        f"{call.function}: {asked.action} on {asked.resource}, {call.on}"
        for call in of_functions
        for asked in call.requests
        if not allows(ROLES[call.function], asked.action, asked.resource, asked.asked())
    )
    assert "\n".join(refused) == ""


def test_the_policy_of_the_key_allows_what_is_asked_of_it(of_functions):
    asked = {asked for call in of_functions for asked in call.requests if asked.resource == "VaultKey.Arn"}
    assert asked
    assert [one for one in asked if not allows(KEY_POLICY, one.action, "*", one.asked())] == []


@pytest.mark.parametrize("function", ROLES)
def test_nothing_is_allowed_that_is_never_called(of_functions, function):
    unused = [f"{action} {what}" for action, what in idle(of_functions, function) if not excuses(function, action, what)]
    assert "\n".join(unused) == ""


def test_every_excuse_is_needed(of_functions):
    needed = {
        pattern
        for function in ROLES
        for piece in idle(of_functions, function)
        for pattern in excuses(function, *piece)
    }
    assert set(UNCALLED) - needed == set()


def idle(calls, function):
    """What the role allows and no call asked for: (action, kind of rows or resource)."""
    asked = {one for call in calls if call.function == function for each in call.requests for one in each.each_kind()}
    actions = {one.action for one in asked}
    found = []
    for action, resource, kind, piece in grants(ROLES[function]):
        if action in ONE_OR_MANY:
            # The same power; but each way to read must be used at all.
            piece[0]["Action"] = ONE_OR_MANY
        used = any(allows(piece, one.action, one.resource, one.asked()) for one in asked)
        if not used or action not in actions:
            found.append((action, kind or resource))
    return found


def excuses(function, action, what):
    return [
        pattern for pattern in UNCALLED
        if all(fnmatchcase(text, part) for text, part in zip((function, action, what), pattern, strict=True))
    ]  # fmt: skip
