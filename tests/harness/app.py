"""The agent's own web application: the page that the user comes back to after the consent."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class App:
    """Keeps the query of every visit to its return page."""

    def __init__(self) -> None:
        self.visits: list[dict[str, list[str]]] = []
        visits = self.visits

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                visits.append(parse_qs(urlsplit(self.path).query))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(b"back in the application")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def return_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/return"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
