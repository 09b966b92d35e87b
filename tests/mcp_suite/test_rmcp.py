"""An agent's tools as an MCP server, with the official client of Rust (`tests/peers/rmcp`) on the other side, in both ways of the protocol."""

import json
import subprocess

import pytest

from harness import planted
from harness.browser import Browser
from harness.places import REPOSITORY, plain_environment
from harness.stories import sign_in_at_vendor
from harness.upstream import Reply

MODES = ["auto", "legacy"]


@pytest.fixture(scope="module")
def peer():
    build = ["cargo", "build", "--quiet", "-p", "rmcp-peer", "--message-format", "json"]
    said = subprocess.run(build, cwd=REPOSITORY, check=True, timeout=900, stdout=subprocess.PIPE, text=True).stdout
    return next(message["executable"] for message in map(json.loads, said.splitlines()) if message.get("executable"))


def called(peer, server, agent, token, tool, input, mode, on_url=None):
    """What the client says in the end; `on_url` is what its user does with a URL."""
    with subprocess.Popen(
        [peer, f"{server.url}/agents/{agent}/mcp", mode, tool, json.dumps(input)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain_environment(),
    ) as process:  # fmt: skip
        process.stdin.write(token + "\n")
        process.stdin.flush()
        for line in process.stdout:
            said = json.loads(line)
            if "open" not in said:
                return said
            process.stdin.write(on_url(said["open"]) + "\n")
            process.stdin.flush()
    raise AssertionError("the client has said nothing")


@pytest.mark.parametrize("mode", MODES)
def test_tools_are_listed_and_called(peer, server, agent, weather, upstream, sign_in_as, mode):
    tool, secret = weather
    token = sign_in_as("ada")
    said = called(peer, server, agent, token, tool, {"id": "London"}, mode)
    assert tool in said["tools"] and not said["result"].get("isError")
    text = said["result"]["content"][0]["text"]
    seen = upstream.last()
    assert (seen.path, seen.headers["x-api-key"]) == ("/weather/London", secret)
    assert token not in json.dumps(seen.headers)
    assert secret not in json.dumps(said) and "[redacted]" in text


@pytest.mark.parametrize("mode", MODES)
def test_errors_are_where_this_client_looks_for_them(peer, server, agent, weather, upstream, sign_in_as, mode):
    tool, _ = weather
    token = sign_in_as("ada")
    said = called(peer, server, agent, token, tool, {"id": "a/b"}, mode)
    assert said["result"]["isError"] and "input.id" in said["result"]["content"][0]["text"]
    upstream.answer = lambda _: Reply(status=418, body=b"teapot")
    said = called(peer, server, agent, token, tool, {"id": "x"}, mode)
    assert said["result"]["isError"] and said["result"]["content"][0]["text"] == "HTTP 418\nteapot"
    assert "nothing" in called(peer, server, agent, token, "nothing", {}, mode)["error"]
    assert "auth" in called(peer, server, agent, "no-token", tool, {"id": "x"}, mode)["error"].lower()


def test_many_tools_are_paged(peer, server, caller, agent, upstream, sign_in_as, fresh):
    names = [fresh("many") for _ in range(120)]
    for name in names:
        caller.ok(
            "PutTool", name=name, inputSchema={"type": "object"}, allowedWorkloads=[agent],
            request={"method": "GET", "url": upstream.url + "/many"},
        )  # fmt: skip
    said = called(peer, server, agent, sign_in_as("ada"), names[0], {}, "auto")
    assert set(names) <= set(said["tools"])
    for name in names:
        caller.ok("DeleteTool", name=name)


def test_a_client_that_opens_urls_has_its_user_consent_and_gets_the_answer(
    peer, server, agent, calendar, vendor, upstream, sign_in_as, fresh
):
    user, opened = fresh("user"), []

    def open_url(url):
        opened.append(url)
        browser = Browser()
        sign_in_at_vendor(browser, browser.submit(browser.get(url)), user)
        return "accept"

    said = called(peer, server, agent, sign_in_as(user), calendar, {"id": "today"}, "auto", open_url)
    token = planted.plant(upstream.last().headers["authorization"].removeprefix("Bearer "), "access token")
    assert vendor.call_api(token)[1]["subject"] == user
    assert len(opened) == 1 and token not in json.dumps(said)
    assert json.loads(said["result"]["content"][0]["text"])["path"] == "/calendar/today"


def test_a_user_who_says_no_is_not_asked_again_and_nothing_is_sent(peer, server, agent, calendar, upstream, sign_in_as, fresh):
    before = len(upstream.seen)
    said = called(peer, server, agent, sign_in_as(fresh("user")), calendar, {"id": "today"}, "auto", lambda _: "decline")
    assert "error" in said or said["result"]["isError"], said
    assert len(upstream.seen) == before
