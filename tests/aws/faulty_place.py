"""A deployment of which one process is behind a proxy that spoils its calls, while others, which are not, prepare and read back."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from aws.faulty import FaultyProxy
from bench.runtime_api import Bootstrap, InvocationError
from harness import model, planted
from harness.app import App
from harness.browser import Browser
from harness.functions import ADMIN_GRANT, API_ID, Functions, aws_client, http_event
from harness.places import BOOTSTRAPS, WORK
from harness.product import command
from harness.stories import FRONT_END_AUDIENCE, Consent, connected_user, make_user_provider, make_workload, workload_token
from harness.vendor import Vendor

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/faults"
IAM = {
    "accessKey": "ASIAEXAMPLE", "accountId": ACCOUNT, "callerId": "AROAEXAMPLE:session",
    "userArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/faults/session", "userId": "AROAEXAMPLE:session",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a function answered; `error` is empty for a success."""

    status: int
    error: str
    body: str
    headers: dict[str, str]

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def say(process: Bootstrap, event: dict[str, Any], request_id: str | None = None) -> Said:
    """What a function behind API Gateway answers to an event."""
    answer = process.invoke(event, request_id)
    headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
    status, body = answer["statusCode"], answer.get("body") or ""
    error = headers.get("x-amzn-errortype", f"status {status}").split(":")[0] if status >= 400 else ""
    return Said(status, error, body, headers)


def say_plainly(process: Bootstrap, event: dict[str, Any]) -> Said:
    """What another function answers; that it failed is for whoever invoked it to repeat."""
    try:
        return Said(200, "", json.dumps(process.invoke(event)), {})
    except InvocationError as failed:
        return Said(500, failed.type, failed.message, {})


class Deployment:
    """What all places share."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(3)
        self.vendor, self.app = Vendor(), App()
        trusted = f"issuer={self.vendor.issuer},audience={FRONT_END_AUDIENCE}"
        self.functions = Functions((self.vendor.address,), {
            "AGENT_IDENTITY_TRUSTED_ISSUERS": trusted, "AGENT_IDENTITY_SECRET_PREFIX": f"faults-{self.run}/",
        }).start()  # fmt: skip
        self.credentials = self.functions.credentials()
        self.give_grants(self.functions.environment)
        # The first of all keys are made here, and not in the midst of a case: of tokens, pages, the vault and consents.
        caller = self.functions.caller(self.credentials)
        # These two are first in any list, and stay.
        self.agent = make_workload(caller, self.fresh("a-first"), self.app.return_url)
        make_workload(caller, self.fresh("a-second"))
        caller.ok("ListWorkloadIdentities", maxResults=1)
        connected_user(caller, self.agent, make_user_provider(caller, self.vendor, self.fresh("people")), "ada", self.app.return_url)
        caller.close()

    def fresh(self, stem: str) -> str:
        return f"{stem}-{self.run}-{secrets.token_hex(4)}"

    def give_grants(self, environment: dict[str, str], role: str = ROLE) -> None:
        arguments = ["principals", "put", role, "--grant", ADMIN_GRANT, "--store", "dynamodb", "--json"]
        command(*arguments, binary=BOOTSTRAPS / "agent-identity", **environment)

    def stop(self) -> None:
        self.functions.stop()
        self.vendor.stop()
        self.app.stop()


class Place:
    """One case at a time runs here, others in other places beside it."""

    def __init__(self, deployment: Deployment):
        self.deployment = deployment
        self.vendor, self.app, self.agent = deployment.vendor, deployment.app, deployment.agent
        self.functions = deployment.functions
        self.fresh = deployment.fresh
        # Prepares and reads back, through processes that nothing is done to.
        self.caller = self.functions.caller(deployment.credentials)
        self.log = planted.watch_log(WORK / "logs" / f"faults-{secrets.token_hex(6)}.log")
        self.proxy = FaultyProxy(self.functions.environment)
        self.dynamodb = aws_client(self.functions.environment, "dynamodb")
        self.secrets = aws_client(self.functions.environment, "secretsmanager")

    def stop(self) -> None:
        self.proxy.stop()
        self.caller.close()

    # --------------------------------------------------------------------------------------------------------- processes

    @contextmanager
    def process(self, function: str, **variables: str) -> Iterator[Bootstrap]:
        """A new process behind the proxy. Its log is searched for secrets at the end of the run, with all others."""
        log = WORK / "logs" / f"faults-{function}-{secrets.token_hex(6)}.log"
        environment = self.proxy.environment | {"AGENT_IDENTITY_PRINCIPAL": "iam", "AGENT_IDENTITY_API_ID": API_ID}
        with Bootstrap([BOOTSTRAPS / function], environment | variables, log) as running:
            yield running
        # Few long logs are searched faster than thousands of short ones.
        with self.log.open("ab") as together:
            together.write(log.read_bytes())
        log.unlink()

    def event(self, operation: str, **members: Any) -> dict[str, Any]:
        """A request of the role, as API Gateway hands it on."""
        host = self.functions.url.removeprefix("http://")
        headers = [("Host", host), ("Content-Type", "application/json"), ("X-Amz-Date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))]
        body = json.dumps(members).encode()
        return http_event("POST", model.path_of(operation), headers, body, authorizer={"iam": dict(IAM)})

    def browser_event(self, method: str, url: str, browser: Browser, body: bytes = b"", **more: str) -> dict[str, Any]:
        """A request of this browser."""
        host = self.functions.url.removeprefix("http://")
        cookie = "; ".join(f"{kept.name}={kept.value}" for kept in browser.jar)
        headers = [("Host", host), ("Accept", "text/html")] + [(name.replace("_", "-"), value) for name, value in more.items()]
        return http_event(method, url.removeprefix(self.functions.url), headers + ([("Cookie", cookie)] if cookie else []), body)

    # ------------------------------------------------------------------------------------------------------- preparations

    def consent(self, provider: str, user: str) -> Consent:
        wat = workload_token(self.caller, self.agent, user)
        return Consent(self.caller, wat, provider, more={"resourceOauth2ReturnUrl": self.app.return_url})

    def connected(self, provider: str, user: str) -> Consent:
        consent = self.consent(provider, user).begin()
        consent.agree(Browser(), user)
        assert consent.complete(userId=user).status == 200
        return consent

    # -------------------------------------------------------------------------------------------------------- read back

    def record_of(self, kind: str, name: str) -> tuple[bool, bool]:
        """Whether there is a row for the name, and whether there is the record that it leads to."""
        table = self.functions.environment["AGENT_IDENTITY_TABLE"]
        entry = self._item(table, f"{kind}-name#directory", name)
        if entry is None:
            return False, False
        identity = json.loads(entry["b"]["B"])
        return True, self._item(table, f"{kind}#{identity}", "\0") is not None

    def _item(self, table: str, partition: str, sort: str) -> dict[str, Any] | None:
        key = {"pk": {"S": partition}, "sk": {"S": sort}}
        return self.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    def has_authorizer(self, agent: str) -> bool:
        """The authorizers of an agent are one row; without any there is none."""
        return self._item(self.functions.environment["AGENT_IDENTITY_TABLE"], f"authorizer#{agent}", "\0") is not None

    def due_row(self, provider: str) -> dict[str, Any]:
        """The connection with this provider, found in the index by due time."""
        table = self.functions.environment["AGENT_IDENTITY_TABLE"]
        identity = json.loads(self._item(table, "oauth2-provider-name#directory", provider)["b"]["B"])
        for shard in range(16):
            found = self.dynamodb.query(
                TableName=table, IndexName="due", KeyConditionExpression="ds = :shard",
                ExpressionAttributeValues={":shard": {"S": f"due#{shard}"}},
            )["Items"]  # fmt: skip
            for key in found:
                if identity in key["sk"]["S"]:
                    return self._item(table, key["pk"]["S"], key["sk"]["S"])
        raise AssertionError("the connection is not due")

    def secrets_of(self, name: str) -> list[dict[str, Any]]:
        """The secrets of a provider that are not deleted."""
        folder = self.functions.environment["AGENT_IDENTITY_SECRET_PREFIX"] + "bedrock-agentcore-identity/default/"
        values = [f"{folder}{sort}/{name}-" for sort in ("apikey", "oauth2")]
        for _ in range(10):
            try:
                found = self.secrets.list_secrets(Filters=[{"Key": "name", "Values": values}])["SecretList"]
                return [one for one in found if not one.get("DeletedDate")]
            except (ClientError, ResponseParserError):
                # moto does not list while others create.
                time.sleep(0.1)
        raise AssertionError("moto lists no secrets")

    def kept_versions(self, name: str) -> int:
        """How many versions of the one secret of a provider are kept."""
        [secret] = self.secrets_of(name)
        labels = self.secrets.describe_secret(SecretId=secret["ARN"])["VersionIdsToStages"].values()
        return sum(any(label.startswith("agent-identity-") for label in stages) for stages in labels)

    def token_requests(self, client: str) -> list[dict[str, Any]]:
        return [entry for entry in self.vendor.token_requests() if entry.get("clientId") == client]
