"""Several accounts of one user at one provider: each keeps its own connection, and none is overwritten but on demand."""

import json
import re

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import model, planted
from harness.browser import Browser
from harness.product import command
from harness.stories import Consent, connected_user, make_user_provider, make_workload


@pytest.fixture
def place(caller, vendor, app, fresh):
    """An agent, a provider, and a user with a connection of their private account."""
    agent, provider, user = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("mail")), fresh("user")
    private = connected_user(caller, agent, provider, user, app.return_url, login=f"{user}-private")
    return agent, provider, user, private


def account(vendor, token):
    """Whose token it is, as the vendor says."""
    status, said = vendor.call_api(token)
    assert status == 200, said
    return said["subject"]


def consents(consent, login, user):
    """A whole consent with this account; what the end of it is answered."""
    consent.begin().agree(Browser(), login)
    answer = consent.complete(userId=user)
    assert answer.status == 200, answer.body


def by_label(server, agent):
    listed = command("connections", "list", "--workload", agent, "--data", str(server.data), "--json").stdout
    return {it["label"]: it.get("account") for it in json.loads(listed)}


def test_each_label_has_its_own_account_and_tokens(server, caller, vendor, place):
    agent, provider, user, private = place
    work = Consent(caller, private.wat, provider, more=private.more | {"connectionLabel": "work@example.com"})
    consents(work, f"{user}-work", user)
    for consent, whose in ((private, f"{user}-private"), (work, f"{user}-work")):
        answer = consent.ask()
        assert account(vendor, planted.plant(answer.json["accessToken"], "access token")) == whose
    assert by_label(server, agent) == {"default": f"{user}-private", "work@example.com": f"{user}-work"}


def test_another_account_is_kept_beside_and_never_given_for_the_one_that_is_there(server, caller, vendor, place):
    agent, provider, user, private = place
    # More scopes than there are: the user consents again, and happens to be signed in at the vendor as somebody else.
    wider = Consent(caller, private.wat, provider, scopes=[*private.scopes, "things.write"], more=private.more)
    consents(wider, f"{user}-work", user)
    answer = wider.poll()
    assert answer.error == "AccessDeniedException" and "another account" in answer.message
    [label] = re.findall(r"connectionLabel `([^`]+)`", answer.message)
    assert by_label(server, agent) == {"default": f"{user}-private", label: f"{user}-work"}
    assert account(vendor, planted.plant(private.ask().json["accessToken"], "access token")) == f"{user}-private"
    beside = wider.ask(connectionLabel=label).json["accessToken"]
    assert account(vendor, planted.plant(beside, "access token")) == f"{user}-work"
    # Who does it again renews what is beside, and gets no third one.
    again = Consent(caller, private.wat, provider, scopes=wider.scopes, more=private.more)
    consents(again, f"{user}-work", user)
    assert by_label(server, agent) == {"default": f"{user}-private", label: f"{user}-work"}
    outcomes = outcomes_of(server, agent)
    assert outcomes.count("account_kept_beside") == 2 and "account_replaced" not in outcomes


def test_a_forced_consent_replaces_the_account_and_that_is_on_record(server, caller, vendor, place):
    agent, provider, user, private = place
    forced = Consent(caller, private.wat, provider, more=private.more | {"forceAuthentication": True})
    consents(forced, f"{user}-work", user)
    assert account(vendor, forced.token()) == f"{user}-work"
    assert by_label(server, agent) == {"default": f"{user}-work"}
    assert outcomes_of(server, agent).count("account_replaced") == 1


def test_the_same_account_again_is_the_same_connection(server, caller, place):
    agent, provider, user, private = place
    wider = Consent(caller, private.wat, provider, scopes=[*private.scopes, "things.write"], more=private.more)
    consents(wider, f"{user}-private", user)
    wider.token()
    assert by_label(server, agent) == {"default": f"{user}-private"}


def test_the_label_of_one_account_takes_no_other(server, caller, vendor, place):
    agent, provider, user, private = place
    for force in (False, True):
        squatter = Consent(caller, private.wat, provider, more=private.more | {"connectionLabel": "account-0123456789abcdef", "forceAuthentication": force})
        consents(squatter, f"{user}-work", user)
        assert squatter.poll().error == "AccessDeniedException"
        [label] = set(by_label(server, agent)) - {"default"}
        assert label != "account-0123456789abcdef" and by_label(server, agent)[label] == f"{user}-work"


def outcomes_of(server, agent):
    lines = command("audit", "list", "--data", str(server.data), "--json", "--workload", agent).stdout.splitlines()
    return [it["outcome"] for it in map(json.loads, lines) if it["operation"] == "CompleteResourceTokenAuth"]


def test_a_tool_is_called_with_the_account_that_is_named(caller, vendor, app, fresh):
    agent = make_workload(caller, fresh("agent"), app.return_url)
    provider = make_user_provider(caller, vendor, fresh("mail"), tags={"agent-identity:injectable-hosts": vendor.address})
    user = fresh("user")
    private = connected_user(caller, agent, provider, user, app.return_url, login=f"{user}-private")
    consents(Consent(caller, private.wat, provider, more=private.more | {"connectionLabel": "work"}), f"{user}-work", user)
    caller.ok(
        "PutTool", name=fresh("things"), inputSchema={"type": "object"}, allowedWorkloads=[agent],
        request={"method": "GET", "url": f"{vendor.issuer}/api/things"},
        credential={"providerName": provider, "flow": "USER_FEDERATION", "scopes": private.scopes},
    )  # fmt: skip
    [tool] = [it["name"] for it in caller.ok("ListTools", workloadName=agent)["tools"]]

    def subject(**label):
        said = caller.ok("InvokeTool", workloadIdentityToken=private.wat, toolName=tool, input={}, **label)
        return json.loads(said["body"])["subject"]

    assert (subject(), subject(connectionLabel="work")) == (f"{user}-private", f"{user}-work")


def test_a_label_is_for_users_and_has_a_form(caller, place):
    agent, provider, user, private = place
    for label in ("", "a" * 65, "a b", "a#b", "a/b"):
        answer = private.ask(connectionLabel=label)
        assert answer.error == "ValidationException" and "connectionLabel" in answer.message, label
    machine = {"workloadIdentityToken": private.wat, "resourceCredentialProviderName": provider, "scopes": [], "oauth2Flow": "M2M"}
    answer = caller.call("GetResourceOauth2Token", **machine, connectionLabel="work")
    assert answer.error == "ValidationException" and "connectionLabel" in answer.message


def test_boto3_says_it_with_the_models_of_ours(server, caller, vendor, place, monkeypatch):
    agent, provider, user, private = place
    work = Consent(caller, private.wat, provider, more=private.more | {"connectionLabel": "work"})
    consents(work, f"{user}-work", user)
    monkeypatch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
    key = server.credentials()
    session = boto3.session.Session(
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region
    )
    data = session.client(model.DATA, endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))
    asked = {
        "workloadIdentityToken": private.wat, "resourceCredentialProviderName": provider, "scopes": private.scopes,
        "oauth2Flow": "USER_FEDERATION",
    }  # fmt: skip
    token = data.get_resource_oauth2_token(**asked, connectionLabel="work")["accessToken"]
    assert account(vendor, planted.plant(token, "access token")) == f"{user}-work"
    with pytest.raises(ClientError, match="connectionLabel"):
        data.get_resource_oauth2_token(**asked, connectionLabel="a/b")
