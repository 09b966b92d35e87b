"""An agent's tools as an MCP server, with the official client of PyPI on the other side, in both ways of the protocol."""

import asyncio
import json

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from harness import planted
from harness.browser import Browser
from harness.stories import sign_in_at_vendor
from harness.upstream import Reply
from harness.wire import Connection

MODES = ["auto", "legacy"]
"""`auto` takes 2026-07-28, in which each request says all of itself; `legacy` shakes hands for 2025-11-25."""


def connected(server, agent, token, work, mode="auto", on_url=None):
    """Does `work` with a client that is connected to the agent's tools."""

    async def run():
        async def asked(_context, params):
            assert params.mode == "url"
            return await asyncio.to_thread(on_url, params.url)

        # Credentials go with the transport, as MCP's authorization has it.
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=30) as http:
            transport = streamable_http_client(f"{server.url}/agents/{agent}/mcp", http_client=http)
            async with Client(transport, mode=mode, elicitation_callback=asked if on_url else None) as client:
                return await work(client)

    return asyncio.run(run())


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed_and_called(server, agent, weather, schema, upstream, sign_in_as, mode):
    tool, secret = weather
    token = sign_in_as("ada")

    async def work(client):
        listed = await client.list_tools()
        found = {it.name: it for it in listed.tools}
        assert (found[tool].description, found[tool].input_schema) == ("The weather of a place", schema)
        answer = await client.call_tool(tool, {"id": "London"})
        assert not answer.is_error
        [content] = answer.content
        return content.text

    text = connected(server, agent, token, work, mode)
    seen = upstream.last()
    assert (seen.path, seen.headers["x-api-key"]) == ("/weather/London", secret)
    # No token pass-through, and nothing of the credential in the stream although the upstream echoes it.
    assert token not in json.dumps(seen.headers)
    assert secret not in text and "[redacted]" in text and json.loads(text)["path"] == "/weather/London"


@pytest.mark.parametrize("mode", MODES)
def test_what_the_tool_answers_is_a_result_and_what_the_client_does_wrong_an_error(server, agent, weather, upstream, sign_in_as, mode):
    tool, _ = weather

    async def work(client):
        said = await client.call_tool(tool, {"id": "a/b"})
        assert said.is_error and "input.id" in said.content[0].text
        upstream.answer = lambda seen: Reply(status=418, body=b"teapot")
        said = await client.call_tool(tool, {"id": "x"})
        assert said.is_error and said.content[0].text == "HTTP 418\nteapot"
        upstream.answer = lambda seen: Reply(body=b"\x89PNG\x00\xff", headers=(("Content-Type", "image/png"),))
        said = await client.call_tool(tool, {"id": "x"})
        assert (said.content[0].type, said.content[0].mime_type) == ("image", "image/png")
        upstream.answer = lambda seen: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
        said = await client.call_tool(tool, {"id": "x"})
        assert said.is_error and said.content[0].text.startswith("UNKNOWN_OUTCOME")
        with pytest.raises(MCPError) as refused:
            await client.call_tool("nothing", {})
        assert refused.value.code == types.INVALID_PARAMS

    connected(server, agent, sign_in_as("ada"), work, mode)


def test_a_client_that_opens_urls_has_its_user_consent_and_gets_the_answer(server, agent, calendar, vendor, upstream, sign_in_as, fresh):
    """MCP 2026-07-28: the answer is a question, and the client comes back with it."""
    user, opened = fresh("user"), []

    def open_url(url):
        opened.append(url)
        browser = Browser()
        sign_in_at_vendor(browser, browser.submit(browser.get(url)), user)
        return types.ElicitResult(action="accept")

    async def work(client):
        return (await client.call_tool(calendar, {"id": "today"})).content[0].text

    text = connected(server, agent, sign_in_as(user), work, on_url=open_url)
    token = planted.plant(upstream.last().headers["authorization"].removeprefix("Bearer "), "access token")
    assert vendor.call_api(token)[1]["subject"] == user
    assert len(opened) == 1 and token not in text and json.loads(text)["path"] == "/calendar/today"


def test_a_user_who_says_no_is_not_asked_again_and_nothing_is_sent(server, agent, calendar, upstream, sign_in_as, fresh):
    async def work(client):
        return await client.call_tool(calendar, {"id": "today"})

    declined = lambda url: types.ElicitResult(action="decline")  # noqa: E731
    said = connected(server, agent, sign_in_as(fresh("user")), work, on_url=declined)
    assert said.is_error and "did not allow" in said.content[0].text
    assert upstream.seen == []


def test_a_client_of_before_is_told_by_the_error_of_its_version(server, agent, calendar, sign_in_as, fresh):
    """MCP 2025-11-25: -32042, with the URL."""
    user = fresh("user")

    async def work(client):
        with pytest.raises(MCPError) as asked:
            await client.call_tool(calendar, {"id": "today"})
        assert asked.value.code == types.URL_ELICITATION_REQUIRED
        [elicitation] = asked.value.error.data["elicitations"]
        assert elicitation["mode"] == "url" and elicitation["elicitationId"]

        def consent():
            browser = Browser()
            sign_in_at_vendor(browser, browser.submit(browser.get(elicitation["url"])), user)

        await asyncio.to_thread(consent)
        return await client.call_tool(calendar, {"id": "today"})

    never = lambda url: pytest.fail("nothing is asked of a client by the server")  # noqa: E731
    assert not connected(server, agent, sign_in_as(user), work, "legacy", on_url=never).is_error


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_opens_nothing_is_told_the_link(server, agent, calendar, sign_in_as, fresh, mode):
    async def work(client):
        return await client.call_tool(calendar, {"id": "today"})

    said = connected(server, agent, sign_in_as(fresh("user")), work, mode)
    assert said.is_error and f"{server.url}/identities/oauth2/authorize?request_uri=" in said.content[0].text


def test_lists_come_in_pages(server, caller, agent, upstream, sign_in_as, fresh):
    names = sorted(fresh("many") for _ in range(105))
    for name in names:
        caller.ok("PutTool", name=name, inputSchema={"type": "object"}, allowedWorkloads=[agent], request={"method": "GET", "url": upstream.url})

    async def work(client):
        found, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            found += [it.name for it in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return found

    found = connected(server, agent, sign_in_as("ada"), work)
    assert found == sorted(found) and set(names) <= set(found)
    for name in names:
        caller.ok("DeleteTool", name=name)


def post(server, agent, message, token=None, method="POST", **headers):
    with Connection(server.port) as connection:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        said = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection._http.request(method, f"/agents/{agent}/mcp", data, said)
        response = connection._http.getresponse()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(body) if body else None


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def test_the_401_leads_to_the_issuer(server, agent, vendor, sign_in_as):
    """RFC 9728 §5.1, as MCP's authorization wants it."""
    status, headers, _ = post(server, agent, PING)
    metadata = f"{server.url}/.well-known/oauth-protected-resource/agents/{agent}/mcp"
    assert (status, headers["www-authenticate"]) == (401, f'Bearer resource_metadata="{metadata}"')
    with Connection(server.port) as connection:
        connection._http.request("GET", metadata.removeprefix(server.url))
        said = json.load(connection._http.getresponse())
    assert (said["resource"], said["authorization_servers"]) == (f"{server.url}/agents/{agent}/mcp", [vendor.issuer])
    assert post(server, agent, PING, sign_in_as("ada")[:-4] + "AAAA")[0] == 401
    assert post(server, "agent-nobody", PING, sign_in_as("ada"))[0] == 401


def test_what_is_no_message_is_refused(server, agent, sign_in_as):
    token = sign_in_as("ada")
    assert post(server, agent, PING, token)[2]["result"] == {}
    for method in ("GET", "DELETE"):
        status, headers, _ = post(server, agent, b"", token, method)
        assert (status, headers["allow"]) == (405, "POST")
    assert post(server, agent, PING, token, Origin="https://evil.example")[0] == 403
    for message, code in (
        (b"{", types.PARSE_ERROR),
        ([PING], types.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, types.INVALID_REQUEST),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, types.INVALID_REQUEST),
        ({"id": 1}, types.INVALID_REQUEST),
    ):
        status, _, said = post(server, agent, message, token)
        assert (status, said["error"]["code"]) == (400, code), message
    status, _, said = post(server, agent, PING | {"method": "resources/list"}, token)
    assert (status, said["error"]["code"]) == (200, types.METHOD_NOT_FOUND)
    assert post(server, agent, {"jsonrpc": "2.0", "method": "notifications/initialized"}, token)[0] == 202
    status, _, said = post(server, agent, PING, token, MCP_Protocol_Version="1999-01-01")
    assert (status, said["error"]["code"]) == (400, types.UNSUPPORTED_PROTOCOL_VERSION)
    assert "2026-07-28" in said["error"]["data"]["supported"]


def test_headers_that_say_something_else_than_the_body_are_refused(server, agent, weather, upstream, sign_in_as):
    """MCP 2026-07-28: who looks at the headers alone must not be fooled."""
    tool, _ = weather
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {"id": "x"}, "_meta": meta}}
    good = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": tool}
    token = sign_in_as("ada")
    for change in ({"Mcp_Name": "other"}, {"Mcp_Method": "tools/list"}, {"Mcp_Name": "=?base64?!?="}):
        status, _, said = post(server, agent, call, token, **(good | change))
        assert (status, said["error"]["code"]) == (400, types.HEADER_MISMATCH), change
    status, _, said = post(server, agent, call | {"params": {"name": tool}}, token, **good)
    assert (status, said["error"]["code"]) == (400, types.INVALID_PARAMS)
    stranger = call | {"params": call["params"] | {"requestState": "not ours"}}
    assert post(server, agent, stranger, token, **good)[2]["error"]["code"] == types.INVALID_PARAMS
    assert upstream.seen == []
    status, _, said = post(server, agent, call, token, **good)
    assert (status, said["result"]["resultType"]) == (200, "complete")
    assert len(upstream.seen) == 1


def test_a_session_of_somebody_elses_gives_nothing(server, agent, calendar, upstream, sign_in_as, fresh):
    """The state that a client sends back names a consent session: only its own user's is taken."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}}
    params = {"name": calendar, "arguments": {"id": "x"}, "_meta": meta}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": calendar}
    alice, mallory = sign_in_as(fresh("alice")), sign_in_as(fresh("mallory"))
    asked = post(server, agent, call, alice, **headers)[2]["result"]
    assert asked["resultType"] == "input_required"
    url = asked["inputRequests"]["consent"]["params"]["url"]
    browser = Browser()
    sign_in_at_vendor(browser, browser.submit(browser.get(url)), "alice")
    again = call | {"params": params | {"requestState": asked["requestState"], "inputResponses": {"consent": {"action": "accept"}}}}
    said = post(server, agent, again, mallory, **headers)[2]["result"]
    assert said["isError"] and "another user" in said["content"][0]["text"]
    assert upstream.seen == []
    assert not post(server, agent, again, alice, **headers)[2]["result"]["isError"]
