"""P10: CPU of `serve` for a warm token get, against its own health handler, interleaved in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import model
from harness.app import App
from harness.places import TESTS
from harness.product import Server
from harness.stories import SCOPES, connected_user, make_user_provider, make_workload, workload_token
from harness.vendor import Vendor
from harness.wire import Caller

CONNECTIONS = 32
SLICE_MILLISECONDS = 1000
ROUNDS = 8


@dataclass
class Slices:
    """Slices of one kind of request."""

    requests: int = 0
    cpu_seconds: float = 0
    wall_seconds: float = 0
    p99_us: list[int] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds * 1e6 / self.requests


@dataclass(frozen=True)
class Measured:
    get_cpu_us: float
    hello_cpu_us: float
    gets_per_second: float
    get_p99_ms: float


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_bytes(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def hello(server: Server) -> bytes:
    return request_bytes("GET", "/healthz", {"Host": f"127.0.0.1:{server.port}"}, b"")


def get(caller: Caller, wat: str, provider: str) -> bytes:
    """A signed request; it stays good for five minutes."""
    target = model.path_of("GetResourceOauth2Token")
    members = {
        "workloadIdentityToken": wat, "resourceCredentialProviderName": provider, "scopes": SCOPES,
        "oauth2Flow": "USER_FEDERATION",
    }  # fmt: skip
    body = json.dumps(members).encode()
    return request_bytes("POST", target, caller.signed(target, body), body)


def load(port: int, request: bytes, connections: int, milliseconds: int) -> dict[str, int]:
    """Sends the request over and over; what came of it, which is never a failure."""
    done = subprocess.run(
        ["node", str(TESTS / "bench" / "load.mjs"), str(port), str(connections), str(milliseconds)],
        input=request, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    said: dict[str, int] = json.loads(done.stdout)
    if said["failed"] or not said["requests"]:
        raise AssertionError(f"the load met failures: {said}")
    return said


def run_slice(server: Server, request: bytes, into: Slices, milliseconds: int = SLICE_MILLISECONDS) -> None:
    before, began = cpu_seconds(server.pid), time.monotonic()
    try:
        said = load(server.port, request, CONNECTIONS, milliseconds)
    except AssertionError as failed:
        raise AssertionError(f"{failed} {server.log_tail()}") from failed
    into.requests += said["requests"]
    into.cpu_seconds += cpu_seconds(server.pid) - before
    into.wall_seconds += min(time.monotonic() - began, milliseconds / 1000)
    into.p99_us.append(said["p99_us"])


def measure(directory: Path) -> Measured:
    vendor, app = Vendor(), App()
    server = Server(directory / "store", (vendor.address,)).start()
    try:
        caller = server.caller()
        make_workload(caller, "agent", app.return_url)
        provider = make_user_provider(caller, vendor, "vendor")
        connected_user(caller, "agent", provider, "alice", app.return_url)
        wat = workload_token(caller, "agent", "alice")
        before = vendor.counters()["total"]
        hellos, gets = Slices(), Slices()
        for warm_up in (hello(server), get(caller, wat, provider)):
            run_slice(server, warm_up, Slices(), 500)
        for _ in range(ROUNDS):
            run_slice(server, hello(server), hellos)
            run_slice(server, get(caller, wat, provider), gets)
        if vendor.counters()["total"] != before:
            raise AssertionError("a warm get asked the provider")
        return Measured(
            gets.cpu_us, hellos.cpu_us, gets.requests / gets.wall_seconds, statistics.median(gets.p99_us) / 1000
        )
    finally:
        server.stop()
        vendor.stop()
        app.stop()
