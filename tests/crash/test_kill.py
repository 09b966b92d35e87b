"""`serve` is killed at random points under load and started again on the same data: nothing acknowledged is lost."""

import subprocess
import time

from harness.places import BINARY, plain_environment
from harness.product import Server
from harness.stories import (
    connected_user, machine_token, make_machine_provider, make_user_provider, make_workload, stored_token,
    workload_token,
)  # fmt: skip

from crash.load import Completer, Connections, Ledger, TokenReader, Writer, check

WRITERS = 4
REFRESHERS = 6
KILLS_BETWEEN_RESTS = 50
"""After so many the process may live long enough to take over the leases of its dead predecessors."""


def test_nothing_that_was_acknowledged_is_lost(tmp_path, vendor, app, dice, kills, capsys):
    server = Server(tmp_path / "store", (vendor.address,)).start()
    caller = server.caller()
    credentials = caller.credentials
    make_workload(caller, "agent", app.return_url)
    users = make_user_provider(caller, vendor, "users")
    machines = make_machine_provider(caller, vendor, "machines")
    connections = Connections.make(caller, vendor, "short-lived", app.return_url)
    ledger, expected, reads, kept_machine_token = Ledger(), {}, [], None
    served = 0

    for round_number in range(kills):
        caller = server.caller(credentials)
        wat = workload_token(caller, "agent", "reader")

        # A user who consents in this life of the process keeps the token in all later ones.
        if round_number % 5 == 0:
            user = f"user-{round_number}"
            consent = connected_user(caller, "agent", users, user, app.return_url)
            expected[user] = consent.token()
            reads = [(workload_token(caller, "agent", name), users) for name in expected]
        machine = machine_token(caller, wat, machines)
        assert kept_machine_token in (None, machine), "the machine token was fetched again"
        kept_machine_token = machine

        seed = dice.getrandbits(32)
        writers = [Writer(n, server.caller(credentials), ledger, seed + n) for n in range(WRITERS)]
        readers = [TokenReader(server.caller(credentials), reads, ledger.surprises)]
        life = dice.uniform(0.0, 0.4)
        completing = [
            Completer(server.caller(credentials), connections, *connections.agreed(caller, f"late-{round_number}-{n}"),
                      wait=life * dice.uniform(0.0, 1.0))
            for n in range(2)
        ]  # fmt: skip
        refreshing = connections.readers(server, credentials, REFRESHERS)
        everybody = [*writers, *readers, *completing, *refreshing]
        for thread in everybody:
            thread.start()
        time.sleep(life)
        server.kill()
        for thread in everybody:
            thread.running = False
            thread.join(30)
            assert not thread.is_alive(), "a client hangs on a dead server"
            thread.caller.close()
        served += readers[0].served
        assert ledger.surprises == [] == connections.surprises
        caller.close()

        server = Server(server.data, server.allow_egress, port=server.port).start()
        caller = server.caller(credentials)
        assert check(caller, ledger, wat) == [], f"after kill {round_number + 1}"
        for user, token in expected.items():
            answer = stored_token(caller, workload_token(caller, "agent", user), users)
            assert answer.json.get("accessToken") == token, f"{user} after kill {round_number + 1}: {answer}"
        for old_wat, provider in reads:
            assert stored_token(caller, old_wat, provider).status == 200, "a token from before the kill opens"
        caller.close()
        if round_number + 1 == kills or (round_number + 1) % KILLS_BETWEEN_RESTS == 0:
            connections.settle(server, credentials)
            assert connections.surprises == [], f"after kill {round_number + 1}"

    assert server.stop() == 0
    assert ledger.acknowledged > kills * 5, "there was hardly any load"
    assert served > kills, "tokens were hardly read"
    assert vendor.count("client_credentials") == 1
    assert vendor.counters()["reuse_detections"] == 0
    for token in expected.values():
        assert vendor.call_api(token)[0] == 200
    refreshes = vendor.count("refresh_token")
    with capsys.disabled():
        print(
            f"crash: {kills} kills, {connections.interrupted_completions} of them in a completion and "
            f"{connections.interrupted_refreshes} in a refresh; {len(connections.established)} connections, "
            f"{refreshes} refreshes, {connections.lost_codes} codes lost unacknowledged"
        )
    assert len(connections.established) > kills / 2 and refreshes > kills, "hardly anything was completed or refreshed"
    assert connections.interrupted_completions > 0 and connections.interrupted_refreshes > 0, "no kill hit where it hurts"


def test_a_restart_after_a_kill_is_quick_and_needs_no_repair(tmp_path):
    server = Server(tmp_path / "store").start()
    for _ in range(5):
        server.kill()
        began = time.monotonic()
        server.start()
        assert time.monotonic() - began < 3
    records = server.log_records()
    assert server.stop() == 0
    assert [record for record in records if record.get("level") == "ERROR"] == []


def test_a_kill_in_the_very_first_start_leaves_a_directory_that_starts(tmp_path, dice):
    for number in range(15):
        data = tmp_path / f"store-{number}"
        process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0", "--data", data],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=plain_environment(),
        )  # fmt: skip
        time.sleep(dice.uniform(0.0, 0.03))
        process.kill()
        process.wait()
        server = Server(data).start()
        make_workload(server.caller(), "agent")
        assert server.stop() == 0
