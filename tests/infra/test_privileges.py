"""What each role may do, asked as IAM would be asked (D2, D16)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from infra.cloudformation import Decided, as_list, load
from infra.iam import allows, role_of, statements
from infra.rules import everything

DECIDED = everything(load())
CORE = Path(__file__).resolve().parents[2] / "shared" / "core" / "src" / "store.rs"

ROLES = {function: statements(DECIDED, role_of(DECIDED, function)) for function in (
    "AuthorizerFunction", "CredentialsFunction", "TokensFunction", "GatewayFunction", "RefreshFunction", "SampleFunction"
)}
KEY_POLICY = DECIDED.resources["VaultKey"]["Properties"]["KeyPolicy"]["Statement"]
EXTERNAL_SECRET = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:billing/stripe-AbCdEf"
EXTERNAL_KEY = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/1234"
TAG = {"aws:ResourceTag/agent-identity:provider": "stripe"}

READS = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"]
WRITES = ["dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"]


def row(function: str, action: str, *partitions: str, resource: str = "Table.Arn") -> bool:
    context = {"dynamodb:LeadingKeys": list(partitions)} if partitions else {}
    return allows(ROLES[function], action, resource, context)


@pytest.mark.parametrize("kind", ["authorizer", "jwks", "denial"])
def test_d16_the_authorizer_reads_rules_keys_and_denials(kind: str) -> None:
    read = ["dynamodb:GetItem", "dynamodb:BatchGetItem"]
    assert [action for action in READS if row("AuthorizerFunction", action, f"{kind}#x")] == [a for a in READS if a in read]
    assert row("AuthorizerFunction", "dynamodb:BatchGetItem", "authorizer#a", "denial#b", "jwks#c")
    assert not any(row("AuthorizerFunction", action, f"{kind}#x") for action in WRITES)


def test_d16_the_authorizer_writes_that_it_asked_an_issuer_and_nothing_else() -> None:
    assert row("AuthorizerFunction", "dynamodb:PutItem", "jwks-cooldown#x")
    assert not row("AuthorizerFunction", "dynamodb:PutItem", "jwks#x")
    assert not row("AuthorizerFunction", "dynamodb:PutItem", "jwks-cooldown#x", "authorizer#x")
    assert not row("AuthorizerFunction", "dynamodb:DeleteItem", "jwks-cooldown#x")


def test_d16_keys_of_issuers_are_written_by_refresh_alone() -> None:
    for function in ROLES:
        assert any(row(function, action, "jwks#x") for action in WRITES) == (function == "RefreshFunction")
    assert row("TokensFunction", "dynamodb:GetItem", "jwks#x")
    for kind in ("jwks", "jwks-cooldown"):
        assert row("RefreshFunction", "dynamodb:BatchGetItem", f"{kind}#x")
    assert row("RefreshFunction", "dynamodb:Query", "issuer#directory")
    assert not any(row("RefreshFunction", action, "issuer#directory") for action in WRITES)
    # That it asked an issuer is written by whoever meets a token.
    notes = [function for function in ROLES if row(function, "dynamodb:PutItem", "jwks-cooldown#x")]
    assert notes == ["AuthorizerFunction", "TokensFunction"]
    assert not any(row(function, "dynamodb:DeleteItem", "jwks-cooldown#x") for function in ROLES)


@pytest.mark.parametrize(
    "kind",
    ["access-key", "connection", "client-token", "user-key", "vault-key", "inbound-jwt", "principal", "workload", "oauth2-provider"],
)
def test_d16_the_authorizer_sees_no_row_of_the_vault(kind: str) -> None:
    assert not any(row("AuthorizerFunction", action, f"{kind}#x") for action in READS + WRITES)
    assert not row("AuthorizerFunction", "dynamodb:BatchGetItem", "denial#a", f"{kind}#x")


def actions_of_the_authorizer(decided: Decided) -> set[str]:
    policy = statements(decided, role_of(decided, "AuthorizerFunction"))
    return {action for statement in policy for action in as_list(statement["Action"])}


def test_d16_the_authorizer_has_no_key_secret_queue_or_bus() -> None:
    without = Decided(load())
    assert {action.split(":")[0] for action in actions_of_the_authorizer(without)} == {"dynamodb", "logs"}
    assert "AuthorizerKey" not in without.of_type("AWS::KMS::Key")
    for decided in (without, DECIDED):
        environment = decided.resources["AuthorizerFunction"]["Properties"]["Environment"]["Variables"]
        assert not {"AGENT_IDENTITY_KMS_KEY_ID", "AGENT_IDENTITY_SECRET_PREFIX"} & set(environment)


MINT = {
    "kms:EncryptionContext:purpose": "authorizer-mint",
    "kms:EncryptionContext:workload": "w",
    "kms:EncryptionContext:key": "k",
    "kms:EncryptionContextKeys": ["purpose", "workload", "key"],
}
ASK = MINT | {"kms:EncryptionContext:purpose": "authorizer-introspection"}


def test_d16_an_authorizer_with_keys_unwraps_them_and_nothing_else() -> None:
    more = actions_of_the_authorizer(DECIDED) - actions_of_the_authorizer(Decided(load()))
    assert more == {"kms:Decrypt"}
    expected = {
        "AuthorizerFunction": {"kms:Decrypt"},
        "CredentialsFunction": {"kms:Encrypt"},
        "TokensFunction": {"kms:Decrypt"},
        "GatewayFunction": {"kms:Decrypt"},
    }
    for function, policy in ROLES.items():
        for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant"):
            may = action in expected.get(function, set())
            assert allows(policy, action, "AuthorizerKey.Arn", MINT) == may, (function, action)
            assert allows(policy, action, "AuthorizerKey.Arn", ASK) == may, (function, action)
            assert not allows(policy, action, "AuthorizerKey.Arn"), (function, action)
            other = MINT | {"kms:EncryptionContext:purpose": "vault"}
            assert not allows(policy, action, "AuthorizerKey.Arn", other), (function, action)
    assert not allows(ROLES["AuthorizerFunction"], "kms:Decrypt", "VaultKey.Arn", CONTEXT)


@pytest.mark.parametrize(
    ("parameter", "may", "may_not"), [("AuthorizerMintsWat", MINT, ASK), ("AuthorizerIntrospects", ASK, MINT)]
)  # fmt: skip
def test_d16_keys_are_for_what_the_deployment_says(parameter: str, may: Any, may_not: Any) -> None:
    decided = Decided(load(), **{parameter: "true"})
    for function, action in (
        ("AuthorizerFunction", "kms:Decrypt"), ("CredentialsFunction", "kms:Encrypt"), ("TokensFunction", "kms:Decrypt"),
    ):  # fmt: skip
        policy = statements(decided, role_of(decided, function))
        assert allows(policy, action, "AuthorizerKey.Arn", may), function
        assert not allows(policy, action, "AuthorizerKey.Arn", may_not), function
    purposes = decided.resources["CredentialsFunction"]["Properties"]["Environment"]["Variables"]["AGENT_IDENTITY_AUTHORIZER_KEY_PURPOSES"]
    assert purposes == may["kms:EncryptionContext:purpose"]


def test_d16_the_root_key_of_authorizers_wraps_only_under_the_whole_context() -> None:
    policy = DECIDED.resources["AuthorizerKey"]["Properties"]["KeyPolicy"]["Statement"]
    for action in ("kms:Decrypt", "kms:Encrypt"):
        assert allows(policy, action, "*", MINT) and allows(policy, action, "*", ASK)
        assert not allows(policy, action, "*", CONTEXT)
        for name in ("purpose", "workload", "key"):
            left = {key: value for key, value in MINT.items() if key != f"kms:EncryptionContext:{name}"}
            assert not allows(policy, action, "*", left), name
        assert not allows(policy, action, "*", MINT | {"kms:EncryptionContextKeys": [*MINT["kms:EncryptionContextKeys"], "x"]})
    for action in ("kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:CreateGrant"):
        assert not allows(policy, action, "*", MINT)


@pytest.mark.parametrize("function", ROLES)
def test_d16_no_request_without_a_key_passes(function: str) -> None:
    assert not row(function, "dynamodb:Scan")
    assert not any(row(function, action) for action in READS + WRITES)
    assert not row(function, "dynamodb:Query", resource="${Table.Arn}/index/due")


def test_the_control_plane_does_not_read_users_tokens() -> None:
    for kind in ("connection", "client-token", "user-key", "inbound-jwt", "consent-session"):
        assert not any(row("CredentialsFunction", action, f"{kind}#x") for action in READS)


def test_the_data_plane_and_refresh_do_not_write_who_may_do_what() -> None:
    for function in ("TokensFunction", "GatewayFunction", "RefreshFunction"):
        for kind in ("access-key", "principal", "workload", "oauth2-provider", "api-key-provider", "authorizer", "tool", "tool-name"):
            assert not any(row(function, action, f"{kind}#x") for action in WRITES)
    # Who is offboarded is blocked by the function that deletes their connections (docs/adr/0030).
    writes = [(function, action) for function in ROLES for action in WRITES if row(function, action, "denial#x")]
    assert writes == [("CredentialsFunction", "dynamodb:PutItem"), ("TokensFunction", "dynamodb:PutItem")]


def test_each_plane_deletes_what_it_keeps_and_nothing_else() -> None:
    ends = {"connection", "connection-entry", "revocation"}
    kinds = [line.split('"')[1] for line in CORE.read_text().splitlines() if re.search(r"Self::\w+ => \"", line)]
    for function in ROLES:
        deletes = {kind for kind in kinds if row(function, "dynamodb:DeleteItem", f"{kind}#x")}
        if function == "CredentialsFunction":
            assert {"workload", "authorizer"} <= deletes and not deletes & {"denial", "user-key", "vault-key", *ends}
        else:
            assert deletes == (ends if function in ("TokensFunction", "RefreshFunction") else set()), function


def test_who_calls_tools_neither_changes_them_nor_ends_a_connection() -> None:
    for kind in ("tool", "tool-name", "user-key", "denial", "connection-entry"):
        assert not any(row("GatewayFunction", action, f"{kind}#x") for action in WRITES), kind
    assert not row("GatewayFunction", "dynamodb:DeleteItem", "connection#x")
    assert [function for function in ROLES if row(function, "dynamodb:PutItem", "tool#x")] == ["CredentialsFunction"]


def test_a_consent_may_check_its_workload_and_not_write_it() -> None:
    assert row("TokensFunction", "dynamodb:ConditionCheckItem", "workload#x")
    assert not any(row("TokensFunction", action, "workload#x") for action in WRITES)


def test_d18_the_audit_trail_grows_and_only_refresh_signs_it() -> None:
    append = ["CredentialsFunction", "TokensFunction", "GatewayFunction", "RefreshFunction"]
    assert [function for function in ROLES if row(function, "dynamodb:PutItem", "audit#7#a")] == append
    for function, policy in ROLES.items():
        assert not row(function, "dynamodb:DeleteItem", "audit#7#a") and not row(function, "dynamodb:Query", "audit#7#a")
        signs = function == "RefreshFunction"
        assert allows(policy, "kms:Sign", "AuditKey.Arn") == signs
        assert row(function, "dynamodb:PutItem", "audit-head#7") == signs
    policy = DECIDED.resources["AuditKey"]["Properties"]["KeyPolicy"]["Statement"]
    assert allows(policy, "kms:Sign", "*") and not allows(policy, "kms:CreateGrant", "*")
    assert DECIDED.resources["AuditKey"]["Properties"].get("Tags") is None, "a tag would let others sign (D2)"


def test_only_refresh_looks_for_what_is_due() -> None:
    for function in ROLES:
        due = row(function, "dynamodb:Query", "due#3", resource="${Table.Arn}/index/due")
        assert due == (function == "RefreshFunction")
        assert not row(function, "dynamodb:Query", "connection#3", resource="${Table.Arn}/index/due")


@pytest.mark.parametrize("function", ROLES)
def test_d2_secrets_and_keys_of_others_only_with_the_tag(function: str) -> None:
    policy = ROLES[function]
    # Who uses them; naming one in a provider looks at nothing.
    may_use = function in ("TokensFunction", "GatewayFunction", "RefreshFunction")
    assert allows(policy, "secretsmanager:GetSecretValue", EXTERNAL_SECRET, TAG) == may_use
    assert allows(policy, "kms:Sign", EXTERNAL_KEY, TAG) == may_use
    assert not allows(policy, "secretsmanager:GetSecretValue", EXTERNAL_SECRET)
    assert not allows(policy, "secretsmanager:PutSecretValue", EXTERNAL_SECRET, TAG)
    assert not allows(policy, "kms:Sign", EXTERNAL_KEY)
    assert not allows(policy, "kms:Decrypt", EXTERNAL_KEY, TAG)


CONTEXT = {
    "kms:EncryptionContext:vault": "default",
    "kms:EncryptionContext:version": "1",
    "kms:EncryptionContext:purpose": "connection",
    "kms:EncryptionContextKeys": ["vault", "version", "purpose"],
}


def without(name: str) -> dict[str, str | list[str]]:
    left = {key: value for key, value in CONTEXT.items() if key != f"kms:EncryptionContext:{name}"}
    return left | {"kms:EncryptionContextKeys": [key for key in CONTEXT["kms:EncryptionContextKeys"] if key != name]}


@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:Encrypt"])
def test_the_key_wraps_only_under_the_whole_context(action: str) -> None:
    assert allows(KEY_POLICY, action, "*", CONTEXT)
    assert not allows(KEY_POLICY, action, "*")
    for name in ("vault", "version", "purpose"):
        assert not allows(KEY_POLICY, action, "*", without(name))
    assert not allows(KEY_POLICY, action, "*", CONTEXT | {"kms:EncryptionContext:vault": "other"})
    more = {"kms:EncryptionContextKeys": ["vault", "version", "purpose", "other"]}
    assert not allows(KEY_POLICY, action, "*", CONTEXT | more)


def via(service: str) -> dict[str, str | list[str]]:
    return {"kms:ViaService": f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}"}


def test_the_key_encrypts_secrets_through_secrets_manager_alone() -> None:
    for policy, resource in ((KEY_POLICY, "*"), (ROLES["CredentialsFunction"], "VaultKey.Arn")):
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            assert allows(policy, action, resource, via("secretsmanager"))
            assert not allows(policy, action, resource, via("ssm"))
        assert not allows(policy, "kms:CreateGrant", resource, via("secretsmanager"))
    for function in ("TokensFunction", "GatewayFunction", "RefreshFunction"):
        assert allows(ROLES[function], "kms:Decrypt", "VaultKey.Arn", via("secretsmanager"))
        assert not allows(ROLES[function], "kms:GenerateDataKey", "VaultKey.Arn", via("secretsmanager"))


@pytest.mark.parametrize("action", ["kms:ReEncryptFrom", "kms:GenerateDataKey", "kms:CreateGrant", "kms:Sign"])
def test_the_key_does_nothing_else_for_anybody_but_dynamodb(action: str) -> None:
    assert not allows(KEY_POLICY, action, "*", CONTEXT)
    foreign = {"kms:CallerAccount": "999999999999"} | via("dynamodb")
    assert not allows(KEY_POLICY, action, "*", foreign)


@pytest.mark.parametrize("function", ROLES)
def test_roles_use_the_key_for_our_vault_alone(function: str) -> None:
    expected = {
        "CredentialsFunction": {"kms:Decrypt", "kms:Encrypt"},
        "TokensFunction": {"kms:Decrypt", "kms:Encrypt"},
        "GatewayFunction": {"kms:Decrypt", "kms:Encrypt"},
        "RefreshFunction": {"kms:Decrypt"},
    }.get(function, set())
    for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:PutKeyPolicy"):
        assert allows(ROLES[function], action, "VaultKey.Arn", CONTEXT) == (action in expected)
        assert not allows(ROLES[function], action, "VaultKey.Arn")


def test_only_refresh_uses_the_queue() -> None:
    for function, policy in ROLES.items():
        for action in ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"):
            assert allows(policy, action, "RefreshQueue.Arn") == (function == "RefreshFunction")


@pytest.mark.parametrize("function", ROLES)
def test_each_writes_its_own_log(function: str) -> None:
    for other in ("Authorizer", "Credentials", "Tokens", "Gateway", "Refresh", "Sample"):
        own = function == f"{other}Function"
        assert allows(ROLES[function], "logs:PutLogEvents", f"{other}Logs.Arn") == own
        assert not allows(ROLES[function], "logs:CreateLogGroup", f"{other}Logs.Arn")


def test_kinds_are_those_of_core() -> None:
    known = set(re.findall(r'Self::\w+ => "([a-z0-9-]+)"', CORE.read_text())) | {"due"}
    named = {
        pattern.removesuffix("#*")
        for policy in ROLES.values()
        for statement in policy
        for pattern in statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [])
    }
    assert named <= known, "a kind that no row has"
    assert known <= named, "a kind that nobody may touch"
