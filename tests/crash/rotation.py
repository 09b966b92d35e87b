"""Refreshes at a provider that rotates, whose processes are killed: D6, counted from the provider's own log.

A refresh whose answer was not kept is told by what its user's next request presents: not the token that was issued then.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.browser import Browser
from harness.stories import Consent, make_user_provider, make_workload, stored_token, workload_token
from harness.vendor import Vendor
from harness.wire import Caller

from crash.load import NO_ANSWER

LIFE = 2
"""Seconds that access tokens live: each is refreshed after half of that."""

AT_ONCE = 6
"""Users whose tokens are read when a kill comes."""

MOST = 50
"""Users who are connected at a time: so many are settled one after the other well before a grace of 60 s ends."""

SETTLED_WITHIN = 150
"""Seconds: a lease of 20, the schedule's watch of 25 over another's (D7), what follows, and a busy machine."""

TAKEN_OVER_WITHIN = 50
"""Seconds of that, after which nobody watches a lease any more."""

BELIEVED = 5
"""Dead grants that a process believes at once (D8): the rest are held for ten minutes, and not told from a provider's mistake. A new
process believes as many again."""


class Place(Protocol):
    """Where the product runs, and how it dies."""

    busy_for: float
    """Seconds within which a read of everybody at once is done."""

    answers_after_ms: int
    """What passes between the provider's commit and its answer, so that kills fall between."""

    died_at: list[float]
    """When its processes were killed."""

    def caller(self) -> Caller: ...

    def kill(self) -> int:
        """Kills all processes that work, and says how many those were; the next request finds others."""

    def work_off_what_is_due(self) -> None:
        """Where nobody else does."""

    def renew(self) -> None:
        """Ends all processes as they end by themselves; the next request finds others."""

    def announced(self) -> set[tuple[str, str]]:
        """Users that were said to be lost so far, by key, with the reason."""


@dataclass
class Answered:
    """What a reader heard, and when."""

    at: float
    token: str | None
    error: str | None


@dataclass
class Users:
    vendor: Vendor
    provider: str
    agent: str
    return_url: str
    logins: dict[str, float] = field(default_factory=dict)
    """Since when they are connected."""
    cut: set[str] = field(default_factory=set)
    lost: dict[str, float] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)

    def connect(self, caller: Caller, login: str) -> None:
        wat = workload_token(caller, self.agent, login)
        consent = Consent(caller, wat, self.provider, more={"resourceOauth2ReturnUrl": self.return_url}).begin()
        consent.agree(Browser(), login)
        answer = consent.complete(userId=login)
        assert answer.status == 200, answer
        self.logins[login] = time.time()

    def ripe(self) -> list[str]:
        free = [login for login, since in self.logins.items() if login not in self.cut and login not in self.lost]
        return [login for login in free if time.time() - self.logins[login] > LIFE / 2][-AT_ONCE:]

    def read(self, caller: Caller, login: str) -> Answered:
        answer = stored_token(caller, workload_token(caller, self.agent, login), self.provider)
        at = time.time()
        if "accessToken" in answer.json:
            return Answered(at, answer.json["accessToken"], None)
        if answer.error not in ("ThrottlingException", "ValidationException"):
            self.surprises.append(f"{login}: {answer}")
        return Answered(at, None, answer.error)


def round_of_kills(place: Place, users: Users, dice: random.Random) -> int:
    """Everybody whose token is due reads it, and somewhere in that the processes die."""
    callers = {login: place.caller() for login in users.ripe()}

    def read(login: str) -> None:
        try:
            if users.read(callers[login], login).error:
                users.cut.add(login)
        except NO_ANSWER:
            users.cut.add(login)

    threads = [threading.Thread(target=read, args=(login,), daemon=True) for login in callers]
    for thread in threads:
        thread.start()
    time.sleep(dice.uniform(0.0, place.busy_for))
    killed = place.kill()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a client hangs on a dead process"
    for caller in callers.values():
        caller.close()
    return killed


def settle(place: Place, users: Users) -> None:
    """As `settled`, while what is due is worked off: a read of somebody whose lease is watched takes seconds."""
    done = threading.Event()

    def schedule() -> None:
        while not done.wait(1):
            place.work_off_what_is_due()

    working = threading.Thread(target=schedule)
    working.start()
    try:
        settled(place, users)
    finally:
        done.set()
        working.join()


def settled(place: Place, users: Users) -> None:
    """With nobody killing: each user has a token that works, twice, or is lost and was announced."""
    deadline, renew_at = time.monotonic() + SETTLED_WITHIN, time.monotonic() + TAKEN_OVER_WITHIN
    caller, lost_before = place.caller(), len(users.lost)
    renewed: dict[str, str] = {}
    left = [login for login in users.logins if login not in users.lost]
    users.cut.clear()
    while left:
        assert time.monotonic() < deadline, f"{len(left)} users are neither served nor lost: {left[:5]}"
        for login in list(left):
            heard = users.read(caller, login)
            if heard.error == "ValidationException":
                # There is no token, and this request named no return URL for a new consent.
                users.lost[login] = heard.at
                left.remove(login)
            elif heard.token and users.vendor.call_api(heard.token)[0] == 200:
                # Once more, so that the last answer that came was kept.
                if renewed.setdefault(login, heard.token) != heard.token:
                    left.remove(login)
        time.sleep(0.3)
        if time.monotonic() > renew_at and len(users.lost) - lost_before >= BELIEVED:
            place.renew()
            renew_at, lost_before = time.monotonic() + 4, len(users.lost)
            caller.close()
            caller = place.caller()
    keys = {it["userKey"]: it for login in users.lost for it in caller.ok("ListConnections", userId=login)["connections"]}
    while {key for key, _ in place.announced()} != set(keys):
        assert time.monotonic() < deadline, f"announced: {place.announced()}, lost: {set(keys)}"
        time.sleep(0.5)
    assert all(it["status"] == "NEEDS_CONSENT" for it in keys.values())
    assert {reason for _, reason in place.announced()} <= {"lost_rotation", "invalid_grant"}
    caller.close()


@dataclass
class Counted:
    """What the provider's log says."""

    refreshes: int = 0
    unkept: dict[str, float] = field(default_factory=dict)
    """Users of whom an answer was not kept, with when the provider committed it last."""
    reuse_detections: int = 0


def count(vendor: Vendor, users: Users, owners: dict[str, str]) -> Counted:
    """Follows the tokens of each user. `owners` says whose the first ones are."""
    counted = Counted(reuse_detections=vendor.counters()["reuse_detections"])
    owner, newest = dict(owners), {}
    for entry in vendor.token_requests():
        if entry.get("clientId") != users.provider or entry["grantType"] != "refresh_token":
            continue
        counted.refreshes += 1
        login = owner[entry["presented"]]
        issued, at = newest.get(login, (entry["presented"], 0.0))
        if entry["presented"] != issued:
            counted.unkept[login] = at
        if entry.get("issued"):
            owner[entry["issued"]] = login
            newest[login] = entry["issued"], entry["committedAt"] / 1000
    return counted


def first_tokens(vendor: Vendor, users: Users, before: int) -> list[str]:
    """The refresh tokens that codes were exchanged for, from this entry of the log on."""
    entries = vendor.token_requests()[before:]
    return [entry["issued"] for entry in entries if entry.get("clientId") == users.provider and entry["grantType"] == "authorization_code"]


def kill_and_count(
    place: Place, vendor: Vendor, return_url: str, name: str, grace: int, kills: int, dice: random.Random, capsys: Any
) -> None:
    """The whole story, at a provider with so many seconds of grace. Where there is one, processes live long enough to take over from
    the dead before it ends: that is what `longer than recovery` means."""
    caller = place.caller()
    agent, provider = make_workload(caller, f"agent-{name}", return_url), make_user_provider(caller, vendor, name)
    vendor.set_client_behaviour(name, LIFE, keeps_refresh_token=False, answers_after_ms=place.answers_after_ms, reuse_grace=grace)
    users, owners, killed = Users(vendor, provider, agent, return_url), {}, 0
    rest_at = time.monotonic() + grace / 4
    detected_before = vendor.counters()["reuse_detections"]
    caller.close()
    while killed < kills:
        if len(users.logins) - len(users.lost) < MOST:
            caller = place.caller()
            login, before = f"{name}-{len(users.logins)}", len(vendor.token_requests())
            users.connect(caller, login)
            [first] = first_tokens(vendor, users, before)
            owners[first] = login
            caller.close()
        killed += round_of_kills(place, users, dice)
        # With as many users as there may be, those who were cut off are waited for when hardly anybody else is left.
        none_left = len(users.logins) > MOST / 2 and len(users.ripe()) < AT_ONCE / 2
        if none_left or (grace and time.monotonic() > rest_at):
            settle(place, users)
            rest_at = time.monotonic() + grace / 4
    settle(place, users)
    counted = count(vendor, users, owners)
    detections = counted.reuse_detections - detected_before
    with capsys.disabled():
        print(
            f"crash: grace {grace} s: {killed} kills, {counted.refreshes} refreshes of {len(users.logins)} users; "
            f"{len(counted.unkept)} answers were not kept, {len(users.lost)} grants lost, {detections} reuse detections"
        )
    assert users.surprises == []
    assert counted.refreshes > kills and counted.unkept, "no kill hit where it hurts"
    for login, committed in counted.unkept.items():
        assert any(-0.1 < died - committed < 2 for died in place.died_at), f"{login} lost an answer at {committed} that no kill explains"
    if grace:
        assert (users.lost, detections) == ({}, 0), "D6: with a grace longer than recovery"
    else:
        assert set(users.lost) <= set(counted.unkept), "D6: only where a crash fell between the provider's commit and ours"
        assert detections == len(users.lost)
    for login, at in users.lost.items():
        # What was kept last was committed before what was not.
        assert at - counted.unkept[login] > -LIFE
