"""Every call to AWS that the main path makes, spoiled in every way that it can be, between the function and the emulators: what the
client is told, that a repetition succeeds, and what is stored, kept and sent to the vendor afterwards.

A case is (operation, call, fault): `Refresh-PutItem-2-lost` loses the answer to the second PutItem of a refresh, once; with
`-lasting` it loses those of its repetitions, too, for ten seconds. `FAULTS=all` adds single faults of reads that others stand for.
"""

from __future__ import annotations

import os
import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from aws import faulty_operations, faulty_tokens
from aws.faulty import lasting_faults_of, passing_faults_of
from aws.faulty_place import Deployment, Place, Said

EVERY = os.environ.get("FAULTS") == "all"
# At a time: most of a case is waiting.
PLACES = 10
# What a client that goes by the answers gives a repetition: longer than the lease of an attempt that came to nothing (D7).
PATIENCE_SECONDS = 45
SLOWEST_CALL_SECONDS = 29

OPERATIONS = vars(faulty_operations) | vars(faulty_tokens)

# The calls of each operation in a process that knows nothing yet, in their order.
CALLS = {
    "CreateWorkload": "GetItem TransactWriteItems",
    "UpdateWorkload": "GetItem GetItem GetItem TransactWriteItems",
    "DeleteWorkload": "GetItem GetItem GetItem GetItem TransactWriteItems",
    "ListWorkloads": "GetItem Query Query Decrypt BatchGetItem",
    "PutAuthorizer": "GetItem GetItem GetItem GetItem GetItem TransactWriteItems",
    "DeleteAuthorizer": "GetItem GetItem TransactWriteItems",
    "CreateApiKey": "GetItem PutSecretValue CreateSecret PutSecretValue TransactWriteItems",
    "UpdateApiKey": "GetItem GetItem GetItem PutSecretValue DescribeSecret UpdateSecretVersionStage GetItem GetItem TransactWriteItems "
    "UpdateSecretVersionStage",
    "DeleteApiKey": "GetItem GetItem GetItem TransactWriteItems DeleteSecret",
    "CreateOauth2": "GetItem PutSecretValue CreateSecret PutSecretValue TransactWriteItems",
    "UpdateOauth2": "GetItem GetItem GetItem PutSecretValue DescribeSecret UpdateSecretVersionStage GetItem GetItem TransactWriteItems "
    "UpdateSecretVersionStage",
    "DeleteOauth2": "GetItem GetItem GetItem TransactWriteItems DeleteSecret",
    "Mint": "GetItem GetItem GetItem Query Decrypt",
    "MintForJwt": "GetItem GetItem GetItem GetItem GetItem GetItem GetItem Query Decrypt",
    "MintForUserId": "GetItem GetItem GetItem GetItem Query Decrypt",
    "MintFirst": "GetItem GetItem GetItem Query Encrypt TransactWriteItems",
    "MachineFirst": "BatchGetItem Decrypt BatchGetItem GetItem GetItem GetItem GetItem PutItem Query Decrypt GetSecretValue PutItem",
    "MachineWarm": "BatchGetItem Decrypt BatchGetItem Decrypt",
    "ApiKey": "BatchGetItem Decrypt BatchGetItem GetSecretValue",
    "BeginConsent": "BatchGetItem Decrypt BatchGetItem GetItem GetItem GetItem GetItem GetItem Query Decrypt TransactWriteItems",
    "OpenPage": "GetItem GetItem GetItem",
    "Continue": "GetItem GetItem GetItem GetItem Decrypt Query Decrypt PutItem",
    "Callback": "GetItem Decrypt GetItem GetItem GetItem Query Decrypt PutItem",
    "Complete": "GetItem GetItem GetItem GetItem GetItem GetSecretValue GetItem Query Decrypt TransactWriteItems GetItem "
    "PutItem GetItem Decrypt GetItem GetItem BatchGetItem TransactWriteItems",
    "UserToken": "BatchGetItem Decrypt BatchGetItem Decrypt",
    "Refresh": "BatchGetItem Decrypt BatchGetItem GetItem GetItem GetItem GetItem PutItem Decrypt GetSecretValue PutItem",
    # One Query for each of 16 shards, and what is due in one of them; then the keys of issuers.
    "Tick": "Query BatchGetItem" + 15 * " Query" + " BatchGetItem SendMessageBatch Query BatchGetItem PutItem",
    "Message": "GetItem BatchGetItem GetItem PutItem GetItem GetItem Decrypt GetSecretValue PutItem",
    "DeadGrant": "GetItem BatchGetItem GetItem PutItem GetItem GetItem Decrypt GetSecretValue PutItem PutEvents PutItem",
    "Authorize": "BatchGetItem GetItem",
}
# Where a call is not answered at all, which takes seconds each time.
HANGING = [
    ("CreateApiKey", "PutSecretValue", 2), ("CreateOauth2", "TransactWriteItems", 1), ("Mint", "Decrypt", 1),
    ("Complete", "TransactWriteItems", 2), ("Refresh", "PutItem", 2), ("UserToken", "BatchGetItem", 1),
    ("Tick", "SendMessageBatch", 1), ("Authorize", "BatchGetItem", 1),
]  # fmt: skip
# The shards are alike.
ALIKE = {("Tick", "Query"): range(2, 17)}
# Up to the vendor's answer it is a Message as any other.
FROM = {"DeadGrant": {"PutItem": 2, "PutEvents": 1}}


@dataclass(frozen=True)
class Case:
    operation: str
    call: str
    which: int
    fault: str
    persists: bool

    def __str__(self) -> str:
        return f"{self.operation}-{self.call}-{self.which}-{self.fault}" + ("-lasting" if self.persists else "")


def cases() -> list[Case]:
    found = [Case(*where, "hang", False) for where in HANGING]
    for operation, calls in CALLS.items():
        names = calls.split()
        first = FROM.get(operation, dict.fromkeys(names, 1))
        for call in first:
            for which in range(first[call], names.count(call) + 1):
                if which in ALIKE.get((operation, call), ()):
                    continue
                found += [Case(operation, call, which, fault, False) for fault in passing_faults_of(call, EVERY)]
                found += [Case(operation, call, which, fault, True) for fault in lasting_faults_of(call)]
    return found


# --------------------------------------------------------------------------------------------------------------- running


class Run:
    """All cases that were asked for, several at a time; each test waits for its own."""

    def __init__(self, wanted: list[Case]):
        self.deployment = Deployment()
        self.places: queue.SimpleQueue[Place] = queue.SimpleQueue()
        self.all = [Place(self.deployment) for _ in range(PLACES)]
        for place in self.all:
            self.places.put(place)
        self.threads = ThreadPoolExecutor(PLACES)
        # Those that wait longest begin first.
        longest_first = sorted(wanted, key=lambda case: not (case.persists or case.fault == "hang"))
        self.results: dict[Case, Future[None]] = {case: self.threads.submit(self.run, case) for case in longest_first}

    def run(self, case: Case) -> None:
        place = self.places.get()
        try:
            check(place, case)
        finally:
            self.places.put(place)

    def stop(self) -> None:
        self.threads.shutdown(wait=True, cancel_futures=True)
        for place in self.all:
            place.stop()
        self.deployment.stop()


@pytest.fixture(scope="module")
def run(request):
    # Other modules have a `case` of their own.
    params = [getattr(item, "callspec", None) and item.callspec.params for item in request.session.items]
    wanted = [given["case"] for given in params if given and isinstance(given.get("case"), Case)]
    running = Run(wanted)
    yield running
    running.stop()


def check(place: Place, case: Case) -> None:
    operation = OPERATIONS[case.operation](place)
    with place.process(operation.function, **operation.variables) as process:
        began = time.monotonic()
        with place.proxy.armed(case.call, case.which, case.fault, case.persists) as armed:
            said = operation.ask(process)
        took = time.monotonic() - began
        assert armed.times, f"there was no such call: {armed.calls}"
        assert took < SLOWEST_CALL_SECONDS, f"it took {took:.1f} s, and Lambda would have ended it"
        if not said.ok:
            told_well(case, operation.function, said)
            operation.check_failed(process)
            said = repeat(operation, process, case)
        if said.error != operation.done_already or said.ok:
            operation.check(said, process)


def told_well(case: Case, function: str, said: Said) -> None:
    """What a client may be told: to come again, and for what nobody can know, that we failed."""
    assert case.persists or case.fault == "partial", f"one fault is ours to bear, and it was told {said}"
    if function in ("refresh", "authorizer"):
        return  # whoever invokes them invokes them again
    if case.fault in ("throttle", "conflict", "partial"):
        assert (said.status, said.error) in ((429, "ThrottlingException"), (503, "status 503"), (429, "status 429")), said
    else:
        assert said.status in (429, 500, 503), said


def repeat(operation, process, case: Case) -> Said:
    """The same again, by a client that comes again as often as it is told to."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        said = operation.ask(process)
        if said.ok:
            return said
        if case.fault == "lost" and operation.done_already and said.error == operation.done_already:
            return said
        assert said.error in ("ThrottlingException", "batchItemFailures"), f"a repetition was told {said}"
        assert time.monotonic() < deadline, f"a repetition is still told {said}"
        time.sleep(0.5)


# ----------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("operation", CALLS)
def test_these_are_the_calls(run, operation):
    place = run.places.get()
    try:
        subject = OPERATIONS[operation](place)
        with place.process(subject.function, **subject.variables) as process:
            with place.proxy.armed("", 0, "throttle") as armed:
                said = subject.ask(process)
            assert said.ok, said
            subject.check(said, process)
        assert sorted(armed.calls) == sorted(CALLS[operation].split()), f"now: {' '.join(armed.calls)}"
    finally:
        run.places.put(place)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_fault_breaks_nothing(run, case):
    run.results[case].result()
