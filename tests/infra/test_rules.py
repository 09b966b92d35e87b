"""Every rule holds, and every rule bites: each is broken at least once, and must say so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra import rules
from infra.cloudformation import load

Json = Any
TEMPLATE = load()


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_holds(rule: rules.Rule) -> None:
    assert list(rule(TEMPLATE)) == []


def properties(template: Json, logical_id: str) -> Json:
    return template["Resources"][logical_id]["Properties"]


def statement(template: Json, owner: str, sid: str) -> Json:
    found = properties(template, owner)
    policies = [found["KeyPolicy"]] if "KeyPolicy" in found else [item["PolicyDocument"] for item in found["Policies"]]
    [wanted] = [item for policy in policies for item in policy["Statement"] if item.get("Sid") == sid]
    return wanted


def put(path: str, value: Json) -> Callable[[Json], None]:
    """Sets what `Resource.Property.Property` or `/Section/Name` names."""

    def change(template: Json) -> None:
        place = template
        *parents, last = path.removeprefix("/").split("/") if path.startswith("/") else _in_resource(path)
        for name in parents:
            place = place[name]
        place[last] = value

    return change


def take(path: str) -> Callable[[Json], None]:
    """Removes what it names."""

    def change(template: Json) -> None:
        place = template
        *parents, last = path.removeprefix("/").split("/") if path.startswith("/") else _in_resource(path)
        for name in parents:
            place = place[name]
        del place[last]

    return change


def _in_resource(path: str) -> list[str]:
    logical_id, *rest = path.split(".")
    return ["Resources", logical_id, "Properties", *rest]


def in_statement(owner: str, sid: str, **more: Json) -> Callable[[Json], None]:
    return lambda template: statement(template, owner, sid).update(more)


def without_condition(owner: str, sid: str) -> Callable[[Json], None]:
    return lambda template: statement(template, owner, sid).pop("Condition")


# What breaks which rule.
BREAKS: list[tuple[rules.Rule, str, Callable[[Json], None]]] = [
    (rules.no_wildcard_without_a_reason, "any table", in_statement("TokensRole", "ReadRows", Resource="*")),
    (rules.no_wildcard_without_a_reason, "any action", in_statement("TokensRole", "ReadRows", Action="dynamodb:*")),
    (rules.no_wildcard_without_a_reason, "all but some", in_statement("TokensRole", "ReadRows", NotAction="iam:*")),
    (
        rules.no_wildcard_without_a_reason,
        "anybody uses the key",
        in_statement("VaultKey", "WrapVaultKeys", Principal={"AWS": "*"}),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a parameter with a secret",
        put("/Parameters/ClientSecret", {"Type": "String"}),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a hidden parameter with a default",
        put("/Parameters/Hidden", {"Type": "String", "NoEcho": True, "Default": "x"}),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a default that is a key",
        put("/Parameters/Issuer", {"Type": "String", "Default": "AKIA" + "ABCDEFGHIJKLMNOP"}),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a variable with a secret",
        put("TokensFunction.Environment.Variables.SIGNING_TOKEN", "x"),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a secret looked up into a variable",
        put("TokensFunction.Environment.Variables.AGENT_IDENTITY_AGENT", "{{resolve:secretsmanager:x}}"),
    ),
    (
        rules.no_secret_in_a_parameter_or_variable,
        "a long text in a variable",
        put("TokensFunction.Environment.Variables.AGENT_IDENTITY_AGENT", {"Fn::Sub": "${AWS::Region}" + "ab12" * 12}),
    ),
    (
        rules.every_function_has_a_role_of_its_own,
        "two functions with one role",
        put("RefreshFunction.Role", {"Fn::GetAtt": ["TokensRole", "Arn"]}),
    ),
    (rules.every_function_has_a_role_of_its_own, "a role that SAM makes up", take("RefreshFunction.Role")),
    (
        rules.every_function_has_a_role_of_its_own,
        "a role for all services",
        lambda template: properties(template, "TokensRole")["AssumeRolePolicyDocument"]["Statement"].append(
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ),
    ),
    (rules.every_function_is_built_and_logs_alike, "no JSON", put("TokensFunction.LoggingConfig.LogFormat", "Text")),
    (
        rules.every_function_is_built_and_logs_alike,
        "a line of Lambda's for each request",
        put("TokensFunction.LoggingConfig.SystemLogLevel", "INFO"),
    ),
    (
        rules.every_function_is_built_and_logs_alike,
        "a shared log",
        put("TokensFunction.LoggingConfig.LogGroup", {"Ref": "RefreshLogs"}),
    ),
    (rules.every_function_is_built_and_logs_alike, "a log for ever", take("TokensLogs.RetentionInDays")),
    (rules.every_function_is_built_and_logs_alike, "code elsewhere", put("TokensFunction.CodeUri", "../target")),
    (rules.every_function_is_built_and_logs_alike, "too much memory", put("TokensFunction.MemorySize", 1024)),
    (rules.every_function_is_built_and_logs_alike, "x86", put("/Parameters/Architecture/Default", "x86_64")),
    (rules.every_function_is_built_and_logs_alike, "a function too many", take("/Resources/SampleFunction")),
    (
        rules.the_table_is_encrypted_recoverable_and_kept,
        "no recovery",
        put("Table.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled", False),
    ),
    (rules.the_table_is_encrypted_recoverable_and_kept, "deletable", take("Table.DeletionProtectionEnabled")),
    (rules.the_table_is_encrypted_recoverable_and_kept, "AWS's own key", take("Table.SSESpecification")),
    (
        rules.the_table_is_encrypted_recoverable_and_kept,
        "another TTL attribute",
        put("Table.TimeToLiveSpecification.AttributeName", "exp"),
    ),
    (rules.the_table_is_encrypted_recoverable_and_kept, "no due index", take("Table.GlobalSecondaryIndexes")),
    (rules.what_cannot_be_made_again_is_kept, "a table that goes", take("/Resources/Table/DeletionPolicy")),
    (rules.what_cannot_be_made_again_is_kept, "a key that goes", take("/Resources/VaultKey/UpdateReplacePolicy")),
    (rules.what_cannot_be_made_again_is_kept, "a key for ever", put("VaultKey.EnableKeyRotation", False)),
    (rules.the_queue_has_dead_letters_and_time_enough, "no dead letters", take("RefreshQueue.RedrivePolicy")),
    (rules.the_queue_has_dead_letters_and_time_enough, "too slow", put("RefreshFunction.Timeout", 61)),
    (rules.the_queue_has_dead_letters_and_time_enough, "in clear", take("RefreshQueue.SqsManagedSseEnabled")),
    (
        rules.the_queue_has_dead_letters_and_time_enough,
        "forgotten after four days",
        take("RefreshDeadLetters.MessageRetentionPeriod"),
    ),
    (
        rules.the_queue_has_dead_letters_and_time_enough,
        "whole batches fail",
        take("RefreshFunction.Events.Queue.Properties.FunctionResponseTypes"),
    ),
    (rules.a_tick_comes_every_minute, "every hour", put("RefreshTick.ScheduleExpression", "rate(1 hour)")),
    (rules.a_tick_comes_every_minute, "never", put("RefreshTick.State", "DISABLED")),
    (rules.only_browser_routes_and_the_metadata_are_open, "an open operation", put("CredentialsRoute.AuthorizationType", "NONE")),
    (rules.only_browser_routes_and_the_metadata_are_open, "a signed callback", put("CallbackRoute.AuthorizationType", "AWS_IAM")),
    (rules.only_browser_routes_and_the_metadata_are_open, "no word of it", take("GetResourceApiKeyRoute.AuthorizationType")),
    (
        rules.only_browser_routes_and_the_metadata_are_open,
        "the function believes a signature that nobody checked",
        put("TokensFunction.Environment.Variables.AGENT_IDENTITY_PRINCIPAL", "iam"),
    ),
    (
        rules.only_browser_routes_and_the_metadata_are_open,
        "the function does not know its API",
        take("TokensFunction.Environment.Variables.AGENT_IDENTITY_API_ID"),
    ),
    (rules.only_browser_routes_and_the_metadata_are_open, "an open sample", take("SampleRoute.AuthorizerId")),
    (
        rules.operations_reach_their_function,
        "tokens from the control plane",
        put("GetResourceApiKeyRoute.Target", {"Fn::Sub": "integrations/${CredentialsIntegration}"}),
    ),
    (rules.operations_reach_their_function, "payload 1.0", put("TokensIntegration.PayloadFormatVersion", "1.0")),
    (rules.operations_reach_their_function, "an operation less", take("/Resources/CompleteResourceTokenAuthRoute")),
    (
        rules.an_authorizer_depends_on_what_it_says,
        "the agent is no identity source",
        put("SampleAuthorizer.IdentitySource", ["$request.header.Authorization"]),
    ),
    (
        rules.an_authorizer_depends_on_what_it_says,
        "AWS's own TTL",
        take("SampleAuthorizer.AuthorizerResultTtlInSeconds"),
    ),
    (
        rules.an_authorizer_depends_on_what_it_says,
        "cached simple responses",
        put("SampleAuthorizer.AuthorizerResultTtlInSeconds", 300),
    ),
    (
        rules.an_authorizer_depends_on_what_it_says,
        "payload 1.0",
        put("SampleAuthorizer.AuthorizerPayloadFormatVersion", "1.0"),
    ),
    (rules.nobody_but_the_api_calls_its_functions, "any API", take("TokensPermission.SourceArn")),
    (rules.nobody_but_the_api_calls_its_functions, "anybody", put("TokensPermission.Principal", "*")),
    (rules.rows_are_held_to_their_kinds, "all rows", without_condition("TokensRole", "ReadRows")),
    (
        rules.rows_are_held_to_their_kinds,
        "requests without a key",
        lambda template: statement(template, "TokensRole", "ReadRows")["Condition"].pop("Null"),
    ),
    (
        rules.rows_are_held_to_their_kinds,
        "any kind",
        lambda template: statement(template, "TokensRole", "ReadRows")["Condition"]["ForAllValues:StringLike"].update(
            {"dynamodb:LeadingKeys": ["*"]}
        ),
    ),
    (
        rules.rows_are_held_to_their_kinds,
        "a scan",
        lambda template: statement(template, "TokensRole", "ReadRows")["Action"].append("dynamodb:Scan"),
    ),
    (
        rules.secrets_and_keys_of_others_are_tagged,
        "all secrets of the account",
        without_condition("TokensRole", "ReadExternalSecrets"),
    ),
    (
        rules.secrets_and_keys_of_others_are_tagged,
        "all keys of the account",
        without_condition("RefreshRole", "SignWithExternalKeys"),
    ),
    (rules.requests_are_limited, "no limit", take("Stage.DefaultRouteSettings")),
    (rules.requests_are_limited, "no limit for browsers", take("Stage.RouteSettings")),
    (rules.requests_are_limited, "a named stage", put("Stage.StageName", "v1")),
    (rules.what_goes_wrong_is_seen, "dead letters unseen", take("/Resources/DeadLettersAlarm")),
    (rules.what_goes_wrong_is_seen, "refresh failures unseen", take("/Resources/RefreshFailuresAlarm")),
    (rules.what_goes_wrong_is_seen, "failed messages uncounted", take("/Resources/RefreshFailures")),
    (rules.what_goes_wrong_is_seen, "authorizer errors unseen", take("/Resources/AuthorizerErrorsAlarm")),
    (rules.what_goes_wrong_is_seen, "throttles unseen", take("/Resources/ThrottlesAlarm")),
    (rules.what_goes_wrong_is_seen, "nobody told", take("ThrottlesAlarm.AlarmActions")),
    (rules.what_goes_wrong_is_seen, "no advice", take("ThrottlesAlarm.AlarmDescription")),
    (rules.others_find_what_they_need, "no authorizer for others", take("/Outputs/AuthorizerFunctionArn")),
    (rules.others_find_what_they_need, "another name", take("/Resources/RefreshDeadLetters")),
]


@pytest.mark.parametrize(("rule", "broken"), [(rule, change) for rule, _, change in BREAKS], ids=[
    f"{rule.__name__}: {what}" for rule, what, _ in BREAKS
])
def test_bites(rule: rules.Rule, broken: Callable[[Json], None]) -> None:
    template = copy.deepcopy(TEMPLATE)
    broken(template)
    assert list(rule(template)) != []


def test_every_rule_is_broken_at_least_once() -> None:
    assert {rule for rule, _, _ in BREAKS} == set(rules.RULES)
