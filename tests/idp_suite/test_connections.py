"""Which connections there are: unmodified boto3 with the models of ours, the command line beside the server, and who may see what."""

import json
import time

import boto3
import pytest
from botocore.config import Config

from harness import model
from harness.product import Server, command, create_access_key
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token
from harness.vendor import Vendor


@pytest.fixture(scope="module")
def control(server):
    """A client of the management operations; the models of ours come by AWS_DATA_PATH."""
    key = server.credentials()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
        session = boto3.session.Session(
            aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region
        )
        return session.client(model.CONTROL, endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture(scope="module")
def place(caller, vendor, app, fresh):
    """Two users at two providers, for two workloads."""
    made = {
        "agents": [make_workload(caller, fresh("agent"), app.return_url) for _ in range(2)],
        "providers": [make_user_provider(caller, vendor, fresh("people")) for _ in range(2)],
        "users": [fresh("user") for _ in range(2)],
    }
    for agent in made["agents"]:
        for provider in made["providers"]:
            for user in made["users"]:
                connected_user(caller, agent, provider, user, app.return_url)
    return made


def listed(control, **about):
    """All pages, of two entries each."""
    found, more = [], {}
    while True:
        page = control.list_connections(**about, maxResults=2, **more)
        assert len(page["connections"]) <= 2
        found += page["connections"]
        if "nextToken" not in page:
            return found
        more = {"nextToken": page["nextToken"]}


def of(connections):
    return sorted((it["workloadName"], it["providerName"]) for it in connections)


def test_they_are_found_by_user_workload_and_provider(control, place):
    (agent, _), (provider, _), (user, _) = place["agents"], place["providers"], place["users"]
    all_of_user = listed(control, userId=user)
    assert of(all_of_user) == sorted((a, p) for a in place["agents"] for p in place["providers"])
    assert len(listed(control, workloadName=agent)) == len(listed(control, providerName=provider)) == 4
    assert of(listed(control, workloadName=agent, userId=user, providerName=provider)) == [(agent, provider)]
    assert len({it["connectionId"] for it in all_of_user}) == 4
    assert len({it["userKey"] for it in all_of_user}) == 1


def test_one_says_how_it_does(control, caller, place, vendor):
    (agent, _), (provider, _), (user, _) = place["agents"], place["providers"], place["users"]
    [shown] = listed(control, workloadName=agent, userId=user, providerName=provider)
    assert (shown["status"], shown["label"], shown["failures"]) == ("ACTIVE", "default", 0)
    assert set(shown["scopes"]) <= set(shown["requestedScopes"]) or shown["scopes"]
    assert shown["obtainedTime"] < shown["nextRefreshTime"] < shown["expiresTime"]
    same = control.get_connection(connectionId=shown["connectionId"])
    same.pop("ResponseMetadata")
    assert same == shown
    # A token is in none of it.
    wat = workload_token(caller, agent, user)
    token = stored_token(caller, wat, provider).json["accessToken"]
    assert token not in json.dumps(shown, default=str)


def test_one_that_fails_says_why_and_is_well_again(control, caller, vendor, app, fresh):
    agent, provider, user = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("failing")), fresh("user")
    vendor.set_client_behaviour(provider, 3, keeps_refresh_token=True, answers_after_ms=0)
    connected_user(caller, agent, provider, user, app.return_url)
    wat = workload_token(caller, agent, user)

    def until(fails, said):
        deadline = time.monotonic() + 20
        while True:
            stored_token(caller, wat, provider)
            [shown] = listed(control, userId=user)
            if (shown["failures"] > 0) == fails and shown.get("lastError") in said:
                return
            assert time.monotonic() < deadline, shown
            time.sleep(0.5)

    vendor.make_trouble("status", status=503)
    try:
        # First nobody knows what became of it; then the provider is suspended, and nothing is sent.
        until(True, ("no_answer", "not_sent"))
    finally:
        vendor.end_trouble()
    until(False, (None,))



@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({"userId": "ada", "subject": "ada"}, ["userId"]),
        ({"issuer": "https://a.example"}, ["subject"]),
        ({"workloadName": "a b"}, ["workloadName"]),
        ({"providerName": "a b"}, ["providerName"]),
        ({"userId": "ada", "maxResults": 0}, ["maxResults"]),
        ({"userId": "ada", "maxResults": 101}, ["maxResults"]),
        ({"userId": "ada", "nextToken": "of another list"}, ["nextToken"]),
    ],
)
def test_what_is_wrong_with_a_list_is_named(caller, members, wrong):
    assert caller.refused("ListConnections", 400, "ValidationException", **members).wrong_fields == wrong


def test_a_list_is_about_something(caller):
    assert caller.refused("ListConnections", 400, "ValidationException").wrong_fields == ["workloadName"]


@pytest.mark.parametrize("text", ["", "x", "a.b.c.d", f"{'0' * 32}.{'0' * 64}.{'0' * 32}.", f"{'0' * 32}.{'0' * 64}.{'A' * 32}.default"])
def test_what_is_no_id_is_refused(caller, text):
    assert caller.refused("GetConnection", 400, "ValidationException", connectionId=text).wrong_fields == ["connectionId"]


def test_an_id_of_nothing_is_not_found(caller):
    caller.refused("GetConnection", 404, "ResourceNotFoundException", connectionId=f"{'0' * 32}.{'0' * 64}.{'0' * 32}.default")
    caller.refused("ListConnections", 404, "ResourceNotFoundException", workloadName="nobody-made-this")


def test_d1_one_sees_what_ones_grants_are_for(server, caller, place, fresh):
    (agent, other), (provider, _), (user, _) = place["agents"], place["providers"], place["users"]
    [shown] = caller.ok("ListConnections", workloadName=agent, userId=user, providerName=provider)["connections"]
    narrow = server.caller(create_access_key(server.data, fresh("narrow"), f"admin workload={agent} provider={provider}"))
    assert len(narrow.ok("ListConnections", userId=user)["connections"]) == 1
    narrow.ok("GetConnection", connectionId=shown["connectionId"])
    assert "ListConnections" in narrow.refused("ListConnections", 403, "AccessDeniedException", workloadName=other).message
    for theirs in caller.ok("ListConnections", workloadName=other)["connections"]:
        refused = narrow.refused("GetConnection", 403, "AccessDeniedException", connectionId=theirs["connectionId"])
        unknown = narrow.refused("GetConnection", 403, "AccessDeniedException", connectionId=theirs["connectionId"] + "x")
        assert "GetConnection" in refused.message and refused.message == unknown.message
    narrow.close()
    nobody = server.caller(create_access_key(server.data, fresh("reader"), "mint-jwt,mint-userid,use,read"))
    for operation, members in (("ListConnections", {"userId": user}), ("GetConnection", {"connectionId": shown["connectionId"]})):
        assert operation in nobody.refused(operation, 403, "AccessDeniedException", **members).message
    nobody.close()


def test_the_command_line_says_the_same_beside_the_server(server, caller, place):
    (agent, _), (provider, _), (user, _) = place["agents"], place["providers"], place["users"]
    data = ("--data", str(server.data))
    listed = json.loads(command("connections", "list", "--user-id", user, "--json", *data).stdout)
    assert len(listed) == 4
    [one] = json.loads(command("connections", "list", "--user-id", user, "--workload", agent, "--provider", provider, "--json", *data).stdout)
    assert json.loads(command("connections", "get", one["connectionId"], "--json", *data).stdout) == one
    table = command("connections", "list", "--workload", agent, *data).stdout
    assert table.count("active") == 4 and provider in table
    command("connections", "list", *data, expect=2)
    command("connections", "get", "nonsense", *data, expect=2)


def test_a_deleted_connection_is_gone_here_and_revoked_at_the_provider(control, caller, vendor, app, fresh):
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    ada, bob = fresh("ada"), fresh("bob")
    tokens = {user: connected_user(caller, agent, provider, user, app.return_url).token() for user in (ada, bob)}
    assert all(vendor.call_api(token)[0] == 200 for token in tokens.values())
    [shown] = listed(control, userId=ada)
    ended = control.delete_connection(connectionId=shown["connectionId"])
    ended.pop("ResponseMetadata")
    assert ended == {"local": "destroyed", "upstream": "revoked"}
    assert listed(control, userId=ada) == [] and len(listed(control, workloadName=agent)) == 1
    assert vendor.call_api(tokens[ada])[0] == 401 and vendor.live_grants_of(ada) == 0, "the provider takes neither"
    assert "accessToken" not in stored_token(caller, workload_token(caller, agent, ada), provider).json
    caller.refused("DeleteConnection", 404, "ResourceNotFoundException", connectionId=shown["connectionId"])
    assert vendor.call_api(tokens[bob])[0] == 200 and vendor.live_grants_of(bob) == 1, "another user's is as it was"


def test_who_leaves_is_offboarded_in_one_call(control, caller, vendor, app, fresh):
    agents = [make_workload(caller, fresh("agent"), app.return_url) for _ in range(2)]
    providers = [make_user_provider(caller, vendor, fresh("people")) for _ in range(2)]
    user = fresh("ada")
    pairs = [(agent, provider) for agent in agents for provider in providers]
    tokens = [connected_user(caller, agent, provider, user, app.return_url).token() for agent, provider in pairs]
    ids = {it["connectionId"] for it in listed(control, userId=user)}
    gone = control.offboard_user(userId=user)
    assert gone["complete"] and {it["connectionId"] for it in gone["connections"]} == ids
    assert {(it["local"], it["upstream"]) for it in gone["connections"]} == {("destroyed", "revoked")}
    assert [vendor.call_api(token)[0] for token in tokens] == [401] * 4 and vendor.live_grants_of(user) == 0
    caller.refused("GetWorkloadAccessTokenForUserId", 403, "AccessDeniedException", workloadName=agents[0], userId=user)
    assert control.offboard_user(userId=user)["connections"] == []


def test_the_command_line_deletes_and_offboards_beside_the_server(server, caller, vendor, app, fresh):
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    ada, bob = fresh("ada"), fresh("bob")
    tokens = {user: connected_user(caller, agent, provider, user, app.return_url).token() for user in (ada, bob)}
    data, reach = ("--data", str(server.data)), ("--allow-egress", vendor.address)
    [shown] = json.loads(command("connections", "list", "--user-id", ada, "--json", *data).stdout)
    ended = json.loads(command("connections", "delete", shown["connectionId"], "--json", *data, *reach).stdout)
    assert (ended["local"], ended["upstream"], ended["reason"]) == ("destroyed", "revoked", None)
    command("connections", "delete", shown["connectionId"], *data, *reach, expect=1)
    said = command("user", "offboard", "--user-id", bob, *data, *reach).stdout
    assert "revoked at the provider" in said and "1 connections were deleted" in said
    assert [vendor.call_api(token)[0] for token in tokens.values()] == [401, 401]
    assert caller.ok("ListConnections", workloadName=agent)["connections"] == []
    command("user", "offboard", *data, expect=2)


def test_a_provider_that_is_out_of_reach_hears_later(server, caller, app, fresh):
    gone = Vendor(clients=[])
    narrow = Server(server.data.parent / fresh("elsewhere"), (gone.address,)).start()
    try:
        there = narrow.caller()
        agent, provider = make_workload(there, "agent", app.return_url), make_user_provider(there, gone, "people")
        connected_user(there, agent, provider, "ada", app.return_url)
        [shown] = there.ok("ListConnections", userId="ada")["connections"]
        gone.stop()
        ended = there.ok("DeleteConnection", connectionId=shown["connectionId"])
        assert (ended["local"], ended["upstream"]) == ("destroyed", "queued") and "people" in ended["reason"]
        assert there.ok("ListConnections", userId="ada")["connections"] == []
        there.close()
    finally:
        assert narrow.stop() == 0


def test_d8_a_grant_that_was_refused_by_mistake_is_tried_again(server, control, caller, vendor, app, fresh):
    """The provider's directory is out of order, and it takes that for a dead grant (invalid_grant). Afterwards nobody has to consent."""
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    users = [fresh("user") for _ in range(3)]
    vendor.set_client_behaviour(provider, 2, keeps_refresh_token=False, answers_after_ms=0)
    for user in users:
        connected_user(caller, agent, provider, user, app.return_url)
        vendor.forget_account(user)
    time.sleep(2.1)
    dead = []
    for user in users:
        assert stored_token(caller, workload_token(caller, agent, user), provider).error == "ValidationException", "no token, and no return URL"
        [shown] = control.list_connections(userId=user)["connections"]
        assert (shown["status"], shown["statusReason"]) == ("NEEDS_CONSENT", "invalid_grant")
        dead.append(shown["connectionId"])
    shown = control.retry_connection(connectionId=dead[0])
    assert (shown["status"], shown["statusReason"]) == ("NEEDS_CONSENT", "invalid_grant"), "the provider still says so"
    for user in users:
        vendor.forget_account(user, missing=False)
    assert control.retry_connection(connectionId=dead[0])["status"] == "ACTIVE"
    egress = ("--allow-egress", vendor.address)
    tried = command("connections", "retry", "--provider", provider, "--data", str(server.data), "--json", *egress)
    assert [it["status"] for it in json.loads(tried.stdout)] == ["ACTIVE"] * 2 and "2 of 2 tried" in tried.stderr
    for user in users:
        token = stored_token(caller, workload_token(caller, agent, user), provider).json["accessToken"]
        assert vendor.call_api(token)[0] == 200
