"""P1 and P2: the instructions of an authorizer's decision, beside those of the signature check that it cannot do without."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench import instructions
from bench.deployment import OTHER_KEYS, Deployment
from bench.instructions import FEW, MANY
from bench.runtime_api import Bootstrap, InvocationError
from harness.places import BOOTSTRAPS
from harness.vendor import KEY_ID, Key, algorithm_of

# A refusal is asked for so often while the calls are counted, all of it within the cool-down.
REPEATS = 20
# So often a measurement is begun again when a cache was renewed in the middle of it.
ATTEMPTS = 4

Ask = Callable[[Bootstrap, Any], Any]


def allowed(bootstrap: Bootstrap, event: Any) -> None:
    answer = bootstrap.invoke(event)
    is_allowed = answer.get("isAuthorized") or answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert is_allowed, f"{answer} {bootstrap.log_tail()}"


def failing_with(*messages: str) -> Ask:
    def ask(bootstrap: Bootstrap, event: Any) -> None:
        try:
            answer = bootstrap.invoke(event)
        except InvocationError as failed:
            assert failed.message in messages, f"{failed} {bootstrap.log_tail()}"
        else:
            raise AssertionError(f"not refused: {answer}")

    return ask


UNAUTHORIZED = failing_with("Unauthorized")
# 401 is what a process says that has just asked the issuer; within the cool-down a key may have been published since (D25).
UNKNOWN_KEY = failing_with("Unauthorized", "Unavailable")


@dataclass(frozen=True)
class Refusal:
    case: str
    token: str
    ask: Ask = UNAUTHORIZED


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def public_bytes(key: Key) -> bytes:
    """The key as `raw-verify` reads it."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        return public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if algorithm_of(key) == "ES256":
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def raw_verification(key: Key, token: str, folder: Path) -> float:
    """Instructions of one check of this token's signature and of nothing else, with a key that is parsed."""
    algorithm = algorithm_of(key)
    message, _, signature = token.rpartition(".")
    parts = {"key": public_bytes(key), "message": message.encode(), "signature": unbase64url(signature)}
    files = [folder / f"{algorithm}.{name}" for name in parts]
    for file, content in zip(files, parts.values(), strict=True):
        file.write_bytes(content)
    return instructions.per_round(
        lambda rounds: [BOOTSTRAPS / "raw-verify", algorithm, str(rounds), *files], folder, f"raw-{algorithm}"
    )


@dataclass(frozen=True)
class Cost:
    """Of one algorithm: a decision on a token, and the check of its signature."""

    algorithm: str
    decision: float
    verification: float

    @property
    def ratio(self) -> float:
        return self.decision / self.verification


class Decisions:
    """Measures with the keys of one deployment."""

    def __init__(self, deployment: Deployment, folder: Path):
        self.deployment, self.folder = deployment, folder
        self.keys: dict[str, Key] = {KEY_ID: deployment.vendor.key} | OTHER_KEYS

    def token(self, name: str = KEY_ID, **changes: Any) -> str:
        return self.deployment.user_token(key=self.keys[name], header={"kid": name}, **changes)

    def invocation(self, name: str, event: Any, ask: Ask) -> float:
        """Instructions of one more invocation with this event, of a process that has what it needs in memory."""

        def make(under: Sequence[str]) -> Bootstrap:
            return self.deployment.instance("authorizer", under)

        # What is renewed after 30 s, and may be asked once in 30 s, must not fall into one run of the two.
        for _ in range(ATTEMPTS):
            with self.deployment.instance("authorizer") as earlier:
                ask(earlier, event)
            few, outside_few = self._run(lambda: instructions.taken(make, self.folder, [event] * FEW, name, ask))
            many, outside_many = self._run(lambda: instructions.taken(make, self.folder, [event] * MANY, name, ask))
            if outside_few == outside_many:
                return (many - few) / (MANY - FEW)
        raise AssertionError(f"{name}: the runs asked others {outside_few} and {outside_many} times")

    def _run(self, run: Callable[[], int]) -> tuple[int, int]:
        """Its instructions, and how often AWS and the issuer were asked meanwhile."""
        published = self.published()
        with self.deployment.proxy.recorded() as recording:
            taken = run()
        return taken, len(recording.calls) + self.published() - published

    def verification(self, name: str = KEY_ID) -> float:
        return raw_verification(self.keys[name], self.token(name), self.folder)

    def costs(self) -> Iterator[Cost]:
        """Of a REST API's TOKEN event, for each kind of key."""
        for name, key in self.keys.items():
            event = self.deployment.rest_token_event(self.token(name))
            decision = self.invocation(f"decision-{name}", event, allowed)
            yield Cost(algorithm_of(key), decision, self.verification(name))

    def http_api(self) -> float:
        event = self.deployment.http_api_event(self.token())
        return self.invocation("decision-http-api", event, allowed)

    def expired(self) -> float:
        event = self.deployment.rest_token_event(self.token(exp=1_700_000_000))
        return self.invocation("refusal-expired", event, UNAUTHORIZED)

    # --------------------------------------------------------------------------------------------------------- refusals

    def refusals(self) -> list[Refusal]:
        good = self.token()
        header, payload, signature = good.split(".")
        of = lambda **members: base64url(json.dumps({"typ": "at+jwt"} | members).encode())  # noqa: E731
        return [
            Refusal("malformed, two parts", f"{header}.{payload}"),
            Refusal("malformed, claims that are no JSON", f"{header}.{payload[:-40]}.{signature}"),
            Refusal("unknown kid", f"{of(alg='RS256', kid='unknown')}.{payload}.{signature}", UNKNOWN_KEY),
            Refusal("wrong alg, HS256", f"{of(alg='HS256', kid=KEY_ID)}.{payload}.{signature}"),
            Refusal("wrong alg, of another kind of key", f"{of(alg='ES256', kid=KEY_ID)}.{payload}.{signature}"),
        ]

    def refusal(self, refusal: Refusal) -> float:
        event = self.deployment.rest_token_event(refusal.token)
        return self.invocation(f"refusal-{refusal.case.replace(' ', '-')}", event, refusal.ask)

    def requests_in_cool_down(self, refusal: Refusal) -> int:
        """Requests to the issuer, and calls to AWS, that the repetitions of a refusal cause in a process that has its caches."""
        event = self.deployment.rest_token_event(refusal.token)
        with self.deployment.instance("authorizer") as bootstrap:
            allowed(bootstrap, self.deployment.rest_token_event(self.token()))
            refusal.ask(bootstrap, event)
            before = self.published()
            with self.deployment.proxy.recorded() as recording:
                for _ in range(REPEATS):
                    refusal.ask(bootstrap, event)
            return len(recording.calls) + self.published() - before

    def published(self) -> int:
        return sum(self.deployment.vendor.published().values())
