"""The operations of the data plane, the refresh function's events and the authorizer under faults."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aws.faulty_operations import OnApiKey, OnWorkload, Operation, machine_request, put_authorizer
from aws.faulty_place import Said, say, say_plainly
from bench.runtime_api import Bootstrap
from harness import planted
from harness.browser import Browser
from harness.functions import own_resources
from harness.places import REPOSITORY
from harness.stories import (
    SCOPES, machine_token, make_machine_provider, make_user_provider, sign_in_at_vendor, workload_token,
)  # fmt: skip
from harness.wire import Answer

METHOD_ARN = "arn:aws:execute-api:us-east-1:123456789012:testapi/prod/GET/orders/1"
TICK = json.loads((REPOSITORY / "infra" / "events" / "refresh-schedule.json").read_text())


class Mint(Operation):
    function = "tokens"

    def event(self) -> dict[str, Any]:
        return self.place.event("GetWorkloadAccessToken", workloadName=self.place.agent)

    def check(self, said: Said, process: Bootstrap) -> None:
        """Another process takes it: it gets as far as to say that there is no such provider."""
        wat = planted.plant(said.json["workloadAccessToken"], "workload access token")
        self.place.caller.refused(
            "GetResourceApiKey", 404, "ResourceNotFoundException",
            workloadIdentityToken=wat, resourceCredentialProviderName="there-is-none",
        )  # fmt: skip


class MintForJwt(Mint):
    def prepare(self) -> None:
        self.token = self.place.vendor.make_jwt(self.place.fresh("user"))

    def event(self) -> dict[str, Any]:
        return self.place.event("GetWorkloadAccessTokenForJWT", workloadName=self.place.agent, userToken=self.token)


class MintForUserId(Mint):
    def event(self) -> dict[str, Any]:
        return self.place.event("GetWorkloadAccessTokenForUserId", workloadName=self.place.agent, userId="ada")


class MintFirst(Mint):
    """The first of all, in a table with nothing but the workload: it makes the key under which tokens are sealed."""

    def prepare(self) -> None:
        environment = self.place.functions.environment
        own = own_resources(environment)
        self.variables = {"AGENT_IDENTITY_TABLE": own["AGENT_IDENTITY_TABLE"]}
        self.place.deployment.give_grants(own)
        with self.place.process("credentials", **self.variables) as other:
            assert say(other, self.place.event("CreateWorkloadIdentity", name=self.place.agent)).ok

    def check(self, said: Said, process: Bootstrap) -> None:
        wat = planted.plant(said.json["workloadAccessToken"], "workload access token")
        members = {"workloadIdentityToken": wat, "resourceCredentialProviderName": "there-is-none"}
        with self.place.process("tokens", **self.variables) as other:
            for taker in (other, process):
                assert say(taker, self.place.event("GetResourceApiKey", **members)).error == "ResourceNotFoundException"


class MachineFirst(Operation):
    function = "tokens"

    def prepare(self) -> None:
        self.name = make_machine_provider(self.place.caller, self.place.vendor, self.place.fresh("machine"))
        self.wat = workload_token(self.place.caller, self.place.agent)

    def event(self) -> dict[str, Any]:
        return self.place.event("GetResourceOauth2Token", **machine_request(self.wat, self.name))

    def check(self, said: Said, process: Bootstrap) -> None:
        token = planted.plant(said.json["accessToken"], "access token")
        assert self.place.vendor.call_api(token)[0] == 200
        assert machine_token(self.place.caller, self.wat, self.name) == token, "another process finds it in the vault"
        assert len(self.place.token_requests(self.name)) == 1, "one request to the vendor"


class MachineWarm(MachineFirst):
    def prepare(self) -> None:
        super().prepare()
        self.token = machine_token(self.place.caller, self.wat, self.name)


class ApiKey(OnApiKey):
    function = "tokens"

    def event(self) -> dict[str, Any]:
        wat = workload_token(self.place.caller, self.place.agent)
        return self.place.event("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=self.name)

    def check(self, said: Said, process: Bootstrap) -> None:
        assert said.json["apiKey"] == self.keys[0]


def patient(ask: Callable[[], Answer]) -> dict[str, Any]:
    """What a client is told that comes again when it is told to."""
    for _ in range(20):
        answer = ask()
        if answer.status == 200:
            return answer.json
        assert answer.error == "ThrottlingException", answer
        time.sleep(0.25)
    raise AssertionError(f"still {answer}")


class OfUser(Operation):
    """What is asked for a user. Whatever happens, they consent once, and have a token then."""

    function = "tokens"
    browser: Browser

    def prepare(self) -> None:
        self.name = make_user_provider(self.place.caller, self.place.vendor, self.place.fresh("people"))
        self.user = self.place.fresh("user")
        self.consent = self.place.consent(self.name, self.user)

    def request(self, **more: Any) -> dict[str, Any]:
        return self.place.event(
            "GetResourceOauth2Token",
            workloadIdentityToken=self.consent.wat, resourceCredentialProviderName=self.name, scopes=SCOPES,
            oauth2Flow="USER_FEDERATION", resourceOauth2ReturnUrl=self.place.app.return_url, **more,
        )  # fmt: skip

    def check_connected(self, refreshes: int = 0) -> str:
        token = planted.plant(patient(self.consent.ask)["accessToken"], "access token")
        status, body = self.place.vendor.call_api(token)
        assert (status, body["subject"]) == (200, self.user)
        asked = self.place.token_requests(self.name)
        sent = [entry["grantType"] for entry in asked]
        assert sent == ["authorization_code"] + ["refresh_token"] * refreshes, "each secret is sent once"
        assert not any(entry.get("error") for entry in asked)
        return token

    def complete(self) -> None:
        answer = self.consent.complete(userId=self.user)
        assert answer.status == 200, answer


class BeginConsent(OfUser):
    def event(self) -> dict[str, Any]:
        return self.request()

    def check(self, said: Said, process: Bootstrap) -> None:
        assert said.json["sessionStatus"] == "IN_PROGRESS"
        self.consent.authorization_url, self.consent.session_uri = said.json["authorizationUrl"], said.json["sessionUri"]
        self.consent.agree(Browser(), self.user)
        self.complete()
        self.check_connected()


class OpenPage(OfUser):
    def prepare(self) -> None:
        super().prepare()
        self.consent.begin()
        self.browser = Browser()

    def event(self) -> dict[str, Any]:
        return self.place.browser_event("GET", self.consent.authorization_url, self.browser)

    def check(self, said: Said, process: Bootstrap) -> None:
        assert "<form" in said.body
        self.consent.agree(self.browser, self.user)
        self.complete()
        self.check_connected()


class Continue(OpenPage):
    """The button on the page: the session is bound to the browser, which goes to the vendor."""

    def prepare(self) -> None:
        super().prepare()
        self.page = self.browser.get(self.consent.authorization_url)

    def event(self) -> dict[str, Any]:
        [form] = self.page.forms
        return self.place.browser_event(
            "POST", form.action, self.browser, urlencode(form.fields).encode(),
            Content_Type="application/x-www-form-urlencoded", Origin=self.place.functions.url,
        )  # fmt: skip

    def check(self, said: Said, process: Bootstrap) -> None:
        at_vendor = said.headers["location"]
        assert at_vendor.startswith(self.place.vendor.issuer)
        returned = sign_in_at_vendor(self.browser, self.browser.get(at_vendor), self.user)
        assert returned.url.startswith(self.place.app.return_url), returned.text
        self.complete()
        self.check_connected()


class Callback(OpenPage):
    def prepare(self) -> None:
        super().prepare()
        stop = f"{self.place.functions.url}/identities/oauth2/callback/"
        self.url = self.consent.to_the_callback(self.browser, self.user, stop)

    def event(self) -> dict[str, Any]:
        return self.place.browser_event("GET", self.url, self.browser)

    def check(self, said: Said, process: Bootstrap) -> None:
        assert said.headers["location"].startswith(self.place.app.return_url), said
        assert parse_qs(urlsplit(said.headers["location"]).query)["session_id"]
        self.complete()
        self.check_connected()


class Complete(OpenPage):
    def prepare(self) -> None:
        super().prepare()
        self.consent.agree(self.browser, self.user)

    def event(self) -> dict[str, Any]:
        members = {"sessionUri": self.consent.session_uri, "userIdentifier": {"userId": self.user}}
        return self.place.event("CompleteResourceTokenAuth", **members)

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_connected()
        polled = self.consent.poll()
        assert "accessToken" in polled.json, polled


class UserToken(OfUser):
    def prepare(self) -> None:
        super().prepare()
        self.consent = self.place.connected(self.name, self.user)

    def event(self) -> dict[str, Any]:
        return self.request()

    def check(self, said: Said, process: Bootstrap) -> None:
        assert said.json["accessToken"] == self.check_connected()


class Expired(OfUser):
    """A connection whose access token has ended, at a vendor that rotates refresh tokens, without any grace."""

    LIFE_SECONDS = 1

    def prepare(self) -> None:
        super().prepare()
        self.live(self.LIFE_SECONDS)
        self.consent = self.place.connected(self.name, self.user)
        time.sleep(self.LIFE_SECONDS + 0.1)
        self.live(3600)

    def live(self, seconds: int) -> None:
        self.place.vendor.set_client_behaviour(self.name, seconds, False, 0)

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_connected(refreshes=1)


class Refresh(Expired):
    def event(self) -> dict[str, Any]:
        return self.request()

    def check(self, said: Said, process: Bootstrap) -> None:
        assert said.json["accessToken"] == self.check_connected(refreshes=1)


# --------------------------------------------------------------------------------------------------- refresh, authorizer


class Tick(Expired):
    """In a table and with a queue of its own, where nothing else is due."""

    function = "refresh"

    def prepare(self) -> None:
        super().prepare()
        row = self.place.due_row(self.name)
        own = own_resources(self.place.functions.environment)
        self.variables = {name: own[name] for name in ("AGENT_IDENTITY_TABLE", "AGENT_IDENTITY_QUEUE_URL")}
        self.place.dynamodb.put_item(TableName=own["AGENT_IDENTITY_TABLE"], Item=row)

    def ask(self, process: Bootstrap) -> Said:
        return say_plainly(process, TICK)

    def check(self, said: Said, process: Bootstrap) -> None:
        """The connection is on the queue, perhaps twice, and its message refreshes it, once."""
        sqs, queue = self.place.functions.client_of("sqs"), self.variables["AGENT_IDENTITY_QUEUE_URL"]
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        assert messages, f"what is due is not on the queue: {said}"
        with self.place.process("refresh") as other:
            assert deliver(other, *(message["Body"] for message in messages)).ok
        self.check_connected(refreshes=1)


def deliver(process: Bootstrap, *bodies: str) -> Said:
    """Messages as SQS hands them to Lambda; those that failed come again."""
    records = [{"messageId": str(index), "body": body} for index, body in enumerate(bodies)]
    said = say_plainly(process, {"Records": records})
    failed = said.ok and said.json["batchItemFailures"]
    return Said(500, "batchItemFailures", said.body, {}) if failed else said


class Message(Expired):
    function = "refresh"

    def prepare(self) -> None:
        super().prepare()
        row = self.place.due_row(self.name)
        key = {"partition": row["pk"]["S"].partition("#")[2], "sort": row["sk"]["S"]}
        self.body = json.dumps({"version": 1, "key": key})

    def ask(self, process: Bootstrap) -> Said:
        return deliver(process, self.body)


class DeadGrant(Message):
    """The vendor takes the grant back: the user is asked anew, and whoever listens is told, in the log at least."""

    def prepare(self) -> None:
        super().prepare()
        assert self.place.vendor.control("revoke-grants-of", {"refreshTokenOf": self.user})["revoked"] == 1

    def check(self, said: Said, process: Bootstrap) -> None:
        deadline = time.monotonic() + 10
        while not self.refreshes():
            # It could not ask the vendor yet, and what is due comes again.
            assert time.monotonic() < deadline, "it is never refreshed"
            time.sleep(0.2)
            assert self.ask(process).ok
        assert "authorizationUrl" in patient(self.consent.ask)
        assert self.refreshes() == 1
        told = "an event could not be sent" in process.log.read_text()
        assert told or self.place.proxy.answered_well("PutEvents"), "nobody was told"

    def refreshes(self) -> int:
        return sum(entry["grantType"] == "refresh_token" for entry in self.place.token_requests(self.name))


class Authorize(OnWorkload):
    function = "authorizer"

    def prepare(self) -> None:
        super().prepare()
        put_authorizer(self.place, self.name)
        self.variables = {"AGENT_IDENTITY_AGENT": self.name}
        user = self.place.fresh("user")
        self.token = self.place.vendor.make_jwt(user)
        self.of_others = self.place.vendor.make_jwt(user, aud="https://others.example.com")

    def asked(self, process: Bootstrap, token: str) -> Said:
        event = {"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": f"Bearer {token}"}
        return say_plainly(process, event)

    def ask(self, process: Bootstrap) -> Said:
        return self.asked(process, self.token)

    def check_failed(self, process: Bootstrap) -> None:
        """Nobody is let in meanwhile."""
        assert effect(self.asked(process, self.of_others)) != "Allow"

    def check(self, said: Said, process: Bootstrap) -> None:
        assert effect(said) == "Allow", said
        assert effect(self.asked(process, self.of_others)) != "Allow"


def effect(said: Said) -> str:
    return said.json["policyDocument"]["Statement"][0]["Effect"] if said.ok else ""
