"""`sam local`: an API that runs, and single invocations."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from harness.places import REPOSITORY, TESTS, plain_environment
from harness.product import log_file

from .daemon import Docker

PROGRAMS = TESTS / ".venv-sam" / "bin"
READY_SECONDS = 60
INVOKE_SECONDS = 120


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Sam:
    """How to call it: which Docker, which base image, what the functions' environment is."""

    def __init__(self, docker: Docker, image: str, variables: Path) -> None:
        self._options = [
            "--config-env", "local",
            "--env-vars", str(variables),
            "--skip-pull-image",
            "--invoke-image", image,
        ]  # fmt: skip
        self._environment = plain_environment(
            AWS_DEFAULT_REGION="us-east-1",
            # What containers get; the emulators take any.
            AWS_ACCESS_KEY_ID="AKIAEMULATOR",
            AWS_SECRET_ACCESS_KEY="emulator",
            SAM_CLI_TELEMETRY="0",
            PATH=f"{PROGRAMS}:{os.environ['PATH']}",
            **docker.environment,
        )

    def invoke(self, function: str, event: Path | dict[str, Any]) -> Any:
        """What a function answers to one event."""
        log = log_file("sam-invoke")
        content = event.read_bytes() if isinstance(event, Path) else json.dumps(event).encode()
        with log.open("wb") as output:
            done = subprocess.run(
                [PROGRAMS / "sam", "local", "invoke", function, "--event", "-", *self._options],
                input=content,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=REPOSITORY,
                env=self._environment,
                timeout=INVOKE_SECONDS,
            )
        assert done.returncode == 0, f"`sam local invoke` gave {done.returncode}: {log.read_text()[-2000:]}"
        return json.loads(done.stdout)

    def start_api(self, port: int) -> LocalApi:
        return LocalApi(port, self._options, self._environment)


class LocalApi:
    """`sam local start-api`, with containers that stay for the next request."""

    # As a function keeps records (D17).
    record_cache_seconds = 30

    def __init__(self, port: int, options: list[str], environment: dict[str, str]) -> None:
        self.port = port
        # What the functions write goes here. The console is SAM's, whose access log has whole URLs, and is not searched.
        self.log = log_file("sam-functions")
        self.console = self.log.with_suffix(".console")
        with self.console.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    PROGRAMS / "sam", "local", "start-api",
                    "--port", str(self.port),
                    "--warm-containers", "LAZY",
                    "--log-file", str(self.log),
                    *options,
                ],  # fmt: skip
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=REPOSITORY,
                env=environment,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"`sam local start-api` did not come up: {self.console.read_text()[-2000:]}")
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Ends it as Ctrl+C does, so that it removes its containers."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
