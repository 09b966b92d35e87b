"""One table of it all (D18): each of the operations, when it works, when its request is broken, and when its caller may not. What gives a
credential is on record whatever comes of it; what changes something, when it did; and each request has its one line in the log."""

import json
from urllib.parse import quote

import pytest

from harness import model, planted
from harness.browser import Browser
from harness.product import command, create_access_key
from harness.stories import Consent, connected_user, make_user_provider, make_workload
from harness.wire import Caller

CREDENTIALS = {
    "GetWorkloadAccessToken", "GetWorkloadAccessTokenForJWT", "GetWorkloadAccessTokenForUserId", "GetResourceOauth2Token",
    "GetResourceApiKey", "InvokeTool",
}  # fmt: skip
READS = {
    "GetWorkloadIdentity", "ListWorkloadIdentities", "GetApiKeyCredentialProvider", "ListApiKeyCredentialProviders",
    "GetOauth2CredentialProvider", "ListOauth2CredentialProviders", "GetAuthorizer", "ListAuthorizers", "GetTokenVault", "ListConnections",
    "GetConnection", "GetTool", "ListTools", "GetUsage", "ListTagsForResource",
    # Nothing is lost, nothing is wrapped by a former key, and nothing was refused: they change nothing here.
    "ResetTokenVaultKeyMaterial", "SetTokenVaultCMK", "RetryConnection",
}  # fmt: skip


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


class Witness(Caller):
    """A caller that keeps what it was answered, by request."""

    def at(self, target, body=b"{}", method="POST"):
        answer = super().at(target, body, method)
        self.heard[answer.headers["x-amzn-requestid"]] = (operation_of(target, method), answer)
        return answer


def operation_of(target, method):
    if target.startswith("/tags/"):
        return {"GET": "ListTagsForResource", "POST": "TagResource", "DELETE": "UntagResource"}[method]
    paths = {model.path_of(name): name for plane in (model.CONTROL, model.DATA) for name in model.service(plane).operation_names}
    return paths[target]


def everything(caller, vendor, app, fresh):
    """Each operation once at least, and it works."""
    agent, doomed, weather, people, user = fresh("agent"), fresh("doomed"), fresh("weather"), fresh("people"), fresh("user")
    for name in (agent, doomed):
        arn = caller.ok("CreateWorkloadIdentity", name=name)["workloadIdentityArn"]
    caller.ok("UpdateWorkloadIdentity", name=agent, allowedResourceOauth2ReturnUrls=[app.return_url])
    caller.ok("GetWorkloadIdentity", name=agent)
    caller.ok("ListWorkloadIdentities")
    tags = "/tags/" + quote(arn, safe="")
    for method, more, body in (("POST", "", {"tags": {"team": "a"}}), ("GET", "", {}), ("DELETE", "?tagKeys=team", {})):
        assert caller.at(tags + more, json.dumps(body).encode() if body else b"", method).status in (200, 204)
    caller.ok("CreateApiKeyCredentialProvider", name=weather, apiKey=planted.new_secret("API key"),
              tags={"agent-identity:injectable-hosts": "api.example.com"})  # fmt: skip
    caller.ok("UpdateApiKeyCredentialProvider", name=weather, apiKey=planted.new_secret("API key"))
    caller.ok("GetApiKeyCredentialProvider", name=weather)
    caller.ok("ListApiKeyCredentialProviders")
    make_user_provider(caller, vendor, people)
    caller.ok("GetOauth2CredentialProvider", name=people)
    caller.ok("ListOauth2CredentialProviders")
    github = {"githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": planted.new_secret("client secret")}}
    for operation in ("Create", "Update"):
        caller.ok(f"{operation}Oauth2CredentialProvider", name=doomed, credentialProviderVendor="GithubOauth2", oauth2ProviderConfigInput=github)
    rules = {"customJWTAuthorizer": {"discoveryUrl": vendor.discovery_url, "allowedAudience": ["a"]}}
    caller.ok("PutAuthorizer", agentId=doomed, name="a", authorizerConfiguration=rules)
    caller.ok("GetAuthorizer", agentId=doomed, name="a")
    caller.ok("ListAuthorizers", agentId=doomed)
    caller.ok("DeleteAuthorizer", agentId=doomed, name="a")
    caller.ok("GetTokenVault")
    caller.ok("SetTokenVaultCMK", kmsConfiguration={"keyType": "ServiceManagedKey"})
    caller.refused("ResetTokenVaultKeyMaterial", 409, "ConflictException", tokenVaultId="default")
    mallory = fresh("mallory")
    for operation in ("BlockUser", "UnblockUser", "SignOutUser"):
        caller.ok(operation, userId=mallory)
    caller.ok("GetWorkloadAccessToken", workloadName=agent)
    caller.ok("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=vendor.make_jwt(user))
    wat = caller.ok("GetWorkloadAccessTokenForUserId", workloadName=agent, userId=user)["workloadAccessToken"]
    caller.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=weather)
    consent = Consent(caller, wat, people, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(Browser(), user)
    assert consent.complete(userId=user).status == 200 and consent.token()
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    caller.ok("PutTool", name=weather, inputSchema=schema, allowedWorkloads=[agent], credential={"providerName": weather, "flow": "API_KEY"},
              request={"method": "GET", "url": "https://api.example.com/"})  # fmt: skip
    caller.ok("GetTool", name=weather)
    caller.ok("ListTools")
    # Its input is refused, so that no API is called: the suite of tools calls real ones.
    caller.refused("InvokeTool", 400, "ValidationException", workloadIdentityToken=wat, toolName=weather, input={"more": 1})
    caller.ok("DeleteTool", name=weather)
    [shown] = caller.ok("ListConnections", userId=user)["connections"]
    for operation in ("GetConnection", "RetryConnection", "DeleteConnection"):
        caller.ok(operation, connectionId=shown["connectionId"])
    connected_user(caller, agent, people, another := fresh("user"), app.return_url)
    caller.ok("OffboardUser", userId=another)
    caller.ok("GetUsage")
    caller.ok("DeleteApiKeyCredentialProvider", name=weather)
    caller.ok("DeleteOauth2CredentialProvider", name=doomed)
    caller.ok("DeleteWorkloadIdentity", name=doomed)


def in_vain(caller, stranger, operations):
    """Each operation with a broken request; and the broken request's neighbour of a caller without grants is what test_grants asks."""
    for operation in sorted(operations - {"TagResource", "UntagResource", "ListTagsForResource"}):
        assert caller.raw(operation, b'{"nobody knows this member": 1}').status in (200, 400, 409)
        stranger.call(operation, name="nobodys", workloadName="nobodys", agentId="nobodys")


def test_d18_every_operation_is_on_record_as_it_ended(server, caller, vendor, app, fresh):
    made = [Witness(server.port, credentials) for credentials in (server.credentials(), create_access_key(server.data, fresh("stranger")))]
    for witness in made:
        witness.heard = {}
    witness, stranger = made
    everything(witness, vendor, app, fresh)
    operations = {operation for operation, _ in witness.heard.values()}
    ours = {*model.OPERATIONS, *model.OWN_OPERATIONS, *model.CONNECTION_OPERATIONS, "TagResource", "UntagResource", "ListTagsForResource",
            "PutTool", "GetTool", "ListTools", "DeleteTool", "InvokeTool", "GetUsage"}  # fmt: skip
    assert operations == ours and len(ours) == 45
    in_vain(witness, stranger, operations)
    heard = witness.heard | stranger.heard
    for each in made:
        each.close()

    lines = [json.loads(line) for line in command("audit", "list", "--data", str(server.data), "--json").stdout.splitlines()]
    trail, log = {}, {}
    for record in lines:
        trail.setdefault(record.get("request"), []).append(record)
    for record in server.log_records():
        if "operation" in record:
            log.setdefault(record["span"]["request_id"], []).append(record)
    wrong = []
    for request, (operation, answer) in heard.items():
        outcome = answer.error if answer.status >= 300 else "ok"
        if operation == "GetResourceOauth2Token" and outcome == "ok" and "accessToken" not in answer.json:
            outcome = "consent"
        records = trail.get(request, [])
        if [line["operation"] for line in log.get(request, [])] != [operation]:
            wrong.append(f"{operation} {outcome}: in the log {log.get(request)}")
        if any(record["operation"] != operation or record["outcome"] != outcome for record in records if "changed" not in record):
            wrong.append(f"{operation} {outcome}: {records}")
        changed = [record for record in records if record.get("changed")]
        if operation in CREDENTIALS:
            if len(records) - len(changed) != 1:
                wrong.append(f"{operation} {outcome}: recorded {len(records) - len(changed)} times")
        elif operation in READS or outcome != "ok":
            if records:
                wrong.append(f"{operation} {outcome}: nothing changed, but {records}")
        elif not changed or any(record["operation"] != operation for record in changed):
            wrong.append(f"{operation} {outcome}: a change that is not on record: {records}")
    assert wrong == [], "\n".join(wrong)
    assert len({operation for operation, answer in heard.values() if answer.status == 403}) > 20, "the stranger was refused"
