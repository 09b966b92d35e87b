"""The real OpenID provider under `tests/idp`, as the vendor whose tokens the product keeps and as the users' IdP."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from . import planted
from .places import TESTS, WORK, plain_environment

KEY_ID = "provider-key-1"


Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def algorithm_of(key: Key) -> str:
    """What a key of this kind signs with here."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


def _private_jwk(name: str, key: Key) -> dict[str, Any]:
    algorithm = algorithm_of(key)
    private = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key))
    private.pop("key_ops", None)  # it says `sign`, which would be published as it is
    return private | {"kid": name, "alg": algorithm, "use": "sig"}


class Vendor:
    """One `oidc-provider` process. Its signing key is ours, so that any JWT of this issuer can be made; `more_keys`, by their
    names, are published beside it.

    With `tls`, which is (certificate and key in PEM, the authority to trust), it answers by https on `host`.
    """

    def __init__(
        self,
        clients: list[dict[str, Any]] | None = None,
        access_token_ttl: int = 3600,
        host: str = "127.0.0.1",
        tls: tuple[str, str, str] | None = None,
        more_keys: dict[str, Key] | None = None,
    ):
        self.host = host
        self.trust = ssl.create_default_context(cadata=tls[2]) if tls else None
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        config = {
            "clients": clients or [],
            "accessTokenTtl": access_token_ttl,
            "jwks": {"keys": [_private_jwk(*named) for named in [(KEY_ID, self.key), *(more_keys or {}).items()]]},
            "host": host,
        }
        WORK.mkdir(exist_ok=True)
        trust: dict[str, str] = {}
        if tls:
            config["tls"] = {"cert": tls[0], "key": tls[1]}
            # Its protected API asks the provider, too.
            authority = WORK / "vendor-authority.pem"
            authority.write_text(tls[2])
            trust = {"NODE_EXTRA_CA_CERTS": str(authority)}
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=WORK, delete=False) as file:
            json.dump(config, file)
        self._config = Path(file.name)
        self._log = (WORK / "idp.log").open("ab")
        self.process = subprocess.Popen(
            ["node", str(TESTS / "idp" / "server.mjs"), file.name],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=plain_environment(**trust),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the OpenID provider did not start; see {WORK / 'idp.log'}"
        self.port: int = json.loads(line)["port"]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def issuer(self) -> str:
        return f"{'https' if self.trust else 'http'}://{self.address}"

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def stop(self) -> None:
        for token in self.control("issued"):
            planted.plant(token, "token issued by the vendor")
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        self._config.unlink()

    def control(self, route: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.issuer}/control/{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10, context=self.trust) as response:
            return json.load(response)

    def counters(self) -> dict[str, int]:
        return self.control("counters")

    def count(self, grant_type: str) -> int:
        return self.counters().get(grant_type, 0)

    def token_requests(self) -> list[dict[str, Any]]:
        return self.control("token-requests")

    def reset(self) -> None:
        self.control("reset", {})

    def set_access_token_ttl(self, seconds: int) -> None:
        self.control("access-token-ttl", {"seconds": seconds})

    def set_client_behaviour(
        self, client_id: str, access_token_ttl: int, keeps_refresh_token: bool, answers_after_ms: int, reuse_grace: int = 0
    ) -> None:
        """For this client alone: short-lived access tokens, no rotation or one that takes a superseded token for some seconds
        more, and a pause between commit and answer."""
        self.control("client-behaviour", {
            "clientId": client_id, "accessTokenTtl": access_token_ttl, "keepsRefreshToken": keeps_refresh_token,
            "answersAfter": answers_after_ms, "reuseGrace": reuse_grace,
        })  # fmt: skip

    def make_trouble(self, kind: str, remaining: int = 1_000_000, **more: int) -> None:
        """The next token requests are `slow` (milliseconds=), answered with a `status`, or `drop`ped after the commit."""
        self.control("trouble", {"kind": kind, "remaining": remaining, **more})

    def end_trouble(self) -> None:
        self.make_trouble("none", 0)

    def publish_keys(self, **keys: rsa.RSAPrivateKey) -> None:
        """From now on these are the issuer's keys, by their names; it signs with the first. Clients and sessions are gone."""
        self.control("keys", {"keys": [_private_jwk(name, key) for name, key in keys.items()]})

    def published(self) -> dict[str, int]:
        """How often `metadata` and `keys` were asked for."""
        return self.control("published")

    def make_publishing_trouble(self, **troubles: dict[str, Any]) -> None:
        """`metadata` and `keys` are `{"kind": "status" | "slow" | "large" | "redirect" | "text", …}` from now on, or as ever."""
        self.control("published-trouble", troubles)

    def introspections(self) -> int:
        """How often it was asked about tokens."""
        return self.control("introspections")["count"]

    def make_introspection_trouble(self, kind: str = "none", **more: Any) -> None:
        """As `make_publishing_trouble`, for the introspection endpoint."""
        self.control("introspection-trouble", {"kind": kind, **more})

    def make_revocation_trouble(self, kind: str = "none", **more: Any) -> None:
        """The same for the revocation endpoint."""
        self.control("revocation-trouble", {"kind": kind, **more})

    def forget_account(self, user: str, missing: bool = True) -> None:
        """The provider does not know the user, for a while: an outage of its directory, which it takes for a dead grant."""
        self.control("missing-account", {"login": user, "missing": missing})

    def live_grants_of(self, user: str) -> int:
        """How many refresh tokens of a user would still be taken. Asking ends them."""
        return self.control("revoke-grants-of", {"refreshTokenOf": user})["revoked"]

    def revoke(self, token: str, client_id: str, client_secret: str | None = None) -> None:
        """As this client (RFC 7009), which may have no secret."""
        proof = {} if client_secret is None else {"client_secret": client_secret}
        form = urlencode({"token": token, "client_id": client_id} | proof).encode()
        with urllib.request.urlopen(f"{self.issuer}/token/revocation", form, timeout=10, context=self.trust) as response:
            assert response.status == 200

    def register_client(self, client_id: str, **metadata: Any) -> None:
        """Registers a client; `redirect_uris=[…]` makes it one for users, without them it is for machines."""
        has_users = bool(metadata.get("redirect_uris"))
        defaults = {
            "client_id": client_id,
            "grant_types": ["authorization_code", "refresh_token"] if has_users else ["client_credentials"],
            "response_types": ["code"] if has_users else [],
            "redirect_uris": [],
        }
        self.control("clients", defaults | metadata)

    def call_api(self, access_token: str) -> tuple[int, dict[str, Any]]:
        """GET on the protected API with this Bearer token."""
        return self._get("/api/things", {"authorization": f"Bearer {access_token}"})

    def call_weather_api(self, api_key: str) -> tuple[int, dict[str, Any]]:
        return self._get("/api/weather", {"x-api-key": api_key})

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.issuer + path, headers=headers), timeout=10, context=self.trust
            ) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def make_jwt(self, subject: str, **claims: Any) -> str:
        """A token signed with the provider's own key, with any claims; `header=` and `key=` change those."""
        header = {"kid": KEY_ID, "typ": "at+jwt"} | claims.pop("header", {})
        key = claims.pop("key", self.key)
        now = int(time.time())
        body = {
            "iss": self.issuer,
            "sub": subject,
            "aud": "https://agents.example.com",
            "client_id": "agent-front-end",
            "iat": now,
            "exp": now + 600,
            "jti": secrets.token_urlsafe(8),
        } | claims
        body = {name: value for name, value in body.items() if value is not None}
        return planted.plant(jwt.encode(body, key, algorithm=algorithm_of(key), headers=header), "user token")
