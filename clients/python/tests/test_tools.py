"""Tools, and calling them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fake_service import Refusal, Service

from agent_identity import ConsentRequired, GatewayClient, IdentityClient, ToolError, ToolResult

SESSION = "urn:ietf:params:oauth:request_uri:x"
ANSWER = {
    "statusCode": 200,
    "headers": {"content-type": "application/json"},
    "body": '{"id": 1}',
    "isBase64Encoded": False,
}
TIMES = {"createdTime": 1, "lastUpdatedTime": 2}
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


def test_a_tool_is_put_as_the_operation_has_it(identity: IdentityClient, service: Service) -> None:
    service.answer("PutTool", {"name": "t", "version": 1, **TIMES})
    request: Any = {"method": "POST", "url": "https://a.example/{id}", "body": {"list": ["{id}", 1, None]}}
    credential: Any = {"providerName": "p", "flow": "API_KEY", "placement": {"location": "HEADER", "name": "x-key"}}
    answer = identity.put_tool("t", request, SCHEMA, credential, ["my-agent"], description="Does.")
    assert answer["version"] == 1 and "ResponseMetadata" not in answer
    identity.put_tool("open", {"method": "GET", "url": "https://a.example"}, SCHEMA, None, ("a", "b*"))
    identity.put_tool("any", {"methods": ["GET"], "url": "https://a.example"}, None, None, ["a"])
    assert service.bodies("PutTool") == [
        {
            "name": "t",
            "description": "Does.",
            "inputSchema": SCHEMA,
            "request": request,
            "credential": credential,
            "allowedWorkloads": ["my-agent"],
        },
        {
            "name": "open",
            "description": "",
            "inputSchema": SCHEMA,
            "request": {"method": "GET", "url": "https://a.example"},
            "allowedWorkloads": ["a", "b*"],
        },
        {"name": "any", "description": "", "request": {"methods": ["GET"], "url": "https://a.example"}, "allowedWorkloads": ["a"]},
    ]


def test_tools_are_read_listed_and_deleted(identity: IdentityClient, service: Service) -> None:
    service.answer("GetTool", {"name": "t", "inputSchema": SCHEMA, **TIMES})
    service.answer("ListTools", {"tools": [{"name": "a"}], "nextToken": "n"}, {"tools": [{"name": "b"}]})
    service.answer("DeleteTool", {})
    assert identity.get_tool("t")["inputSchema"] == SCHEMA
    assert [tool["name"] for tool in identity.list_tools(agent_id="my-agent")] == ["a", "b"]
    identity.delete_tool("t")
    assert service.bodies("ListTools") == [{"workloadName": "my-agent"}, {"workloadName": "my-agent", "nextToken": "n"}]
    assert service.bodies("DeleteTool") == [{"name": "t"}]


def test_a_tool_is_called_for_a_user(service: Service) -> None:
    service.answer("InvokeTool", ANSWER)
    gateway = GatewayClient("my-agent", user_id="ada", endpoint_url=service.url)
    result = gateway.invoke_tool(tool_name="t", input={"id": "1"})
    gateway.invoke_tool("t", {}, return_url="https://app.example/back", custom_state="s", connection_label="work")
    assert service.operations() == ["GetWorkloadAccessTokenForUserId", "InvokeTool", "InvokeTool"]
    assert service.bodies("InvokeTool") == [
        {"workloadIdentityToken": "wat-user", "toolName": "t", "input": {"id": "1"}},
        {
            "workloadIdentityToken": "wat-user",
            "toolName": "t",
            "input": {},
            "resourceOauth2ReturnUrl": "https://app.example/back",
            "customState": "s",
            "connectionLabel": "work",
        },
    ]
    assert result == ToolResult(200, {"content-type": "application/json"}, '{"id": 1}')
    assert result.ok and result.json() == {"id": 1} and result.content == b'{"id": 1}'


def test_what_a_tool_answers_is_data_whatever_its_status(identity: IdentityClient, service: Service) -> None:
    binary = base64.b64encode(b"\xff\x00").decode()
    service.answer("InvokeTool", {"statusCode": 404, "headers": {}, "body": binary, "isBase64Encoded": True})
    result = GatewayClient("my-agent", identity=identity).invoke_tool("t", {})
    assert not result.ok and result.content == b"\xff\x00"
    with pytest.raises(ValueError):
        result.json()


def test_a_consent_that_is_needed_is_an_error_that_keeps_its_url_to_itself(
    identity: IdentityClient, service: Service
) -> None:
    url = "http://127.0.0.1/authorize?request_uri=x"
    service.answer("InvokeTool", {"authorizationUrl": url, "sessionUri": SESSION, "sessionStatus": "IN_PROGRESS"})
    with pytest.raises(ConsentRequired) as raised:
        GatewayClient("my-agent", identity=identity).invoke_tool("t", {})
    assert (raised.value.authorization_url, raised.value.session_uri) == (url, SESSION)
    assert url not in str(raised.value) and SESSION not in str(raised.value)


def test_a_tool_that_did_not_answer_is_an_error(identity: IdentityClient, service: Service) -> None:
    service.answer("InvokeTool", {"error": {"code": "UNREACHABLE", "message": "nothing was sent"}})
    with pytest.raises(ToolError, match="UNREACHABLE: nothing was sent") as raised:
        GatewayClient("my-agent", identity=identity).invoke_tool("t", {})
    assert (raised.value.code, raised.value.message) == ("UNREACHABLE", "nothing was sent")


def test_a_refused_workload_token_is_replaced_once(identity: IdentityClient, service: Service) -> None:
    service.answer("GetWorkloadAccessToken", *({"workloadAccessToken": f"wat-{n}"} for n in range(3)))
    service.answer("InvokeTool", ANSWER, Refusal("UnauthorizedException", 401), ANSWER)
    gateway = GatewayClient("my-agent", identity=identity)
    for _ in range(2):
        gateway.invoke_tool("t", {})
    used = [body["workloadIdentityToken"] for body in service.bodies("InvokeTool")]
    assert used == ["wat-0", "wat-0", "wat-1"]


def test_a_workload_token_that_is_refused_twice_is_refused(identity: IdentityClient, service: Service) -> None:
    service.answer("InvokeTool", Refusal("UnauthorizedException", 401))
    with pytest.raises(ClientError, match="Unauthorized"):
        GatewayClient("my-agent", identity=identity).invoke_tool("t", {})
    assert service.operations().count("InvokeTool") == 2


@pytest.mark.parametrize("refusal", [Refusal("InternalServerException", 500), Refusal("ThrottlingException", 429)])
def test_d5_a_call_is_sent_once(identity: IdentityClient, service: Service, refusal: Refusal) -> None:
    service.answer("InvokeTool", refusal)
    with pytest.raises(ClientError, match=refusal.code):
        GatewayClient("my-agent", identity=identity).invoke_tool("t", {})
    assert service.operations().count("InvokeTool") == 1
