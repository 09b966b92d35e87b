"""P7: our authorizer beside authorizers on Node and Python, fed the same tokens by the same Runtime API: CPU of init, CPU of an
invocation, memory.

CPU is what the scheduler gave to all threads of the process, so that a busy machine does not count; the three take turns, so that
what it does to one it does to all.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jwt

from bench.deployment import Deployment
from bench.runtime_api import Bootstrap, resident_kilobytes, scheduled_seconds
from harness.places import TESTS
from harness.stories import FRONT_END_AUDIENCE
from harness.vendor import KEY_ID

PEERS = TESTS / "bench" / "peers"
STARTS, WARM_UP, INVOCATIONS = 5, 200, 1000


@dataclass
class Cost:
    """Of one implementation: medians over its starts."""

    init_ms: list[float] = field(default_factory=list)
    invoke_us: list[float] = field(default_factory=list)
    resident_kb: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        init, invoke = statistics.median(self.init_ms), statistics.median(self.invoke_us)
        return f"init {init:.2f} ms CPU, {invoke:.0f} µs CPU an invocation, {statistics.median(self.resident_kb) / 1024:.0f} MB"


def versions() -> str:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    library = json.loads((PEERS / "node" / "node_modules" / "aws-jwt-verify" / "package.json").read_text())["version"]
    python = TESTS / ".venv-peer" / "bin" / "python"
    said = subprocess.run(
        [str(python), "-c", "import jwt, platform; print(platform.python_version(), jwt.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return f"Node {node} with aws-jwt-verify {library}; Python {said[0]} with PyJWT {said[1]}"


def measure(deployment: Deployment) -> dict[str, Cost]:
    subprocess.run(["bash", str(PEERS / "setup")], check=True)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(deployment.vendor.key.public_key()))
    jwks = {"keys": [{"kty": "RSA", "n": public["n"], "e": public["e"], "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}
    peer = {
        "ISSUER": deployment.vendor.issuer, "AUDIENCE": FRONT_END_AUDIENCE, "JWKS": json.dumps(jwks),
        "JWKS_URI": f"{deployment.vendor.issuer}/jwks",
    }  # fmt: skip
    node = str(shutil.which("node"))
    python = str(TESTS / ".venv-peer" / "bin" / "python")

    def of(name: str, *command: str) -> Callable[[], Bootstrap]:
        return lambda: Bootstrap(command, peer, deployment.folder / f"peer-{name}.log", PEERS / name)

    implementations: dict[str, Callable[[], Bootstrap]] = {
        "authorizer": lambda: deployment.instance("authorizer"),
        "node": of("node", node, "authorizer.mjs"),
        "python": of("python", python, "authorizer.py"),
    }
    costs = {name: Cost() for name in implementations}
    for _ in range(STARTS):
        for name, make in implementations.items():
            one(make(), deployment, costs[name])
    return costs


def one(bootstrap: Bootstrap, deployment: Deployment, cost: Cost) -> None:
    with bootstrap:
        cost.init_ms.append(scheduled_seconds(bootstrap.pid) * 1000)

        event = deployment.rest_token_event()

        def authorize() -> None:
            answer = bootstrap.invoke(event)
            assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow", answer

        for _ in range(WARM_UP):
            authorize()
        before = scheduled_seconds(bootstrap.pid)
        for _ in range(INVOCATIONS):
            authorize()
        cost.invoke_us.append((scheduled_seconds(bootstrap.pid) - before) * 1e6 / INVOCATIONS)
        cost.resident_kb.append(resident_kilobytes(bootstrap.pid))
