"""Copies our additions to botocore's models from `shared/api/models` into the package.

python tools/models.py           writes what differs
python tools/models.py --check   exits with 1 if something differs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PYTHON_CLIENT = Path(__file__).resolve().parent.parent
SOURCE = PYTHON_CLIENT.parent.parent / "shared" / "api" / "models"
COPY = PYTHON_CLIENT / "src" / "agent_identity" / "models"


def files(directory: Path) -> dict[Path, bytes]:
    """The models of a directory, by their paths in it."""
    return {path.relative_to(directory): path.read_bytes() for path in directory.glob("*/*/*.json")}


def differences(wanted: dict[Path, bytes], present: dict[Path, bytes]) -> list[Path]:
    """Which files differ, are missing or are too many."""
    return sorted(path for path in {*wanted, *present} if wanted.get(path) != present.get(path))


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something differs")
    check = parser.parse_args().check
    wanted = files(SOURCE)
    if not wanted:
        sys.exit(f"there are no models in {SOURCE}")
    for path in differences(wanted, files(COPY)):
        target = COPY / path
        if check:
            sys.exit(f"{target} is not as in {SOURCE}: run `python tools/models.py`")
        if path in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wanted[path])
        else:
            target.unlink()
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
