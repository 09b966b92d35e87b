"""The product: the `agent-identity` command and `serve` processes."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from . import planted
from .places import BINARY, WORK, faketime_library, plain_environment
from .signing import Credentials, Signing
from .wire import Answer, Caller, Connection

READY = "listening on http://127.0.0.1:"
_numbers = count(1)


def log_file(kind: str) -> Path:
    directory = WORK / "logs" / os.environ.get("TEST_RUN", "by-hand")
    directory.mkdir(parents=True, exist_ok=True)
    return planted.watch_log(directory / f"{kind}-{os.getpid()}-{next(_numbers)}.log")


def complete_lines(log: Path) -> list[str]:
    """The lines that were written to their end. SIGKILL may cut the write of the last one off where a page of the file
    ends, so what stands after the last newline is no line."""
    return log.read_text(errors="replace").split("\n")[:-1]


def command(
    *arguments: str,
    stdin: str | None = None,
    expect: int | None = 0,
    logged: bool = True,
    timeout_seconds: float = 60,
    binary: Path = BINARY,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Runs `agent-identity ARGUMENTS`; what it says on stderr is searched for secrets like any log."""
    done = subprocess.run(
        [binary, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env=plain_environment(**environment),
    )
    if logged:
        log_file("command").write_text(done.stderr)
    if expect is not None:
        assert done.returncode == expect, f"{arguments} gave {done.returncode}: {done.stdout}{done.stderr}"
    return done


ON_READ_ALONE = {"AGENT_IDENTITY_REFRESH_EVERY": "0"}
"""For what counts the refreshes of readers: nothing is refreshed ahead of time."""


@dataclass
class Server:
    """A running `serve`."""

    data: Path
    allow_egress: tuple[str, ...] = ()
    record_cache_seconds = 1
    arguments: tuple[str, ...] = ()
    port: int = 0
    clock_offset_seconds: int = 0
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    binary: Path = BINARY
    user: int | None = None
    """Whose process it is; another than ours takes root."""

    def start(self) -> Server:
        planted.watch_data(self.data)
        self.log = log_file("serve")
        arguments = ["serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data)]
        for target in self.allow_egress:
            arguments += ["--allow-egress", target]
        clock: dict[str, str] = {}
        if self.clock_offset_seconds:
            clock = {
                "LD_PRELOAD": str(faketime_library()),
                "FAKETIME": f"{self.clock_offset_seconds:+d}s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [self.binary, *arguments, *self.arguments],
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=plain_environment(**clock, **self.environment),
            )
        self.port = self._read_port()
        return self

    def _read_port(self, timeout_seconds: float = 20) -> int:
        assert self.process is not None and self.process.stdout is not None
        deadline = time.monotonic() + timeout_seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise AssertionError(f"`serve` was not ready in {timeout_seconds} s: {self.log_tail()}")
                byte = self.process.stdout.read1(1)
                if not byte:
                    code = self.process.wait()
                    raise AssertionError(f"`serve` ended with {code} before it was ready: {self.log_tail()}")
                line += byte
        text = line.decode().strip()
        assert text.startswith(READY), f"the ready line is `{text}`"
        return int(text.removeprefix(READY))

    def log_tail(self) -> str:
        assert self.log is not None
        return self.log.read_text(errors="replace")[-2000:]

    def log_records(self) -> list[dict[str, Any]]:
        assert self.log is not None
        return [json.loads(line) for line in complete_lines(self.log)]

    def stop(self, signal_number: int = signal.SIGTERM, timeout_seconds: float = 20) -> int:
        """Asks it to end and gives its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"`serve` did not end in {timeout_seconds} s: {self.log_tail()}") from None
        self._forget()
        return code

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._forget()

    def _forget(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def env(self) -> dict[str, str]:
        """What `agent-identity env` says, as a client's environment."""
        said = command("env", "--data", str(self.data), "--url", self.url, "--json")
        variables = {name: value for name, value in json.loads(said.stdout).items() if value is not None}
        planted.plant(variables["AWS_SECRET_ACCESS_KEY"], "secret access key")
        return variables

    def credentials(self) -> Credentials:
        variables = self.env()
        return Credentials(
            variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_REGION"]
        )

    def caller(self, credentials: Credentials | None = None, timeout_seconds: float = 30) -> Caller:
        """A client of this server whose clock agrees with the server's."""
        return Caller(
            self.port,
            credentials or self.credentials(),
            Signing(clock_offset_seconds=self.clock_offset_seconds),
            timeout_seconds,
        )

    def boto3(self, service: str, credentials: Credentials | None = None) -> Any:
        """An unmodified boto3 client that does not retry, so that each answer is seen."""
        chosen = credentials or self.credentials()
        return boto3.session.Session(
            aws_access_key_id=chosen.access_key_id,
            aws_secret_access_key=chosen.secret_access_key,
            aws_session_token=chosen.session_token,
            region_name=chosen.region,
        ).client(service, endpoint_url=self.url, config=Config(retries={"total_max_attempts": 1}))

    def get(self, target: str, **headers: str) -> Answer:
        with Connection(self.port) as connection:
            host = {"Host": f"127.0.0.1:{self.port}"}
            return connection.send("GET", target, host | {k.replace("_", "-"): v for k, v in headers.items()})


def create_access_key(data: Path, name: str, *grants: str, expires_in: int | None = None) -> Credentials:
    """A key pair of its own principal, with these grants and no others."""
    arguments = ["access-keys", "create", "--name", name, "--data", str(data), "--json"]
    for grant in grants:
        arguments += ["--grant", grant]
    if expires_in is not None:
        arguments += ["--expires-in", str(expires_in)]
    made = json.loads(command(*arguments).stdout)
    planted.plant(made["secretAccessKey"], "secret access key")
    if made.get("sessionToken"):
        planted.plant(made["sessionToken"], "session token")
    return Credentials(
        made["accessKeyId"], made["secretAccessKey"], session_token=made.get("sessionToken")
    )


def _printed_arn(stdout: str) -> str:
    found = re.search(r"arn:aws:[a-z]+:[a-z0-9-]+:\d{12}:[A-Za-z0-9:/_+=.@!-]+", stdout)
    assert found, f"no ARN in `{stdout}`"
    return found.group()


def put_secret(data: Path, name: str, value: str, provider: str | None = None) -> str:
    """Stores an EXTERNAL secret of the operator, perhaps for one provider alone, and gives its ARN."""
    only = () if provider is None else ("--provider", provider)
    return _printed_arn(command("secrets", "put", name, "--data", str(data), *only, stdin=value).stdout)


def create_signing_key(data: Path, name: str, algorithm: str = "ES256") -> tuple[str, dict[str, Any]]:
    """A key of the operator for `private_key_jwt`: its ARN and its public JWK."""
    arn = _printed_arn(command("keys", "create", name, "--alg", algorithm, "--data", str(data)).stdout)
    return arn, json.loads(command("keys", "public", name, "--data", str(data)).stdout)
