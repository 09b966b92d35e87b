"""What the tests of `sam local` share: Docker, the base image, the emulators, a vendor that containers reach, one API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from harness import planted
from harness.authority import Authority
from harness.places import BOOTSTRAPS, TESTS, WORK, plain_environment
from harness.product import command
from harness.signing import Credentials
from harness.stories import FRONT_END_AUDIENCE
from harness.vendor import Vendor
from harness.wire import Caller

from . import image
from .daemon import Docker
from .sam import LocalApi, Sam, free_port

ALL_GRANTS = "admin,mint-jwt,mint-userid,use,read"
EMULATORS = f"sam-local-{os.getpid()}"


def emulators(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, TESTS / "emulators.py", *arguments, "--name", EMULATORS],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=plain_environment(),
    )
    return done.stdout


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    running = Docker()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def base_image(docker: Docker, authority: Authority) -> str:
    return image.make(docker, authority.certificate.encode())


@pytest.fixture(scope="session")
def aws(docker: Docker) -> Iterator[dict[str, str]]:
    """The environment of the emulators, for this machine; containers reach them too."""
    try:
        emulators("up", "--containers", docker.bridge_address())
        yield json.loads(emulators("up", "--json"))
    finally:
        emulators("down")


@pytest.fixture(scope="session")
def vendor(docker: Docker, authority: Authority) -> Iterator[Vendor]:
    """The OpenID provider by https where containers reach it: the product lets plain http go to loopback alone."""
    address = docker.bridge_address()
    running = Vendor(host=address, tls=authority.for_host(address))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def api_port() -> int:
    """Chosen before the API starts, since its functions must know their public URL."""
    return free_port()


@pytest.fixture(scope="session")
def sam(docker: Docker, base_image: str, aws: dict[str, str], vendor: Vendor, api_port: int) -> Sam:
    environment = json.loads(emulators("up", "--containers", docker.bridge_address()))
    environment["Parameters"] |= {
        "AGENT_IDENTITY_PUBLIC_BASE_URL": f"http://127.0.0.1:{api_port}",
        "AGENT_IDENTITY_TRUSTED_ISSUERS": f"issuer={vendor.issuer},audience={FRONT_END_AUDIENCE}",
        "AGENT_IDENTITY_EGRESS_ALLOW": vendor.address,
    }
    variables = WORK / "emulators" / EMULATORS / "sam-local.json"
    variables.write_text(json.dumps(environment))
    return Sam(docker, base_image, variables)


@pytest.fixture(scope="session")
def api(sam: Sam, api_port: int) -> Iterator[LocalApi]:
    running = sam.start_api(api_port)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def administrator(aws: dict[str, str]) -> Credentials:
    """The first key of a deployment, made as its administrator makes it."""
    made = json.loads(
        command(
            "access-keys", "create", "--name", "administrator", "--grant", ALL_GRANTS, "--json",
            "--store", "dynamodb",
            binary=BOOTSTRAPS / "agent-identity",
            **aws,
        ).stdout
    )  # fmt: skip
    planted.plant(made["secretAccessKey"], "secret access key")
    return Credentials(made["accessKeyId"], made["secretAccessKey"])


@pytest.fixture
def caller(api: LocalApi, administrator: Credentials) -> Iterator[Caller]:
    made = Caller(api.port, administrator, timeout_seconds=120)
    yield made
    made.close()


@pytest.fixture
def client(aws: dict[str, str]) -> Callable[[str], Any]:
    """boto3 clients of the emulators."""
    session = boto3.session.Session(
        aws_access_key_id=aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=aws["AWS_SECRET_ACCESS_KEY"],
        region_name=aws["AWS_REGION"],
    )
    return lambda service: session.client(service, endpoint_url=aws["AWS_ENDPOINT_URL"])


@pytest.fixture
def events() -> Callable[[str], Path]:
    """The events of infra/events, by name."""
    return lambda name: TESTS.parent / "infra" / "events" / f"{name}.json"
