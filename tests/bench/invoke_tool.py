"""P11: what InvokeTool costs beside a warm token get and beside the same request made directly, interleaved in one run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from bench.warm_get import Slices, get, load, request_bytes, run_slice
from harness import model
from harness.app import App
from harness.places import TESTS
from harness.product import Server
from harness.stories import SCOPES, connected_user, make_user_provider, make_workload, workload_token
from harness.vendor import Vendor
from harness.wire import Caller

ROUNDS = 6
ALONE_MILLISECONDS = 1000


@dataclass(frozen=True)
class Measured:
    call_cpu_us: float
    get_cpu_us: float
    calls_per_second: float
    direct_p50_us: int
    call_p50_us: int
    upstream_requests: int
    calls: int
    vendor_requests: int


@contextmanager
def upstream() -> Iterator[int]:
    """The port of an API of its own process."""
    with subprocess.Popen(["node", str(TESTS / "bench" / "upstream.mjs")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def requests_seen(port: int) -> int:
    with urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as answer:
        return int(answer.read())


def put_tool(caller: Caller, port: int, provider: str) -> str:
    caller.ok(
        "PutTool", name="calendar", inputSchema={"type": "object"}, allowedWorkloads=["agent"],
        request={"method": "GET", "url": f"http://127.0.0.1:{port}/calendar"},
        credential={"providerName": provider, "flow": "USER_FEDERATION", "scopes": SCOPES},
    )  # fmt: skip
    return "calendar"


def invoke(caller: Caller, wat: str, tool: str) -> bytes:
    """A signed request; it stays good for five minutes."""
    target, body = model.path_of("InvokeTool"), json.dumps({"workloadIdentityToken": wat, "toolName": tool}).encode()
    return request_bytes("POST", target, caller.signed(target, body), body)


def measure(directory: Path) -> Measured:
    vendor, app = Vendor(), App()
    with upstream() as port:
        server = Server(directory / "store", (vendor.address, f"127.0.0.1:{port}")).start()
        try:
            caller = server.caller()
            make_workload(caller, "agent", app.return_url)
            provider = make_user_provider(caller, vendor, "vendor", {"agent-identity:injectable-hosts": f"127.0.0.1:{port}"})
            connected_user(caller, "agent", provider, "alice", app.return_url)
            wat = workload_token(caller, "agent", "alice")
            call, token = invoke(caller, wat, put_tool(caller, port, provider)), get(caller, wat, provider)
            direct = request_bytes("GET", "/calendar", {"Host": f"127.0.0.1:{port}"}, b"")
            for warm_up in (call, token):
                run_slice(server, warm_up, Slices(), 500)
            at_vendor, at_upstream = vendor.counters()["total"], requests_seen(port)
            calls, gets = Slices(), Slices()
            for _ in range(ROUNDS):
                run_slice(server, token, gets)
                run_slice(server, call, calls)
            seen = requests_seen(port) - at_upstream
            # One after the other, on a connection that is kept.
            alone = load(server.port, call, 1, ALONE_MILLISECONDS)
            directly = load(port, direct, 1, ALONE_MILLISECONDS)
            return Measured(
                calls.cpu_us, gets.cpu_us, calls.requests / calls.wall_seconds, directly["p50_us"], alone["p50_us"],
                seen, calls.requests, vendor.counters()["total"] - at_vendor,
            )  # fmt: skip
        finally:
            server.stop()
            vendor.stop()
            app.stop()
