"""The operations of the control plane under faults, each as: what is there before, what is asked, and what must be true afterwards."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from aws.faulty_place import Place, Said, say
from bench.runtime_api import Bootstrap
from harness import planted
from harness.stories import FRONT_END_AUDIENCE, custom_config, make_machine_provider, make_workload, workload_token

RETURN_URL = "https://app.example.com/return"


class Operation:
    """Made anew for each case: making it prepares."""

    function = "credentials"
    variables: ClassVar[dict[str, str]] = {}
    # What a repetition may be answered besides success, when the first attempt was done and nobody could say so.
    done_already = ""

    def __init__(self, place: Place):
        self.place = place
        self.prepare()

    def prepare(self) -> None:
        """What is there before."""

    def event(self) -> dict[str, Any]:
        raise NotImplementedError

    def ask(self, process: Bootstrap) -> Said:
        return say(process, self.event())

    def check_failed(self, process: Bootstrap) -> None:
        """What holds when it was answered with an error, before it is repeated."""

    def check(self, said: Said, process: Bootstrap) -> None:
        """What holds when it was done. `said` is the answer of the attempt that was."""


class OnWorkload(Operation):
    def prepare(self) -> None:
        self.name = make_workload(self.place.caller, self.place.fresh("agent"))

    def check_failed(self, process: Bootstrap) -> None:
        assert self.place.record_of("workload", self.name) in ((True, True), (False, False))


class CreateWorkload(OnWorkload):
    done_already = "ConflictException"

    def prepare(self) -> None:
        self.name = self.place.fresh("agent")

    def event(self) -> dict[str, Any]:
        return self.place.event("CreateWorkloadIdentity", name=self.name)

    def check(self, said: Said, process: Bootstrap) -> None:
        assert self.place.record_of("workload", self.name) == (True, True)
        assert workload_token(self.place.caller, self.name)


class UpdateWorkload(OnWorkload):
    def event(self) -> dict[str, Any]:
        return self.place.event("UpdateWorkloadIdentity", name=self.name, allowedResourceOauth2ReturnUrls=[RETURN_URL])

    def check(self, said: Said, process: Bootstrap) -> None:
        got = self.place.caller.ok("GetWorkloadIdentity", name=self.name)
        assert got["allowedResourceOauth2ReturnUrls"] == [RETURN_URL]


class OnAuthorizer(OnWorkload):
    def prepare(self) -> None:
        super().prepare()
        put_authorizer(self.place, self.name)
        assert self.place.has_authorizer(self.name)


class DeleteWorkload(OnAuthorizer):
    """With an authorizer, which goes with it."""

    done_already = "ResourceNotFoundException"

    def event(self) -> dict[str, Any]:
        return self.place.event("DeleteWorkloadIdentity", name=self.name)

    def check_failed(self, process: Bootstrap) -> None:
        super().check_failed(process)
        assert self.place.has_authorizer(self.name) == self.place.record_of("workload", self.name)[0]

    def check(self, said: Said, process: Bootstrap) -> None:
        assert self.place.record_of("workload", self.name) == (False, False)
        assert not self.place.has_authorizer(self.name)


def rules(place: Place) -> dict[str, Any]:
    return {"customJWTAuthorizer": {"discoveryUrl": place.vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}}


def put_authorizer(place: Place, agent: str) -> None:
    place.caller.ok("PutAuthorizer", agentId=agent, name="main", authorizerConfiguration=rules(place))


class PutAuthorizer(OnWorkload):
    def event(self) -> dict[str, Any]:
        return self.place.event("PutAuthorizer", agentId=self.name, name="main", authorizerConfiguration=rules(self.place))

    def check(self, said: Said, process: Bootstrap) -> None:
        got = self.place.caller.ok("GetAuthorizer", agentId=self.name, name="main")
        assert got["authorizerConfiguration"] == rules(self.place)


class DeleteAuthorizer(OnAuthorizer):
    done_already = "ResourceNotFoundException"

    def event(self) -> dict[str, Any]:
        return self.place.event("DeleteAuthorizer", agentId=self.name, name="main")

    def check(self, said: Said, process: Bootstrap) -> None:
        assert not self.place.has_authorizer(self.name)


class OnProvider(Operation):
    """A provider and its secret: both are there, or neither."""

    kind = ""

    def check_failed(self, process: Bootstrap) -> None:
        named, recorded = self.place.record_of(self.kind, self.name)
        assert named == recorded
        secrets = len(self.place.secrets_of(self.name))
        if named:
            assert secrets == 1, "its record names a secret that is not there"
            self.usable()
        elif secrets:
            self.told_of_orphan(process)

    def told_of_orphan(self, process: Bootstrap) -> None:
        """A secret that nobody names any more, and that could not be deleted then, is told of: somebody has to."""
        told = re.findall(r"secret [a-z ]*(could not be deleted|could not be removed|remains)", process.log.read_text())
        assert told, f"a secret is left behind, and nobody is told: {self.place.secrets_of(self.name)} {process.log_tail()}"

    def usable(self) -> None:
        raise NotImplementedError

    def check_there(self, process: Bootstrap) -> None:
        assert self.place.record_of(self.kind, self.name) == (True, True)
        self.usable()
        if len(self.place.secrets_of(self.name)) != 1 or self.place.kept_versions(self.name) != 1:
            self.told_of_orphan(process)

    def check_gone(self, process: Bootstrap) -> None:
        assert self.place.record_of(self.kind, self.name) == (False, False)
        if self.place.secrets_of(self.name):
            self.told_of_orphan(process)


class OnApiKey(OnProvider):
    kind = "api-key-provider"

    def prepare(self) -> None:
        self.name, self.keys = self.place.fresh("weather"), [planted.new_secret("API key") for _ in range(2)]
        self.place.caller.ok("CreateApiKeyCredentialProvider", name=self.name, apiKey=self.keys[0])

    def usable(self) -> None:
        """A process that knows nothing yet gives one of the keys."""
        assert self.key() in self.keys

    def key(self) -> str:
        wat = workload_token(self.place.caller, self.place.agent)
        event = self.place.event("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=self.name)
        with self.place.process("tokens") as other:
            said = say(other, event)
        assert said.ok, said
        return said.json["apiKey"]


class CreateApiKey(OnApiKey):
    done_already = "ConflictException"

    def prepare(self) -> None:
        self.name, self.keys = self.place.fresh("weather"), [planted.new_secret("API key")]

    def event(self) -> dict[str, Any]:
        return self.place.event("CreateApiKeyCredentialProvider", name=self.name, apiKey=self.keys[0])

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_there(process)


class UpdateApiKey(OnApiKey):
    def event(self) -> dict[str, Any]:
        return self.place.event("UpdateApiKeyCredentialProvider", name=self.name, apiKey=self.keys[1])

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_there(process)
        assert self.key() == self.keys[1]


class DeleteApiKey(OnApiKey):
    done_already = "ResourceNotFoundException"

    def event(self) -> dict[str, Any]:
        return self.place.event("DeleteApiKeyCredentialProvider", name=self.name)

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_gone(process)


def machine_request(wat: str, provider: str) -> dict[str, Any]:
    return {
        "workloadIdentityToken": wat, "resourceCredentialProviderName": provider, "scopes": ["things.read"],
        "oauth2Flow": "M2M",
    }  # fmt: skip


class OnOauth2(OnProvider):
    kind = "oauth2-provider"

    def prepare(self) -> None:
        self.name = make_machine_provider(self.place.caller, self.place.vendor, self.place.fresh("machine"))

    def config(self, secret: str) -> dict[str, Any]:
        return {
            "name": self.name, "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": custom_config(self.place.vendor, self.name, secret),
        }  # fmt: skip

    def usable(self) -> None:
        """A process that knows nothing yet gets a token with the secret that is stored."""
        wat = workload_token(self.place.caller, self.place.agent)
        with self.place.process("tokens") as other:
            said = say(other, self.place.event("GetResourceOauth2Token", **machine_request(wat, self.name)))
        assert said.ok, said


class CreateOauth2(OnOauth2):
    done_already = "ConflictException"

    def prepare(self) -> None:
        self.name, self.secret = self.place.fresh("machine"), planted.new_secret("client secret")
        self.place.vendor.register_client(self.name, client_secret=self.secret)

    def event(self) -> dict[str, Any]:
        return self.place.event("CreateOauth2CredentialProvider", **self.config(self.secret))

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_there(process)


class UpdateOauth2(OnOauth2):
    def prepare(self) -> None:
        super().prepare()
        self.secret = planted.new_secret("client secret")

    def usable(self) -> None:
        """The secret that is stored is there; the vendor knows the new one only once it was given."""

    def event(self) -> dict[str, Any]:
        return self.place.event("UpdateOauth2CredentialProvider", **self.config(self.secret))

    def check(self, said: Said, process: Bootstrap) -> None:
        self.place.vendor.register_client(self.name, client_secret=self.secret)
        self.check_there(process)
        super().usable()


class DeleteOauth2(OnOauth2):
    done_already = "ResourceNotFoundException"

    def event(self) -> dict[str, Any]:
        return self.place.event("DeleteOauth2CredentialProvider", name=self.name)

    def check(self, said: Said, process: Bootstrap) -> None:
        self.check_gone(process)


class ListWorkloads(Operation):
    def event(self) -> dict[str, Any]:
        return self.place.event("ListWorkloadIdentities", maxResults=1)

    def check(self, said: Said, process: Bootstrap) -> None:
        assert [item["name"] for item in said.json["workloadIdentities"]] == [self.place.agent]
        self.place.caller.ok("ListWorkloadIdentities", maxResults=1, nextToken=said.json["nextToken"])
