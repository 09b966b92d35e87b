"""Where requests go, for whom they are signed, and which models are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest
from fake_service import Service

from agent_identity import EndpointNotSet, IdentityClient, StaleModels
from agent_identity.connection import CONTROL, DATA, MODELS, Connection

API = "https://abc123.execute-api.eu-west-1.amazonaws.com/prod"


def signed(client: Any) -> tuple[str, str]:
    """URL and scope of a request that is signed and not sent."""
    seen = {}

    def stop(request: Any, **_: Any) -> None:
        seen.update(url=request.url, scope=request.headers["Authorization"].decode().split("/aws4_request")[0])
        raise InterruptedError

    client.meta.events.register("before-send", stop)
    with pytest.raises(InterruptedError):
        client.list_workload_identities()
    return seen["url"], "/".join(seen["scope"].split("/")[-2:])


def install(directory: Path, **changes: Any) -> Path:
    """What `agent-identity aws-models install` writes."""
    shutil.copytree(MODELS, directory)
    for file in directory.glob("*/*/*.json"):
        extras = {**json.loads(file.read_text()), "madeBy": "agent-identity", **changes}
        extras["merge"]["metadata"] = {"signingName": "execute-api"}
        file.write_text(json.dumps(extras))
    return directory


def test_our_operations_are_there_without_aws_data_path(identity: IdentityClient) -> None:
    assert {"PutAuthorizer", "OffboardUser", "PutTool"} <= set(identity.control.meta.service_model.operation_names)
    assert "InvokeTool" in identity.data.meta.service_model.operation_names


def test_d22_other_clients_of_the_process_keep_aws_models(service: Service) -> None:
    session = boto3.Session(region_name="us-east-1")
    IdentityClient(endpoint_url=service.url, session=session)
    assert "PutAuthorizer" not in session.client(CONTROL).meta.service_model.operation_names


@pytest.mark.parametrize("region", [None, "us-east-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1"])
def test_without_an_endpoint_nothing_is_made(region: str) -> None:
    with pytest.raises(EndpointNotSet, match=r'eval "\$\(agent-identity env\)"'):
        IdentityClient(region=region)


@pytest.mark.parametrize(
    "url",
    ["https://bedrock-agentcore-control.us-east-1.amazonaws.com", "https://bedrock-agentcore.eu-west-1.api.aws"],
)
def test_aws_agentcore_is_never_called(url: str) -> None:
    with pytest.raises(EndpointNotSet):
        IdentityClient(endpoint_url=url)


def test_one_endpoint_of_two_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", "http://127.0.0.1:1")
    with pytest.raises(EndpointNotSet, match="`bedrock-agentcore`"):
        IdentityClient()


@pytest.mark.parametrize(
    "names",
    [["AWS_ENDPOINT_URL"], ["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"]],
)
def test_the_endpoint_is_what_boto3_finds(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    for name in names:
        monkeypatch.setenv(name, "http://127.0.0.1:7420")
    identity = IdentityClient()
    assert identity.control.meta.endpoint_url == identity.data.meta.endpoint_url == "http://127.0.0.1:7420"


def test_an_endpoint_that_is_switched_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:7420")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    with pytest.raises(EndpointNotSet):
        IdentityClient()


def test_a_profile_has_endpoint_region_and_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(
        "[profile local]\nregion = eu-central-1\nservices = ours\n"
        "aws_access_key_id = FROMPROFILE\naws_secret_access_key = x\n"
        "[services ours]\nbedrock_agentcore =\n  endpoint_url = http://127.0.0.1:1\n"
        "bedrock_agentcore_control =\n  endpoint_url = http://127.0.0.1:2\n"
    )
    identity = IdentityClient(session=boto3.Session(profile_name="local"))
    assert identity.data.meta.endpoint_url == "http://127.0.0.1:1"
    assert identity.control.meta.endpoint_url == "http://127.0.0.1:2"
    assert identity.control.meta.region_name == "eu-central-1"
    assert identity.control._request_signer._credentials.access_key == "FROMPROFILE"


def test_a_session_lends_its_credentials_and_region(service: Service) -> None:
    session = boto3.Session(aws_access_key_id="LENT", aws_secret_access_key="x", region_name="eu-north-1")
    service.answer("GetTool", {})
    IdentityClient(endpoint_url=service.url, session=session).get_tool("x")
    assert "Credential=LENT/" in service.calls[0].authorization
    assert service.calls[0].scope == "eu-north-1/bedrock-agentcore"


def test_the_region_that_is_given_wins(service: Service) -> None:
    service.answer("GetTool", {})
    IdentityClient("eu-west-3", service.url, boto3.Session(region_name="eu-north-1")).get_tool("x")
    assert service.calls[0].scope == "eu-west-3/bedrock-agentcore"


@pytest.mark.parametrize(
    ("url", "on_api_gateway", "scope"),
    [
        ("http://127.0.0.1:7420", None, "us-east-2/bedrock-agentcore"),
        (API, None, "eu-west-1/execute-api"),
        ("https://abc.execute-api.cn-north-1.amazonaws.com.cn", None, "cn-north-1/execute-api"),
        ("https://vpce-1.execute-api.eu-west-1.vpce.amazonaws.com", None, "eu-west-1/execute-api"),
        ("https://identity.example.com", True, "us-east-2/execute-api"),
        ("https://abc.execute-api.eu-west-1.amazonaws.com.example.com", None, "us-east-2/bedrock-agentcore"),
        (API, False, "us-east-2/bedrock-agentcore"),
    ],
)
def test_api_gateway_gets_signatures_for_itself(url: str, on_api_gateway: bool, scope: str) -> None:
    connection = Connection("us-east-2", url, on_api_gateway=on_api_gateway)
    asked, for_scope = signed(connection.client(CONTROL))
    assert asked == f"{url}/identities/ListWorkloadIdentities"
    assert for_scope == scope


def test_installed_models_of_ours_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = tmp_path / "others" / CONTROL / "2023-06-05"
    others.mkdir(parents=True)
    (others / "service-2.sdk-extras.json").write_text('{"merge": {"metadata": {"signingName": "theirs"}}}')
    installed = install(tmp_path / "installed")
    monkeypatch.setenv("AWS_DATA_PATH", f"{tmp_path / 'others'}:{installed}")
    connection = Connection("us-east-2", "https://identity.example.com")
    assert signed(connection.client(CONTROL))[1] == "us-east-2/execute-api"
    assert "InvokeTool" in connection.client(DATA).meta.service_model.operation_names


@pytest.mark.parametrize("text", ['{"merge": {"metadata": {"signingName": "theirs"}}}', "no JSON", "[]"])
def test_models_of_others_do_not_hide_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    directory = tmp_path / CONTROL / "2023-06-05"
    directory.mkdir(parents=True)
    (directory / "service-2.sdk-extras.json").write_text(text)
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    client = Connection("us-east-2", "http://127.0.0.1:1").client(CONTROL)
    assert signed(client)[1] == "us-east-2/bedrock-agentcore"
    assert "PutAuthorizer" in client.meta.service_model.operation_names


def test_installed_models_that_are_too_old_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(install(tmp_path / "installed", merge={})))
    with pytest.raises(StaleModels, match="aws-models install"):
        IdentityClient(endpoint_url="http://127.0.0.1:1")
