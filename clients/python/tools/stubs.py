"""Writes `aio.pyi`: what the clients of `aio.py`, which are made at run time, look like to a type checker.

python tools/stubs.py           writes the file
python tools/stubs.py --check   exits with 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "agent_identity"
STUB = PACKAGE / "aio.pyi"
CLASSES = {"client.py": "IdentityClient", "gateway.py": "GatewayClient"}
HEAD = """\
# Written by tools/stubs.py.
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Optional, Union

import boto3

from .config import ApiKeyConfig, CredentialType, JwtConfig, Oauth2Config, ToolCredential, ToolRequest
from .credential import Credential
from .tool import ToolResult
"""


def stub(file: str, name: str) -> str:
    """The stub of one class for asyncio."""
    module = ast.parse((PACKAGE / file).read_text())
    (found,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    functions = (node for node in found.body if isinstance(node, ast.FunctionDef))
    lines = [signature(node) for node in functions if node.name == "__init__" or not node.name.startswith("_")]
    return "\n    ".join([f"class Async{name}:", *lines])


def signature(function: ast.FunctionDef) -> str:
    """A method as the class for asyncio has it."""
    # Who has a client for asyncio shares that one.
    arguments = ast.unparse(function.args).replace("[IdentityClient]", "[AsyncIdentityClient]")
    result = ast.unparse(function.returns) if function.returns else "Any"
    if result.startswith("Iterator["):
        return f"def {function.name}({arguments}) -> Async{result}: ..."
    prefix = "" if function.name == "__init__" else "async "
    return f"{prefix}def {function.name}({arguments}) -> {result}: ..."


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    check = parser.parse_args().check
    text = "\n".join([HEAD, *(stub(file, name) + "\n" for file, name in CLASSES.items())])
    if STUB.exists() and STUB.read_text() == text:
        return 0
    if check:
        sys.exit(f"{STUB} is not up to date: run `python tools/stubs.py`")
    STUB.write_text(text)
    print(STUB)
    return 0


if __name__ == "__main__":
    sys.exit(main())
