"""clients/python/examples/quickstart.py as a program of its own, which is told nothing but where the service is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from . import planted
from .places import REPOSITORY, plain_environment
from .product import log_file
from .stories import FRONT_END_AUDIENCE, sign_in
from .upstream import Upstream
from .vendor import Vendor

PACKAGE = REPOSITORY / "clients" / "python"


def run_quick_start(vendor: Vendor, upstream: Upstream, client: str, environment: Mapping[str, str]) -> Any:
    """What it prints. The secret and the user's token are in its environment, since others may see command lines."""
    secret, token = planted.new_secret("client secret"), sign_in(vendor, "ada")["access_token"]
    vendor.register_client(client, client_secret=secret)
    options = {
        "issuer": vendor.issuer, "audience": FRONT_END_AUDIENCE, "token-url": f"{vendor.issuer}/token", "client-id": client,
        "api-url": f"{upstream.url}/services/data/v61.0/sobjects/Account",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    done = subprocess.run(
        [sys.executable, PACKAGE / "examples" / "quickstart.py", *arguments],
        capture_output=True, text=True, timeout=60,
        env=plain_environment(**environment) | {
            "PYTHONPATH": str(PACKAGE / "src"), "QUICKSTART_CLIENT_SECRET": secret, "QUICKSTART_USER_TOKEN": token,
        },
    )  # fmt: skip
    log_file("quickstart").write_text(done.stderr)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    seen = upstream.last()
    assert seen.path == "/services/data/v61.0/sobjects/Account/123"
    given = planted.plant(seen.headers["authorization"].removeprefix("Bearer "), "access token")
    assert vendor.call_api(given)[1]["client"] == client, "the API was shown a token of the provider"
    assert given not in done.stdout and token not in json.dumps(seen.headers)
    return json.loads(done.stdout)
