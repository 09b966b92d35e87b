"""Bad input derived from the service model: for each member of a valid request, each way to break its limits.

A violation is (what it is, the changed request, the member that the answer has to name).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.model import Shape

from . import model

ABSENT = object()
WRONG_TYPES: dict[str, list[Any]] = {
    "string": [42, True, ["x"], {"x": "y"}],
    "integer": ["1", [1], {"x": 1}, 1.5],
    "boolean": ["true", 1, [True]],
    "list": ["x", 1, {"x": "y"}],
    "map": ["x", 1, ["x"]],
    "structure": ["x", 1, ["x"]],
}
# The first one of these that fits the length and not the pattern is used.
CANDIDATES = ["a b", "é☃", "\n", "{}", "|", "not a url", "..", " "]


@dataclass(frozen=True)
class Violation:
    what: str
    request: Any
    member: str


def _replaced(request: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(request)
    target: Any = changed
    for step in path[:-1]:
        target = target[step]
    if value is ABSENT:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return changed


def _named(path: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in path)


def _unfit(pattern: str, shortest: int, longest: int) -> str | None:
    for candidate in CANDIDATES:
        text = candidate * max(1, -(-shortest // len(candidate)))
        if shortest <= len(text) <= longest and not re.fullmatch(pattern, text):
            return text
    return None


def _of_string(shape: Shape, value: str) -> Iterator[tuple[str, Any]]:
    limits = shape.metadata
    shortest, longest = limits.get("min", 0), limits.get("max")
    if shape.enum:
        yield "an unknown choice", "NO_SUCH_CHOICE"
        yield "a choice in the wrong case", value.swapcase()
        return
    if longest is not None:
        # What `@name@` stands for may be shorter than its placeholder.
        short = len(value) if "@" not in value else 0
        yield "too long", value + "x" * (longest + 1 - short)
    if shortest > 0:
        yield "empty", ""
    if shortest > 1:
        yield "too short", value[: shortest - 1]
    pattern = limits.get("pattern")
    if pattern:
        unfit = _unfit(pattern, shortest, longest or 100)
        if unfit is not None:
            yield f"against the pattern: {unfit!r}", unfit
        if not re.fullmatch(pattern, "a\0b"):
            yield "with a NUL character", value[:-1] + "\0"


def _of_list(shape: Shape, value: list[Any]) -> Iterator[tuple[str, Any]]:
    limits = shape.metadata
    if limits.get("min", 0) > 0:
        yield "empty", []
    if limits.get("max") is not None and value:
        yield "too many", (value * (limits["max"] + 1))[: limits["max"] + 1]
    yield "with a null in it", [None]


def _of_map(shape: Shape, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    limits = shape.metadata
    key_limits, value_limits = shape.key.metadata, shape.value.metadata
    some = next(iter(value.values()), "value")
    if limits.get("max") is not None:
        yield "too many", {f"key{number}": some for number in range(limits["max"] + 1)}
    if key_limits.get("min", 0) > 0:
        yield "with an empty key", {"": some}
    if key_limits.get("max") is not None:
        yield "with a long key", {"k" * (key_limits["max"] + 1): some}
    if key_limits.get("pattern") and (unfit := _unfit(key_limits["pattern"], 1, 10)):
        yield "with a key against its pattern", {unfit: some}
    if value_limits.get("max") is not None:
        yield "with a long value", {"key": "v" * (value_limits["max"] + 1)}
    if value_limits.get("pattern") and (unfit := _unfit(value_limits["pattern"], 1, 10)):
        yield "with a value against its pattern", {"key": unfit}
    yield "with a number as value", {"key": 7}


def _of_value(shape: Shape, value: Any) -> Iterator[tuple[str, Any]]:
    if shape.type_name == "string":
        yield from _of_string(shape, value)
    elif shape.type_name == "list":
        yield from _of_list(shape, value)
    elif shape.type_name == "map":
        yield from _of_map(shape, value)
    elif shape.type_name == "integer":
        if "max" in shape.metadata:
            yield "too large", shape.metadata["max"] + 1
            yield "far too large", 2**70
        if "min" in shape.metadata:
            yield "too small", shape.metadata["min"] - 1
    elif shape.type_name == "structure" and getattr(shape, "is_tagged_union", False):
        yield "with none of its members", {}
        present = next(iter(value))
        for name, other in shape.members.items():
            if name != present:
                yield f"with two members, {present} and {name}", value | {name: sample(other)}
                break


def sample(shape: Shape) -> Any:
    """A value that has the right type and fits the limits of most members."""
    if shape.type_name == "structure":
        if getattr(shape, "is_tagged_union", False):
            name, member = next(iter(shape.members.items()))
            return {name: sample(member)}
        return {name: sample(member) for name, member in shape.members.items() if name in shape.required_members}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "map":
        return {}
    if shape.type_name == "boolean":
        return True
    if shape.type_name in ("integer", "long"):
        return shape.metadata.get("min", 1)
    return shape.enum[0] if shape.enum else "x" * max(3, shape.metadata.get("min", 0))


def _walk(
    shape: Shape, request: dict[str, Any], path: tuple[Any, ...], value: Any, member: str
) -> Iterator[Violation]:
    where = _named(path)
    if getattr(shape, "is_document_type", False):
        return  # Any JSON is one.
    for wrong in WRONG_TYPES.get(shape.type_name, []):
        said = f"{where} is {type(wrong).__name__} {wrong!r} and no {shape.type_name}"
        yield Violation(said, _replaced(request, path, wrong), member)
    for what, wrong in _of_value(shape, value):
        yield Violation(f"{where} is {what}", _replaced(request, path, wrong), member)
    if shape.type_name == "structure":
        yield from _walk_members(shape, request, path, value)
    elif shape.type_name == "list":
        for index, item in enumerate(value[:1]):
            yield from _walk(shape.member, request, (*path, index), item, member)


def _walk_members(
    shape: Shape, request: dict[str, Any], path: tuple[Any, ...], value: dict[str, Any]
) -> Iterator[Violation]:
    for name in shape.required_members:
        there = (*path, name)
        yield Violation(f"{_named(there)} is missing", _replaced(request, there, ABSENT), name)
        yield Violation(f"{_named(there)} is null", _replaced(request, there, None), name)
    for name, member_value in value.items():
        yield from _walk(shape.members[name], request, (*path, name), member_value, name)


def violations(operation: str, request: dict[str, Any]) -> list[Violation]:
    """Every single way to break this valid request of the operation."""
    shape = model.operation(operation).input_shape
    return list(_walk_members(shape, request, (), request))
