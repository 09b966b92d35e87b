"""What others are told in embedded mode: a webhook, verified by the library of its specification, and the log."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from harness.product import Server, command
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token


class Receiver:
    """Takes events, or refuses as many as it is told to."""

    def __init__(self):
        self.taken, self.refused, self.refuse = [], [], 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                refuse = receiver.refuse > 0
                receiver.refuse -= refuse
                (receiver.refused if refuse else receiver.taken).append((dict(self.headers), body))
                self.send_response(500 if refuse else 204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count):
        deadline = time.monotonic() + 60
        while len(self.taken) < count:
            assert time.monotonic() < deadline, f"{len(self.taken)} events of {count}"
            time.sleep(0.2)
        return self.taken

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def told(vendor, receiver, tmp_path):
    """A server whose events go to the receiver, and what verifies them."""
    vendor.reset()
    server = Server(
        tmp_path / "store", (vendor.address, receiver.address), environment={"AGENT_IDENTITY_WEBHOOK": f"http://{receiver.address}/hooks"}
    ).start()
    yield server, Webhook(command("webhook-secret", "--data", str(server.data)).stdout.strip())
    assert server.stop() == 0
    vendor.reset()


def test_a_lost_grant_is_told_until_it_is_heard_and_so_is_what_follows(told, receiver, vendor, app):
    server, verifier = told
    caller = server.caller()
    agent, provider = make_workload(caller, "agent", app.return_url), make_user_provider(caller, vendor, "people")
    vendor.set_access_token_ttl(8)
    consent = connected_user(caller, agent, provider, "ada", app.return_url)
    tokens = [consent.token()]
    vendor.set_access_token_ttl(3600)
    assert vendor.live_grants_of("ada") == 1, "and now it is dead"
    receiver.refuse = 1
    receiver.wait_for(1)
    assert len(receiver.refused) == 1, "what was not heard is told again"
    wat = workload_token(caller, agent, "ada")
    assert "accessToken" not in stored_token(caller, wat, provider).json
    tokens.append(connected_user(caller, agent, provider, "ada", app.return_url).token())
    receiver.wait_for(2)
    [shown] = caller.ok("ListConnections", userId="ada")["connections"]
    caller.ok("DeleteConnection", connectionId=shown["connectionId"])
    taken = receiver.wait_for(3)
    events = [verifier.verify(body, headers) for headers, body in taken]
    assert [event["type"] for event in events] == ["Connection Needs Consent", "Connection Recovered", "Connection Revoked"]
    lost, recovered, revoked = (event["data"] for event in events)
    assert (lost["reason"], revoked["upstream"]) == ("invalid_grant", "revoked")
    assert lost["userKey"] == recovered["userKey"] == revoked["userKey"] == shown["userKey"]
    said = b"".join(body for _, body in receiver.taken + receiver.refused).decode()
    assert not any(token in said for token in tokens) and "ada" not in said
    logged = [record["what"] for record in server.log_records() if record["message"] == "event"]
    assert set(logged) == {event["type"] for event in events}
    # The signature is of this body, at this time, with this secret.
    headers, body = taken[0]
    for wrong in (
        lambda: verifier.verify(body + b" ", headers),
        lambda: verifier.verify(body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        lambda: Webhook("whsec_" + "A" * 43 + "=").verify(body, headers),
    ):
        with pytest.raises(WebhookVerificationError):
            wrong()
    assert json.loads(body)["timestamp"] == int(headers["webhook-timestamp"])
    caller.close()


def test_a_webhook_that_may_not_be_reached_stops_nothing(vendor, app, tmp_path):
    """Egress to it is not allowed: it says so in the log, and goes on."""
    server = Server(
        tmp_path / "store", (vendor.address,), environment={"AGENT_IDENTITY_WEBHOOK": "http://127.0.0.2:9/hooks"}
    ).start()
    caller = server.caller()
    agent, provider = make_workload(caller, "agent", app.return_url), make_user_provider(caller, vendor, "people")
    connected_user(caller, agent, provider, "ada", app.return_url)
    [shown] = caller.ok("ListConnections", userId="ada")["connections"]
    assert caller.ok("DeleteConnection", connectionId=shown["connectionId"])["upstream"] == "revoked"
    [missed] = [record for record in server.log_records() if "webhook" in record["message"] and record["level"] == "ERROR"]
    assert "not allowed" in missed["reason"]
    caller.close()
    assert server.stop() == 0


@pytest.mark.parametrize("url", ["nonsense", "ftp://a.example/", "https://user:password@a.example/"])
def test_what_is_no_webhook_is_a_wrong_usage(tmp_path, url):
    command("serve", "--data", str(tmp_path), "--webhook", url, expect=2)
