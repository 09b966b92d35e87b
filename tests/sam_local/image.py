"""A stand-in for AWS's base image, which no registry here has: this machine's C library, a shell, certificates.

`sam local` adds Lambda's runtime emulator to it and mounts a function's folder at /var/task. What it is not: Amazon Linux 2023.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from .daemon import Docker

NAME = "agent-identity-test/provided:al2023"

# What the Dockerfile of `sam local` calls.
PROGRAMS = ("sh", "mv", "chmod")
# What a Rust program is linked to.
LIBRARIES = ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def _needs(program: Path) -> set[str]:
    listed = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


def _library(name: str) -> str | None:
    """Where the loader finds a library; libraries that are part of another since are not there."""
    cache = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^\s*{re.escape(name)} \(libc6,x86-64[^)]*\) => (\S+)$", cache, re.MULTILINE)
    return found[1] if found else None


def _archive(extra_certificates: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(path: str, content: bytes, mode: int = 0o755) -> None:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))

        def folder(path: str, mode: int = 0o755) -> None:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)

        folder("tmp", 0o1777)
        folder("var/task")
        needed = {path for name in LIBRARIES if (path := _library(name)) is not None}
        for name in PROGRAMS:
            found = shutil.which(name)
            assert found, f"there is no {name} on this machine"
            program = Path(found).resolve()
            add(f"bin/{name}", program.read_bytes())
            needed |= _needs(program)
        for path in sorted(needed):
            add(path, Path(path).resolve().read_bytes())
        add("etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
        add(CERTIFICATES, Path("/", CERTIFICATES).read_bytes() + b"\n" + extra_certificates, 0o644)
    return buffer.getvalue()


def make(docker: Docker, extra_certificates: bytes) -> str:
    """Makes the image, with more authorities trusted, and gives its name."""
    changes = ['ENTRYPOINT ["/var/rapid/aws-lambda-rie"]', "WORKDIR /var/task", "ENV PATH=/bin LAMBDA_TASK_ROOT=/var/task"]
    options = [option for change in changes for option in ("--change", change)]
    docker.run("import", *options, "-", NAME, stdin=_archive(extra_certificates))
    return NAME
