"""The `bedrock-agentcore` SDK, unmodified: its client, its decorators and its local development flow.

Each agent is a process of its own in an empty directory, since the SDK reads its endpoints when it is imported.
"""

import json
import subprocess
import sys

import pytest

from harness import planted
from harness.browser import Browser
from harness.places import TESTS, plain_environment
from harness.product import log_file
from harness.stories import make_machine_provider, make_user_provider, sign_in_at_vendor


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


class Agent:
    """A running agent program, read line by line."""

    def __init__(self, server, directory, program, *arguments):
        self.log = log_file("agent").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, TESTS / "clients" / "agents" / f"{program}.py", *arguments],
            cwd=directory, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env=plain_environment(**server.env(), HOME=str(directory), AWS_MAX_ATTEMPTS="1"),
        )  # fmt: skip

    def says(self):
        """Its next line of JSON; the SDK prints other lines too."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(f"the agent ended with {self.process.wait()}: {self.tail()}")

    def tail(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()[-1500:]

    def end(self):
        code = self.process.wait(60)
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture
def run(server, tmp_path):
    started = []

    def run(program, *arguments, directory=tmp_path):
        started.append(Agent(server, directory, program, *arguments))
        return started[-1]

    yield run
    for agent in started:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.end()


def test_the_identity_client_manages_everything_it_can(run, server, fresh):
    key, oauth2, api_key = planted.new_secret("API key"), fresh("sdk-github"), fresh("sdk-weather")
    agent = run("administrator", "us-east-1", oauth2, api_key, key)
    report = agent.says()
    assert agent.end() == 0, agent.tail()
    assert report["created"].startswith("workload-")
    assert report["return_urls"] == report["updated"] == ["http://localhost:9090/return"]
    assert report["callback_url"].startswith(f"{server.url}/identities/oauth2/callback/")
    assert report["oauth2_get"] == oauth2 and oauth2 in report["oauth2_listed"]
    assert report["api_key_get"] == api_key and api_key in report["api_key_listed"]
    assert report["tokens_differ"] and report["api_key"] == key
    assert report["session_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    assert report["wrong_user"] == "AccessDeniedException"


def test_an_agent_calls_a_service_as_itself(run, caller, vendor, fresh, tmp_path):
    provider = make_machine_provider(caller, vendor, fresh("machine"))
    agent = run("machine", provider, "things.read")
    token = planted.plant(agent.says()["access_token"], "access token")
    assert agent.end() == 0, agent.tail()
    status, body = vendor.call_api(token)
    assert (status, body["client"], body["scope"]) == (200, provider, "things.read")
    assert set(json.loads((tmp_path / ".agentcore.json").read_text())) == {"workload_identity_name", "user_id"}


def test_the_next_run_of_an_agent_uses_the_same_identity_and_the_cached_token(run, caller, vendor, fresh, tmp_path):
    provider = make_machine_provider(caller, vendor, fresh("machine"))
    tokens, identities = [], []
    before = vendor.count("client_credentials")
    for _ in range(2):
        agent = run("machine", provider, "things.read")
        tokens.append(agent.says()["access_token"])
        assert agent.end() == 0, agent.tail()
        identities.append((tmp_path / ".agentcore.json").read_text())
    assert identities[0] == identities[1] and tokens[0] == tokens[1]
    assert vendor.count("client_credentials") == before + 1


def test_an_agent_calls_a_service_with_an_api_key(run, caller, vendor, fresh):
    name, key = fresh("weather"), planted.new_secret("API key")
    vendor.control("api-keys", {"key": key})
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=key)
    agent = run("api_key", name)
    got = agent.says()["api_key"]
    assert agent.end() == 0, agent.tail()
    assert vendor.call_weather_api(got) == (200, {"weather": "sunny"})


def test_an_agent_on_a_laptop_gets_its_users_consent_on_the_built_in_return_page(run, caller, vendor, fresh):
    """The identity that the SDK makes has no return URL, so on loopback the built-in page completes the session."""
    provider = make_user_provider(caller, vendor, fresh("vendor"))
    agent = run("user", provider, "", "openid", "things.read")
    browser = Browser()
    url = agent.says()["authorization_url"]
    page = sign_in_at_vendor(browser, browser.submit(browser.get(url)), "alice")
    if page.forms:
        page = browser.submit(page)
    assert page.status == 200, page.text
    token = planted.plant(agent.says()["access_token"], "access token")
    assert agent.end() == 0, agent.tail()
    status, body = vendor.call_api(token)
    assert (status, body["subject"]) == (200, "alice")


def test_the_next_run_needs_no_consent(run, caller, vendor, fresh):
    provider = make_user_provider(caller, vendor, fresh("vendor"))
    agent = run("user", provider, "", "openid", "things.read")
    browser = Browser()
    page = sign_in_at_vendor(browser, browser.submit(browser.get(agent.says()["authorization_url"])), "bob")
    if page.forms:
        browser.submit(page)
    first = agent.says()["access_token"]
    assert agent.end() == 0, agent.tail()
    again = run("user", provider, "", "openid", "things.read")
    assert again.says() == {"access_token": first}
    assert again.end() == 0, again.tail()


def test_a_return_url_that_is_not_registered_is_refused_as_aws_does(run, caller, vendor, fresh):
    provider = make_user_provider(caller, vendor, fresh("vendor"))
    agent = run("user", provider, "https://elsewhere.example.com/return", "openid")
    assert agent.end() != 0
    assert "ValidationException" in agent.tail()
