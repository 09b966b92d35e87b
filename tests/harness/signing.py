"""AWS Signature Version 4 by hand, with every part changeable: what official clients sign and what attackers send.

`test_sigv4.py` holds it against botocore's own signer.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import quote

SERVICE = "bedrock-agentcore"


@dataclass(frozen=True)
class Credentials:
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    session_token: str | None = None


@dataclass(frozen=True)
class Signing:
    """How to sign. The defaults are what boto3 does."""

    service: str = SERVICE
    region: str | None = None
    clock_offset_seconds: float = 0
    signed_headers: tuple[str, ...] = ("content-type", "host", "x-amz-date", "x-amz-security-token")
    payload_hash: str | None = None
    claimed_payload_hash: str | None = None


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = [part.partition("=") for part in query.split("&")]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))


def timestamp(offset_seconds: float = 0) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + offset_seconds))


def signature(
    credentials: Credentials,
    scope: tuple[str, str, str],
    amz_date: str,
    canonical_request: str,
) -> str:
    """The signature over `canonical_request` in `scope` = (date, region, service)."""
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", amz_date, "/".join([*scope, "aws4_request"]), digest])
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in [*scope, "aws4_request"]:
        key = _hmac(key, part)
    return _hmac(key, text).hex()


def sign(
    credentials: Credentials,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    signing: Signing = Signing(),
) -> dict[str, str]:
    """The headers to send: `headers` plus date, session token and Authorization."""
    amz_date = timestamp(signing.clock_offset_seconds)
    headers = dict(headers) | {"X-Amz-Date": amz_date}
    if credentials.session_token:
        headers["X-Amz-Security-Token"] = credentials.session_token
    if signing.claimed_payload_hash:
        headers["X-Amz-Content-SHA256"] = signing.claimed_payload_hash
    by_name = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    names = sorted(name for name in by_name if name in signing.signed_headers)

    path, _, query = target.partition("?")
    canonical_request = "\n".join([
        method,
        quote(path, safe="/~"),
        _canonical_query(query),
        *(f"{name}:{by_name[name]}" for name in names),
        "",
        ";".join(names),
        signing.payload_hash or signing.claimed_payload_hash or hashlib.sha256(body).hexdigest(),
    ])
    scope = (amz_date[:8], signing.region or credentials.region, signing.service)
    value = signature(credentials, scope, amz_date, canonical_request)
    credential = "/".join([credentials.access_key_id, *scope, "aws4_request"])
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={value}"
    )
    return headers
