"""Secrets that the tests know. None of them may turn up in a log, and none in clear in the database."""

from __future__ import annotations

import secrets
from pathlib import Path

_PLANTED: dict[str, str] = {}
_LOGS: set[Path] = set()
_DATA_DIRECTORIES: set[Path] = set()
SHORTEST = 16


def plant(value: str, what: str) -> str:
    """Remembers `value` as a secret of the kind `what` and gives it back."""
    if len(value) < SHORTEST:
        raise ValueError(f"a planted {what} needs {SHORTEST} characters, or chance would find it")
    _PLANTED[value] = what
    return value


def new_secret(what: str) -> str:
    """A fresh random secret, planted."""
    return plant(f"planted-{secrets.token_hex(16)}", what)


def watch_log(path: Path) -> Path:
    _LOGS.add(path)
    return path


def watch_data(directory: Path) -> Path:
    _DATA_DIRECTORIES.add(directory)
    return directory


def planted_count() -> int:
    return len(_PLANTED)


def logs() -> list[Path]:
    return sorted(path for path in _LOGS if path.exists())


def _finds(content: bytes, where: Path, ignoring: frozenset[str] = frozenset()) -> list[str]:
    return [
        f"a planted {what} is in {where.name}"
        for value, what in _PLANTED.items()
        if what not in ignoring and value.encode() in content
    ]


def leaks_in_logs() -> list[str]:
    """Which planted secrets are in a log of `serve` or of the command line."""
    return [leak for path in logs() for leak in _finds(path.read_bytes(), path)]


def leaks_in_databases() -> list[str]:
    """Which planted secrets lie in clear in a database file, its write-ahead log or its journal."""
    files = (path for directory in _DATA_DIRECTORIES for path in directory.glob("agent-identity.db*"))
    return [leak for path in files if path.is_file() for leak in _finds(path.read_bytes(), path)]
