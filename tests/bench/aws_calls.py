"""Counts the calls that a function makes to AWS, on their way to the emulators.

A proxy stands in for every endpoint. It reads the operation from `X-Amz-Target`, and for DynamoDB the consistency and the
units that AWS would bill, from the sizes of what is read and written (DynamoDB Developer Guide, "Read and write operations" and
"Item sizes and formats").
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "TrentService": "kms",
    "secretsmanager": "secretsmanager",
    "AmazonSQS": "sqs",
    "AWSEvents": "events",
}
READ_UNIT_BYTES, WRITE_UNIT_BYTES = 4096, 1024


@dataclass(frozen=True)
class Call:
    """One call. Units are those of on-demand tables: request units."""

    service: str
    operation: str
    status: int
    # Of DynamoDB alone.
    consistent: bool = False
    keys: int = 0
    read_units: float = 0
    write_units: float = 0

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"


# --------------------------------------------------------------------------------------------------------- sizes and units


def number_bytes(text: str) -> int:
    """About one byte for two digits, and one; negative numbers one more."""
    digits = text.lstrip("-").replace(".", "").lstrip("0")
    return math.ceil(len(digits) / 2) + 1 + text.startswith("-")


def value_bytes(value: dict[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return number_bytes(content)
        case "B":
            return len(base64.b64decode(content))
        case "BOOL" | "NULL":
            return 1
        case "M":
            return 3 + sum(1 + len(name.encode()) + value_bytes(item) for name, item in content.items())
        case "L":
            return 3 + sum(1 + value_bytes(item) for item in content)
    raise ValueError(f"no attribute of ours is a {kind}")


def item_bytes(item: dict[str, Any]) -> int:
    return sum(len(name.encode()) + value_bytes(value) for name, value in item.items())


def read_units(size: int, consistent: bool) -> float:
    return max(1, math.ceil(size / READ_UNIT_BYTES)) * (1 if consistent else 0.5)


def write_units(size: int) -> int:
    return max(1, math.ceil(size / WRITE_UNIT_BYTES))


def dynamodb_call(operation: str, status: int, asked: dict[str, Any], said: dict[str, Any]) -> Call:
    call = {"service": "dynamodb", "operation": operation, "status": status}
    if status != 200:
        return Call(**call)
    match operation:
        case "GetItem":
            consistent = asked.get("ConsistentRead", False)
            units = read_units(item_bytes(said.get("Item", {})), consistent)
            return Call(**call, consistent=consistent, keys=1, read_units=units)
        case "BatchGetItem":
            [(table, wanted)] = asked["RequestItems"].items()
            consistent = wanted.get("ConsistentRead", False)
            found = said["Responses"].get(table, [])
            unprocessed = said.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            missing = len(wanted["Keys"]) - len(found) - len(unprocessed)
            units = sum(read_units(item_bytes(item), consistent) for item in found)
            units += missing * read_units(0, consistent)
            return Call(**call, consistent=consistent, keys=len(wanted["Keys"]), read_units=units)
        case "Query":
            consistent = asked.get("ConsistentRead", False)
            units = read_units(sum(item_bytes(item) for item in said.get("Items", [])), consistent)
            return Call(**call, consistent=consistent, keys=said.get("Count", 0), read_units=units)
        case "PutItem":
            return Call(**call, keys=1, write_units=write_units(item_bytes(asked["Item"])))
        case "DeleteItem":
            # The size of what is deleted is in no message; it is at least this.
            return Call(**call, keys=1, write_units=1)
        case "TransactWriteItems":
            # Each of them twice (prepare and commit); of deletes and checks it is at least this.
            items = [entry.get("Put", {}).get("Item", {}) for entry in asked["TransactItems"]]
            return Call(**call, keys=len(items), write_units=sum(2 * write_units(item_bytes(item)) for item in items))
    raise ValueError(f"no units are known for {operation}")


# --------------------------------------------------------------------------------------------------------------- the proxy


class Recording:
    """The calls of a stretch of time."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def counts(self) -> Counter[str]:
        return Counter(call.name for call in self.calls)

    @property
    def read_units(self) -> float:
        return sum(call.read_units for call in self.calls)

    @property
    def write_units(self) -> float:
        return sum(call.write_units for call in self.calls)

    def __str__(self) -> str:
        return ", ".join(
            call.name + (f" of {call.keys}" if call.keys > 1 else "") + (" consistent" if call.consistent else "")
            for call in self.calls
        )


Answered = tuple[int, list[tuple[str, str]], bytes]


def forward(upstream: str, path: str, headers: Message, body: bytes) -> Answered:
    """Sends a call on as it is, and gives status, headers and body of the answer."""
    connection = http.client.HTTPConnection(upstream, timeout=60)
    try:
        connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() != "connection":
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    # A crowd connects at once.
    request_queue_size = 256


class CountingProxy:
    """Endpoints that forward to `environment`'s, and record. `environment` afterwards names the proxy instead."""

    def __init__(self, environment: dict[str, str]):
        self._recordings: list[Recording] = []
        self._servers: list[ThreadingHTTPServer] = []
        self._lock = threading.Lock()
        self.environment = dict(environment)
        for name, value in environment.items():
            if name.startswith("AWS_ENDPOINT_URL"):
                self.environment[name] = self._serve(urlsplit(value).netloc)

    def _serve(self, upstream: str) -> str:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = proxy._answer(upstream, self.path, self.headers, body)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = _Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def _answer(self, upstream: str, path: str, headers: Message, body: bytes) -> Answered | None:
        """What a call is answered; `None` = the connection is closed without an answer."""
        status, said, content = forward(upstream, path, headers, body)
        self._note(headers.get("X-Amz-Target", ""), body, status, content)
        return status, said, content

    def _note(self, target: str, body: bytes, status: int, answer: bytes) -> None:
        if target:
            prefix, _, operation = target.partition(".")
            service = SERVICES.get(prefix, prefix)
        else:
            # AWS's query protocol has it in the form.
            service, operation = "query", parse_qs(body.decode()).get("Action", ["?"])[0]
        if service == "dynamodb":
            call = dynamodb_call(operation, status, json.loads(body), json.loads(answer or b"{}"))
        else:
            call = Call(service, operation, status)
        with self._lock:
            for recording in self._recordings:
                recording.calls.append(call)

    @contextmanager
    def recorded(self) -> Iterator[Recording]:
        recording = Recording()
        with self._lock:
            self._recordings.append(recording)
        try:
            yield recording
        finally:
            with self._lock:
                self._recordings.remove(recording)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
