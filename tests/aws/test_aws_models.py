"""D22: what unmodified clients put on the wire when they load what `aws-models install` writes, and what they leave alone."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.loaders import Loader

from harness import model, planted
from harness.places import BOOTSTRAPS, VENV, plain_environment
from harness.product import command, log_file
from harness.signing import Credentials, signature

BINARY = BOOTSTRAPS / "agent-identity"
FILES = {
    "bedrock-agentcore/2024-02-28/service-2.sdk-extras.json",
    "bedrock-agentcore-control/2023-06-05/service-2.sdk-extras.json",
}

# One process with clients of our services and of others.
BOTO3 = """
import os, sys, boto3
control, data = (boto3.client(name, endpoint_url=sys.argv[1]) for name in ("bedrock-agentcore-control", "bedrock-agentcore"))
control.list_workload_identities()
if "AWS_DATA_PATH" in os.environ:
    control.put_authorizer(agentId="an-agent", name="people", authorizerConfiguration={
        "customJWTAuthorizer": {"discoveryUrl": "https://idp.example/.well-known/openid-configuration"}})
data.get_workload_access_token(workloadName="an-agent")
boto3.client("dynamodb", endpoint_url=sys.argv[1]).list_tables()
boto3.client("s3", endpoint_url=sys.argv[1]).list_buckets()
"""


@dataclass(frozen=True)
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def scope(self):
        """(date, region, service) that it is signed for."""
        credential = self.headers["authorization"].split("Credential=")[1].split(",")[0].split("/")
        assert credential[4] == "aws4_request"
        return tuple(credential[1:4])

    def signature_with(self, secret):
        """What a verifier that has the secret computes from what came in."""
        names = self.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
        canonical = "\n".join([
            self.method, self.target, "", *(f"{name}:{self.headers[name]}" for name in names.split(";")), "", names,
            hashlib.sha256(self.body).hexdigest(),
        ])  # fmt: skip
        return signature(Credentials("", secret), self.scope, self.headers["x-amz-date"], canonical)


@pytest.fixture
def recorder():
    """An endpoint of every AWS service, which answers with nothing and remembers what it was sent."""
    seen = []

    class Recorder(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append(Seen(self.command, self.path, headers, body))
            answer = b'{"workloadAccessToken":"token"}' if "json" in headers.get("content-type", "") else b"<none/>"
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.seen, server.url = seen, f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def install(tmp_path):
    """`aws-models install`, with a home directory of its own."""

    def run(*arguments, **options):
        return command("aws-models", "install", *arguments, binary=BINARY, **{"HOME": str(tmp_path / "home")} | options)

    return run


@pytest.fixture
def shell(tmp_path):
    """A script as a user runs it: in a shell that has evaluated what the command printed, with AWS credentials."""
    secret = planted.new_secret("secret access key")

    def run(script, **variables):
        environment = plain_environment(
            HOME=str(tmp_path / "home"), AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY=secret,
            AWS_DEFAULT_REGION="eu-west-1", AWS_PAGER="", AWS_MAX_ATTEMPTS="1", AWS_EC2_METADATA_DISABLED="true",
        )  # fmt: skip
        environment["PATH"] = f"{VENV / 'bin'}:{BINARY.parent}:{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-euc", script], capture_output=True, text=True, timeout=120, env=environment | variables, cwd=tmp_path
        )  # fmt: skip
        log_file("shell").write_text(done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.secret = secret
    return run


def boto3_script(url, installed=True):
    load = 'eval "$(agent-identity aws-models install)"\n' if installed else ""
    return f"{load}{sys.executable} - '{url}' <<'PYTHON'\n{BOTO3}\nPYTHON"


def signed_for(recorder):
    return {f"{seen.method} {seen.target.partition('?')[0]}": seen.scope[2] for seen in recorder.seen}


def files_of(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("stage", ["", "/prod"])
def test_d22_boto3_signs_for_execute_api_and_other_services_as_ever(recorder, shell, stage):
    shell(boto3_script(recorder.url + stage))
    assert signed_for(recorder) == {
        f"POST {stage}/identities/ListWorkloadIdentities": "execute-api",
        f"POST {stage}/identities/PutAuthorizer": "execute-api",
        f"POST {stage}/identities/GetWorkloadAccessToken": "execute-api",
        f"POST {stage or '/'}": "dynamodb",
        f"GET {stage or '/'}": "s3",
    }
    for seen in recorder.seen:
        assert seen.scope[1] == "eu-west-1", "the region of the client"
        if "/identities/" in seen.target:
            assert f"Signature={seen.signature_with(shell.secret)}" in seen.headers["authorization"]


def test_without_the_models_boto3_signs_for_what_api_gateway_does_not_take(recorder, shell):
    shell(boto3_script(recorder.url, installed=False))
    scopes = signed_for(recorder)
    assert scopes["POST /identities/ListWorkloadIdentities"] == "bedrock-agentcore"
    assert scopes["POST /identities/GetWorkloadAccessToken"] == "bedrock-agentcore"


@pytest.mark.parametrize("stage", ["", "/prod"])
def test_d22_the_aws_cli_signs_for_execute_api_and_other_services_as_ever(recorder, shell, stage):
    shell(f"""
        eval "$(agent-identity aws-models install)"
        at="--endpoint-url {recorder.url}{stage}"
        aws $at bedrock-agentcore-control list-workload-identities
        aws $at bedrock-agentcore-control get-authorizer --agent-id an-agent --name people
        aws $at bedrock-agentcore get-workload-access-token --workload-name an-agent
        aws $at dynamodb list-tables
        aws $at s3api list-buckets
    """)
    assert signed_for(recorder) == {
        f"POST {stage}/identities/ListWorkloadIdentities": "execute-api",
        f"POST {stage}/identities/GetAuthorizer": "execute-api",
        f"POST {stage}/identities/GetWorkloadAccessToken": "execute-api",
        f"POST {stage or '/'}": "dynamodb",
        f"GET {stage or '/'}": "s3",
    }


def test_d22_the_bedrock_agentcore_sdk_signs_for_execute_api(recorder, shell):
    shell(f"""
        eval "$(agent-identity aws-models install)"
        export BEDROCK_AGENTCORE_CP_ENDPOINT={recorder.url} BEDROCK_AGENTCORE_DP_ENDPOINT={recorder.url}
        {sys.executable} -c 'from bedrock_agentcore.services.identity import IdentityClient
identity = IdentityClient("eu-west-1")
identity.create_workload_identity("an-agent")
identity.get_workload_access_token("an-agent")'
    """)
    assert signed_for(recorder) == {
        "POST /identities/CreateWorkloadIdentity": "execute-api",
        "POST /identities/GetWorkloadAccessToken": "execute-api",
    }


def test_d22_in_the_directory_that_clients_look_into_no_variable_is_needed(recorder, shell):
    shell(f"""
        agent-identity aws-models install --dir ~/.aws/models
        aws --endpoint-url {recorder.url} bedrock-agentcore-control list-authorizers --agent-id an-agent
        {boto3_script(recorder.url, installed=False)}
    """.replace("        ", ""))
    scopes = signed_for(recorder)
    assert scopes["POST /identities/ListAuthorizers"] == scopes["POST /identities/GetWorkloadAccessToken"] == "execute-api"


def test_what_is_installed_reaches_the_functions(functions, shell, fresh):
    credentials, name = functions.credentials(), fresh("agent")
    shell(f"""
        eval "$(agent-identity aws-models install)"
        aws bedrock-agentcore-control create-workload-identity --name {name}
        aws bedrock-agentcore-control put-authorizer --agent-id {name} --name people --authorizer-configuration \
            'customJWTAuthorizer={{discoveryUrl=https://idp.example/.well-known/openid-configuration,allowedAudience=agents}}'
        aws bedrock-agentcore-control list-authorizers --agent-id {name} --query 'authorizers[].name' --output text >said
        aws bedrock-agentcore get-workload-access-token --workload-name {name} >token
        [ "$(cat said)" = people ] && grep -q workloadAccessToken token
    """, AWS_ACCESS_KEY_ID=credentials.access_key_id, AWS_SECRET_ACCESS_KEY=credentials.secret_access_key,
        AWS_DEFAULT_REGION=credentials.region, AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL=functions.url,
        AWS_ENDPOINT_URL_BEDROCK_AGENTCORE=functions.url)  # fmt: skip


def test_the_output_extends_what_is_set_and_survives_any_shell(shell):
    said = shell("""
        export AWS_DATA_PATH="/with space/and ' quote:/other"
        eval "$(agent-identity aws-models install --dir "models ' of mine")"
        eval "$(agent-identity aws-models install --dir "models ' of mine")"
        echo "$AWS_DATA_PATH"
        pwd
    """).splitlines()
    assert said[0] == f"{said[1]}/models ' of mine:/with space/and ' quote:/other"


def test_path_says_where_they_are_when_they_are_there(install, tmp_path):
    directory = tmp_path / "models"
    refused = command("aws-models", "path", "--dir", str(directory), binary=BINARY, expect=1)
    assert "aws-models install" in refused.stderr and refused.stdout == ""
    install("--dir", str(directory))
    assert command("aws-models", "path", "--dir", str(directory), binary=BINARY).stdout == f"{directory}\n"
    changed = directory / min(FILES)
    changed.write_text(changed.read_text().replace("execute-api", "other"))
    command("aws-models", "path", "--dir", str(directory), binary=BINARY, expect=1)


def test_the_files_are_readable_by_all_and_are_all_there_is(install, tmp_path):
    before = os.umask(0o077)
    try:
        install("--dir", str(tmp_path / "models"))
        install("--dir", str(tmp_path / "models"))
    finally:
        os.umask(before)
    assert files_of(tmp_path) == {f"models/{name}" for name in FILES}
    for path in [tmp_path / "models", *(tmp_path / "models").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_d22_by_default_they_have_a_directory_of_their_own(install, tmp_path):
    said = install()
    home = tmp_path / "home"
    assert said.stdout == f"export AWS_DATA_PATH='{home}/.local/share/agent-identity-aws-models'\n"
    assert files_of(home) == {f".local/share/agent-identity-aws-models/{name}" for name in FILES}


def test_a_file_of_somebody_else_stays_and_nothing_is_written(install, tmp_path):
    directory = tmp_path / "models"
    theirs = directory / "bedrock-agentcore-control" / "2023-06-05" / "service-2.sdk-extras.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"version": 1.0, "merge": {}}')
    other = directory / "s3" / "2006-03-01" / "service-2.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    refused = install("--dir", str(directory), expect=1)
    assert str(theirs) in refused.stderr and refused.stdout == ""
    assert files_of(directory) == {str(path.relative_to(directory)) for path in (theirs, other)}
    assert json.loads(theirs.read_text()) == {"version": 1.0, "merge": {}}
    theirs.unlink()
    install("--dir", str(directory))
    assert files_of(directory) == FILES | {str(other.relative_to(directory))} and other.read_text() == "{}"


def test_a_link_to_elsewhere_is_not_followed(install, tmp_path):
    elsewhere, directory = tmp_path / "elsewhere", tmp_path / "models"
    elsewhere.mkdir()
    directory.mkdir()
    (directory / "bedrock-agentcore").symlink_to(elsewhere)
    refused = install("--dir", str(directory), expect=1)
    assert "bedrock-agentcore" in refused.stderr
    assert files_of(elsewhere) == set()


def test_a_directory_that_the_variable_cannot_name_is_refused(install, tmp_path):
    refused = install("--dir", str(tmp_path / "a:b"), expect=1)
    assert "AWS_DATA_PATH" in refused.stderr
    assert not (tmp_path / "a:b").exists()


def test_the_versions_are_those_that_the_installed_clients_load():
    loader = Loader()
    newest = {f"{name}/{loader.determine_latest_version(name, 'service-2')}" for name in (model.CONTROL, model.DATA)}
    assert newest == {name.rpartition("/")[0] for name in FILES}
