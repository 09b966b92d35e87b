"""A third party's HTTP API that is what a test makes of it: it keeps what it was sent, and answers as it is told."""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What is answered; `raw` are bytes that take the place of all of it, head and body."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    raw: bytes | None = None
    pause: Callable[[], object] = lambda: None
    """Is called when the head has been sent."""


def echo(seen: Seen) -> Reply:
    """Gives all of it back, secrets included."""
    said = {"method": seen.method, "path": seen.path, "headers": seen.headers, "body": seen.body.decode(errors="replace")}
    shown = seen.headers.get("authorization") or seen.headers.get("x-api-key") or ""
    return Reply(body=json.dumps(said).encode(), headers=(("Content-Type", "application/json"), ("X-Echo", shown)))


class Upstream:
    """With `tls`, which is (certificate and key in PEM, the authority to trust), it answers by https."""

    def __init__(self, tls: tuple[str, str, str] | None = None) -> None:
        self.seen: list[Seen] = []
        self.answer: Callable[[Seen], Reply] = echo
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, self.rfile.read(length))
                upstream.seen.append(seen)
                reply = upstream.answer(seen)
                if reply.raw is not None:
                    self.wfile.write(reply.raw)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.flush()
                reply.pause()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(tls[1] + tls[0])
                file.flush()
                context.load_cert_chain(file.name)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._scheme = "http" if tls is None else "https"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}"

    def last(self) -> Seen:
        return self.seen[-1]

    def reset(self) -> None:
        self.seen.clear()
        self.answer = echo

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
