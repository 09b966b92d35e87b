"""What every test has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_service import Clock, Service, serving

from agent_identity import IdentityClient
from agent_identity.decorators import _shared_client


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of who runs the tests: no profile, no region, no endpoint, no models."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    _shared_client.cache_clear()
    yield
    _shared_client.cache_clear()


@pytest.fixture
def identity(service: Service) -> IdentityClient:
    return IdentityClient(endpoint_url=service.url)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("agent_identity.consent.time", "agent_identity.workload_token.time"):
        monkeypatch.setattr(module, clock)
    return clock
