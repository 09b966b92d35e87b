"""moto's Cognito as the users' identity provider, by the name and the TLS that Cognito has.

The name leads to moto by a library that is preloaded into the functions (`route.c`); there is nothing between the two that this
suite made up: discovery, keys and tokens are moto's.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3

from . import planted
from .authority import Authority
from .places import TESTS, WORK, plain_environment

REGION = "us-east-1"
HOST = f"cognito-idp.{REGION}.amazonaws.com"
# One of AWS's own. Nothing is ever sent there.
PUBLIC_ADDRESS = "52.94.133.131"
READY_SECONDS = 30


def route_library() -> Path:
    """`route.c`, built."""
    source, built = TESTS / "harness" / "route.c", WORK / "route.so"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        WORK.mkdir(exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"]
        subprocess.run(command, check=True)
    return built


class Cognito:
    """A moto of its own, since the pools of another would be without this name."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cognito-")
        folder = Path(self._folder.name)
        names = "certificate.pem", "key.pem", "authority.pem"
        for name, content in zip(names, Authority().for_host(HOST, "127.0.0.1"), strict=True):
            (folder / name).write_text(content)
        self.authority = folder / "authority.pem"
        port_file = folder / "port"
        with (WORK / "cognito.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, TESTS / "emulators.py", "serve-moto", port_file,
                    "--tls", folder / "certificate.pem", folder / "key.pem",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=plain_environment(),
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while not (port_file.exists() and port_file.read_text()):
            assert self._process.poll() is None and time.monotonic() < deadline, f"moto did not start: {WORK / 'cognito.log'}"
            time.sleep(0.05)
        self.port = int(port_file.read_text())
        self.idp: Any = boto3.session.Session(
            aws_access_key_id="AKIAEMULATOR", aws_secret_access_key="emulator", region_name=REGION
        ).client("cognito-idp", endpoint_url=f"https://127.0.0.1:{self.port}", verify=str(self.authority))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """What the functions need to find it, and to believe that it is who it says."""
        return self.trust | {
            "LD_PRELOAD": str(route_library()),
            "ROUTE": f"{HOST}={PUBLIC_ADDRESS}={self.port}",
        }

    @property
    def trust(self) -> dict[str, str]:
        return {"AGENT_IDENTITY_EXTRA_CA_FILE": str(self.authority)}

    def make_pool(self) -> Pool:
        return Pool(self.idp, self.idp.create_user_pool(PoolName="people")["UserPool"]["Id"])


class Pool:
    """A user pool."""

    def __init__(self, idp: Any, pool_id: str):
        self.idp, self.id = idp, pool_id

    @property
    def issuer(self) -> str:
        return f"https://{HOST}/{self.id}"

    def make_client(self) -> str:
        made = self.idp.create_user_pool_client(
            UserPoolId=self.id, ClientName="app",
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
        )  # fmt: skip
        return made["UserPoolClient"]["ClientId"]

    def make_user(self, name: str) -> tuple[str, str]:
        """A user who has signed up: name and password."""
        password = f"Aa1!{secrets.token_urlsafe(16)}"
        self.idp.admin_create_user(UserPoolId=self.id, Username=name, MessageAction="SUPPRESS")
        self.idp.admin_set_user_password(UserPoolId=self.id, Username=name, Password=password, Permanent=True)
        return name, planted.plant(password, "password")

    def sign_in(self, client: str, name: str, password: str) -> dict[str, str]:
        """The tokens that an app gets: `AccessToken` and `IdToken`."""
        said = self.idp.initiate_auth(
            ClientId=client, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": password}
        )["AuthenticationResult"]
        return {kind: planted.plant(said[kind], "user token") for kind in ("AccessToken", "IdToken")}
