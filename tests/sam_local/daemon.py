"""Docker: the daemon that runs, or one of our own for as long as the tests take."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

READY_SECONDS = 60


class Docker:
    """Where Docker answers. `environment` tells it to `docker` and to `sam`."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        if not self._answers():
            self._start()

    def _answers(self) -> bool:
        return self.run("info", check=False).returncode == 0

    def _start(self) -> None:
        # Short, since the paths of sockets may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="ai-docker-", dir="/tmp"))
        socket = self._folder / "docker.sock"
        command = [
            "dockerd",
            f"--data-root={self._folder / 'data'}",
            f"--exec-root={self._folder / 'exec'}",
            f"--pidfile={self._folder / 'docker.pid'}",
            f"--host=unix://{socket}",
            # Containers reach this machine and nothing else, so there is nothing to translate.
            "--iptables=false",
            "--ip6tables=false",
        ]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.environment = {"DOCKER_HOST": f"unix://{socket}"}
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"dockerd did not come up: {said}")
            time.sleep(0.2)

    def run(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments],
            check=check,
            input=stdin,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | self.environment,
        )

    def bridge_address(self) -> str:
        """Where containers find this machine."""
        [network] = json.loads(self.run("network", "inspect", "bridge").stdout)
        settings = network["IPAM"]["Config"][0]
        # A daemon that has just made its bridge does not say, and takes the first address.
        return settings.get("Gateway") or str(next(ipaddress.ip_network(settings["Subnet"]).hosts()))

    def stop(self) -> None:
        """Ends what `_start` started."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
