"""An agent behind its authorizer, whose tools call a third party's API with credentials of the vault."""

import pytest

from harness import planted
from harness.stories import make_guarded_agent, make_user_provider, sign_in

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"], "additionalProperties": False}


@pytest.fixture(autouse=True)
def as_before(upstream):
    upstream.reset()


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


@pytest.fixture(scope="module")
def agent(caller, vendor, fresh):
    return make_guarded_agent(caller, vendor, fresh("agent"))


@pytest.fixture(scope="module")
def sign_in_as(vendor):
    return lambda user: sign_in(vendor, user)["access_token"]


@pytest.fixture(scope="module")
def schema():
    return SCHEMA


@pytest.fixture(scope="module")
def hosts(upstream):
    return {"agent-identity:injectable-hosts": upstream.address}


@pytest.fixture(scope="module")
def weather(caller, agent, hosts, upstream, fresh):
    """A tool with an API key, and the key."""
    provider, secret, tool = fresh("weather"), planted.new_secret("API key"), fresh("weather.get")
    caller.ok("CreateApiKeyCredentialProvider", name=provider, apiKey=secret, tags=hosts)
    caller.ok(
        "PutTool", name=tool, description="The weather of a place", inputSchema=SCHEMA, allowedWorkloads=[agent],
        request={"method": "GET", "url": upstream.url + "/weather/{id}"},
        credential={"providerName": provider, "flow": "API_KEY", "placement": {"location": "HEADER", "name": "x-api-key"}},
    )  # fmt: skip
    return tool, secret


@pytest.fixture(scope="module")
def calendar(caller, agent, hosts, vendor, upstream, fresh):
    """A tool that needs its user's consent."""
    provider, tool = make_user_provider(caller, vendor, fresh("calendar"), hosts), fresh("calendar.get")
    caller.ok(
        "PutTool", name=tool, inputSchema=SCHEMA, allowedWorkloads=[agent],
        request={"method": "GET", "url": upstream.url + "/calendar/{id}"},
        credential={"providerName": provider, "flow": "USER_FEDERATION", "scopes": ["openid", "things.read"]},
    )  # fmt: skip
    return tool
