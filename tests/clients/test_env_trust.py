"""D21: `env` hands credentials to a server that proves itself, or to nobody."""

import http.client
import json
import socket
import threading
import time

import pytest

from harness.product import Server, command, create_access_key
from harness.wire import Connection

PATIENCE_SECONDS = 10


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def gone(store):
    """A server that was killed: its note still says that it runs."""
    server = Server(store).start()
    server.env()
    server.kill()
    return server


class Impostor:
    """Takes a port of this machine and gives every connection to `answer`."""

    def __init__(self, port, answer):
        self._listening = socket.create_server(("127.0.0.1", port))
        self._open = []
        self.asked = 0
        self._answer = answer
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.asked += 1
            self._open.append(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        try:
            self._answer(connection)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listening.close()
        for connection in self._open:
            connection.close()


def read_request(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(10_000)
        if not piece:
            break
        request += piece
    return request


def answering(content):
    def answer(connection):
        read_request(connection)
        connection.sendall(content)
        connection.close()

    return answer


def response(body, status="200 OK", more=""):
    return f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}".encode()


IMPOSTORS = {
    "closes": lambda connection: connection.close(),
    "reads and closes": answering(b""),
    "says hello": lambda connection: (connection.sendall(b"hello\r\n"), connection.close()),
    "says hello and stays": lambda connection: connection.sendall(b"hello\r\n"),
    "stays silent": lambda connection: None,
    "begins an answer": answering(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "answers a wrong proof": answering(response("0" * 64)),
    "answers no proof": answering(response("{}")),
    "answers nothing": answering(response("")),
    "does not know the path": answering(response("not found", "404 Not Found")),
    "sends elsewhere": answering(response("", "302 Found", "Location: http://127.0.0.1:9/\r\n")),
}


def refused(done, began, store):
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert json.loads((store / "access-key.json").read_text())["secretAccessKey"] not in done.stderr
    assert time.monotonic() - began < PATIENCE_SECONDS


@pytest.mark.parametrize("named", [True, False], ids=["with --url", "without --url"])
@pytest.mark.parametrize("kind", IMPOSTORS)
def test_d21_a_program_that_has_taken_the_port_gets_nothing(store, gone, kind, named):
    began = time.monotonic()
    with Impostor(gone.port, IMPOSTORS[kind]) as impostor:
        done = command("env", "--data", str(store), *(("--url", gone.url) if named else ()), expect=None)
    refused(done, began, store)
    assert str(impostor.port) in done.stderr


def test_d21_a_taken_port_is_refused_under_each_name_of_this_machine(store, gone):
    began = time.monotonic()
    with Impostor(gone.port, IMPOSTORS["answers a wrong proof"]):
        done = command("env", "--data", str(store), "--url", f"http://localhost:{gone.port}", expect=None)
    refused(done, began, store)


def test_d21_a_taken_port_gets_no_profile_either(store, gone, tmp_path):
    began = time.monotonic()
    with Impostor(gone.port, IMPOSTORS["closes"]):
        done = command("env", "--data", str(store), "--profile", "local", expect=None, HOME=str(tmp_path))
    refused(done, began, store)
    assert not (tmp_path / ".aws").exists()


def test_d21_a_proof_that_is_relayed_from_the_real_server_is_none(store):
    """Somebody in between passes the challenge on: the proof is for the address that answers it."""
    server = Server(store).start()
    relayed = []

    def relay(connection):
        request = read_request(connection)
        if not request:
            return  # only looked whether anybody listens
        target = request.split(b" ")[1].decode()
        with Connection(server.port) as real:
            answer = real.send("GET", target, {"Host": f"127.0.0.1:{server.port}"})
        relayed.append(answer.status)
        connection.sendall(response(answer.body.decode()))
        connection.close()

    began = time.monotonic()
    with Impostor(0, relay) as impostor:
        done = command("env", "--data", str(store), "--url", f"http://127.0.0.1:{impostor.port}", expect=None)
    refused(done, began, store)
    assert relayed == [200], "the real server did answer the challenge"
    assert server.stop() == 0


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:7420", "http://10.0.0.1:7420", "http://0.0.0.0:7420", "http://[2001:db8::1]:7420",
     "http://localhost.evil.example:7420", "http://127.0.0.1.evil.example:7420", "http://127.0.0.1:7420@evil.example",
     "https://127.0.0.1:7420", "http://127.0.0.1:7420/path", "file:///etc/passwd", "127.0.0.1:7420", "nonsense", ""],
)  # fmt: skip
def test_d21_a_url_that_is_not_of_this_machines_loopback_is_refused(store, gone, url):
    began = time.monotonic()
    done = command("env", "--data", str(store), "--url", url, expect=None)
    assert done.returncode in (1, 2) and done.stdout == "", done
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_when_nobody_listens_the_lines_are_printed(store):
    """A server that was stopped, or killed, may be started again on its port."""
    server = Server(store).start()
    url, before = server.url, server.env()
    assert server.stop() == 0
    for arguments in (("--url", url), ("--url", f"http://localhost:{server.port}"), ()):
        after = json.loads(command("env", "--data", str(store), "--json", *arguments).stdout)
        assert after["AWS_SECRET_ACCESS_KEY"] == before["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises((OSError, http.client.HTTPException)):
        server.get("/healthz")


@pytest.mark.parametrize("how", ["lines", "json", "profile"])
@pytest.mark.parametrize("named", [True, False], ids=["with --url", "without --url"])
def test_d21_a_server_with_a_public_address_takes_no_default_key_and_env_says_so(store, tmp_path, named, how):
    first = Server(store).start()
    first.env()
    assert first.stop() == 0
    create_access_key(store, "own", "admin")
    public = Server(store, port=first.port, arguments=("--public-base-url", "https://identity.example.com")).start()
    arguments = ["env", "--data", str(store)]
    arguments += ["--url", public.url] if named else []
    arguments += {"lines": [], "json": ["--json"], "profile": ["--profile", "local"]}[how]
    began = time.monotonic()
    done = command(*arguments, expect=None, HOME=str(tmp_path))
    refused(done, began, store)
    assert "access-keys create" in done.stderr
    assert not (tmp_path / ".aws").exists()
    assert public.stop() == 0
