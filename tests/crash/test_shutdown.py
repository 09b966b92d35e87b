"""SIGTERM finishes what is in flight; two processes on one data directory survive each other's end."""

import http.client
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from harness import model
from harness.product import Server
from harness.signing import sign
from harness.stories import machine_token, make_machine_provider, make_workload, workload_token


@pytest.fixture
def story(tmp_path, vendor, fresh):
    vendor.reset()
    server = Server(tmp_path / "store", (vendor.address,)).start()
    caller = server.caller()
    make_workload(caller, "agent")
    provider = make_machine_provider(caller, vendor, fresh("machine"))
    yield server, caller, provider
    vendor.reset()
    if server.process is not None:
        assert server.stop() == 0


def until_the_vendor_is_asked(vendor):
    deadline = time.monotonic() + 5
    while vendor.counters()["total"] == 0:
        assert time.monotonic() < deadline, "the request never reached the vendor"
        time.sleep(0.02)


def signed_half(server):
    body = b'{"a":1234}'
    target = model.path_of("ListWorkloadIdentities")
    headers = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    return lines("POST", target, sign(server.credentials(), "POST", target, headers, body), len(body)) + body[:2]


def unsigned_half(target, content_type):
    def half(server):
        headers = {"Host": f"127.0.0.1:{server.port}", "Content-Type": content_type}
        return lines("POST", target, headers, 10) + b"{}"

    return half


def lines(method, target, headers, length):
    said = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*said, f"Content-Length: {length}", "", ""]).encode()


HALVES = {
    "a signed operation": signed_half,
    "an unsigned operation": unsigned_half(model.path_of("ListWorkloadIdentities"), "application/json"),
    "the form of the consent page": unsigned_half(
        "/identities/oauth2/authorize", "application/x-www-form-urlencoded"
    ),
    "an unknown path": unsigned_half("/nothing-is-here", "application/json"),
    "half of the headers": lambda server: f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode(),
}


@contextmanager
def half_a_request(server, half):
    """A client that sent only this much, and keeps its connection."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(half(server))
        time.sleep(0.3)
        yield client


@pytest.mark.parametrize("what", HALVES)
def test_a_client_that_sent_half_a_request_does_not_hold_the_end_up(tmp_path, what):
    server = Server(tmp_path / "store").start()
    with half_a_request(server, HALVES[what]):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8


def test_many_slow_clients_do_not_hold_the_end_up_longer_than_one(tmp_path):
    server = Server(tmp_path / "store").start()
    with ExitStack() as stack:
        for half in list(HALVES.values()) * 3:
            stack.enter_context(half_a_request(server, half))
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(story, vendor, second):
    server, caller, provider = story
    wat = workload_token(caller, "agent")
    vendor.make_trouble("slow", remaining=1, milliseconds=9000)
    ended = []

    def read():
        try:
            machine_token(caller, wat, provider)
        except (OSError, http.client.HTTPException):
            ended.append("without an answer")

    reading = threading.Thread(target=read)
    reading.start()
    until_the_vendor_is_asked(vendor)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert server.process.poll() is None, "the first signal waits for what is in flight"
    began = time.monotonic()
    code = server.stop(second)
    assert time.monotonic() - began < 1
    assert code == {signal.SIGTERM: 1, signal.SIGINT: 130}[second], "a request was cut off"
    reading.join(5)
    assert ended == ["without an answer"]
    again = Server(server.data, server.allow_egress).start()
    again.caller(caller.credentials).ok("GetWorkloadIdentity", name="agent")
    assert again.stop() == 0


def test_sigterm_lets_a_request_in_flight_finish(story, vendor):
    server, caller, provider = story
    wat = workload_token(caller, "agent")
    vendor.make_trouble("slow", remaining=1, milliseconds=3000)
    answers = []
    reading = threading.Thread(target=lambda: answers.append(machine_token(caller, wat, provider)))
    reading.start()
    until_the_vendor_is_asked(vendor)
    began = time.monotonic()
    with half_a_request(server, HALVES["a signed operation"]):
        assert server.stop() == 0
    assert time.monotonic() - began > 2, "it was in flight"
    reading.join(5)
    assert len(answers) == 1
    assert vendor.call_api(answers[0])[0] == 200


def test_sigint_too_lets_a_request_in_flight_finish_and_says_that_it_was_interrupted(story, vendor):
    server, caller, provider = story
    wat = workload_token(caller, "agent")
    vendor.make_trouble("slow", remaining=1, milliseconds=2000)
    answers = []
    reading = threading.Thread(target=lambda: answers.append(machine_token(caller, wat, provider)))
    reading.start()
    until_the_vendor_is_asked(vendor)
    assert server.stop(signal.SIGINT) == 130
    reading.join(5)
    assert len(answers) == 1


def test_sigterm_does_not_wait_for_idle_connections(story):
    server, caller, _ = story
    caller.ok("ListWorkloadIdentities")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3


def test_after_sigterm_no_new_request_is_accepted_and_the_log_says_goodbye(story):
    server, caller, _ = story
    assert server.stop() == 0
    with pytest.raises(OSError):
        server.caller(caller.credentials).call("ListWorkloadIdentities")
    assert server.log_records(), "the log has its last records"


def test_the_token_of_a_killed_process_is_served_by_the_other(story, vendor):
    server, caller, provider = story
    other = Server(server.data, server.allow_egress).start()
    wat = workload_token(caller, "agent")
    token = machine_token(caller, wat, provider)
    server.kill()
    survivor = other.caller(caller.credentials)
    assert machine_token(survivor, wat, provider) == token
    assert vendor.count("client_credentials") == 1
    survivor.close()
    assert other.stop() == 0


def test_d7_a_fetch_that_died_with_its_process_is_taken_over(story, vendor):
    """The lease of the dead process is taken over; nobody waits for ever and nobody gets a consent page instead."""
    server, caller, provider = story
    other = Server(server.data, server.allow_egress).start()
    wat = workload_token(caller, "agent")
    vendor.make_trouble("slow", remaining=1, milliseconds=3000)

    def read():
        try:
            machine_token(caller, wat, provider)
        except (OSError, AssertionError):
            pass

    reading = threading.Thread(target=read)
    reading.start()
    until_the_vendor_is_asked(vendor)
    server.kill()
    reading.join(10)
    survivor = other.caller(caller.credentials)
    deadline = time.monotonic() + 90
    while True:
        answer = survivor.call(
            "GetResourceOauth2Token",
            workloadIdentityToken=wat,
            resourceCredentialProviderName=provider,
            scopes=["things.read"],
            oauth2Flow="M2M",
        )
        if answer.status == 200:
            break
        assert answer.error == "ThrottlingException", answer
        assert time.monotonic() < deadline, "the dead process's lease was never taken over"
        time.sleep(0.5)
    assert vendor.call_api(answer.json["accessToken"])[0] == 200
    survivor.close()
    assert other.stop() == 0
