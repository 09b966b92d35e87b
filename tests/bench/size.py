"""P6: how large a bootstrap is, and how much memory its process has after so many invocations."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runtime_api import Bootstrap, resident_kilobytes

FEW, MANY = 1_000, 10_000


def stripped_bytes(bootstrap: Path, folder: Path) -> int:
    """What is uploaded: without the symbols, which no part of a function reads."""
    copy = folder / f"{bootstrap.name}.stripped"
    subprocess.run(["strip", "-o", str(copy), str(bootstrap)], check=True)
    return copy.stat().st_size


@dataclass(frozen=True)
class Memory:
    """Resident kilobytes."""

    at_start: int
    after_few: int
    after_many: int


def memory(bootstrap: Bootstrap, invoke: Callable[[Bootstrap], Any]) -> Memory:
    with bootstrap:
        at_start = resident_kilobytes(bootstrap.pid)
        for _ in range(FEW):
            invoke(bootstrap)
        after_few = resident_kilobytes(bootstrap.pid)
        for _ in range(MANY - FEW):
            invoke(bootstrap)
        return Memory(at_start, after_few, resident_kilobytes(bootstrap.pid))
