"""The package of clients/python against a server: the quick start of the seed document, and what a user of it does next."""

import re
import subprocess
import sys

import pytest

from harness import planted
from harness.browser import Browser
from harness.places import REPOSITORY, plain_environment
from harness.quick_start import PACKAGE, run_quick_start
from harness.stories import FRONT_END_AUDIENCE, make_user_provider, sign_in, sign_in_at_vendor
from harness.upstream import Reply


@pytest.fixture(scope="module")
def allow_egress(vendor, upstream):
    return (vendor.address, upstream.address)


def test_the_quick_start_of_the_seed_document(server, vendor, upstream, fresh):
    client = fresh("salesforce")
    for _ in range(2):
        said = run_quick_start(vendor, upstream, client, server.env())
        assert said["method"] == "GET" and said["headers"]["authorization"] == "Bearer [redacted]"


def test_the_readmes_lines_do_what_they_say(server, vendor, upstream, tmp_path):
    """As they stand there, but for hosts and issuer that are here."""
    (snippet,) = re.findall(r"^```py\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    for there, here in (("https://api.weather.example", upstream.url), ("api.weather.example", upstream.address),
                        ("https://idp.example.com", vendor.issuer), ("my-client-id", FRONT_END_AUDIENCE)):  # fmt: skip
        assert there in snippet
        snippet = snippet.replace(there, here)
    jwt = sign_in(vendor, "ada")["access_token"]
    environment = plain_environment(**server.env(), HOME=str(tmp_path), JWT=jwt, PYTHONPATH=str(PACKAGE / "src"))
    done = subprocess.run([sys.executable, "-c", f"import os\njwt = os.environ['JWT']\n{snippet}"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "[redacted]" in done.stdout and "my-weather-key" not in done.stdout
    assert (upstream.last().path, upstream.last().headers["x-api-key"]) == ("/v1/London", "my-weather-key")


@pytest.fixture(scope="module")
def package(server):
    """The package, and a session with the server's key."""
    import boto3

    sys.path.insert(0, str(PACKAGE / "src"))
    import agent_identity

    key = server.credentials()
    session = boto3.Session(aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region)
    yield agent_identity, agent_identity.IdentityClient(endpoint_url=server.url, session=session)
    sys.path.remove(str(PACKAGE / "src"))


def test_a_user_consents_and_the_agent_goes_on(package, caller, vendor, app, upstream, fresh):
    module, identity = package
    agent, provider, tool = fresh("agent"), fresh("calendar"), fresh("calendar_read")
    identity.configure_authorizer(
        agent, config={"issuer": vendor.issuer, "audience": "https://agents.example.com"}, return_urls=[app.return_url]
    )  # fmt: skip
    make_user_provider(caller, vendor, provider, {"agent-identity:injectable-hosts": upstream.address, "agent-identity:allowed-workloads": agent})
    assert [it.name for it in identity.list_credentials(agent)].count(provider) == 1
    assert provider not in [it.name for it in identity.list_credentials(fresh("agent"))]
    identity.put_tool(
        tool, {"method": "POST", "url": upstream.url + "/events", "body": {"title": "{title}"}},
        {"type": "object", "properties": {"title": {"type": "string"}}},
        {"providerName": provider, "flow": "USER_FEDERATION", "scopes": ["openid", "things.read"]}, [agent],
    )  # fmt: skip
    assert [it["name"] for it in identity.list_tools(agent)] == [tool]
    user = fresh("user")
    token = sign_in(vendor, user)["access_token"]
    gateway = module.GatewayClient(agent, user_token=token, identity=identity)
    with pytest.raises(module.ConsentRequired) as asked:
        gateway.invoke_tool(tool, {"title": "tea"}, return_url=app.return_url, custom_state="mine")
    browser = Browser()
    sign_in_at_vendor(browser, browser.submit(browser.get(asked.value.authorization_url)), user)
    identity.complete_consent(asked.value.session_uri, user_token=token)
    result = gateway.invoke_tool(tool, {"title": "tea"})
    assert result.ok and upstream.last().body == b'{"title":"tea"}'
    upstream.answer = lambda seen: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
    with pytest.raises(module.ToolError) as failed:
        gateway.invoke_tool(tool, {"title": "tea"})
    assert failed.value.code == "UNKNOWN_OUTCOME"
    # Asked once to consent, and twice the credential went into a request.
    [used] = identity.usage(agent_id=agent)
    assert (used["providerName"], used["path"], used["waiting"], used["given"], used["refused"]) == (provider, "gateway", 1, 2, 0)
    [connection] = identity.list_connections(agent_id=agent)
    assert identity.delete_connection(connection["connectionId"])["upstream"] == "revoked"
    upstream.reset()


def test_d3_a_credential_of_one_agent_is_not_overwritten_for_another(package, fresh):
    module, identity = package
    agent, name = fresh("agent"), fresh("weather")
    config = {"api_key": planted.new_secret("API key"), "injectable_hosts": ["api.example.com"]}
    identity.store_credential(agent, name, "api_key", config)
    identity.store_credential(agent, name, "api_key", config | {"injectable_hosts": ["b.example.com"]})
    with pytest.raises(module.CredentialConflict):
        identity.store_credential(fresh("agent"), name, "api_key", config)
    arn = identity.get_credential(name).arn
    assert identity.control.list_tags_for_resource(resourceArn=arn)["tags"] == {
        "agent-identity:allowed-workloads": agent, "agent-identity:injectable-hosts": "b.example.com",
    }  # fmt: skip
