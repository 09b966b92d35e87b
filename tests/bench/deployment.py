"""A deployment on emulators with all that a warm request needs, and the events of its requests."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bench.aws_calls import CountingProxy
from bench.runtime_api import Bootstrap
from harness import model
from harness.app import App
from harness.functions import ADMIN_GRANT, API_ID, Functions, http_event
from harness.places import BOOTSTRAPS, REPOSITORY
from harness.product import command
from harness.signing import Credentials
from harness.stories import (
    FRONT_END_AUDIENCE,
    SCOPES,
    connected_user,
    machine_token,
    make_machine_provider,
    make_user_provider,
    make_workload,
    workload_token,
)
from harness.vendor import Key, Vendor
from harness.wire import Caller

ACCOUNT = "123456789012"
TICK = REPOSITORY / "infra" / "events" / "refresh-schedule.json"
# Users' tokens may be signed with these, by their names, beside the issuer's RSA key.
OTHER_KEYS: dict[str, Key] = {
    "provider-ec-key": ec.generate_private_key(ec.SECP256R1()),
    "provider-ed-key": ed25519.Ed25519PrivateKey.generate(),
}
METHOD_ARN = f"arn:aws:execute-api:us-east-1:{ACCOUNT}:{API_ID}/prod/GET/orders/1"


@dataclass
class Deployment:
    """Made through the functions by an access key, and measured as an IAM role, which is what a deployment is by default."""

    functions: Functions
    caller: Caller
    vendor: Vendor
    proxy: CountingProxy
    workload: str
    provider: str
    machine: str
    api_key: str
    user: str
    return_url: str
    folder: Path

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{self.workload}"

    def environment(self, function: str) -> dict[str, str]:
        """What the template gives the function with `Auth=IAM`; its endpoints are those of the proxy."""
        given = self.proxy.environment | {"AGENT_IDENTITY_PRINCIPAL": "iam", "AGENT_IDENTITY_API_ID": API_ID}
        return given | ({"AGENT_IDENTITY_AGENT": self.workload} if function == "authorizer" else {})

    def instance(self, function: str, under: tuple[str | Path, ...] = (), **variables: str) -> Bootstrap:
        """A new process of a function, `under` a profiler if one is named."""
        log = self.folder / f"{function}-{secrets.token_hex(4)}.log"
        return Bootstrap([*under, BOOTSTRAPS / function], self.environment(function) | variables, log)

    # ------------------------------------------------------------------------------------------------------------ events

    def event(self, operation: str, members: dict[str, Any]) -> dict[str, Any]:
        """A request of the role, as API Gateway hands it on."""
        iam = {
            "accessKey": "ASIAEXAMPLE", "accountId": ACCOUNT, "callerId": "AROAEXAMPLE:session",
            "userArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{self.role.rpartition('/')[2]}/session",
            "userId": "AROAEXAMPLE:session",
        }  # fmt: skip
        headers = [
            ("Host", f"{API_ID}.execute-api.us-east-1.amazonaws.com"),
            ("Content-Type", "application/json"),
            ("User-Agent", "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 lang/python#3.11.7"),
            ("X-Amz-Date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())),
        ]
        return http_event(
            "POST", model.path_of(operation), headers, json.dumps(members).encode(), authorizer={"iam": iam}
        )

    def signed_event(self, credentials: Credentials, operation: str, members: dict[str, Any]) -> dict[str, Any]:
        """The same of an access key, for `Auth=AccessKeys`."""
        target, body = model.path_of(operation), json.dumps(members).encode()
        return http_event("POST", target, list(self.functions.caller(credentials).signed(target, body).items()), body)

    def token(self, wat: str, **more: Any) -> tuple[str, dict[str, Any]]:
        """A user's token, which is in the vault."""
        return "GetResourceOauth2Token", {
            "workloadIdentityToken": wat, "resourceCredentialProviderName": self.provider, "scopes": SCOPES,
            "oauth2Flow": "USER_FEDERATION",
        } | more  # fmt: skip

    def machine_token(self, wat: str) -> tuple[str, dict[str, Any]]:
        return "GetResourceOauth2Token", {
            "workloadIdentityToken": wat, "resourceCredentialProviderName": self.machine, "scopes": ["things.read"],
            "oauth2Flow": "M2M",
        }  # fmt: skip

    def key(self, wat: str) -> tuple[str, dict[str, Any]]:
        return "GetResourceApiKey", {"workloadIdentityToken": wat, "resourceCredentialProviderName": self.api_key}

    def workload_token(self, user: str | None = None) -> str:
        return workload_token(self.caller, self.workload, user)

    def user_token(self, **changes: Any) -> str:
        """A token for the agent's front end, with other claims or another key if it is told."""
        return self.vendor.make_jwt(self.user, **{"aud": FRONT_END_AUDIENCE} | changes)

    def rest_token_event(self, token: str | None = None) -> dict[str, Any]:
        """What a REST API asks its Lambda authorizer about a user's token."""
        return {
            "type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": f"Bearer {token or self.user_token()}",
        }  # fmt: skip

    def http_api_event(self, token: str) -> dict[str, Any]:
        """What an HTTP API asks about it, with payload format 2.0."""
        headers = [("authorization", f"Bearer {token}"), ("host", "api.example"), ("user-agent", "agent/1.0")]
        return http_event("GET", "/orders/1", headers, b"") | {
            "type": "REQUEST", "routeArn": METHOD_ARN, "identitySource": [f"Bearer {token}"],
        }  # fmt: skip


def served(bootstrap: Bootstrap, event: dict[str, Any]) -> dict[str, Any]:
    """The body of an answer that must be a success."""
    answer = bootstrap.invoke(event)
    if answer.get("statusCode") != 200:
        raise AssertionError(f"{answer} {bootstrap.log_tail()}")
    return json.loads(answer["body"])


def manage(functions: Functions, *arguments: str) -> None:
    """The product's own command, on the table of the deployment."""
    command(*arguments, "--store", "dynamodb", "--json", binary=BOOTSTRAPS / "agent-identity", **functions.environment)


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    vendor, app = Vendor(more_keys=OTHER_KEYS), App()
    functions = Functions((vendor.address,)).start()
    proxy = CountingProxy(functions.environment)
    try:
        run = secrets.token_hex(3)
        caller = functions.caller()
        workload = make_workload(caller, f"bench-{run}", app.return_url)
        provider = make_user_provider(caller, vendor, f"people-{run}")
        machine = make_machine_provider(caller, vendor, f"machine-{run}")
        api_key = f"weather-{run}"
        caller.ok("CreateApiKeyCredentialProvider", name=api_key, apiKey=f"key-{secrets.token_hex(16)}")
        user = f"user-{run}"
        connected_user(caller, workload, provider, user, app.return_url)
        machine_token(caller, workload_token(caller, workload), machine)
        caller.ok(
            "PutAuthorizer",
            agentId=workload, name="main",
            authorizerConfiguration={
                "customJWTAuthorizer": {
                    "discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE],
                },
            },
        )  # fmt: skip
        # The keys of issuers are in the table, as a minute after the deployment.
        ticked = functions.pools["refresh"].invoke(json.loads(TICK.read_text()))
        assert "errorType" not in (ticked or {}), ticked
        made = Deployment(functions, caller, vendor, proxy, workload, provider, machine, api_key, user, app.return_url, folder)
        manage(functions, "principals", "put", made.role, "--grant", ADMIN_GRANT)
        yield made
    finally:
        proxy.stop()
        functions.stop()
        vendor.stop()
        app.stop()
