"""P8: what a million warm requests cost, from counted calls, units, log bytes and billed time, at list prices.

Prices of us-east-1 as published in November 2026, before any free tier or discount:
  aws.amazon.com/lambda/pricing        requests, arm64 and x86 GB-seconds, billed by the millisecond
  aws.amazon.com/dynamodb/pricing      on-demand, standard table class: a million read request units
  aws.amazon.com/kms/pricing, /secrets-manager/pricing, /cloudwatch/pricing (logs ingested), /api-gateway/pricing (HTTP API)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PRICES_OF = "us-east-1, list, 2026-11"
MILLION = 1_000_000
LAMBDA_REQUEST = 0.20 / MILLION
LAMBDA_GB_SECOND = {"arm64": 0.0000133334, "x86_64": 0.0000166667}
DYNAMODB_READ_UNIT = 0.125 / MILLION
KMS_REQUEST = 0.03 / 10_000
SECRETS_MANAGER_REQUEST = 0.05 / 10_000
LOG_BYTE = 0.50 / 1e9
HTTP_API_REQUEST = 1.00 / MILLION
# API Gateway's own access log, in the format of infra/template.yaml.
ACCESS_LOG_BYTES = 330

# A function gets a whole processor at this size (Lambda Developer Guide, "Configure Lambda function memory").
MEGABYTES_OF_ONE_PROCESSOR = 1769
# What no emulator has: the way to DynamoDB and back within a region, and to the function's runtime.
GET_ITEM_MS, RUNTIME_MS = 5.0, 1.0
# How busy a process is that is warm: caches are renewed by time, and so paid by those who ask in between.
REQUESTS_PER_SECOND = 1.0
RECORDS_LIFE_SECONDS, KEYS_LIFE_SECONDS, SECRETS_LIFE_SECONDS = 30, 240, 300


@dataclass(frozen=True)
class Warm:
    """One warm request, and what is renewed beside it."""

    name: str
    memory_mb: int
    cpu_ms: float
    log_bytes: int
    calls: int
    read_units: float
    # Of one renewal of all records; of the vault keys, with a read each; of a secret.
    renewal_read_units: float = 0
    vault_keys: int = 0
    secrets: int = 0

    @property
    def billed_ms(self) -> int:
        share = min(1.0, self.memory_mb / MEGABYTES_OF_ONE_PROCESSOR)
        return math.ceil(self.cpu_ms / share + self.calls * GET_ITEM_MS + RUNTIME_MS)


@dataclass(frozen=True)
class Part:
    what: str
    dollars: float


def parts(warm: Warm, architecture: str = "arm64") -> list[Part]:
    """Dollars for a million, without the API."""
    once_in = lambda seconds: 1 / (seconds * REQUESTS_PER_SECOND)  # noqa: E731
    gigabyte_seconds = warm.billed_ms / 1000 * warm.memory_mb / 1024
    read_units = warm.read_units + warm.renewal_read_units * once_in(RECORDS_LIFE_SECONDS)
    read_units += warm.vault_keys * 0.5 * once_in(KEYS_LIFE_SECONDS)
    each = [
        ("Lambda, requests", LAMBDA_REQUEST),
        (f"Lambda, {warm.billed_ms} ms of {warm.memory_mb} MB", gigabyte_seconds * LAMBDA_GB_SECOND[architecture]),
        (f"DynamoDB, {read_units:.3f} read units", read_units * DYNAMODB_READ_UNIT),
        ("KMS", warm.vault_keys * once_in(KEYS_LIFE_SECONDS) * KMS_REQUEST),
        ("Secrets Manager", warm.secrets * once_in(SECRETS_LIFE_SECONDS) * SECRETS_MANAGER_REQUEST),
        (f"log, {warm.log_bytes} bytes", warm.log_bytes * LOG_BYTE),
    ]
    return [Part(what, dollars * MILLION) for what, dollars in each]


def per_million(warm: Warm, architecture: str = "arm64") -> float:
    return sum(part.dollars for part in parts(warm, architecture))


def api_per_million() -> float:
    """What API Gateway takes for a million requests and for its own log of them, whatever is behind it."""
    return (HTTP_API_REQUEST + ACCESS_LOG_BYTES * LOG_BYTE) * MILLION
