"""The keys of issuers: rotation while traffic runs, outages, and what an issuer must not be able to do with what it publishes."""

import json
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from harness import planted
from harness.product import Server
from harness.stories import FRONT_END_AUDIENCE as AUDIENCE
from harness.stories import make_workload
from harness.vendor import KEY_ID, Vendor

COOL_DOWN_SECONDS = 30
NEXT = "next-key"


def new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def ask(caller, token):
    answer = caller.call("GetWorkloadAccessTokenForJWT", workloadName="agent", userToken=token)
    if answer.status == 200:
        planted.plant(answer.json["workloadAccessToken"], "workload access token")
    return answer


def accepted(caller, token):
    answer = ask(caller, token)
    assert answer.status == 200, answer


def not_now(caller, token):
    """D25: the same token may pass later, so it is no 401."""
    answer = ask(caller, token)
    assert (answer.status, answer.error) == (429, "ThrottlingException"), answer


class Place:
    """A data directory, an issuer that its servers trust, and servers on it."""

    def __init__(self, folder):
        self.data, self.issuer, self.servers = folder / "store", Vendor(), []

    def serve(self, **more):
        rule = f"issuer={self.issuer.issuer},audience={AUDIENCE}"
        server = Server(self.data, (self.issuer.address,), arguments=("--trusted-issuer", rule), **more).start()
        self.servers.append(server)
        caller = server.caller()
        if len(self.servers) == 1:
            make_workload(caller, "agent")
        return server, caller

    def token(self, **claims):
        return self.issuer.make_jwt("alice", **({"exp": int(time.time()) + 86_400, "iat": None} | claims))

    def unknown(self):
        return self.token(header={"kid": "invented", "typ": "at+jwt"})

    def until_prefetched(self):
        deadline = time.monotonic() + 10
        while self.issuer.published()["keys"] == 0:
            assert time.monotonic() < deadline, "the keys are read before anybody needs them"
            time.sleep(0.05)
        # The answer is being kept.
        time.sleep(0.3)

    def close(self):
        for server in self.servers:
            if server.process is not None:
                assert server.stop() == 0
        if self.issuer.process.poll() is None:
            self.issuer.stop()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.close()


def test_a_process_that_starts_needs_no_identity_provider(place):
    first, _ = place.serve()
    place.until_prefetched()
    token = place.token()
    assert first.stop() == 0
    place.issuer.stop()
    _, again = place.serve()
    accepted(again, token)
    _, beside = place.serve()
    accepted(beside, token)


def test_two_processes_on_one_directory_ask_once(place):
    _, one = place.serve()
    place.until_prefetched()
    _, two = place.serve()
    for _ in range(5):
        accepted(one, place.token())
        accepted(two, place.token())
    assert place.issuer.published() == {"metadata": 1, "keys": 1}


def test_d25_an_unknown_key_is_asked_for_once_by_two_processes_under_a_flood(place):
    (_, one), (_, two) = place.serve(), place.serve()
    place.until_prefetched()
    before, known = place.issuer.published()["keys"], place.token()
    statuses = []
    for number in range(200):
        caller = (one, two)[number % 2]
        statuses.append(ask(caller, place.token(header={"kid": f"invented-{number}", "typ": "at+jwt"})).status)
        if number % 20 == 0:
            accepted(caller, known)
    assert statuses.count(401) == 1 and statuses.count(429) == 199, "one has looked, and no other says that there is none"
    assert place.issuer.published()["keys"] == before + 1


def test_d25_keys_rotate_while_traffic_runs_and_no_known_key_is_refused(place):
    _, caller = place.serve()
    place.until_prefetched()
    refused, stopping = [], threading.Event()

    def traffic():
        steady = place.servers[0].caller()
        while not stopping.is_set():
            for token in tokens:
                answer = ask(steady, token)
                if answer.status != 200:
                    refused.append(answer)
            time.sleep(0.02)
        steady.close()

    tokens = [place.token()]
    running = threading.Thread(target=traffic)
    running.start()
    try:
        next_key = new_key()
        place.issuer.publish_keys(**{KEY_ID: place.issuer.key, NEXT: next_key})
        newer = place.token(key=next_key, header={"kid": NEXT, "typ": "at+jwt"})
        accepted(caller, newer)
        tokens.append(newer)
        # Used within the cool-down: later, and not never.
        newest_key = new_key()
        place.issuer.publish_keys(**{KEY_ID: place.issuer.key, NEXT: next_key, "newest": newest_key})
        newest = place.token(key=newest_key, header={"kid": "newest", "typ": "at+jwt"})
        not_now(caller, newest)
        deadline = time.monotonic() + COOL_DOWN_SECONDS + 10
        while ask(caller, newest).status != 200:
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        stopping.set()
        running.join()
    assert refused == []


@pytest.mark.parametrize("document", ["metadata", "keys"])
def test_an_outage_stops_nobody_whose_key_is_known(place, document):
    _, caller = place.serve()
    place.until_prefetched()
    place.issuer.make_publishing_trouble(**{document: {"kind": "status", "status": 503}})
    accepted(caller, place.token())
    not_now(caller, place.unknown())
    accepted(caller, place.token())
    # To a process whose clock says that the keys are an hour old, they are good while the issuer does not answer.
    _, later = place.serve(clock_offset_seconds=3600)
    accepted(later, place.token())
    # And for a day.
    _, too_late = place.serve(clock_offset_seconds=25 * 3600)
    not_now(too_late, place.token(exp=int(time.time()) + 30 * 3600))


def test_an_issuer_that_hangs_does_not_hang_whose_key_is_known(place):
    _, caller = place.serve()
    place.until_prefetched()
    place.issuer.make_publishing_trouble(metadata={"kind": "slow", "milliseconds": 8000})
    _, later = place.serve(clock_offset_seconds=3600)
    for caller in (caller, later):
        began = time.monotonic()
        for _ in range(5):
            accepted(caller, place.token())
        assert time.monotonic() - began < 5


PRIVATE = "http://127.0.0.2:80"
BAD = {
    "keys of more than 256 KiB": {"keys": {"kind": "large", "bytes": 300_000}},
    "keys of more than 1 MiB": {"keys": {"kind": "large", "bytes": 2_000_000}},
    "metadata of more than 256 KiB": {"metadata": {"kind": "large", "bytes": 300_000}},
    "keys that are elsewhere": {"keys": {"kind": "redirect", "to": "http://169.254.169.254/jwks"}},
    "metadata that are elsewhere": {"metadata": {"kind": "redirect", "to": f"{PRIVATE}/"}},
    "keys that are no keys": {"keys": {"kind": "text", "text": "<html>"}},
    "metadata of nobody": {"metadata": {"kind": "text", "text": "{}"}},
}


@pytest.mark.parametrize("what", BAD)
def test_what_an_issuer_must_not_publish_is_not_taken_and_does_not_harm_what_is_there(place, what):
    place.issuer.make_publishing_trouble(**BAD[what])
    _, caller = place.serve()
    not_now(caller, place.token())
    place.issuer.make_publishing_trouble()
    _, other = place.serve()
    accepted(other, place.token())
    place.issuer.make_publishing_trouble(**BAD[what])
    not_now(other, place.unknown())
    accepted(other, place.token())
    _, third = place.serve(clock_offset_seconds=3600)
    accepted(third, place.token())


@pytest.mark.parametrize("jwks_uri", [f"{PRIVATE}/jwks", "http://169.254.169.254/jwks", "https://10.0.0.1/jwks", "file:///etc/passwd"])
def test_keys_at_a_private_address_are_not_asked_for(place, jwks_uri):
    text = json.dumps({"issuer": place.issuer.issuer, "jwks_uri": jwks_uri})
    place.issuer.make_publishing_trouble(metadata={"kind": "text", "text": text})
    server, caller = place.serve()
    not_now(caller, place.token())
    said = [record for record in server.log_records() if "keys" in json.dumps(record) and record.get("level") == "WARN"]
    assert said, "and the log says why"


def test_what_changed_is_in_the_log_once_and_no_key_is(place):
    server, _ = place.serve()
    place.until_prefetched()
    changes = [record for record in server.log_records() if "keys have changed" in json.dumps(record)]
    assert len(changes) == 1, changes
    assert "\"added\": 1" in json.dumps(changes[0]), changes
    modulus = json.loads(json.dumps(place.issuer.key.public_key().public_numbers().n))
    assert str(modulus) not in server.log_tail()
