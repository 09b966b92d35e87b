"""The built authorizer under the Lambda runtime emulator, agents with rules, and issuers whose keys are ours."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import planted
from harness.functions import Functions, Instance, http_event

from .forge import AUDIENCE, Key, claims

ROUTE = "arn:aws:execute-api:us-east-1:123456789012:testapi/$default/GET/orders"


class Issuers:
    """OpenID providers of one address, told apart by their path, and a place that must never be asked for anything."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []
        issuers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuers.asked.append(self.path)
                page = issuers.pages.get(self.path)
                body = json.dumps(page).encode()
                self.send_response(404 if page is None else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def publish(self, name: str, *keys: dict[str, Any]) -> str:
        issuer = f"http://{self.address}/{name}"
        self.pages[f"/{name}/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
        self.pages[f"/{name}/keys"] = {"keys": list(keys)}
        return issuer

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Verdict:
    is_allowed: bool
    # The stable code in the log.
    reason: str
    context: dict[str, Any] = field(default_factory=dict)


def first_reason(value: Any) -> str | None:
    """The member `reason` of a line of the log, wherever it is."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("reason"), str):
        return value["reason"]
    return next((found for found in map(first_reason, value.values()) if found is not None), None)


@dataclass
class Attacked:
    """What is attacked, and how."""

    issuers: Issuers
    functions: Functions
    run: str = field(default_factory=lambda: secrets.token_hex(3))
    keys: dict[str, Key] = field(default_factory=dict)
    instance: Instance | None = None

    def start(self) -> Attacked:
        self.keys = {key.kid: key for key in (
            Key.make("rsa", "RS256"), Key.make("pss", "PS256"), Key.make("ec", "ES256"), Key.make("p384", "ES384"),
            Key.make("ed", "EdDSA"),
        )}  # fmt: skip
        self.caller = self.functions.caller()
        self.issuer = self.issuers.publish("main", *(key.jwk for key in self.keys.values()))
        self.put("plain", self.issuer)
        given = {
            name: value for name, value in self.functions.environment.items()
            if name.startswith(("AWS_", "AGENT_IDENTITY_TABLE", "AGENT_IDENTITY_EGRESS_ALLOW"))
        }  # fmt: skip
        self.instance = Instance("authorizer", given)
        return self

    def put(self, agent: str, issuer: str, options: dict[str, Any] | None = None, **rules: Any) -> str:
        """An agent whose tokens come from this issuer."""
        self.caller.ok("CreateWorkloadIdentity", name=self.name_of(agent))
        configuration = {"discoveryUrl": f"{issuer}/.well-known/openid-configuration"} | (rules or {"allowedAudience": [AUDIENCE]})
        self.caller.ok(
            "PutAuthorizer",
            agentId=self.name_of(agent), name="main", options=options or {},
            authorizerConfiguration={"customJWTAuthorizer": configuration},
        )  # fmt: skip
        return agent

    def name_of(self, agent: str) -> str:
        return f"{agent}-{self.run}"

    def event(self, token: str, agent: str = "plain") -> dict[str, Any]:
        bearer = f"Bearer {token}"
        headers = [("authorization", bearer), ("x-agent-id", self.name_of(agent)), ("host", "api.example")]
        event = http_event("GET", "/orders", headers, b"")
        return event | {"type": "REQUEST", "routeArn": ROUTE, "identitySource": [bearer, self.name_of(agent)]}

    def ask(self, token: str, agent: str = "plain") -> Verdict:
        return self.ask_about(self.event(token, agent))

    def ask_about(self, event: dict[str, Any]) -> Verdict:
        assert self.instance is not None
        before = self.instance.log.stat().st_size
        answer = self.instance.invoke(event)
        with self.instance.log.open("rb") as log:
            log.seek(before)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if '"outcome":' in line]
        assert len(lines) == 1, f"one line for one decision: {lines}"
        assert "isAuthorized" in answer or answer.get("errorMessage") in ("Unauthorized", "Unavailable"), answer
        code = "unavailable" if answer.get("errorMessage") == "Unavailable" else first_reason(json.loads(lines[0])) or ""
        return Verdict(answer.get("isAuthorized") is True, code, answer.get("context", {}))

    def good(self, kid: str = "rsa", **changes: Any) -> str:
        return planted.plant(self.keys[kid].token(claims(self.issuer, **changes)), "user token")

    @property
    def processes(self) -> list[int]:
        """The bootstrap, which the emulator would start again if it ended."""
        assert self.instance is not None
        threads = Path(f"/proc/{self.instance.process.pid}/task").glob("*/children")
        return sorted(int(child) for thread in threads for child in thread.read_text().split())

    def stop(self) -> None:
        if self.instance is not None:
            self.instance.stop()
        self.caller.close()


@pytest.fixture(scope="session")
def attacked() -> Iterator[Attacked]:
    issuers = Issuers()
    functions = Functions((issuers.address,)).start()
    world = Attacked(issuers, functions).start()
    yield world
    world.stop()
    functions.stop()
    issuers.stop()


@pytest.fixture(autouse=True)
def a_good_token_passes_before_and_after_in_the_same_process(attacked: Attacked) -> Iterator[None]:
    assert attacked.ask(attacked.good()).is_allowed
    before = attacked.processes
    attacked.issuers.asked.clear()
    yield
    assert attacked.ask(attacked.good()).is_allowed
    assert attacked.processes == before and before, "the process ended"
    asked = {path for path in attacked.issuers.asked if "/.well-known/" not in path and not path.endswith("/keys")}
    assert not asked, "a token had something fetched"


@pytest.fixture
def refused(attacked: Attacked):
    """Holds that a token is refused, and why: refused for another reason it would prove nothing."""

    def refused(token: str, *reasons: str, agent: str = "plain") -> None:
        verdict = attacked.ask(token, agent)
        assert not verdict.is_allowed, f"{token[:200]} passed"
        assert verdict.reason in reasons, f"{token[:200]} was refused because of {verdict.reason}"

    return refused
