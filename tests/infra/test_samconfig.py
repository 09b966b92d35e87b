"""samconfig.toml, as interfaces and `sam` need it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from infra.cloudformation import load

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = tomllib.loads((REPOSITORY / "samconfig.toml").read_text())
ENVIRONMENTS = ["default", "dev", "prod", "local"]


def parameters(environment: str, command: str) -> dict[str, str]:
    return CONFIG[environment].get(command, {}).get("parameters", {})


def overrides(environment: str, command: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in parameters(environment, command).get("parameter_overrides", "").split())


def test_there_are_these_environments_and_no_others() -> None:
    assert set(CONFIG) == {"version", *ENVIRONMENTS}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_template_is_named_for_build_and_validate_only(environment: str) -> None:
    for command in CONFIG[environment]:
        named = parameters(environment, command).get("template_file")
        assert named == ("infra/template.yaml" if command in ("build", "validate") else None), command
    assert {"build", "validate"} <= set(CONFIG[environment])


def test_local_is_for_this_machine_and_the_emulators() -> None:
    for command in ("build", "local_start_api", "local_invoke"):
        assert overrides("local", command)["Architecture"] == "x86_64"
    for command in ("local_start_api", "local_invoke"):
        assert overrides("local", command)["Auth"] == "AccessKeys"
    assert parameters("local", "local_start_api")["host"] == "127.0.0.1"
    assert "deploy" not in CONFIG["local"]


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_a_deployment_shows_its_changes_first_and_makes_no_named_role(environment: str) -> None:
    deploy = parameters(environment, "deploy")
    assert deploy["confirm_changeset"] is True
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert deploy["stack_name"]
    assert "Sample" not in overrides("prod", "deploy")


def test_the_default_is_dev() -> None:
    assert CONFIG["default"] == CONFIG["dev"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_overrides_are_parameters_of_the_template(environment: str) -> None:
    known = set(load()["Parameters"])
    for command in CONFIG[environment]:
        assert set(overrides(environment, command)) <= known
