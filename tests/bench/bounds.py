"""The bounds of `docs/performance.md` that can be measured on one machine: P4, P10 and P11 with the embedded server, P1 to P3 and P5 to
P9 with the functions on emulators.

Prints a line per bound, or JSON with `--json`; what was measured beside them, and on which machine, goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import calls, cost, decisions, instructions, invoke_tool, peers, single_flight, size, tick, warm_get
from bench.deployment import Deployment, deployed, served
from bench.runtime_api import Bootstrap, scheduled_seconds
from harness.places import BOOTSTRAPS


@dataclass(frozen=True)
class Bound:
    id: str
    case: str
    value: float
    bound: float
    holds: bool

    def line(self) -> str:
        return f"{self.id} {self.case}: {self.value:g} (bound {self.bound:g}) {'holds' if self.holds else 'DOES NOT HOLD'}"


def at_most(name: str, case: str, value: float, bound: float) -> Bound:
    return Bound(name, case, value, bound, value <= bound)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Instructions of a warm invocation with its log line ÷ those of one check of the signature with a parsed key.
DECISION = {"RS256": 1.60, "ES256": 1.25, "EdDSA": 1.30}
# The same of what is refused before a signature is checked, ÷ one check of RS256.
REFUSAL = 0.40


def p1(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        measured = decisions.Decisions(deployment, directory)
        for each in measured.costs():
            note(f"P1 {each.algorithm}: a decision {each.decision:,.0f} Ir, a verification {each.verification:,.0f} Ir")
            case = f"{each.algorithm}, REST TOKEN event, Ir ÷ one verification"
            yield at_most("P1", case, round(each.ratio, 3), DECISION[each.algorithm])
        ratio = measured.http_api() / measured.verification()
        note(f"P1 RS256, HTTP API's event 2.0, Ir ÷ one verification: {ratio:.3f} (no bound)")


def p2(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        measured = decisions.Decisions(deployment, directory)
        verification = measured.verification()
        note(f"P2 one verification, RS256: {verification:,.0f} Ir")
        for refusal in measured.refusals():
            took = measured.refusal(refusal)
            note(f"P2 {refusal.case}: {took:,.0f} Ir")
            yield at_most("P2", f"{refusal.case}, Ir ÷ one RS256 verification", round(took / verification, 3), REFUSAL)
            requests = measured.requests_in_cool_down(refusal)
            yield at_most("P2", f"{refusal.case}, requests in the cool-down", requests, 0)
        # Its signature comes first.
        took = measured.expired()
        yield at_most("P2", "expired, Ir ÷ one RS256 verification", round(took / verification, 3), DECISION["RS256"])


def p3(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        for counted in calls.count(deployment):
            note(f"P3 {counted.case}: {counted.recording or 'none'}")
            besides = ", AWS calls besides its own" if counted.own else ", AWS calls"
            yield at_most("P3", counted.case + besides, counted.calls, counted.bound)


def p5(directory: Path) -> Iterator[Bound]:
    hello = instructions.taken(lambda under: plain(directory, "hello", under), directory, name="hello")
    note(f"P5 hello, init: {hello:,} Ir")
    for function, bound in (("authorizer", 2.0), ("tokens", 6.0)):
        init = instructions.taken(lambda under: plain(directory, function, under), directory, name=function)
        note(f"P5 {function}, init: {init:,} Ir")
        yield at_most("P5", f"init of {function}, Ir ÷ hello", round(init / hello, 2), bound)
    with deployed(directory) as deployment:
        for function, event in events(deployment).items():
            took = instructions.per_invoke(
                lambda under: deployment.instance(function, under), directory, lambda: event, name=f"{function}-warm"
            )
            note(f"P5 {function}, a warm invocation: {took:,.0f} Ir")


def plain(directory: Path, function: str, under: Sequence[str]) -> Bootstrap:
    """A function in the environment of a deployment on AWS, where no endpoint is overridden. It is not called."""
    environment = {
        "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40,
        "AWS_SESSION_TOKEN": "x" * 400, "AGENT_IDENTITY_TABLE": "agent-identity-Table-1ABCDEFGHIJKL",
        "AGENT_IDENTITY_KMS_KEY_ID": "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555",
        "AGENT_IDENTITY_SECRET_PREFIX": "agent-identity/", "AGENT_IDENTITY_EVENT_BUS": "agent-identity",
        "AGENT_IDENTITY_ACCOUNT_ID": "123456789012", "AGENT_IDENTITY_API_ID": "abcdef1234",
        "AGENT_IDENTITY_PUBLIC_BASE_URL": "https://abcdef1234.execute-api.us-east-1.amazonaws.com",
        "AGENT_IDENTITY_PRINCIPAL": "iam", "AGENT_IDENTITY_AGENT": "support",
        "AGENT_IDENTITY_TRUSTED_ISSUERS": "issuer=https://idp.example.com,audience=agents",
    }  # fmt: skip
    return Bootstrap([*under, BOOTSTRAPS / function], environment, directory / f"{function}-init.log")


def events(deployment: Deployment) -> dict[str, Any]:
    """A warm request of each function."""
    wat = deployment.workload_token(deployment.user)
    return {
        "authorizer": deployment.rest_token_event(),
        "tokens": deployment.event(*deployment.token(wat)),
    }


# Megabytes of 10^6 bytes: the file without symbols, and what is resident after 1,000 invocations.
SIZES = {"authorizer": (8.5, 8.0), "tokens": (12.0, 16.0)}
# Pages that are touched for the first time are no growth.
GROWTH = 1.02


def p6(directory: Path) -> Iterator[Bound]:
    for function, (file, _) in SIZES.items():
        size_mb = round(size.stripped_bytes(BOOTSTRAPS / function, directory) / 1e6, 2)
        yield at_most("P6", f"bootstrap of {function}, MB", size_mb, file)
    with deployed(directory) as deployment:
        for function, event in events(deployment).items():
            used = size.memory(deployment.instance(function), lambda bootstrap: bootstrap.invoke(event))
            note(f"P6 {function}: {used}")
            few, growth = used.after_few * 1024 / 1e6, used.after_many / used.after_few
            yield at_most("P6", f"{function} after 1,000 invocations, MB resident", round(few, 2), SIZES[function][1])
            yield at_most("P6", f"{function} after 10,000 ÷ after 1,000, resident", round(growth, 3), GROWTH)


def p7(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        costs = peers.measure(deployment)
    note(f"P7 {peers.versions()}")
    for name, its in costs.items():
        note(f"P7 {name}: {its}")
    ours = costs.pop("authorizer")
    for name, theirs in costs.items():
        init = statistics.median(ours.init_ms) / statistics.median(theirs.init_ms)
        invoke = statistics.median(ours.invoke_us) / statistics.median(theirs.invoke_us)
        yield at_most("P7", f"authorizer ÷ {name}, CPU of init", round(init, 4), 0.05)
        yield at_most("P7", f"authorizer ÷ {name}, CPU of an invocation", round(invoke, 3), 0.2)


LOG_LINE_BYTES = 500
COST_BOUND = 0.60


def p8(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        warm = [one_warm(deployment, *case) for case in warm_cases(deployment)]
    note(f"P8 prices: {cost.PRICES_OF}; {cost.REQUESTS_PER_SECOND:g} request a second in each process")
    for each in warm:
        for part in cost.parts(each):
            note(f"P8 {each.name}: ${part.dollars:.4f} {part.what}")
        yield at_most("P8", f"{each.name}, log line, bytes", each.log_bytes, LOG_LINE_BYTES)
        yield at_most("P8", f"{each.name}, dollars a million without the API", round(cost.per_million(each), 3), COST_BOUND)
    note(f"P8 the HTTP API with its access log: ${cost.api_per_million():.3f} a million")


def warm_cases(deployment: Deployment) -> Iterator[tuple[str, str, Any, int, dict[str, Any]]]:
    of_user, alone = deployment.workload_token(deployment.user), deployment.workload_token()
    # Of what is renewed by time: the rows of caller, workload, provider's name and provider; the keys of tokens and of the vault.
    renewed = {"renewal_read_units": 2.0}
    yield "token get", "tokens", deployment.event(*deployment.token(of_user)), 256, renewed | {"vault_keys": 2}
    yield "API key get", "tokens", deployment.event(*deployment.key(alone)), 256, renewed | {"vault_keys": 1, "secrets": 1}
    yield "authorizer call", "authorizer", deployment.rest_token_event(), 128, {"renewal_read_units": 1.0}


def one_warm(
    deployment: Deployment, name: str, function: str, event: Any, memory_mb: int, renewed: dict[str, Any]
) -> cost.Warm:
    invocations = 500
    with deployment.instance(function) as bootstrap:
        for _ in range(20):
            bootstrap.invoke(event)
        time.sleep(calls.ROWS_LIFE_SECONDS + 0.1)
        with deployment.proxy.recorded() as recording:
            bootstrap.invoke(event)
        log_before, before = bootstrap.log.stat().st_size, scheduled_seconds(bootstrap.pid)
        for _ in range(invocations):
            bootstrap.invoke(event)
        cpu_ms = (scheduled_seconds(bootstrap.pid) - before) * 1000 / invocations
        log_bytes = math.ceil((bootstrap.log.stat().st_size - log_before) / invocations)
    return cost.Warm(
        name, memory_mb, cpu_ms, log_bytes, len(recording.calls), recording.read_units, **renewed
    )  # fmt: skip


def p4(directory: Path) -> Iterator[Bound]:
    requests = single_flight.token_requests(directory)
    yield Bound("P4", "100 gets of one expired token in two processes, token requests", requests, 1, requests == 1)


def p9(directory: Path) -> Iterator[Bound]:
    with deployed(directory) as deployment:
        ticks = list(tick.measure(deployment))
    for each in ticks:
        counts = ", ".join(f"{number} {call}" for call, number in sorted(each.recording.counts().items()))
        note(f"P9 {each.stored:,} stored, {tick.DUE} due: {counts}; {each.recording.read_units:g} read units")
        yield Bound("P9", f"{each.stored:,} stored, {tick.DUE} due, refreshes", each.refreshes, tick.DUE, each.refreshes == tick.DUE)
        scans = each.recording.counts()["dynamodb:Scan"]
        yield at_most("P9", f"{each.stored:,} stored, scans", scans, 0)
    fewest, *others = ticks
    for each in others:
        reads = [it.recording.counts()[f"dynamodb:{read}"] for read in tick.READS for it in (each, fewest)]
        more = max(abs(many - few) for many, few in zip(reads[::2], reads[1::2]))
        yield at_most("P9", f"reads with {each.stored:,} stored, more or fewer than with {fewest.stored:,}", more, 0)
        units = round(each.recording.read_units - fewest.recording.read_units, 1)
        yield at_most("P9", f"read units with {each.stored:,} stored, more than with {fewest.stored:,}", units, 0)


def p10(directory: Path) -> Iterator[Bound]:
    measured = warm_get.measure(directory)
    note(
        f"P10 warm get {measured.get_cpu_us:.1f} µs CPU, hello {measured.hello_cpu_us:.1f} µs CPU; "
        f"{measured.gets_per_second:.0f} gets/s, p99 {measured.get_p99_ms:.1f} ms, {warm_get.CONNECTIONS} connections"
    )
    ratio = round(measured.get_cpu_us / measured.hello_cpu_us, 2)
    yield at_most("P10", "warm token get, CPU ÷ hello handler", ratio, 6)


def p11(directory: Path) -> Iterator[Bound]:
    measured = invoke_tool.measure(directory)
    note(
        f"P11 InvokeTool {measured.call_cpu_us:.0f} µs CPU, warm get {measured.get_cpu_us:.1f} µs CPU; {measured.calls_per_second:.0f} "
        f"calls/s, {warm_get.CONNECTIONS} connections; one at a time, p50: direct {measured.direct_p50_us} µs, "
        f"InvokeTool {measured.call_p50_us} µs"
    )
    ratio = round(measured.call_cpu_us / measured.get_cpu_us, 2)
    yield at_most("P11", "InvokeTool, CPU ÷ warm token get", ratio, 4)
    yield at_most("P11", "requests to the provider", measured.vendor_requests, 0)
    each = round(measured.upstream_requests / measured.calls, 3)
    yield at_most("P11", "requests to the tool's API a call", each, 1)


MEASUREMENTS: dict[str, Callable[[Path], Iterator[Bound]]] = {
    "P1": p1, "P2": p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6, "P7": p7, "P8": p8, "P9": p9, "P10": p10, "P11": p11,
}  # fmt: skip


def machine() -> str:
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return f"{rustc}; {os.cpu_count()} × {model}; load {os.getloadavg()[0]:.2f}"


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bounds-") as directory:
        yield Path(directory)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", action="store_true")
    as_json = arguments.parse_args().json
    wanted = os.environ.get("P", "").split() or list(MEASUREMENTS)
    unknown = [name for name in wanted if name not in MEASUREMENTS]
    if unknown:
        arguments.error(f"no bound {' '.join(unknown)}; there are {' '.join(MEASUREMENTS)}")
    print(machine(), file=sys.stderr)
    all_hold = True
    for name in wanted:
        with scratch() as directory:
            for bound in MEASUREMENTS[name](directory):
                all_hold &= bound.holds
                print(json.dumps(asdict(bound)) if as_json else bound.line(), flush=True)
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
