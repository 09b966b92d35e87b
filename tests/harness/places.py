"""Where things are."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
WORK = TESTS / ".work"
VENV = Path(sys.prefix)
BINARY = Path(os.environ.get("AGENT_IDENTITY_BIN", REPOSITORY / "target" / "release" / "agent-identity"))

# The functions, each as a file of its name, and the command line that manages them (feature `aws`).
BOOTSTRAPS = Path(os.environ.get("AGENT_IDENTITY_BOOTSTRAPS", REPOSITORY / "target" / "bootstraps"))


def runtime_emulator() -> Path:
    """AWS's Lambda runtime interface emulator, as SAM CLI brings it."""
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    pattern = f".venv-sam/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
    found = sorted(TESTS.glob(pattern))
    if not found:
        raise FileNotFoundError("the Lambda runtime emulator is not in tests/.venv-sam; run bash tests/run aws")
    return found[0]


def emulators() -> dict[str, str]:
    """What moto and DynamoDB Local are reached by, and the names of what the template makes there."""
    up = [sys.executable, str(TESTS / "emulators.py"), "up", "--json"]
    return json.loads(subprocess.run(up, check=True, capture_output=True, text=True).stdout)


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
