"""The calls that the functions make to AWS, written down on their way to the emulators; what IAM is asked for each; and the page
that lists them, `docs/aws-calls.md`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from bench.aws_calls import SERVICES, CountingProxy

# How infra.iam writes resources: as the template does.
TABLE, DUE_INDEX, VAULT_KEY, AUTHORIZER_KEY = "Table.Arn", "${Table.Arn}/index/due", "VaultKey.Arn", "AuthorizerKey.Arn"
SECRET = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:"
OWN_SECRET, EXTERNAL_SECRET = f"{SECRET}${{SecretPrefix}}name-AbCdEf", f"{SECRET}billing/stripe-AbCdEf"
EXTERNAL_KEY = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/1234"
VIA_SECRETS_MANAGER = {"kms:ViaService": "secretsmanager.${AWS::Region}.${AWS::URLSuffix}"}
TAGGED = {"aws:ResourceTag/agent-identity:provider": "stripe"}

# What Secrets Manager asks of the key on behalf of its caller (Secrets Manager User Guide, "Secret encryption and decryption").
KEY_USE = {
    "CreateSecret": ["kms:GenerateDataKey", "kms:Decrypt"],
    "PutSecretValue": ["kms:GenerateDataKey", "kms:Decrypt"],
    "GetSecretValue": ["kms:Decrypt"],
}
# Where IAM's name of an operation is another.
ACTIONS = {"SendMessageBatch": "sqs:SendMessage", "ConditionCheck": "dynamodb:ConditionCheckItem"}
ACTIONS |= {"Put": "dynamodb:PutItem", "Delete": "dynamodb:DeleteItem"}
CONDITIONS = {
    "attribute_not_exists(pk) OR #exp <= :now": "there is none",
    "#v = :version AND (attribute_not_exists(#exp) OR #exp > :now)": "version as read",
}
NONE = "–"


@dataclass(frozen=True, order=True)
class Request:
    """What IAM is asked: may this function do this to that."""

    action: str
    resource: str
    # Pairs, so that it can be a key; more than one value for keys that IAM calls multivalued.
    context: tuple[tuple[str, str | tuple[str, ...]], ...] = ()

    def asked(self) -> dict[str, str | list[str]]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.context}

    def each_kind(self) -> Iterator[Request]:
        """For rows of several kinds, the same for each."""
        context = dict(self.context)
        for kind in context.get("dynamodb:LeadingKeys", [None]):
            more = {} if kind is None else {"dynamodb:LeadingKeys": (kind,)}
            yield Request(self.action, self.resource, tuple(sorted((context | more).items())))


@dataclass(frozen=True, order=True)
class Call:
    """A kind of call: what is the same each time."""

    function: str
    service: str
    operation: str
    # Kinds of rows, or what else it is about.
    on: tuple[str, ...]
    condition: str = NONE
    consistency: str = NONE
    requests: tuple[Request, ...] = ()

    @property
    def is_in_transaction(self) -> bool:
        return self.operation.startswith("TransactWriteItems")


def request(action: str, resource: str, **context: Any) -> Request:
    return Request(action, resource, tuple(sorted(context.items())))


def wrapping(operation: str, root: str, asked: dict[str, Any], /, **shown: str) -> Request:
    """A use of a root key under an encryption context of exactly these members."""
    assert set(asked["EncryptionContext"]) == set(shown), asked["EncryptionContext"]
    context = {f"kms:EncryptionContext:{name}": value for name, value in shown.items()}
    return request(f"kms:{operation}", root, **context, **{"kms:EncryptionContextKeys": tuple(sorted(shown))})


class RecordingProxy(CountingProxy):
    """Stands before the emulators for one function."""

    def __init__(self, function: str, environment: dict[str, str]):
        self.function = function
        self.calls: set[Call] = set()
        self._prefix = environment["AGENT_IDENTITY_SECRET_PREFIX"]
        self._vault_key = environment["AGENT_IDENTITY_KMS_KEY_ID"]
        self._authorizer_key = environment["AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID"]
        self._audit_key = environment["AGENT_IDENTITY_AUDIT_KMS_KEY_ID"]
        super().__init__(environment)

    def _note(self, target: str, body: bytes, status: int, answer: bytes) -> None:
        prefix, _, operation = target.partition(".")
        assert prefix in SERVICES, f"a call that nobody knows: {target!r}"
        calls = getattr(self, f"_{SERVICES[prefix]}")(operation, json.loads(body or b"{}"))
        with self._lock:
            self.calls.update(calls)

    # ------------------------------------------------------------------------------------------------------- by service

    def _dynamodb(self, operation: str, asked: dict[str, Any]) -> Iterator[Call]:
        match operation:
            case "GetItem":
                yield self._rows(operation, [asked["Key"]], consistent=asked.get("ConsistentRead", False))
            case "BatchGetItem":
                [wanted] = asked["RequestItems"].values()
                yield self._rows(operation, wanted["Keys"], consistent=wanted.get("ConsistentRead", False))
            case "Query":
                values = asked["ExpressionAttributeValues"]
                leading = values.get(":partition") or values[":shard"]
                index = asked.get("IndexName")
                assert index in (None, "due")
                consistent = asked.get("ConsistentRead", False)
                yield self._rows(operation, [{"pk": leading}], DUE_INDEX if index else TABLE, consistent=consistent)
            case "PutItem":
                yield self._rows(operation, [asked["Item"]], condition=asked["ConditionExpression"])
            case "DeleteItem":
                yield self._rows(operation, [asked["Key"]], condition=asked["ConditionExpression"])
            case "TransactWriteItems":
                for item in asked["TransactItems"]:
                    [(part, what)] = item.items()
                    key = what.get("Item") or what["Key"]
                    yield self._rows(f"{operation}, {part}", [key], condition=what["ConditionExpression"])
            case _:
                raise ValueError(f"dynamodb:{operation} is not known here")

    def _rows(
        self, operation: str, keys: list[dict[str, Any]], resource: str = TABLE,
        condition: str | None = None, consistent: bool | None = None,
    ) -> Call:  # fmt: skip
        kinds = tuple(sorted({key["pk"]["S"].partition("#")[0] for key in keys}))
        part = operation.rpartition(", ")[2]
        action = ACTIONS.get(part, f"dynamodb:{part}")
        context = {"dynamodb:LeadingKeys": tuple(f"{kind}#x" for kind in kinds)}
        return Call(
            self.function, "DynamoDB", operation, ("index `due`",) if resource == DUE_INDEX else kinds,
            NONE if condition is None else CONDITIONS[condition],
            NONE if consistent is None else "consistent" if consistent else "eventual",
            (request(action, resource, **context),),
        )  # fmt: skip

    def _kms(self, operation: str, asked: dict[str, Any]) -> Iterator[Call]:
        # One call of a kind, whatever the version or whoever's key it is.
        if asked["KeyId"] == self._vault_key:
            on, condition = "the CMK", "context vault, version, purpose"
            vault = asked["EncryptionContext"]["vault"]
            asked_of_iam = wrapping(operation, VAULT_KEY, asked, vault=vault, version="1", purpose="vault")
        elif asked["KeyId"] == self._authorizer_key:
            on, condition = "the root key of authorizers", "context purpose, workload, key"
            purpose = asked["EncryptionContext"]["purpose"]
            asked_of_iam = wrapping(operation, AUTHORIZER_KEY, asked, workload="w", key="k", purpose=purpose)
        elif asked["KeyId"] == self._audit_key:
            on, condition, asked_of_iam = "the key of the audit trail", NONE, request(f"kms:{operation}", "AuditKey.Arn")
        else:
            on, condition = "a key of its owner's", "tag agent-identity:provider"
            asked_of_iam = request(f"kms:{operation}", EXTERNAL_KEY, **TAGGED)
        yield Call(self.function, "KMS", operation, (on,), condition, NONE, (asked_of_iam,))

    def _secretsmanager(self, operation: str, asked: dict[str, Any]) -> Iterator[Call]:
        name = (asked.get("SecretId") or asked["Name"]).rpartition(":secret:")[2]
        if name.startswith(self._prefix):
            requests = [request(f"secretsmanager:{operation}", OWN_SECRET)]
            requests += [request(action, VAULT_KEY, **VIA_SECRETS_MANAGER) for action in KEY_USE.get(operation, [])]
            if asked.get("Tags"):
                requests.append(request("secretsmanager:TagResource", OWN_SECRET))
            if operation == "CreateSecret":
                assert asked["KmsKeyId"] == self._vault_key
            on, condition = "a secret of ours", NONE
        else:
            requests = [request(f"secretsmanager:{operation}", EXTERNAL_SECRET, **TAGGED)]
            on, condition = "a secret of its owner's", "tag agent-identity:provider"
        yield Call(self.function, "Secrets Manager", operation, (on,), condition, NONE, tuple(requests))

    def _sqs(self, operation: str, asked: dict[str, Any]) -> Iterator[Call]:
        assert asked["QueueUrl"] == self.environment["AGENT_IDENTITY_QUEUE_URL"]
        action = ACTIONS.get(operation, f"sqs:{operation}")
        yield Call(self.function, "SQS", operation, ("the refresh queue",), requests=(request(action, "RefreshQueue.Arn"),))

    def _events(self, operation: str, asked: dict[str, Any]) -> Iterator[Call]:
        assert {entry["EventBusName"] for entry in asked["Entries"]} == {self.environment["AGENT_IDENTITY_EVENT_BUS"]}
        asked_of_iam = request(f"events:{operation}", "EventBus.Arn")
        yield Call(self.function, "EventBridge", operation, ("the bus",), requests=(asked_of_iam,))


def after_lost_answers(calls: Iterable[Call]) -> set[Call]:
    """Who writes a row may have to read it: that is how a write is found again whose answer was lost
    (`shared/aws/src/store/write.rs`). No run can be relied on to lose one."""
    read_again = set()
    for call in calls:
        if call.operation in ("PutItem", "TransactWriteItems, Put"):
            context = dict(call.requests[0].context)
            again = (request("dynamodb:GetItem", TABLE, **context),)
            read_again.add(Call(call.function, "DynamoDB", "GetItem", call.on, NONE, "consistent", again))
    return read_again


# ----------------------------------------------------------------------------------------------------------------- the page

HEAD = """\
# Calls to AWS

Generated from a recorded run; do not edit. `tests/aws/test_aws_calls.py` makes the run (the whole main path, refusals, refresh by
schedule and by readers, deletes) on emulators, compares it with this page, and holds the role of each function in
`infra/template.yaml` against it in both directions: every call is allowed, and nothing is allowed that is never called. To write it
anew: `WRITE_AWS_CALLS=1 bash tests/run aws`.

- **on**: kinds of rows, which partition keys begin with and roles are held to (`dynamodb:LeadingKeys`, D16), or what else.
- **condition**: what must hold for a write to happen; every write has one. For KMS the encryption context, for secrets and keys of
  others the tag by which their owner lets a provider use them (D2).
- **consistency**: a decision that must not be missed reads consistently. Consistent reads of rows that the function writes are also how
  it finds out what became of a write whose answer was lost.
- **permission**: what the caller's role must allow. A write of several rows at once needs that of each.
"""

TITLES = {
    "authorizer": "The authorizer function",
    "credentials": "The credentials function",
    "tokens": "The tokens function",
    "gateway": "The gateway function",
    "refresh": "The refresh function",
    "command line": "The command line, with `--store dynamodb`",
}
AFTERWORDS = {
    "refresh": "Lambda's poller, with the same role: `sqs:ReceiveMessage`, `sqs:DeleteMessage`, `sqs:GetQueueAttributes` on the "
    "refresh queue.",
    "command line": "`access-keys` and `principals`, with the credentials of whoever runs them. These are in no role of the template.",
}


def page(calls: Iterable[Call]) -> str:
    """The text of `docs/aws-calls.md`."""
    by_row: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for call in calls:
        permissions = dict.fromkeys(asked.action for asked in call.requests)
        row = call.function, call.service, call.operation, call.condition, call.consistency, ", ".join(
            f"`{name}`" for name in permissions
        )  # fmt: skip
        by_row[row].update(call.on)
    parts = [HEAD]
    for function, title in TITLES.items():
        parts.append(f"\n## {title}\n\n| call | on | condition | consistency | permission |\n|---|---|---|---|---|\n")
        for row in sorted(row for row in by_row if row[0] == function):
            _, service, operation, condition, consistency, permissions = row
            kinds = sorted(by_row[row])
            on = ", ".join(f"`{kind}`" if service == "DynamoDB" and " " not in kind else kind for kind in kinds)
            parts.append(f"| {service} {operation} | {on} | {condition} | {consistency} | {permissions} |\n")
        if function in AFTERWORDS:
            parts.append(f"\n{AFTERWORDS[function]}\n")
    return "".join(parts)


# --------------------------------------------------------------------------------------------------------------- the policy


def grants(policy: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    """What a policy allows, piece by piece: action, resource, kind of rows, and a policy of that piece alone."""
    from infra.cloudformation import as_list
    from infra.iam import name_of

    for statement in policy:
        kinds = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [""])
        for action, resource, kind in product(as_list(statement["Action"]), as_list(statement["Resource"]), as_list(kinds)):
            piece = json.loads(json.dumps(statement)) | {"Action": action, "Resource": resource}
            if kind:
                piece["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] = [kind]
            yield action, name_of(resource), kind.removesuffix("#*"), [piece]
