"""The AWS CLI, unmodified, with nothing but the environment that `agent-identity env` prints."""

import json
import shutil
import subprocess

import pytest

from harness.places import VENV, plain_environment
from harness.product import log_file


REFUSED = 255
"""Exit code of the CLI, version 1, when the service answers an error."""


@pytest.fixture
def aws(server, tmp_path):
    environment = plain_environment(**server.env(), AWS_PAGER="", HOME=str(tmp_path), AWS_MAX_ATTEMPTS="1")

    def run(*arguments, expect=0):
        done = subprocess.run(
            [VENV / "bin" / "aws", "bedrock-agentcore-control", *arguments, "--output", "json"],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60,
        )  # fmt: skip
        log_file("aws-cli").write_text(done.stderr)
        assert done.returncode == expect, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else done.stderr

    return run


def test_the_cli_creates_gets_lists_and_deletes_a_workload_identity(aws, fresh):
    name = fresh("cli-agent")
    # As JSON: the CLI would fetch a parameter that is a plain URL.
    urls = '["https://a.example/r"]'
    made = aws("create-workload-identity", "--name", name, "--allowed-resource-oauth2-return-urls", urls)
    got = aws("get-workload-identity", "--name", name)
    assert got["workloadIdentityArn"] == made["workloadIdentityArn"]
    assert got["allowedResourceOauth2ReturnUrls"] == ["https://a.example/r"]
    assert name in [item["name"] for item in aws("list-workload-identities")["workloadIdentities"]]
    assert aws("delete-workload-identity", "--name", name) == ""
    assert "ResourceNotFoundException" in aws("get-workload-identity", "--name", name, expect=REFUSED)


def test_the_cli_pages_by_itself(aws, fresh):
    names = {fresh("cli-paged") for _ in range(3)}
    for name in names:
        aws("create-workload-identity", "--name", name)
    listed = aws("list-workload-identities", "--page-size", "1")["workloadIdentities"]
    assert names <= {item["name"] for item in listed}


def test_the_cli_shows_what_is_wrong_with_a_name(aws):
    said = aws("create-workload-identity", "--name", "has a space", expect=REFUSED)
    assert "ValidationException" in said and "name" in said


def test_there_is_a_cli_to_test():
    assert shutil.which("aws", path=str(VENV / "bin"))
