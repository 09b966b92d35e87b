"""Project Wycheproof through the built authorizer: its tokens as they are, and its keys under claims.

Its payloads are no claims, so none of its own tokens can pass; what they prove about signatures,
`shared/jose/src/jwt/tests/wycheproof.rs` holds. Here each key is published by an issuer of its own and signs good claims in the way
of its first vector: they pass where that vector is valid, and the key is of a kind that an issuer's may be."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from .conftest import Attacked
from .forge import Key, b64, claims, rsa_raw, unb64

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "wycheproof"
FILES = ("json_web_signature_test", "json_web_key_test", "json_web_crypto_test")
GROUPS = {
    f"{file} {number} {group['comment']}": group
    for file in FILES
    for number, group in enumerate(json.loads((FOLDER / f"{file}.json").read_text())["testGroups"])
}
# Valid for Wycheproof and refused here.
REASONS = {
    "HS256": "HMAC: no key that is published may be one", "HS384": "HMAC", "HS512": "HMAC",
    "ES512": "P-521 is not offered",
}  # fmt: skip
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def keys(group: dict[str, Any], part: str) -> list[dict[str, Any]]:
    found = group.get(part) or group["private"]
    return found.get("keys", [found])


def signed(group: dict[str, Any], header: dict[str, Any], payload: dict[str, Any]) -> str:
    """By the private key that the header names; the first one where there is none of that name."""
    named = [key for key in keys(group, "private") if key.get("kid") == header.get("kid")]
    key = (named or keys(group, "private"))[0]
    start = f"{b64(header)}.{b64(payload)}"
    match "EC" if "crv" in key else key["kty"], header["alg"]:
        case "oct", alg:
            signature = hmac.new(unb64(key["k"]), start.encode(), f"sha{alg[2:]}").digest()
        case "RSA", "RS256":
            signature = rsa_raw(key, start.encode())
        case "RSA", alg:
            from jwt.algorithms import RSAAlgorithm

            signature = Key("", alg, RSAAlgorithm.from_jwk(key)).sign(start.encode(), alg)
        case _, alg:
            curve = CURVES["P-521" if alg == "ES512" else "P-384" if alg == "ES384" else "P-256"]
            private = ec.derive_private_key(int.from_bytes(unb64(key["d"]), "big"), curve)
            signature = Key("", alg, private).sign(start.encode())
    return f"{start}.{b64(signature)}"


@pytest.mark.parametrize("name", GROUPS)
def test_wycheproof(attacked: Attacked, name: str) -> None:
    group = GROUPS[name]
    stem = "wp-" + "".join(letter if letter.isalnum() else "-" for letter in name)
    issuer = attacked.issuers.publish(stem, *keys(group, "public"))
    agent = attacked.put(stem, issuer)
    for test in group["tests"]:
        token = test.get("jws") or test.get("jwe")
        token = token if isinstance(token, str) else json.dumps(token).replace(" ", "")
        assert not attacked.ask(token, agent).is_allowed, f"{test['tcId']} {test['comment']}"
    first = group["tests"][0]
    if "jws" not in first:
        return
    header = json.loads(unb64(first["jws"].split(".")[0]))
    verdict = attacked.ask(signed(group, header, claims(issuer)), agent)
    # RFC 7520's PS384 is signed by a key that says PS256: a key is for one algorithm.
    is_of_its_key = all(key.get("alg", header["alg"]) == header["alg"] for key in keys(group, "public") if key.get("kid") == header.get("kid"))
    expected = first["result"] == "valid" and is_of_its_key and header["alg"] not in REASONS
    assert verdict.is_allowed == expected, f"{first['comment']}: {verdict.reason}, {header}"
