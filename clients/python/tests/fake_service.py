"""A service that says what a test tells it to, and remembers what it was asked; and a clock."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATHS = {"/identities/oauth2/token": "GetResourceOauth2Token", "/identities/api-key": "GetResourceApiKey"}
TAGGING = {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}
CREATED = {
    "name": "salesforce",
    "credentialProviderArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/x/salesforce",
    "clientSecretArn": {"secretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:x"},
    "callbackUrl": "http://127.0.0.1/identities/oauth2/callback/1",
}


@dataclass(frozen=True)
class Call:
    operation: str
    body: dict[str, Any]
    authorization: str

    @property
    def scope(self) -> str:
        """Region and service that the request is signed for."""
        found = re.search(r"Credential=[^/]+/\d+/([^/]+/[^/]+)/aws4_request", self.authorization)
        assert found, self.authorization
        return found[1]


@dataclass(frozen=True)
class Refusal:
    code: str
    status: int = 400


@dataclass
class Service:
    """`answers` has for each operation what it answers, in turn; the last answer stays."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    url: str = ""

    def answer(self, operation: str, *answers: Any) -> None:
        self.answers[operation] = list(answers)

    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def bodies(self, operation: str) -> list[dict[str, Any]]:
        return [call.body for call in self.calls if call.operation == operation]

    def next_answer(self, operation: str) -> Any:
        answers = self.answers.get(operation) or [Refusal("UnknownOperationException", 404)]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def serving() -> Iterator[Service]:
    """The service, on a port of its own."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            if self.path.startswith("/tags/"):
                operation = TAGGING[self.command]
                body |= {"query": self.path.partition("?")[2]} if self.command == "DELETE" else {}
            else:
                operation = PATHS.get(self.path) or self.path.rpartition("/")[2]
            service.calls.append(Call(operation, body, self.headers["Authorization"]))
            answer = service.next_answer(operation)
            refused = answer if isinstance(answer, Refusal) else None
            content = json.dumps({"message": "refused"} if refused else answer).encode()
            self.send_response(refused.status if refused else 200)
            if refused:
                self.send_header("x-amzn-errortype", refused.code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        service.url = f"http://127.0.0.1:{server.server_port}"
        service.answer("GetWorkloadAccessToken", {"workloadAccessToken": "wat"})
        service.answer("GetWorkloadAccessTokenForJWT", {"workloadAccessToken": "wat-jwt"})
        service.answer("GetWorkloadAccessTokenForUserId", {"workloadAccessToken": "wat-user"})
        yield service
        server.shutdown()
        thread.join()


class Clock:
    """Stands in for `time`: sleeping takes no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
