"""What is due is done by `serve` itself, without anybody asking: the same code as on AWS, in one process."""

import json
import time

from harness.product import ON_READ_ALONE, Server, command
from harness.stories import connected_user, make_user_provider, make_workload


def until(done, what):
    """A tick is every ten seconds."""
    deadline = time.monotonic() + 40
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def short_lived(caller, vendor, app, fresh, user):
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    vendor.set_access_token_ttl(8)
    consent = connected_user(caller, agent, provider, user, app.return_url)
    vendor.set_access_token_ttl(3600)
    return consent


def test_a_connection_is_refreshed_although_nobody_reads_it(caller, vendor, app, fresh):
    vendor.reset()
    consent = short_lived(caller, vendor, app, fresh, fresh("ada"))
    first = consent.token()
    until(lambda: vendor.count("refresh_token") == 1, "nobody refreshed it")
    second = consent.token()
    assert second != first and vendor.call_api(second)[0] == 200
    assert vendor.count("refresh_token") == 1, "the reader found it refreshed"


def test_d6_what_is_due_is_shown_and_then_done_by_hand(vendor, app, fresh, tmp_path):
    vendor.reset()
    server = Server(tmp_path / "store", (vendor.address,), environment=ON_READ_ALONE).start()
    caller = server.caller()

    def refresh(*arguments):
        reach = ("--data", str(server.data), "--allow-egress", vendor.address)
        return command("refresh", "--due", *arguments, *reach).stdout

    assert json.loads(refresh("--dry-run", "--json")) == []
    consents = [short_lived(caller, vendor, app, fresh, fresh("ada")) for _ in range(3)]
    until(lambda: len(json.loads(refresh("--dry-run", "--json"))) == 3, "they do not come due")
    assert "3 connections are due; nothing was done" in refresh("--dry-run")
    assert vendor.count("refresh_token") == 0
    assert refresh() == "3 renewed\n" and refresh() == "nothing is due\n"
    assert vendor.count("refresh_token") == 3
    assert all(vendor.call_api(consent.token())[0] == 200 for consent in consents)
    assert vendor.count("refresh_token") == 3, "the reader found them refreshed"
    command("refresh", "--data", str(server.data), expect=2)
    caller.close()
    assert server.stop() == 0


def test_two_processes_on_one_directory_refresh_each_once(vendor, app, fresh, tmp_path):
    vendor.reset()
    servers = [Server(tmp_path / "store", (vendor.address,)).start() for _ in range(2)]
    caller = servers[0].caller()
    users = [fresh("user") for _ in range(12)]
    agent, provider = make_workload(caller, "agent", app.return_url), make_user_provider(caller, vendor, "people")
    vendor.set_access_token_ttl(8)
    consents = [connected_user(caller, agent, provider, user, app.return_url) for user in users]
    vendor.set_access_token_ttl(3600)
    until(lambda: vendor.count("refresh_token") >= len(users), "not all were refreshed")
    time.sleep(11)
    assert (vendor.count("refresh_token"), vendor.counters()["reuse_detections"]) == (len(users), 0)
    assert all(vendor.call_api(consent.token())[0] == 200 for consent in consents)
    caller.close()
    assert [one.stop() for one in servers] == [0, 0]


def test_a_provider_that_did_not_hear_of_a_deletion_is_told_later(caller, vendor, app, fresh):
    user = fresh("ada")
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    token = connected_user(caller, agent, provider, user, app.return_url).token()
    [shown] = caller.ok("ListConnections", userId=user)["connections"]
    vendor.make_revocation_trouble("status", status=503)
    assert caller.ok("DeleteConnection", connectionId=shown["connectionId"])["upstream"] == "queued"
    vendor.make_revocation_trouble()
    until(lambda: vendor.call_api(token)[0] == 401, "the provider was not told")
    assert vendor.live_grants_of(user) == 0
