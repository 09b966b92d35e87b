"""The bounds of `docs/` that can be measured on one machine with the embedded server: P4 and P10.

Prints a line per bound, or JSON with `--json`; what was measured beside them, and on which machine, goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import single_flight
import warm_get


@dataclass(frozen=True)
class Bound:
    id: str
    case: str
    value: float
    bound: float
    holds: bool

    def line(self) -> str:
        return f"{self.id} {self.case}: {self.value:g} (bound {self.bound:g}) {'holds' if self.holds else 'DOES NOT HOLD'}"


def p4(directory: Path) -> Iterator[Bound]:
    requests = single_flight.token_requests(directory)
    yield Bound("P4", "100 gets of one expired token in two processes, token requests", requests, 1, requests == 1)


def p10(directory: Path) -> Iterator[Bound]:
    measured = warm_get.measure(directory)
    print(
        f"P10 warm get {measured.get_cpu_us:.1f} µs CPU, hello {measured.hello_cpu_us:.1f} µs CPU; "
        f"{measured.gets_per_second:.0f} gets/s, p99 {measured.get_p99_ms:.1f} ms, {warm_get.CONNECTIONS} connections",
        file=sys.stderr,
    )
    ratio = round(measured.get_cpu_us / measured.hello_cpu_us, 2)
    yield Bound("P10", "warm token get, CPU ÷ hello handler", ratio, 6, ratio <= 6)


MEASUREMENTS: dict[str, Callable[[Path], Iterator[Bound]]] = {"P4": p4, "P10": p10}


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
