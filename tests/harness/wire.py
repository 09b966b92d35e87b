"""Raw HTTP to `serve`: one keep-alive connection, bytes as given, and answers with their headers."""

from __future__ import annotations

import http.client
import json
import select
from dataclasses import dataclass, field
from typing import Any

from . import model
from .signing import Credentials, Signing, sign


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error's name as clients read it: from the header, without a trailing URL."""
        return self.headers.get("x-amzn-errortype", "").split(":")[0]

    @property
    def message(self) -> str:
        return self.json.get("message", "")

    @property
    def wrong_fields(self) -> list[str]:
        return [entry["name"] for entry in self.json.get("fieldList") or []]


class Connection:
    """One TCP connection; `used` says how many requests it has carried."""

    def __init__(self, port: int, timeout_seconds: float = 30):
        self.port = port
        self.used = 0
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """Sends exactly these headers (plus Content-Length), whatever they say."""
        self._http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            self._http.putheader(name, value)
        if method != "GET" and not any(name.lower() == "content-length" for name in headers):
            self._http.putheader("Content-Length", str(len(body)))
        self._http.endheaders(body or None)
        response = self._http.getresponse()
        answer = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
        self.used += 1
        return answer

    @property
    def is_open(self) -> bool:
        return self._http.sock is not None

    @property
    def was_closed_by_the_server(self) -> bool:
        """Between two requests nothing is readable but the end."""
        sock = self._http.sock
        if sock is None:
            return False
        # Not `select`, which ends at 1,024 open files.
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Caller:
    """Calls operations with signed requests, without any validation on this side."""

    port: int
    credentials: Credentials
    signing: Signing = field(default_factory=Signing)
    timeout_seconds: float = 30

    def __post_init__(self) -> None:
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The open connection; like any client's pool, it gives up one that the server has closed while idle."""
        if self._connection is not None and self._connection.was_closed_by_the_server:
            self.close()
        if self._connection is None:
            self._connection = Connection(self.port, self.timeout_seconds)
        return self._connection

    def headers(self) -> dict[str, str]:
        return {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json"}

    def signed(self, target: str, body: bytes, method: str = "POST", **headers: str) -> dict[str, str]:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return sign(self.credentials, method, target, self.headers() | extra, body, self.signing)

    def raw(self, operation: str, body: bytes) -> Answer:
        """The operation with a body of any bytes."""
        return self.at(model.path_of(operation), body)

    def at(self, target: str, body: bytes = b"{}", method: str = "POST") -> Answer:
        try:
            return self.connection.send(method, target, self.signed(target, body, method), body)
        except BaseException:
            self.close()
            raise

    def call(self, operation: str, **members: Any) -> Answer:
        """The operation with a JSON body of `members`."""
        return self.raw(operation, json.dumps(members).encode())

    def ok(self, operation: str, **members: Any) -> dict[str, Any]:
        """Like `call`, and it must succeed with the status of the model."""
        answer = self.call(operation, **members)
        expected = model.success_status(operation)
        assert answer.status == expected, f"{operation}: {answer.status} {answer.error} {answer.body[:500]!r}"
        return answer.json if answer.body else {}

    def refused(self, operation: str, status: int, error: str, **members: Any) -> Answer:
        """Like `call`, and it must fail with just this error."""
        answer = self.call(operation, **members)
        assert (answer.status, answer.error) == (status, error), f"{operation}: {answer}"
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
