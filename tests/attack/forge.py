"""Makes tokens, good and bad, byte by byte: what a library would refuse to make is what is wanted here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

AUDIENCE = "https://agents.example.com"
HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def b64(data: bytes | str | dict[str, Any]) -> str:
    """base64url without padding; of JSON for a dictionary."""
    if isinstance(data, dict):
        data = json.dumps(data)
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": issuer, "sub": "ada", "aud": AUDIENCE, "client_id": "front-end", "iat": now, "exp": now + 600}
    return {name: value for name, value in (good | changes).items() if value is not ...}


@dataclass
class Key:
    """A private key with a name, for one algorithm."""

    kid: str
    alg: str
    private: Any
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, kid: str, alg: str, **more: Any) -> Key:
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1(), "ES256K": ec.SECP256K1()}
        if alg in curves:
            private: Any = ec.generate_private_key(curves[alg])
        elif alg == "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        elif alg == "Ed448":
            private = ed448.Ed448PrivateKey.generate()
        else:
            private = rsa.generate_private_key(65537, more.pop("bits", 2048))
        return cls(kid, alg, private, more)

    @property
    def jwk(self) -> dict[str, Any]:
        public = self.private.public_key()
        if isinstance(self.private, rsa.RSAPrivateKey):
            numbers = public.public_numbers()
            parts = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        elif isinstance(self.private, ec.EllipticCurvePrivateKey):
            names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "secp256k1"}
            size, point = (public.curve.key_size + 7) // 8, public.public_numbers()
            parts = {"kty": "EC", "crv": names[public.curve.name], "x": number(point.x, size), "y": number(point.y, size)}
        else:
            crv = "Ed25519" if self.alg == "EdDSA" else "Ed448"
            parts = {"kty": "OKP", "crv": crv, "x": b64(public.public_bytes_raw())}
        return {"kid": self.kid, "alg": "EdDSA" if self.alg == "Ed448" else self.alg, "use": "sig"} | parts | self.more

    def sign(self, message: bytes, alg: str | None = None) -> bytes:
        alg = alg or self.alg
        if isinstance(self.private, rsa.RSAPrivateKey):
            hash = HASHES[alg[2:]]()
            pss = padding.PSS(padding.MGF1(hash), hash.digest_size)
            return self.private.sign(message, pss if alg.startswith("PS") else padding.PKCS1v15(), hash)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            size = (self.private.curve.key_size + 7) // 8
            hash = {32: hashes.SHA256, 48: hashes.SHA384}.get(size, hashes.SHA512)()
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hash)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        return self.private.sign(message)

    def token(self, payload: Any, header: Any = None, **members: Any) -> str:
        """A signed token; `header` is the whole header, `members` change the usual one."""
        usual = {"alg": "EdDSA" if self.alg == "Ed448" else self.alg, "kid": self.kid, "typ": "JWT"} | members
        usual = {name: value for name, value in usual.items() if value is not ...}
        start = f"{b64(usual if header is None else header)}.{b64(payload)}"
        return f"{start}.{b64(self.sign(start.encode()))}"


def with_hmac(secret: bytes, alg: str, payload: Any, **header: Any) -> str:
    start = f"{b64({'alg': alg, 'typ': 'JWT'} | header)}.{b64(payload)}"
    return f"{start}.{b64(hmac.new(secret, start.encode(), f'sha{alg[2:]}').digest())}"


def rsa_raw(jwk: dict[str, str], message: bytes) -> bytes:
    """RS256 by arithmetic: with keys that no library takes."""
    n, d = (int.from_bytes(unb64(jwk[name]), "big") for name in ("n", "d"))
    size = (n.bit_length() + 7) // 8
    digest = SHA256_INFO + hashlib.sha256(message).digest()
    padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
    return pow(int.from_bytes(padded, "big"), d, n).to_bytes(size, "big")
