"""Which requests a policy of the template allows: the part of IAM's rules that it uses, and an error for any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from .cloudformation import Decided, as_list

Json = Any
# The values of a request's condition keys; more than one for those that IAM calls multivalued.
Context = Mapping[str, str | list[str]]


def role_of(template: Decided, function: str) -> str:
    """The logical id of a function's role."""
    role, attribute = template.resources[function]["Properties"]["Role"]["Fn::GetAtt"]
    assert attribute == "Arn"
    return role


def statements(template: Decided, role: str) -> list[Json]:
    """All that a role's policies say."""
    properties = template.resources[role]["Properties"]
    assert not properties.get("ManagedPolicyArns"), "policies are written out, so that they can be read here"
    return [
        statement
        for policy in properties["Policies"]
        for statement in as_list(policy["PolicyDocument"]["Statement"])
    ]


def name_of(resource: Json) -> str:
    """How a resource of a statement is written here: `Table.Arn`, or the text of a `Fn::Sub`."""
    if isinstance(resource, dict) and set(resource) == {"Fn::GetAtt"}:
        return ".".join(resource["Fn::GetAtt"])
    if isinstance(resource, dict) and set(resource) == {"Fn::Sub"}:
        return resource["Fn::Sub"]
    return resource if isinstance(resource, str) else json.dumps(resource)


def allows(policy: Iterable[Json], action: str, resource: str, context: Context | None = None) -> bool:
    """Whether some statement allows `action` on `resource`, which is written as by `name_of`."""
    policy = list(policy)
    assert all(statement["Effect"] == "Allow" for statement in policy), "a Deny would need more rules than are here"
    return any(
        any(fnmatchcase(action.lower(), pattern.lower()) for pattern in as_list(statement["Action"]))
        and any(_matches(name_of(pattern), resource) for pattern in as_list(statement["Resource"]))
        and _holds(statement.get("Condition", {}), context or {})
        for statement in policy
    )


def _matches(pattern: str, resource: str) -> bool:
    # `[` is no wildcard in IAM.
    return fnmatchcase(resource, pattern.replace("[", "[[]"))


def _holds(conditions: Json, context: Context) -> bool:
    return all(
        _one_holds(operator, key, [_text(value) for value in as_list(values)], context)
        for operator, pairs in conditions.items()
        for key, values in pairs.items()
    )


def _text(value: Json) -> str:
    return value if isinstance(value, str) else name_of(value)


def _one_holds(operator: str, key: str, values: list[str], context: Context) -> bool:
    found = [] if key not in context else as_list(context[key])
    if operator == "Null":
        return (key not in context) == (values == ["true"])
    match operator:
        case "StringEquals":
            return any(item in values for item in found)
        # These two hold of a request that has no such key at all.
        case "ForAllValues:StringEquals":
            return all(item in values for item in found)
        case "ForAllValues:StringLike":
            return all(any(_matches(value, item) for value in values) for item in found)
    raise ValueError(f"{operator} is not known here")
