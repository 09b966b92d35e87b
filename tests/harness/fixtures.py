"""Fixtures of every suite, and the last check of each run: no secret in a log, none in clear in a database."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from . import planted
from .app import App
from .places import BINARY
from .product import Server, complete_lines
from .upstream import Upstream
from .vendor import Vendor
from .wire import Caller


@pytest.fixture(scope="session", autouse=True)
def the_binary_is_built() -> None:
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not built: cargo build --release, or bash tests/run, which builds its own", returncode=1)


@pytest.fixture(scope="session", autouse=True)
def d19_nothing_secret_is_left_behind(the_binary_is_built: None) -> Iterator[None]:
    """Runs when everything has stopped: its failure is an error of the run."""
    yield
    written = any(path.stat().st_size for path in planted.logs())
    # A worker may have had files alone that need neither; a run has both.
    if written or "PYTEST_XDIST_WORKER" not in os.environ:
        assert planted.planted_count() > 0, "nothing was planted, so nothing could have been found"
        assert written, "there is no log to search"
    assert planted.leaks_in_logs() == []
    assert planted.leaks_in_databases() == []
    for path in planted.logs():
        if path.name.startswith("serve-"):
            for line in complete_lines(path):
                assert isinstance(json.loads(line), dict), f"{path.name} has a line that is no JSON record"


@pytest.fixture(scope="session")
def fresh() -> Callable[[str], str]:
    """Makes names that no other test uses, of this run or of another on the same emulators."""
    numbers, run = count(1), secrets.token_hex(3)
    return lambda stem: f"{stem}-{run}-{next(numbers)}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "store"


@pytest.fixture(scope="module")
def allow_egress() -> tuple[str, ...]:
    """What the module's server may reach; suites with a vendor list it."""
    return ()


@pytest.fixture(scope="module")
def serve_environment() -> dict[str, str]:
    """What a module's server is told besides."""
    return {}


@pytest.fixture(scope="module")
def server(data: Path, allow_egress: tuple[str, ...], serve_environment: dict[str, str]) -> Iterator[Server]:
    running = Server(data, allow_egress, environment=serve_environment).start()
    yield running
    if running.process is not None:
        assert running.stop() == 0


@pytest.fixture(scope="module")
def caller(server: Server) -> Iterator[Caller]:
    """The default key pair, over raw signed requests."""
    made = server.caller()
    yield made
    made.close()


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    running = Vendor()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    running = App()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.stop()
