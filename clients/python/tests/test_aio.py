"""The clients for asyncio do what the others do."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from fake_service import Service

from agent_identity import (
    AsyncGatewayClient,
    AsyncIdentityClient,
    ConsentRequired,
    EndpointNotSet,
    GatewayClient,
    IdentityClient,
)


def public(of: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(of, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("of", "asynchronous"), [(IdentityClient, AsyncIdentityClient), (GatewayClient, AsyncGatewayClient)]
)
def test_every_method_is_there(of: type, asynchronous: Any) -> None:
    assert public(asynchronous) == public(of)
    iterators = {"list_credentials", "list_connections", "list_tools", "usage"}
    for name in public(of):
        method = getattr(asynchronous, name)
        assert inspect.isasyncgenfunction(method) if name in iterators else inspect.iscoroutinefunction(method)
        assert method.__doc__ == getattr(of, name).__doc__


def test_calls_are_awaited_and_lists_iterated(service: Service) -> None:
    service.answer("GetTool", {"name": "t"})
    service.answer("ListTools", {"tools": [{"name": "a"}], "nextToken": "n"}, {"tools": [{"name": "b"}]})
    service.answer("InvokeTool", {"statusCode": 200, "headers": {}, "body": "{}", "isBase64Encoded": False})

    async def main() -> None:
        identity = AsyncIdentityClient(endpoint_url=service.url)
        assert (await identity.get_tool("t"))["name"] == "t"
        assert [tool["name"] async for tool in identity.list_tools(agent_id="my-agent")] == ["a", "b"]
        tokens = await asyncio.gather(*(identity.workload_token("one", user_id=user) for user in "abc"))
        assert tokens == ["wat-user"] * 3
        gateway = AsyncGatewayClient("one", user_id="a", identity=identity)
        assert (await gateway.invoke_tool("t", {})).ok

    asyncio.run(main())
    # The gateway shares the client, and what it has kept.
    assert service.operations().count("GetWorkloadAccessTokenForUserId") == 3


def test_errors_are_the_same(service: Service) -> None:
    service.answer(
        "InvokeTool", {"authorizationUrl": "http://a", "sessionUri": "urn:x", "sessionStatus": "IN_PROGRESS"}
    )
    with pytest.raises(ConsentRequired):
        asyncio.run(AsyncGatewayClient("one", endpoint_url=service.url).invoke_tool("t", {}))
    with pytest.raises(EndpointNotSet):
        AsyncIdentityClient()
