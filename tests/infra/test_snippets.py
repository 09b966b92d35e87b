"""Pieces of a template that docs/operations.md shows, as part of one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from infra.cloudformation import load

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
API = """
  YourApi:
    Type: AWS::ApiGateway::RestApi
    Properties:
      Name: yours
"""


def test_the_gateway_responses_of_a_rest_api_carry_a_challenge(tmp_path: Path) -> None:
    """RFC 6750 §3, RFC 9728 §5.1. A header's value is a text for API Gateway in single quotes; without them it is a mapping."""
    [snippet] = re.findall(r"```yaml\n(  Unauthorized:\n.*?)```", PAGE, re.DOTALL)
    template = tmp_path / "template.yaml"
    template.write_text(f'AWSTemplateFormatVersion: "2010-09-09"\nResources:{API}{snippet}')
    linted = subprocess.run([Path(sys.executable).parent / "cfn-lint", template], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    responses = {name: resource["Properties"] for name, resource in load(template)["Resources"].items() if name != "YourApi"}
    challenges = {
        properties["StatusCode"]: properties["ResponseParameters"]["gatewayresponse.header.WWW-Authenticate"]
        for properties in responses.values()
    }
    assert set(challenges) == {"401", "403"}
    assert all(re.fullmatch(r"'Bearer [a-z_]+=\"[^\"']+\"'", challenge) for challenge in challenges.values()), challenges
    assert {properties["ResponseType"] for properties in responses.values()} == {"UNAUTHORIZED", "ACCESS_DENIED"}


def test_every_snippet_of_yaml_is_yaml() -> None:
    snippets = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert snippets
    for snippet in snippets:
        yaml.compose(snippet)
