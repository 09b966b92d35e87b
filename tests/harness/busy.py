"""Another process that holds the write lock of a database, as a backup or a long transaction does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_lock_held(data: Path) -> Iterator[None]:
    """While it lasts, every write to the store of this data directory has to wait."""
    connection = sqlite3.connect(data / "agent-identity.db", isolation_level=None, timeout=5)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()
