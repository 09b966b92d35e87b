"""The audit trail (D18): who got what for whom, who changed what, and that nobody changes the trail unseen."""

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from harness import planted
from harness.busy import write_lock_held
from harness.product import Server, command, create_access_key
from harness.stories import Consent, connected_user, make_user_provider, make_workload, stored_token, workload_token


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


def listed(server, *filters):
    lines = command("audit", "list", "--data", str(server.data), "--json", *filters).stdout.splitlines()
    return [json.loads(line) for line in lines]


def verified(data, *files, expect=0):
    done = command("audit", "verify", *map(str, files), "--data", str(data), "--json", expect=expect)
    return json.loads(done.stdout)


def key_provider(caller, name):
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
    return name


def get_key(caller, wat, provider):
    return caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=provider)


def test_who_got_which_credential_for_whom_and_who_was_refused(server, caller, fresh):
    agent, weather = make_workload(caller, fresh("agent")), key_provider(caller, fresh("weather"))
    minter = server.caller(create_access_key(server.data, fresh("minter"), "mint-userid"))
    wat = workload_token(minter, agent, "ada")
    given = get_key(caller, wat, weather)
    refused = get_key(minter, wat, weather)
    broken = get_key(caller, "no-token-of-ours", weather)
    consent = stored_token(caller, wat, "nothing")
    assert (given.status, refused.status, broken.status, consent.status) == (200, 403, 401, 404)
    records = {record["request"]: record for record in listed(server) if "request" in record}

    def told(answer):
        record = records[answer.headers["x-amzn-requestid"]]
        return [record.get(name) for name in ("operation", "outcome", "principal", "workload", "provider")]

    assert told(given) == ["GetResourceApiKey", "ok", "access-key/default", agent, weather]
    assert told(refused) == ["GetResourceApiKey", "AccessDeniedException", told(refused)[2], agent, weather]
    assert told(refused)[2].startswith("access-key/minter")
    assert told(broken) == ["GetResourceApiKey", "UnauthorizedException", "access-key/default", None, weather]
    assert told(consent)[:2] == ["GetResourceOauth2Token", "ResourceNotFoundException"]
    # The first of all makes a vault key too, which is a change and another record.
    minted = listed(server, "--workload", agent, "--operation", "GetWorkloadAccessTokenForUserId")
    [minted] = [record for record in minted if "changed" not in record]
    key = records[given.headers["x-amzn-requestid"]]["user"]
    assert minted["user"] == key and len(key) == 64
    assert {it["operation"] for it in listed(server, "--user-key", key, "--provider", weather)} == {"GetResourceApiKey"}


def test_who_changed_what_by_the_wire_and_by_the_command_line(server, caller, fresh):
    agent, made = fresh("agent"), fresh("by-hand")
    created = caller.call("CreateWorkloadIdentity", name=agent)
    create_access_key(server.data, made, "read")
    command("user", "block", "--user-id", "mallory", "--data", str(server.data))
    caller.ok("DeleteWorkloadIdentity", name=agent)
    changes = [record for record in listed(server) if record.get("changed")]
    [by_wire] = [it for it in changes if it.get("request") == created.headers["x-amzn-requestid"]]
    assert (by_wire["operation"], by_wire["principal"], by_wire["outcome"]) == ("CreateWorkloadIdentity", "access-key/default", "ok")
    assert by_wire["workload"] == agent and by_wire["changed"][0].startswith("put workload/")
    assert any(it["changed"] == [by_wire["changed"][0].replace("put", "delete")] for it in changes)
    by_hand = [(it["operation"], it["changed"][0].split("/")[0]) for it in changes if it["principal"] == "administrator"]
    assert ("agent-identity access-keys create", "put access-key") in by_hand
    assert ("agent-identity user block", "put denial") in by_hand
    command("secrets", "put", made, "--data", str(server.data), stdin=planted.new_secret("external secret"))
    command("keys", "create", made, "--alg", "ES256", "--data", str(server.data))
    announced = [record["changed"] for record in listed(server, "--principal", "administrator") if "changed" in record][-2:]
    assert announced == [[f"put external-secret/{made}"], [f"put signing-key/{made}"]]
    assert "EndOfChain" not in command("audit", "list", "--data", str(server.data)).stdout, "for who verifies"
    text = command("audit", "list", "--data", str(server.data), "--workload", agent).stdout
    assert f"CreateWorkloadIdentity  ok  access-key/default  workload={agent}" in text


def test_what_cannot_be_put_on_record_is_not_given(server, caller, fresh):
    agent, weather = make_workload(caller, fresh("agent")), key_provider(caller, fresh("weather"))
    wat = workload_token(caller, agent, "ada")
    assert get_key(caller, wat, weather).status == 200
    with write_lock_held(server.data):
        held = get_key(caller, wat, weather)
    assert (held.status, held.error) == (429, "ThrottlingException") and "apiKey" not in held.json
    assert get_key(caller, wat, weather).status == 200


def test_who_asked_how_often_is_counted(server, caller, vendor, app, fresh):
    agent, weather = make_workload(caller, fresh("agent")), key_provider(caller, fresh("weather"))
    other = make_workload(caller, fresh("other"), app.return_url)
    wat = workload_token(caller, agent, "ada")
    for _ in range(3):
        get_key(caller, wat, weather)
    get_key(caller, workload_token(caller, other), weather)
    get_key(caller, wat, "nothing")
    people = make_user_provider(caller, vendor, fresh("people"))
    consent = connected_user(caller, other, people, "ada", app.return_url)
    assert consent.poll().status == stored_token(caller, consent.wat, people).status == 200
    another = Consent(caller, workload_token(caller, other, "bert"), people, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    assert "accessToken" not in another.poll().json

    expected = {(agent, weather): (3, 0, 0), (other, weather): (1, 0, 0), (agent, ""): (0, 0, 1), (other, people): (2, 3, 0)}

    def ours(used):
        counted = {(it["workloadName"], it["providerName"]): it for it in used}
        return {of: (it["given"], it["waiting"], it["refused"]) for of, it in counted.items() if of[0] in (agent, other)}

    # The server knows at once; what it has written, the command line reads.
    assert ours(caller.ok("GetUsage")["usage"]) == expected
    deadline = time.monotonic() + 20
    while (found := ours(json.loads(usage(server, "--json")))) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == expected
    assert agent in usage(server) and json.loads(usage(server, "--json", "--to", "2026-01-01")) == []


def usage(server, *arguments):
    return command("usage", "--data", str(server.data), *arguments).stdout


def test_usage_is_asked_for_by_names_days_and_pages_and_by_who_manages_them(server, caller, fresh):
    agent, providers = make_workload(caller, fresh("agent")), sorted(key_provider(caller, fresh("weather")) for _ in range(3))
    wat = workload_token(caller, agent)
    for provider in providers:
        get_key(caller, wat, provider)
    first = caller.ok("GetUsage", workloadName=agent, maxResults=2)
    rest = caller.ok("GetUsage", workloadName=agent, maxResults=2, nextToken=first["nextToken"])
    assert [it["providerName"] for it in first["usage"] + rest["usage"]] == providers and "nextToken" not in rest
    assert {it["path"] for it in first["usage"]} == {"direct"}
    [one] = caller.ok("GetUsage", providerName=providers[0])["usage"]
    assert (one["workloadName"], one["given"], one["waiting"], one["refused"]) == (agent, 1, 0, 0)
    today = datetime.now(UTC).date()
    week = {"from": str(today - timedelta(days=7)), "to": str(today)}
    assert len(caller.ok("GetUsage", workloadName=agent, **week)["usage"]) == 3
    assert caller.ok("GetUsage", workloadName=agent, **{"from": "2026-01-01", "to": "2026-01-02"})["usage"] == []
    for days, member in [
        ({"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "from"),
        ({"from": "2025-01-01", "to": "2026-02-05"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"to": "yesterday"}, "to"),
        ({"nextToken": first["nextToken"][:-2] + "AA"}, "nextToken"),
    ]:
        refused = caller.call("GetUsage", **days)
        assert refused.status == 400 and member in refused.wrong_fields, (days, refused)
    # One who manages one provider sees what is asked of it, by agents that are theirs too.
    mine = server.caller(create_access_key(server.data, fresh("key"), f"admin workload={agent} provider={providers[1]}"))
    assert [it["providerName"] for it in mine.ok("GetUsage")["usage"]] == [providers[1]]
    assert mine.call("GetUsage", providerName=providers[0]).status == 403
    mine.close()


def test_names_that_somebody_made_up_are_not_counted_by_and_nobodys_requests_are_not_everybodys(server, caller, fresh):
    agent = make_workload(caller, fresh("agent"))
    stranger = server.caller(create_access_key(server.data, fresh("key"), "read workload=zzz provider=zzz"))
    wat = workload_token(caller, agent)
    for name in (fresh("invented"), fresh("invented")):
        assert get_key(stranger, "no-token", name).status == 401
        assert get_key(stranger, wat, name).status == 403
        assert get_key(caller, wat, name).status == 404
    stranger.close()
    used = caller.ok("GetUsage")["usage"]
    assert not [it for it in used if it["providerName"].startswith("invented")]
    [unknown] = [it for it in used if (it["workloadName"], it["providerName"]) == (agent, "")]
    assert unknown["refused"] >= 4
    for grant in (f"admin workload={agent} provider=weather*", "admin workload=other* provider=*", "admin workload=other provider=other"):
        mine = server.caller(create_access_key(server.data, fresh("key"), grant))
        assert [it for it in mine.ok("GetUsage")["usage"] if "" in (it["workloadName"], it["providerName"])] == []
        mine.close()


def test_what_was_counted_outlives_the_server_and_adds_up(tmp_path, fresh):
    running, agent = Server(tmp_path / "data"), fresh("agent")
    provider = fresh("weather")
    for _ in range(2):
        running.start()
        caller = running.caller()
        if not caller.ok("ListWorkloadIdentities")["workloadIdentities"]:
            make_workload(caller, agent)
            key_provider(caller, provider)
        get_key(caller, workload_token(caller, agent), provider)
        caller.close()
        assert running.stop() == 0
    [used] = json.loads(usage(running, "--json"))
    assert (used["workloadName"], used["providerName"], used["given"]) == (agent, provider, 2)


@pytest.fixture
def trail(tmp_path):
    """The data directory of a server that has ended: chains with an end, and signed."""
    server = Server(tmp_path / "store").start()
    caller = server.caller()
    agent, weather = make_workload(caller, "agent"), key_provider(caller, "weather")
    wat = workload_token(caller, agent, "ada")
    for number in range(5):
        assert get_key(caller, wat, weather).status == 200
        make_workload(caller, f"agent-{number}")
    caller.close()
    assert server.stop() == 0
    report = verified(server.data)
    assert report["findings"] == report["withoutEnd"] == report["unsigned"] == []
    return server.data


def rows(database, kind="audit"):
    """The longest chain's rows."""
    found = database.execute('SELECT rowid, "partition", sort, value FROM rows WHERE kind = ? ORDER BY sort', (kind,)).fetchall()
    chains = {}
    for row in found:
        chains.setdefault(row[2].split("/")[0], []).append(row)
    return max(chains.values(), key=len)


def edit(database, chain):
    rowid, _, _, value = chain[3]
    database.execute("UPDATE rows SET value = ? WHERE rowid = ?", (value.replace(b'"ok"', b'"OK"'), rowid))
    return "link 4 was changed"


def edit_the_last(database, chain):
    rowid, _, _, value = chain[-1]
    database.execute("UPDATE rows SET value = ? WHERE rowid = ?", (value.replace(b'"ok"', b'"OK"'), rowid))
    return f"link {len(chain)} was changed"


def delete_in_the_middle(database, chain):
    database.execute("DELETE FROM rows WHERE rowid IN (?, ?)", (chain[2][0], chain[3][0]))
    return "links 3 to 4 are missing"


def cut_off(database, chain):
    database.execute("DELETE FROM rows WHERE rowid = ?", (chain[-1][0],))
    return f"it was signed up to link {len(chain)}, and ends with link {len(chain) - 1}"


def delete_the_chain(database, chain):
    database.executemany("DELETE FROM rows WHERE rowid = ?", [(row[0],) for row in chain])
    return f"it was signed up to link {len(chain)}, and ends with link 0"


def exchange(database, chain):
    for (rowid, *_), (_, _, _, value) in ((chain[2], chain[3]), (chain[3], chain[2])):
        database.execute("UPDATE rows SET value = ? WHERE rowid = ?", (value, rowid))
    return "holds another link"


def sign_less(database, chain):
    name = chain[0][2].split("/")[0]
    database.execute("DELETE FROM rows WHERE rowid = ?", (chain[-1][0],))
    rowid, value = database.execute("SELECT rowid, value FROM rows WHERE kind = 'audit-head' AND sort = ?", (name,)).fetchone()
    head = json.loads(value)
    head["head"]["sequence"] -= 1
    database.execute("UPDATE rows SET value = ? WHERE rowid = ?", (json.dumps(head).encode(), rowid))
    return "the signature of its head is not ours"


def write_nonsense(database, chain):
    database.execute("UPDATE rows SET value = x'6e6f' WHERE rowid = ?", (chain[1][0],))
    return "unreadable"


ATTACKS = [edit, edit_the_last, delete_in_the_middle, cut_off, delete_the_chain, exchange, sign_less, write_nonsense]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_whoever_writes_to_the_database_is_found_out(trail, attack):
    with closing(sqlite3.connect(trail / "agent-identity.db")) as database, database:
        expected = attack(database, rows(database))
    findings = verified(trail, expect=1)["findings"]
    assert any(expected in finding for finding in findings), findings
    said = command("audit", "verify", "--data", str(trail), expect=1).stdout
    assert "NOT as it was written" in said and expected in said


def test_an_export_is_verified_as_the_trail_is(trail, tmp_path):
    export = command("audit", "export", "--data", str(trail)).stdout
    file = tmp_path / "trail.jsonl"
    file.write_text(export)
    whole = verified(trail, file)
    assert whole == verified(trail) and whole["records"] > 10
    # Elsewhere there is no key for the heads: chains are verified, and it is said that no end is vouched for.
    elsewhere = verified(tmp_path / "nowhere", file)
    assert elsewhere["findings"] == [] and len(elsewhere["unsigned"]) == whole["chains"]
    lines = export.splitlines()
    links = [number for number, line in enumerate(lines) if line.startswith('{"link"')]
    # Of one chain, two that follow each other.
    chain = lambda number: json.loads(lines[number])["link"]["chain"]
    first = next(number for number in links if number + 2 in links and chain(number) == chain(number + 2))
    for spoiled, expected in (
        (lines[: first + 1] + lines[first + 2 :], "is missing"),
        (lines[: first + 1] + [lines[first + 2], lines[first + 1]] + lines[first + 3 :], "out of order"),
        (lines[: first + 1] + [lines[first]] + lines[first + 1 :], "there twice"),
        ([line.replace("access-key/default", "access-key/another") for line in lines], "was changed"),
    ):
        file.write_text("\n".join(spoiled) + "\n")
        findings = verified(trail, file, expect=1)["findings"]
        assert any(expected in finding for finding in findings), (expected, findings)
