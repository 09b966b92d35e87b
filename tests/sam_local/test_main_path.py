"""The main job under `sam local`: the story of embedded mode and of the runtime emulator, with the same unmodified clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from harness.app import App
from harness.main_path import call_every_operation
from harness.signing import Credentials
from harness.vendor import Vendor

from .sam import LocalApi


@dataclass
class Deployment:
    """`sam local`'s API as the story knows a server."""

    api: LocalApi
    administrator: Credentials

    @property
    def record_cache_seconds(self) -> int:
        return self.api.record_cache_seconds

    def credentials(self) -> Credentials:
        return self.administrator

    def boto3(self, service: str, credentials: Credentials) -> Any:
        return boto3.session.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            region_name=credentials.region,
        ).client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.api.port}",
            # The first request of a function waits for its container.
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )


def test_boto3_calls_every_operation(
    api: LocalApi, administrator: Credentials, vendor: Vendor, app: App, fresh: Any
) -> None:
    call_every_operation(Deployment(api, administrator), vendor, app, fresh)
