"""P3: how many calls to AWS a request makes, counted on their way to the emulators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.aws_calls import Recording
from bench.deployment import Deployment, served
from bench.runtime_api import Bootstrap

# Records are kept for 30 s (D17), and rows that were read ahead for one.
RECORDS_LIFE_SECONDS, ROWS_LIFE_SECONDS = 30, 1
WARM_REPEATS = 5


@dataclass(frozen=True)
class Counted:
    """What one case costs; `own` are the calls that the request itself always makes."""

    case: str
    recording: Recording
    bound: int
    own: int = 0

    @property
    def calls(self) -> int:
        return max(0, len(self.recording.calls) - self.own)


@dataclass
class Subject:
    """A process, and the request whose calls are counted."""

    name: str
    bootstrap: Bootstrap
    ask: Callable[[], Any]
    warm: int
    first: int


def subjects(deployment: Deployment) -> Iterator[Subject]:
    of_user, alone = deployment.workload_token(deployment.user), deployment.workload_token()

    def asking(bootstrap: Bootstrap, operation: str, members: dict[str, Any]) -> Callable[[], Any]:
        return lambda: served(bootstrap, deployment.event(operation, members))

    for name, request, warm in (
        ("token get", deployment.token(of_user), 1),
        ("machine token get", deployment.machine_token(alone), 1),
        ("API key get", deployment.key(alone), 0),
    ):
        bootstrap = deployment.instance("tokens")
        yield Subject(name, bootstrap, asking(bootstrap, *request), warm, first=4)
    authorizer, event = deployment.instance("authorizer"), deployment.rest_token_event()

    def authorize() -> None:
        statement = authorizer.invoke(event)["policyDocument"]["Statement"][0]
        assert statement["Effect"] == "Allow", statement

    # Rules, keys and denials are one BatchGetItem: that is its first call, and its renewal.
    yield Subject("authorizer call", authorizer, authorize, warm=0, first=1)


@contextmanager
def stopped_afterwards(measured: list[Subject]) -> Iterator[None]:
    try:
        yield
    finally:
        for subject in measured:
            subject.bootstrap.stop()


def count(deployment: Deployment) -> Iterator[Counted]:
    """Init, first and warm calls, then those when all records have grown old."""
    measured = list(subjects(deployment))
    with stopped_afterwards(measured):
        for subject in measured:
            with deployment.proxy.recorded() as recording:
                subject.bootstrap.start()
            yield Counted(f"init of a process, {subject.name}", recording, 0)
            with deployment.proxy.recorded() as recording:
                subject.ask()
            yield Counted(f"first {subject.name} of a process", recording, subject.first)
        time.sleep(ROWS_LIFE_SECONDS + 0.1)
        for subject in measured:
            recordings = []
            for _ in range(WARM_REPEATS):
                with deployment.proxy.recorded() as recording:
                    subject.ask()
                recordings.append(recording)
            yield Counted(f"warm {subject.name}", max(recordings, key=lambda it: len(it.calls)), subject.warm)
        time.sleep(RECORDS_LIFE_SECONDS + 1)
        for subject in measured:
            with deployment.proxy.recorded() as recording:
                subject.ask()
            yield Counted(f"renewal of the 30 s caches, {subject.name}", recording, 1, own=subject.warm)
