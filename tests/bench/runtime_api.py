"""Lambda's Runtime API for one bootstrap: feeds it given events, and says what it answered and what it cost.

AWS's own emulator does the same for tests; this one has no process of its own between the bootstrap and the numbers, runs the
bootstrap under a profiler when asked to, and holds it at its first request for an event, which is where init ends.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.places import plain_environment

VERSION = "/2018-06-01/runtime"
# The template traces nothing. A trace that is sampled adds 51 bytes to each line.
TRACE = "Root=1-67432f10-1f2e3d4c5b6a798081726354;Parent=53995c3f42cd8ad8;Sampled=0"
# Far above what any case needs under a profiler.
PATIENCE_SECONDS = 120


class InvocationError(Exception):
    """The function failed: `errorType` and `errorMessage`, as Lambda would hand them on."""

    def __init__(self, said: dict[str, Any]):
        super().__init__(f"{said.get('errorType')}: {said.get('errorMessage')}")
        self.type, self.message = said.get("errorType", ""), said.get("errorMessage", "")


@dataclass
class _Waiting:
    """An event on its way, and its answer when there is one."""

    event: bytes
    request_id: str
    answered: queue.SimpleQueue[tuple[str, bytes]]


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scheduled_seconds(pid: int) -> float:
    """Time on a processor of all threads, to the nanosecond (first field of /proc/PID/task/*/schedstat)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def resident_kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


class _Server(ThreadingHTTPServer):
    # A function that takes many events at once opens as many connections at its start.
    request_queue_size = 256


class Bootstrap:
    """One execution environment. `with Bootstrap(…) as it: it.invoke(event)`; its log is in `log`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        environment: dict[str, str],
        log: Path,
        folder: Path | None = None,
        **variables: str,
    ):
        self.command, self.log, self.folder = [str(part) for part in command], log, folder
        self.environment = environment | variables
        self._events: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._waiting: dict[str, _Waiting] = {}
        self._polls = 0
        self._out = 0
        # The most events that it had taken and not yet answered.
        self.most_at_once = 0
        self._polled = threading.Condition()
        self._failed: str | None = None
        self._server: ThreadingHTTPServer | None = None
        self.process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------------------------------------------- the process

    def start(self) -> Bootstrap:
        """Starts it, and returns when it asks for its first event."""
        self._events = queue.SimpleQueue()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=plain_environment(**self.environment) | {
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_address[1]}",
                    "AWS_LAMBDA_FUNCTION_NAME": "bench",
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                    "AWS_LAMBDA_LOG_FORMAT": "JSON",
                    "LAMBDA_TASK_ROOT": str(self.folder or "/var/task"),
                },
            )  # fmt: skip
        self.until_idle(0)
        return self

    def __enter__(self) -> Bootstrap:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def until_idle(self, polls: int) -> None:
        """Waits until it has asked for an event more than `polls` times: all before that are answered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._polled:
            while self._polls <= polls:
                if self._failed or (self.process and self.process.poll() is not None):
                    raise AssertionError(f"{self.command[-1]} ended: {self._failed or self.log_tail()}")
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self.command[-1]} asks for nothing: {self.log_tail()}")
                self._polled.wait(0.05)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # Who waits for its next event keeps a connection open until it is told.
        self._events.put(None)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]

    # -------------------------------------------------------------------------------------------------------- the events

    def invoke(self, event: Any, request_id: str | None = None) -> Any:
        """The answer to one event. It has asked for the next one when this returns. Several threads may call it: what comes of
        that is the function's own choice (`AWS_LAMBDA_MAX_CONCURRENCY`).

        Raises InvocationError when the function failed.
        """
        waiting = _Waiting(json.dumps(event).encode(), request_id or str(uuid.uuid4()), queue.SimpleQueue())
        polls = self._polls
        self._waiting[waiting.request_id] = waiting
        self._events.put(waiting)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                kind, body = waiting.answered.get(timeout=1)
                break
            except queue.Empty:
                if self.process is not None and self.process.poll() is not None:
                    raise AssertionError(f"{self.command[-1]} died: {self.log_tail()}") from None
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self.command[-1]} does not answer: {self.log_tail()}") from None
        self.until_idle(polls)
        said = json.loads(body) if body else None
        if kind == "error":
            raise InvocationError(said or {})
        return said

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bootstrap = self

        class Handler(BaseHTTPRequestHandler):
            # The bootstrap keeps its connection: one thread serves it.
            protocol_version = "HTTP/1.1"
            # Headers and body in one piece, as Lambda's own: in two, a function wakes up once or twice for an event, by chance.
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                assert urlsplit(self.path).path == f"{VERSION}/invocation/next", self.path
                with bootstrap._polled:
                    bootstrap._polls += 1
                    bootstrap._polled.notify_all()
                events = bootstrap._events
                waiting = events.get()
                if waiting is None:
                    # It was stopped. Each that waited tells the next.
                    events.put(None)
                    self.close_connection = True
                    return
                with bootstrap._polled:
                    bootstrap._out += 1
                    bootstrap.most_at_once = max(bootstrap.most_at_once, bootstrap._out)
                self._begin(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Lambda-Runtime-Aws-Request-Id", waiting.request_id)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
                self.send_header(
                    "Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:bench"
                )
                self.send_header("Lambda-Runtime-Trace-Id", TRACE)
                self.send_header("Content-Length", str(len(waiting.event)))
                self.end_headers()
                self.wfile.write(waiting.event)
                self.wfile.flush()

            def do_POST(self) -> None:
                body = self._body()
                path = urlsplit(self.path).path
                self._begin(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.wfile.flush()
                if path == f"{VERSION}/init/error":
                    bootstrap._failed = body.decode(errors="replace")
                    return
                with bootstrap._polled:
                    bootstrap._out -= 1
                request_id, kind = path.removeprefix(f"{VERSION}/invocation/").split("/")
                bootstrap._waiting.pop(request_id).answered.put((kind, body))

            def _begin(self, status: int) -> None:
                # Lambda's own does not say what it is made with.
                self.send_response_only(status)
                self.send_header("Date", self.date_time_string())

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
