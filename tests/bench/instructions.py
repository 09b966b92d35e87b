"""Instructions that a process takes, under valgrind's callgrind: the same in every run, on a busy machine too."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.runtime_api import Bootstrap
from harness.places import plain_environment

# Long enough for what a process does before it waits for its next event.
SETTLED_SECONDS = 0.5
# What the first invocation read ahead is good for a second (`docs/adr/0018`): how many of those after it fall into that second
# would depend on the machine.
AFTER_FIRST_SECONDS = 1.2
FEW, MANY = 21, 121


def callgrind(output: Path) -> list[str]:
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]


def total(output: Path) -> int:
    """The instructions of the whole run."""
    found = re.search(r"^(?:totals|summary): (\d+)", output.read_text(), re.MULTILINE)
    assert found, f"{output} has no total"
    return int(found[1])


def taken(
    make: Callable[[Sequence[str]], Bootstrap],
    folder: Path,
    events: Sequence[Any] = (),
    name: str = "ir",
    ask: Callable[[Bootstrap, Any], Any] = Bootstrap.invoke,
) -> int:
    """Instructions of a process from its start until it waits for the event after these, each of which it is asked by `ask`."""
    output = folder / f"{name}-{len(events)}.callgrind"
    bootstrap = make(callgrind(output))
    with bootstrap:
        for number, event in enumerate(events):
            ask(bootstrap, event)
            if number == 0:
                time.sleep(AFTER_FIRST_SECONDS)
        time.sleep(SETTLED_SECONDS)
    return total(output)


def per_invoke(
    make: Callable[[Sequence[str]], Bootstrap], folder: Path, event: Callable[[], Any], name: str = "ir"
) -> float:
    """Instructions of one more invocation of a warm process."""
    few = taken(make, folder, [event() for _ in range(FEW)], name)
    many = taken(make, folder, [event() for _ in range(MANY)], name)
    return (many - few) / (MANY - FEW)


def per_round(command: Callable[[int], Sequence[str | Path]], folder: Path, name: str) -> float:
    """Instructions of one more round of a program that is told how many it does, and ends."""

    def of(rounds: int) -> int:
        output = folder / f"{name}-{rounds}.callgrind"
        whole = [*callgrind(output), *map(str, command(rounds))]
        subprocess.run(whole, check=True, capture_output=True, env=plain_environment())
        return total(output)

    return (of(MANY) - of(FEW)) / (MANY - FEW)
