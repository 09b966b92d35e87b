"""Drills at a real provider: one that answers after the lease is over, and processes whose clocks are two minutes apart."""

import threading
import time
from dataclasses import dataclass, field

from harness import planted
from harness.product import ON_READ_ALONE, Server
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token

LEASE_SECONDS = 20
TTL = 90
"""The token is due after half of that; there are 45 seconds for a call that is cut off after 17, and for the next."""

MINUTE = 60
CLOCKS_APART = 2 * MINUTE


def read(caller, agent, provider, user):
    answer = stored_token(caller, workload_token(caller, agent, user), provider)
    assert answer.status == 200 and "accessToken" in answer.json, answer
    return planted.plant(answer.json["accessToken"], "access token")


def refreshes(vendor, provider):
    asked = [it for it in vendor.token_requests() if it["grantType"] == "refresh_token"]
    return [it for it in asked if it.get("clientId") == provider]


@dataclass
class Slow:
    """A user at a provider that commits a refresh, and answers when the lease of who asked is over."""

    provider: str
    keeps: bool
    tokens: list[str] = field(default_factory=list)
    asked_at: float | None = None

    def answers_after(self, vendor, seconds):
        vendor.set_client_behaviour(
            self.provider, access_token_ttl=TTL, keeps_refresh_token=self.keeps, reuse_grace=60, answers_after_ms=seconds * 1000
        )


def test_who_reads_sees_nothing_of_a_provider_that_is_slower_than_the_lease(caller, vendor, app, fresh):
    """D5: what became of the slow refresh is not known. One that rotates has committed it, and its grace takes the old token."""
    agent, user = make_workload(caller, fresh("agent"), app.return_url), fresh("user")
    places = [Slow(make_user_provider(caller, vendor, fresh("slow")), keeps) for keeps in (True, False)]
    for place in places:
        place.answers_after(vendor, 0)
        connected_user(caller, agent, place.provider, user, app.return_url)
        place.tokens.append(read(caller, agent, place.provider, user))
        place.answers_after(vendor, LEASE_SECONDS + 10)
    connected_at = time.monotonic()
    while time.monotonic() - connected_at < TTL + 5:
        for place in places:
            place.tokens.append(read(caller, agent, place.provider, user))
            if place.asked_at is None and refreshes(vendor, place.provider):
                place.asked_at = time.monotonic()
                place.answers_after(vendor, 0)
        time.sleep(0.5)
    for place in places:
        assert place.asked_at is not None and place.asked_at - connected_at > TTL / 2 - 2, "nothing was refreshed, or before its time"
        assert place.tokens[-1] != place.tokens[0] and vendor.call_api(place.tokens[-1])[0] == 200
        assert len(refreshes(vendor, place.provider)) >= 2, "the slow refresh was not cut off"
    assert vendor.counters().get("reuse_detections", 0) == 0


def test_processes_whose_clocks_are_two_minutes_apart_refresh_once_and_serve_each_other(tmp_path, vendor, app, fresh):
    on_time = Server(tmp_path / "store", (vendor.address,), environment=ON_READ_ALONE).start()
    caller = on_time.caller()
    agent, provider, user = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("clocks")), fresh("user")
    connected_user(caller, agent, provider, user, app.return_url)
    first = read(caller, agent, provider, user)
    caller.close()
    assert on_time.stop() == 0

    def at(offset):
        return Server(on_time.data, on_time.allow_egress, clock_offset_seconds=offset, environment=ON_READ_ALONE).start()

    # The token of an hour is due a quarter of an hour before its end: for the one that is ahead, and not for the other.
    behind, ahead = (at(45 * MINUTE + sign * CLOCKS_APART // 2) for sign in (-1, 1))
    callers = [behind.caller(), ahead.caller()]
    try:
        assert read(callers[0], agent, provider, user) == first and not refreshes(vendor, provider)
        # A token that the one ahead issued is good at the one behind, and the other way round.
        for mint, use in (callers, callers[::-1]):
            wat = workload_token(mint, agent, user)
            assert stored_token(use, wat, provider).status == 200
        second = read(callers[1], agent, provider, user)
        assert second != first and len(refreshes(vendor, provider)) == 1
        assert read(callers[0], agent, provider, user) == second
    finally:
        for it in callers:
            it.close()
        assert behind.stop() == ahead.stop() == 0

    # Now it is due for both, and all ask at once.
    behind, ahead = (at(2 * 46 * MINUTE + sign * CLOCKS_APART // 2) for sign in (-1, 1))
    got, failures, together = [], [], threading.Barrier(40)

    def ask(server):
        own = server.caller()
        together.wait()
        try:
            got.append(read(own, agent, provider, user))
        except AssertionError as failure:
            failures.append(str(failure))
        own.close()

    threads = [threading.Thread(target=ask, args=((behind, ahead)[n % 2],)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert behind.stop() == ahead.stop() == 0
    assert not failures and len(set(got) - {first}) == len(set(got))
    assert len(refreshes(vendor, provider)) == 2, "both have refreshed"
    assert vendor.counters().get("reuse_detections", 0) == 0
