"""A CloudFormation template as Python values, and with parameters and conditions decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).resolve().parents[2] / "infra" / "template.yaml"

Json = Any


class _Loader(yaml.SafeLoader):
    """Knows the short forms of CloudFormation's functions."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> Json:
    if isinstance(node, yaml.ScalarNode):
        value: Json = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


def load(path: Path = TEMPLATE) -> dict[str, Json]:
    """The template with every function in its long form."""
    return yaml.load(path.read_text(), _Loader)


NO_VALUE = {"Ref": "AWS::NoValue"}


class Decided:
    """The template as it is for some parameters: `Fn::If` and references to parameters are gone, and so are resources whose
    condition does not hold. Everything that only a deployment knows stays as it is."""

    def __init__(self, template: dict[str, Json], **parameters: str) -> None:
        self._conditions = template.get("Conditions", {})
        unknown = set(parameters) - set(template["Parameters"])
        assert not unknown, f"the template has no parameters {unknown}"
        self._parameters = {
            name: parameters.get(name, parameter.get("Default"))
            for name, parameter in template["Parameters"].items()
        }
        self.resources: dict[str, Json] = {
            name: self._decide(resource)
            for name, resource in template["Resources"].items()
            if "Condition" not in resource or self._holds({"Condition": resource["Condition"]})
        }

    def of_type(self, *types: str) -> dict[str, Json]:
        """Properties of the resources of these types, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] in types
        }

    def _holds(self, condition: Json) -> bool:
        [(name, argument)] = condition.items()
        match name:
            case "Condition":
                return self._holds(self._conditions[argument])
            case "Fn::Equals":
                left, right = (self._decide(item) for item in argument)
                return left == right
            case "Fn::Not":
                return not self._holds(argument[0])
            case "Fn::And":
                return all(self._holds(item) for item in argument)
            case "Fn::Or":
                return any(self._holds(item) for item in argument)
        raise ValueError(f"{name} is no condition")

    def _decide(self, value: Json) -> Json:
        if isinstance(value, list):
            return [decided for item in value if (decided := self._decide(item)) != NO_VALUE]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            return self._decide(yes if self._holds({"Condition": condition}) else no)
        if set(value) == {"Ref"} and value["Ref"] in self._parameters:
            return self._parameters[value["Ref"]]
        decided = {name: self._decide(item) for name, item in value.items()}
        return {name: item for name, item in decided.items() if item != NO_VALUE}


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]
