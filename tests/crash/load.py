"""Clients that write and read without pause, and remember what was acknowledged.

A request whose answer never came may have happened or not: both are right. Whatever was acknowledged has to be there.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from harness import planted
from harness.browser import Browser
from harness.product import Server
from harness.signing import Credentials
from harness.stories import Consent, make_user_provider, stored_token, workload_token
from harness.vendor import Vendor
from harness.wire import Caller

GONE = None
NO_ANSWER = (http.client.HTTPException, ConnectionError, TimeoutError, OSError)


@dataclass
class Ledger:
    """What may be true of each name: the last acknowledged value, and those whose answers were lost since."""

    possible: dict[str, list[object]] = field(default_factory=dict)
    acknowledged: int = 0
    surprises: list[str] = field(default_factory=list)

    def attempt(self, name: str, value: object) -> None:
        self.possible.setdefault(name, [GONE]).append(value)

    def acknowledge(self, name: str, value: object) -> None:
        self.possible[name] = [value]
        self.acknowledged += 1

    def refuse(self, name: str, value: object) -> None:
        self.possible[name].remove(value)


class Writer(threading.Thread):
    """Creates, updates and deletes its own workload identities and API keys."""

    def __init__(self, number: int, caller: Caller, ledger: Ledger, seed: int):
        super().__init__(daemon=True)
        self.number = number
        self.caller = caller
        self.ledger = ledger
        self.random = random.Random(seed)
        self.running = True

    def run(self) -> None:
        while self.running:
            try:
                self.step()
            except NO_ANSWER:
                return
        self.caller.close()

    def step(self) -> None:
        slot = self.random.randrange(12)
        if slot < 6:
            self.write_workload(f"w{self.number}-{slot}")
        else:
            self.write_api_key(f"k{self.number}-{slot}")

    def _write(self, name: str, value: object, operation: str, **members: object) -> int:
        self.ledger.attempt(name, value)
        answer = self.caller.call(operation, name=name, **members)
        if answer.status < 300:
            self.ledger.acknowledge(name, value)
        elif answer.status in (404, 409):
            self.ledger.refuse(name, value)
        else:
            self.ledger.refuse(name, value)
            self.ledger.surprises.append(f"{operation}: {answer.status} {answer.error} {answer.message}")
        return answer.status

    def write_workload(self, name: str) -> None:
        urls = (f"https://example.com/{self.random.randrange(10**9)}",)
        if self.random.random() < 0.15:
            self._write(name, GONE, "DeleteWorkloadIdentity")
        elif self._write(name, urls, "CreateWorkloadIdentity", allowedResourceOauth2ReturnUrls=urls) == 409:
            self._write(name, urls, "UpdateWorkloadIdentity", allowedResourceOauth2ReturnUrls=urls)

    def write_api_key(self, name: str) -> None:
        key = planted.plant(f"planted-{self.random.getrandbits(128):032x}", "API key")
        if self.random.random() < 0.15:
            self._write(name, GONE, "DeleteApiKeyCredentialProvider")
        elif self._write(name, key, "CreateApiKeyCredentialProvider", apiKey=key) == 409:
            self._write(name, key, "UpdateApiKeyCredentialProvider", apiKey=key)


class TokenReader(threading.Thread):
    """Gets stored tokens of users, and API keys."""

    def __init__(self, caller: Caller, reads: list[tuple[str, str]], surprises: list[str]):
        super().__init__(daemon=True)
        self.caller = caller
        self.reads = reads
        self.surprises = surprises
        self.running = True
        self.served = 0

    def run(self) -> None:
        while self.running:
            for wat, provider in self.reads:
                try:
                    answer = stored_token(self.caller, wat, provider)
                except NO_ANSWER:
                    return
                if answer.status != 200 or "accessToken" not in answer.json:
                    self.surprises.append(f"a stored token was not served: {answer}")
                    return
                self.served += 1
        self.caller.close()


SHORT_LIFE = 3
"""Seconds that the access tokens of the short-lived connections live: each is refreshed after half of that."""

TAKEOVER = 20
"""Seconds within which a lease of a dead process is taken over: its life of 15, seen unchanged (D7), and some work."""


@dataclass
class Connections:
    """Users whose consent is completed, and whose tokens are refreshed, while the process is being killed.

    The vendor does not rotate their refresh tokens, so that no kill excuses a lost connection.
    """

    vendor: Vendor
    provider: str
    return_url: str
    established: list[str] = field(default_factory=list)
    unclear: list[tuple[str, Consent]] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    surprises: list[str] = field(default_factory=list)
    interrupted_refreshes: int = 0
    interrupted_completions: int = 0
    lost_codes: int = 0

    @classmethod
    def make(cls, caller: Caller, vendor: Vendor, name: str, return_url: str) -> "Connections":
        make_user_provider(caller, vendor, name)
        vendor.set_client_behaviour(name, SHORT_LIFE, keeps_refresh_token=True, answers_after_ms=50)
        return cls(vendor, name, return_url)

    def agreed(self, caller: Caller, user: str) -> tuple[str, Consent]:
        """A consent that only has to be completed."""
        wat = workload_token(caller, "agent", user)
        consent = Consent(caller, wat, self.provider, more={"resourceOauth2ReturnUrl": self.return_url}).begin()
        consent.agree(Browser(), user)
        return user, consent

    def readers(self, server: Server, credentials: Credentials, at_most: int) -> "list[Refresher]":
        """Readers of the newest connections of which no refresh was interrupted."""
        free = [user for user in self.established if user not in self.waiting][-at_most:]
        return [Refresher(server.caller(credentials), self, user) for user in free]

    def settle(self, server: Server, credentials: Credentials) -> None:
        """With nobody killing: what was interrupted is taken up, and every acknowledged connection gives a token that
        works."""
        deadline = time.monotonic() + TAKEOVER
        with ThreadPoolExecutor(max(1, len(self.unclear))) as pool:
            list(pool.map(lambda one: self._clear(server.caller(credentials), *one, deadline), self.unclear))
        self.unclear.clear()
        deadline = time.monotonic() + TAKEOVER
        with ThreadPoolExecutor(max(1, len(self.established))) as pool:
            list(pool.map(lambda user: self._works(server.caller(credentials), user, deadline), self.established))
        self.waiting.clear()

    def _clear(self, caller: Caller, user: str, consent: Consent, deadline: float) -> None:
        """A completion without an answer is done, can be done now, or has lost its code and says so."""
        try:
            while True:
                answer = consent.complete(caller, userId=user)
                if answer.error != "ThrottlingException" or time.monotonic() > deadline:
                    break
                time.sleep(0.3)
        finally:
            caller.close()
        if answer.status == 200:
            self.established.append(user)
        elif answer.error == "AccessDeniedException":
            self.lost_codes += 1
        else:
            self.surprises.append(f"a completion that was cut short ends in {answer}")

    def _works(self, caller: Caller, user: str, deadline: float) -> None:
        try:
            wat = workload_token(caller, "agent", user)
            while True:
                answer = stored_token(caller, wat, self.provider)
                if "accessToken" in answer.json:
                    # A token in its last second may end on the way to the vendor: the next one must not.
                    if self.vendor.call_api(answer.json["accessToken"])[0] == 200:
                        return
                elif answer.error != "ThrottlingException":
                    self.surprises.append(f"{user} is acknowledged and lost: {answer}")
                    return
                if time.monotonic() > deadline:
                    self.surprises.append(f"{user} has no working token after {TAKEOVER} s: {answer}")
                    return
                time.sleep(0.3)
        finally:
            caller.close()


class Refresher(threading.Thread):
    """Reads one connection whose token has to be refreshed again and again."""

    def __init__(self, caller: Caller, connections: Connections, user: str):
        super().__init__(daemon=True)
        self.caller = caller
        self.connections = connections
        self.user = user
        self.running = True

    def run(self) -> None:
        began = time.monotonic()
        try:
            wat = workload_token(self.caller, "agent", self.user)
            while self.running:
                began = time.monotonic()
                answer = stored_token(self.caller, wat, self.connections.provider)
                if answer.error == "ThrottlingException":
                    break
                if "accessToken" not in answer.json:
                    self.connections.surprises.append(f"a connection was not served: {answer}")
                    return
                time.sleep(0.01)
            else:
                return
        except NO_ANSWER:
            # A read that serves takes a millisecond: one that took longer was refreshing.
            if time.monotonic() - began < 0.02:
                return
            self.connections.interrupted_refreshes += 1
        self.connections.waiting.add(self.user)


class Completer(threading.Thread):
    """Completes one consent, some time after the start."""

    def __init__(self, caller: Caller, connections: Connections, user: str, consent: Consent, wait: float):
        super().__init__(daemon=True)
        self.caller = caller
        self.connections = connections
        self.user = user
        self.consent = consent
        self.wait = wait
        self.running = True

    def run(self) -> None:
        time.sleep(self.wait)
        try:
            answer = self.consent.complete(self.caller, userId=self.user)
        except NO_ANSWER:
            self.connections.interrupted_completions += 1
            self.connections.unclear.append((self.user, self.consent))
            return
        if answer.status == 200:
            self.connections.established.append(self.user)
        else:
            self.connections.surprises.append(f"a completion was refused: {answer}")


def check(caller: Caller, ledger: Ledger, wat: str) -> list[str]:
    """What is in the store against what may be there; afterwards the ledger knows what is."""
    wrong = []
    for name, possible in ledger.possible.items():
        found: object = GONE
        if name.startswith("w"):
            answer = caller.call("GetWorkloadIdentity", name=name)
            if answer.status == 200:
                found = tuple(answer.json["allowedResourceOauth2ReturnUrls"])
        else:
            answer = caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=name)
            if answer.status == 200:
                found = answer.json["apiKey"]
        if answer.status not in (200, 404):
            wrong.append(f"{name}: {answer.status} {answer.error} {answer.message}")
        elif found not in possible:
            wrong.append(f"{name} is {found!r} and not one of {possible!r}")
        ledger.possible[name] = [found]
    return wrong
