"""A user consents in Chromium, and their MCP client goes on: no program but the vault has seen a token."""

import asyncio
import json
import threading

import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from harness import planted
from harness.stories import Consent, make_user_provider, make_workload, workload_token

SCHEMA = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}


@pytest.fixture(scope="module")
def provider(caller, vendor, upstream, fresh):
    return make_user_provider(caller, vendor, fresh("calendar"), {"agent-identity:injectable-hosts": upstream.address})


@pytest.fixture(scope="module")
def tool(caller, agent, provider, upstream, fresh):
    name = fresh("calendar.read")
    caller.ok(
        "PutTool", name=name, description="The day's events", inputSchema=SCHEMA, allowedWorkloads=[agent],
        request={"method": "GET", "url": upstream.url + "/days/{day}"},
        credential={"providerName": provider, "flow": "USER_FEDERATION", "scopes": ["openid", "things.read"]},
    )  # fmt: skip
    return name


def consent_in(page, url, agent, provider, login):
    """What the user sees and does: our page, the vendor's login, its consent, the return page."""
    page.goto(url)
    text = page.inner_text("body")
    assert agent in text and provider in text, "who asks for what"
    page.click("button")
    page.fill("input[name=login]", login)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    for _ in range(3):
        if "/interaction/" not in page.url:
            break
        page.click("button[type=submit]")
    return page.inner_text("body")


def test_an_mcp_client_lists_and_calls_after_the_user_has_consented(server, agent, provider, tool, vendor, upstream, sign_in_as, page, fresh):
    user = fresh("user")
    token = sign_in_as(user)
    asked = asyncio.Queue()

    async def elicited(_context, params):
        answered = asyncio.get_running_loop().create_future()
        await asked.put((params.url, answered))
        return await answered

    async def run():
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http:
            transport = streamable_http_client(f"{server.url}/agents/{agent}/mcp", http_client=http)
            async with Client(transport, elicitation_callback=elicited) as client:
                assert tool in [it.name for it in (await client.list_tools()).tools]
                calling = asyncio.create_task(client.call_tool(tool, {"day": "today"}))
                url, answered = await asked.get()
                return await asyncio.gather(calling, by_the_user(url, answered))

    async def by_the_user(url, answered):
        # The browser has a thread of its own, which is this one's caller: its work is handed over.
        handed.append(url)
        while not done:
            await asyncio.sleep(0.05)
        answered.set_result(types.ElicitResult(action="accept"))

    handed, done, results = [], [], []
    working = threading.Thread(target=lambda: results.append(asyncio.run(run())))
    working.start()
    while not handed and working.is_alive():
        page.wait_for_timeout(50)
    assert handed, "the client was not asked"
    text = consent_in(page, handed[0], agent, provider, user)
    assert "The agent has its access" in text, text
    done.append(True)
    working.join(30)
    [(result, _)] = results
    assert not result.is_error
    given = planted.plant(upstream.last().headers["authorization"].removeprefix("Bearer "), "access token")
    assert vendor.call_api(given)[1]["subject"] == user
    # Neither the agent's client nor the browser has seen it.
    assert given not in result.content[0].text and given not in page.content()
    assert json.loads(result.content[0].text)["path"] == "/days/today"


def test_d12_what_came_to_one_browser_is_nothing_in_another(server, caller, chromium, vendor, provider, page, fresh):
    """The redirect of the vendor, replayed where the cookie of the consent is not."""
    agent, user = make_workload(caller, fresh("agent")), fresh("user")
    consent = Consent(caller, workload_token(caller, agent, user), provider).begin()
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    assert "The agent has its access" in consent_in(page, consent.authorization_url, agent, provider, user)
    [callback] = [url for url in sent if "/identities/oauth2/callback/" in url]
    other = chromium.new_context()
    answer = other.new_page().goto(callback)
    assert answer.status in (400, 403), answer.status
    other.close()


def test_the_page_is_framed_by_nobody_and_runs_nothing(server, caller, provider, page, fresh):
    agent = make_workload(caller, fresh("agent"))
    consent = Consent(caller, workload_token(caller, agent, fresh("user")), provider).begin()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.set_content(f'<iframe src="{consent.authorization_url}"></iframe>')
    page.wait_for_timeout(1000)
    frame = page.frames[-1]
    assert frame.query_selector("button") is None, "the page may not stand in a frame of another"
    page.goto(consent.authorization_url)
    assert page.evaluate("document.scripts.length") == 0
