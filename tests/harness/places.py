"""Where things are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
WORK = TESTS / ".work"
VENV = Path(sys.prefix)
BINARY = Path(os.environ.get("AGENT_IDENTITY_BIN", REPOSITORY / "target" / "release" / "agent-identity"))


def faketime_library() -> Path:
    """libfaketime, as the pinned Python package brings it."""
    found = sorted(VENV.glob("lib/python3*/site-packages/libfaketime/**/libfaketime.so.1"))
    if not found:
        raise FileNotFoundError("libfaketime.so.1 is not in the virtual environment; run tests/setup")
    return found[0]


def plain_environment(**more: str) -> dict[str, str]:
    """An environment without anything of the caller's AWS account, proxies or product settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "RUST_BACKTRACE") if name in os.environ}
    return kept | {"HOME": str(WORK / "home"), "RUSTUP_DIST_SERVER": "http://127.0.0.1:9"} | more
