"""A proxy between a function and the emulators that spoils one call: the n-th of its name after it was armed, once or with its
repetitions of ten seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from bench.aws_calls import SERVICES, Answered, CountingProxy, forward

# For how many seconds a call that hangs is held: longer than any time limit of a function for one attempt.
HANG_SECONDS = 30

THROTTLED = {
    "dynamodb": "ProvisionedThroughputExceededException",
    "kms": "ThrottlingException",
    "secretsmanager": "ThrottlingException",
    "sqs": "RequestThrottled",
    "events": "ThrottlingException",
}
# Longer than any call is tried (shared/aws/src: 8 s), shorter than a lease lives and a function may run.
LASTING_SECONDS = 10

# What each fault is. Which of them a call can meet, `faults_of` says.
FAULTS = {
    "throttle": "refused for now, and not executed",
    "reset": "the connection ends before it is executed",
    "lost": "executed, and the connection ends without an answer",
    "error": "an error of the service's own, and not executed",
    "conflict": "a transaction of somebody else's is under way; not executed",
    "partial": "answered with success, and nothing of it done",
    "hang": "not executed, and never answered",
}


def faults_of(call: str) -> list[str]:
    """The faults that a call of this name can meet; `hang` takes seconds each time, and is asked for by name."""
    more = {
        "TransactWriteItems": ["conflict"], "PutItem": ["conflict"], "DeleteItem": ["conflict"],
        "BatchGetItem": ["partial"], "SendMessageBatch": ["partial"], "PutEvents": ["partial"],
    }  # fmt: skip
    return ["throttle", "reset", "lost", "error", *more.get(call, [])]


# To a function, these end alike when they last, with the one that is named: refused for now, or no answer to what was not done.
ALIKE_WHEN_LASTING = {"conflict": "throttle", "error": "reset"}
READS = {"GetItem", "BatchGetItem", "Query", "Decrypt", "GetSecretValue", "DescribeSecret"}


def lasting_faults_of(call: str) -> list[str]:
    """Those that are worth their time when each repetition suffers the same. Whether a read was executed is nobody's concern."""
    left_out = set(ALIKE_WHEN_LASTING) | ({"lost"} if call in READS else set())
    return [fault for fault in faults_of(call) if fault not in left_out]


def passing_faults_of(call: str, every: bool) -> list[str]:
    """Those to suffer once. A read is repeated by the SDK, whatever it was; what lasts begins alike: `every` tries them all the
    same."""
    found = faults_of(call)
    return found if every or call not in READS else [fault for fault in found if fault in ("lost", "partial")]


def refusal(status: int, code: str, **members: Any) -> Answered:
    body = {"__type": f"com.amazonaws#{code}", "message": "injected", "Message": "injected"} | members
    headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-errortype", code)]
    return status, headers, json.dumps(body).encode()


def done_in_part(operation: str, asked: dict[str, Any]) -> Answered:
    match operation:
        case "BatchGetItem":
            said = {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]}
        case "SendMessageBatch":
            failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in asked["Entries"]]
            said = {"Successful": [], "Failed": failed}
        case "PutEvents":
            failed = [{"ErrorCode": "InternalFailure", "ErrorMessage": "injected"} for _ in asked["Entries"]]
            said = {"FailedEntryCount": len(failed), "Entries": failed}
        case _:
            raise ValueError(f"{operation} is done or not")
    return 200, [("Content-Type", "application/x-amz-json-1.0")], json.dumps(said).encode()


def conflict(operation: str, asked: dict[str, Any]) -> Answered:
    if operation != "TransactWriteItems":
        return refusal(400, "TransactionConflictException")
    reasons = [{"Code": "None"} for _ in asked["TransactItems"]]
    reasons[-1] = {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}
    return refusal(400, "TransactionCanceledException", CancellationReasons=reasons)


@dataclass
class Armed:
    """What was ordered, and what came of it."""

    call: str
    # Which call of this name, from 1.
    which: int
    fault: str
    # Whether repetitions of the same call suffer the same, for a while. Their members may come in another order.
    persists: bool
    calls: list[str] = field(default_factory=list)
    times: int = 0
    _asked: Any = None
    _since: float = 0

    def hits(self, operation: str, body: bytes) -> bool:
        self.calls.append(operation)
        if operation != self.call:
            return False
        asked = json.loads(body)
        if self.calls.count(operation) == self.which:
            self._asked, self._since = asked, time.monotonic()
        elif not (self.persists and self._asked == asked and time.monotonic() - self._since < LASTING_SECONDS):
            return False
        self.times += 1
        return True


class FaultyProxy(CountingProxy):
    """Spoils while it is armed, and otherwise passes on."""

    def __init__(self, environment: dict[str, str]):
        self._armed: Armed | None = None
        self._released = threading.Event()
        self._well: set[str] = set()
        super().__init__(environment)

    @contextmanager
    def armed(self, call: str, which: int, fault: str, persists: bool = False) -> Iterator[Armed]:
        """Spoils this call, counted from here."""
        self._armed = Armed(call, which, fault, persists)
        self._well.clear()
        self._released.clear()
        try:
            yield self._armed
        finally:
            self._armed = None
            self._released.set()

    def answered_well(self, operation: str) -> bool:
        """Whether a call of this name was done since the proxy was armed."""
        return operation in self._well

    def _answer(self, upstream: str, path: str, headers: Message, body: bytes) -> Answered | None:
        prefix, _, operation = headers.get("X-Amz-Target", "").partition(".")
        assert prefix in SERVICES, f"a call that nobody knows: {prefix}.{operation}"
        with self._lock:
            armed = self._armed
            spoiled = armed is not None and armed.hits(operation, body)
        if not spoiled:
            answer = super()._answer(upstream, path, headers, body)
            if answer is not None and answer[0] == 200:
                self._well.add(operation)
            return answer
        match armed.fault:
            case "throttle":
                return refusal(400, THROTTLED[SERVICES[prefix]])
            case "error":
                return refusal(500, "InternalServerError" if SERVICES[prefix] == "dynamodb" else "InternalServiceError")
            case "conflict":
                return conflict(operation, json.loads(body))
            case "partial":
                return done_in_part(operation, json.loads(body))
            case "lost":
                forward(upstream, path, headers, body)
            case "hang":
                self._released.wait(HANG_SECONDS)
        return None
