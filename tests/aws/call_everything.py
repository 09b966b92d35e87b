"""A run in which the functions make every call to AWS that they can make, so that it can be written down."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_der_public_key

from aws.calls import Call, RecordingProxy, after_lost_answers
from aws.test_refresh import deliver, tick, until_due
from harness import planted
from harness.app import App
from harness.browser import Browser
from harness.functions import ADMIN_GRANT, Functions, Pool, http_event
from harness.main_path import call_every_operation
from harness.places import BOOTSTRAPS
from harness.product import command
from harness.stories import (
    FRONT_END_AUDIENCE, Consent, custom_config, machine_token, make_machine_provider, make_user_provider, make_workload,
    sign_in, sign_in_at_vendor, stored_token, workload_token, workload_token_for_jwt,
)  # fmt: skip
from harness.vendor import Vendor
from harness.wire import Caller

ROLE = "arn:aws:iam::123456789012:role/agents"
SESSION = "arn:aws:sts::123456789012:assumed-role/agents/i-0123"


class RecordedFunctions(Functions):
    """A deployment in which each function has a proxy of its own before the emulators."""

    def start(self) -> RecordedFunctions:
        super().start()
        self.pools["authorizer"] = Pool("authorizer", self.environment)
        self.proxies = {name: RecordingProxy(name, pool.environment) for name, pool in self.pools.items()}
        self.proxies["command line"] = RecordingProxy("command line", self.environment)
        for name, pool in self.pools.items():
            pool.environment = self.proxies[name].environment
        return self

    def stop(self) -> None:
        super().stop()
        for proxy in self.proxies.values():
            proxy.stop()

    @property
    def calls(self) -> set[Call]:
        return set().union(*(proxy.calls for proxy in self.proxies.values()))

    def command(self, *arguments: str) -> str:
        arguments = (*arguments, "--store", "dynamodb")
        environment = self.proxies["command line"].environment
        return command(*arguments, binary=BOOTSTRAPS / "agent-identity", **environment).stdout


def call_everything(vendor: Vendor, app: App, fresh: Any) -> set[Call]:
    """The calls, and those after lost answers."""
    trusted = f"issuer={vendor.issuer},audience={FRONT_END_AUDIENCE}"
    # What is counted is written with each request, and not once a minute.
    counting = {"AGENT_IDENTITY_USAGE_EVERY": "0"}
    functions = RecordedFunctions((vendor.address,), {"AGENT_IDENTITY_TRUSTED_ISSUERS": trusted} | counting).start()
    behind_iam = RecordedFunctions((vendor.address,), environment=counting | {
        "AGENT_IDENTITY_PRINCIPAL": "iam", "AGENT_IDENTITY_API_ID": "testapi",
    }).start()  # fmt: skip
    try:
        # First of all, so that the first of all keys is made here.
        manage(functions, fresh)
        # The keys of the issuer are in the table before a function needs them.
        tick(functions)
        call_every_operation(functions, vendor, app, fresh)
        caller = functions.caller()
        page_through(caller, fresh)
        authorize(functions, caller, vendor, fresh)
        use_what_others_keep(functions, caller, vendor, app, fresh)
        lose_grants(functions, caller, vendor, app, fresh)
        bring_back_a_secret(functions, caller, fresh)
        get_from_a_new_process(functions, caller, vendor, app, fresh)
        call_tools(functions, caller, vendor, app, fresh)
        count(functions, caller, vendor, fresh)
        caller.close()
        use_iam(behind_iam, vendor, fresh)
        calls = functions.calls | behind_iam.calls
    finally:
        functions.stop()
        behind_iam.stop()
    return calls | after_lost_answers(calls)


def manage(functions: RecordedFunctions, fresh: Any) -> None:
    """Access keys from the command line."""
    names = [fresh("key") for _ in range(2)]
    for name in names:
        made = json.loads(functions.command("access-keys", "create", "--name", name, "--grant", ADMIN_GRANT, "--json"))
        planted.plant(made["secretAccessKey"], "secret access key")
    functions.command("access-keys", "list")
    for name in names:
        functions.command("access-keys", "revoke", name)


def page_through(caller: Caller, fresh: Any) -> None:
    """Page tokens have a vault key of their own."""
    for _ in range(2):
        make_workload(caller, fresh("agent"))
    first = caller.ok("ListWorkloadIdentities", maxResults=1)
    caller.ok("ListWorkloadIdentities", maxResults=1, nextToken=first["nextToken"])


def authorize(functions: RecordedFunctions, caller: Caller, vendor: Vendor, fresh: Any) -> None:
    """Authorizers, and the function that goes by them. The last one goes with its workload."""
    agent, token = make_workload(caller, fresh("agent")), sign_in(vendor, "ada")["access_token"]
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": [FRONT_END_AUDIENCE]}
    for name in ("one", "two", "two"):
        caller.ok("PutAuthorizer", agentId=agent, name=name, authorizerConfiguration={"customJWTAuthorizer": rules})
    caller.ok("GetAuthorizer", agentId=agent, name="one")
    caller.ok("ListAuthorizers", agentId=agent)
    workload_token_for_jwt(caller, agent, token)
    client, secret = fresh("agents"), planted.new_secret("client secret")
    vendor.register_client(client, client_secret=secret)
    asking = {"endpoint": f"{vendor.issuer}/token/introspection", "clientId": client, "clientSecret": secret}
    with_keys = {"issueWorkloadAccessToken": True, "introspection": asking}
    caller.ok(
        "PutAuthorizer", agentId=agent, name="two", authorizerConfiguration={"customJWTAuthorizer": rules}, options=with_keys
    )  # fmt: skip
    caller.ok("DeleteAuthorizer", agentId=agent, name="one")
    headers = [("authorization", f"Bearer {token}"), ("x-agent-id", agent), ("host", "api.example")]
    event = http_event("GET", "/sample", headers, b"")
    event |= {"type": "REQUEST", "routeArn": "arn", "identitySource": [f"Bearer {token}", agent]}
    for _ in range(2):
        answer = functions.pools["authorizer"].invoke(event)
        assert answer["isAuthorized"] is True
    minted = answer["context"]["workloadAccessToken"]
    get_new_api_key(caller, minted, fresh, functions.pools["tokens"].stop)
    call_an_open_tool(caller, agent, minted, vendor, fresh)
    # Its issuer is asked, and then it is for no audience.
    opaque, before = sign_in(vendor, "ada", resource=None)["access_token"], vendor.introspections()
    assert caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=opaque).status == 401
    shown = event | {"headers": event["headers"] | {"authorization": f"Bearer {opaque}"}}
    assert functions.pools["authorizer"].invoke(shown | {"identitySource": [f"Bearer {opaque}", agent]}) == {"isAuthorized": False}
    assert vendor.introspections() == before + 2, "each process once"
    caller.ok("PutAuthorizer", agentId=agent, name="one", authorizerConfiguration={"customJWTAuthorizer": rules})
    ask_for_unknown_keys(functions, caller, vendor, agent, event)
    caller.ok("DeleteAuthorizer", agentId=agent, name="one")
    user = fresh("user")
    for operation in ("BlockUser", "SignOutUser", "UnblockUser"):
        caller.ok(operation, userId=user)
    caller.ok("SignOutUser", agentId=agent, userId=user)
    caller.ok("DeleteWorkloadIdentity", name=agent)


def ask_for_unknown_keys(
    functions: RecordedFunctions, caller: Caller, vendor: Vendor, agent: str, event: dict[str, Any]
) -> None:
    """Each function that verifies tokens asks the issuer once, as if the other had not just done so."""
    token = vendor.make_jwt("ada", header={"kid": "invented", "typ": "at+jwt"})
    event = event | {"identitySource": [f"Bearer {token}", agent]}
    event["headers"] = event["headers"] | {"authorization": f"Bearer {token}"}
    table, dynamodb = functions.environment["AGENT_IDENTITY_TABLE"], functions.client_of("dynamodb")
    assert caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=token).status == 401
    for item in dynamodb.scan(TableName=table)["Items"]:
        if item["pk"]["S"].startswith("jwks-cooldown#"):
            dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("pk", "sk")})
    # What the authorizer has read ahead it serves for a second; after that it reads the keys themselves.
    time.sleep(1.1)
    refused = functions.pools["authorizer"].invoke(event)
    assert refused == {"isAuthorized": False}, refused


def use_what_others_keep(functions: RecordedFunctions, caller: Caller, vendor: Vendor, app: App, fresh: Any) -> None:
    """EXTERNAL secrets and KMS keys that their owners tagged (D2): for users, refreshed by schedule, and for machines."""
    agent = make_workload(caller, fresh("agent"), app.return_url)
    wat = workload_token(caller, agent)
    for make in (external_secret, external_key):
        name = fresh("external")
        config, metadata = make(functions, name)
        for users in (True, False):
            members = {
                "credentialProviderVendor": "CustomOauth2",
                "oauth2ProviderConfigInput": custom_config(vendor, name, None, **config),
            }
            if users:
                made = caller.ok("CreateOauth2CredentialProvider", name=name, **members)
                vendor.register_client(name, redirect_uris=[made["callbackUrl"]], **metadata)
                by_schedule(functions, short_lived(vendor, caller, agent, name, app, fresh("user")))
            else:
                vendor.register_client(name, **metadata)
                machine_token(caller, wat, name)
    api_key, value = fresh("external"), planted.new_secret("API key")
    arn = put_external_secret(functions, api_key, json.dumps({"key": value}))
    reference = {"apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": {"secretId": arn, "jsonKey": "key"}}
    caller.ok("CreateApiKeyCredentialProvider", name=api_key, **reference)
    got = caller.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=api_key)
    assert got["apiKey"] == value


def put_external_secret(functions: RecordedFunctions, provider: str, value: str) -> str:
    tags = [{"Key": "agent-identity:provider", "Value": provider}]
    return functions.client_of("secretsmanager").create_secret(Name=f"theirs/{provider}", SecretString=value, Tags=tags)["ARN"]


def external_secret(functions: RecordedFunctions, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    secret = planted.new_secret("client secret")
    arn = put_external_secret(functions, name, json.dumps({"client": secret}))
    config = {"clientSecretSource": "EXTERNAL", "clientSecretConfig": {"secretId": arn, "jsonKey": "client"}}
    return config, {"client_secret": secret}


def external_key(functions: RecordedFunctions, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    kms = functions.client_of("kms")
    key = kms.create_key(
        KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256", Tags=[{"TagKey": "agent-identity:provider", "TagValue": name}]
    )["KeyMetadata"]  # fmt: skip
    public = load_der_public_key(kms.get_public_key(KeyId=key["KeyId"])["PublicKey"])
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public))
    source = {"privateKeySource": {"kmsKeySource": {"kmsKeyArn": key["Arn"]}}, "signingAlgorithm": "ES256"}
    return {"clientAuthenticationMethod": "PRIVATE_KEY_JWT", "privateKeyJwtConfig": source}, {
        "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {"keys": [jwk | {"use": "sig", "alg": "ES256"}]},
    }  # fmt: skip


def connect(caller: Caller, agent: str, provider: str, app: App, user: str) -> Consent:
    wat = workload_token(caller, agent, user)
    consent = Consent(caller, wat, provider, more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(Browser(), user)
    assert consent.complete(userId=user).status == 200
    consent.token()
    return consent


def short_lived(vendor: Vendor, caller: Caller, agent: str, provider: str, app: App, user: str) -> Consent:
    """A user whose access token wants a refresh in a few seconds; what is issued after lives long."""
    vendor.set_access_token_ttl(6)
    consent = connect(caller, agent, provider, app, user)
    vendor.set_access_token_ttl(3600)
    return consent


def lose_grants(functions: RecordedFunctions, caller: Caller, vendor: Vendor, app: App, fresh: Any) -> None:
    """Users who took their consent back at the vendor: one is noticed by a reader, another by the schedule."""
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    for notice in (by_a_reader, by_schedule):
        user = fresh("user")
        consent = short_lived(vendor, caller, agent, provider, app, user)
        look_at_connections(caller, agent, user)
        assert vendor.control("revoke-grants-of", {"refreshTokenOf": user})["revoked"] == 1
        notice(functions, consent)
        [dead] = caller.ok("ListConnections", userId=user)["connections"]
        assert caller.ok("RetryConnection", connectionId=dead["connectionId"])["status"] == "NEEDS_CONSENT", "the vendor was right"
    end_connections(functions, caller, vendor, app, fresh)


def end_connections(functions: RecordedFunctions, caller: Caller, vendor: Vendor, app: App, fresh: Any) -> None:
    """One at once, one by the schedule since its provider does not hear, and one that its workload took with it."""
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    one, another, third = (fresh("user") for _ in range(3))
    for user in (one, another):
        connect(caller, agent, provider, app, user)
    [shown] = caller.ok("ListConnections", userId=one)["connections"]
    assert caller.ok("DeleteConnection", connectionId=shown["connectionId"])["upstream"] == "revoked"
    vendor.make_revocation_trouble("status", status=503)
    assert [it["upstream"] for it in caller.ok("OffboardUser", userId=another)["connections"]] == ["queued"]
    # Once more in vain, and then not.
    for works in (False, True):
        vendor.make_revocation_trouble(*(() if works else ("status",)))
        assert deliver(functions, until_due(functions)) == []
    short_lived(vendor, caller, agent, provider, app, third)
    caller.ok("DeleteWorkloadIdentity", name=agent)
    assert deliver(functions, until_due(functions)) == []


def look_at_connections(caller: Caller, agent: str, user: str) -> None:
    """By each of the ways to name them."""
    [shown] = caller.ok("ListConnections", workloadName=agent, userId=user)["connections"]
    for about in ({"workloadName": agent}, {"providerName": shown["providerName"]}, {"userId": user}):
        assert shown in caller.ok("ListConnections", **about)["connections"]
    assert caller.ok("GetConnection", connectionId=shown["connectionId"]) == shown


def by_a_reader(functions: RecordedFunctions, consent: Consent) -> None:
    deadline = time.monotonic() + 15
    while "accessToken" in consent.ask().json:
        assert time.monotonic() < deadline, "a revoked grant still gives tokens"
        time.sleep(0.5)


def by_schedule(functions: RecordedFunctions, consent: Consent) -> None:
    assert deliver(functions, until_due(functions)) == []


def bring_back_a_secret(functions: RecordedFunctions, caller: Caller, fresh: Any) -> None:
    """A secret of ours that somebody deleted by hand: the next update takes it back into use."""
    name = fresh("weather")
    made = caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
    arn = made["apiKeySecretArn"]["secretArn"]
    functions.client_of("secretsmanager").delete_secret(SecretId=arn)
    caller.ok("UpdateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))


def get_from_a_new_process(functions: RecordedFunctions, caller: Caller, vendor: Vendor, app: App, fresh: Any) -> None:
    """A process that knows nothing yet reads what it will need ahead: for each kind of credential another."""
    agent, user = make_workload(caller, fresh("agent"), app.return_url), fresh("user")
    alone, for_user = workload_token(caller, agent), workload_token(caller, agent, user)
    people, machine = make_user_provider(caller, vendor, fresh("people")), make_machine_provider(caller, vendor, fresh("machine"))
    connect(caller, agent, people, app, user)
    machine_token(caller, alone, machine)
    for get in (lambda: stored_token(caller, for_user, people), lambda: machine_token(caller, alone, machine)):
        functions.pools["tokens"].stop()
        get()
    get_new_api_key(caller, alone, fresh, functions.pools["tokens"].stop)


def call_an_open_tool(caller: Caller, agent: str, wat: str, vendor: Vendor, fresh: Any) -> None:
    """A tool without a credential."""
    name, request = fresh("tool"), {"method": "GET", "url": f"http://{vendor.address}/.well-known/openid-configuration"}
    caller.ok("PutTool", name=name, inputSchema={"type": "object"}, allowedWorkloads=[agent], request=request)
    assert caller.ok("InvokeTool", workloadIdentityToken=wat, toolName=name)["statusCode"] == 200


def call_tools(functions: RecordedFunctions, caller: Caller, vendor: Vendor, app: App, fresh: Any) -> None:
    """Tools with each kind of credential, kept by us or by others, for who has signed and for a user behind the authorizer. Their
    API is the vendor's own."""
    agent, user = make_workload(caller, fresh("agent"), app.return_url), fresh("user")
    hosts = {"agent-identity:injectable-hosts": vendor.address}
    people, machine, weather = (fresh(name) for name in ("people", "machine", "weather"))
    secret, proves = planted.new_secret("client secret"), {"token_endpoint_auth_method": "client_secret_post"}
    for name in (people, machine):
        made = caller.ok(
            "CreateOauth2CredentialProvider", name=name, credentialProviderVendor="CustomOauth2", tags=hosts,
            oauth2ProviderConfigInput=custom_config(vendor, name, secret, clientAuthenticationMethod="CLIENT_SECRET_POST"),
        )  # fmt: skip
        of_users = {"redirect_uris": [made["callbackUrl"]]} if name == people else {}
        vendor.register_client(name, client_secret=secret, **proves, **of_users)
    signing = fresh("signing")
    config, metadata = external_key(functions, signing)
    caller.ok(
        "CreateOauth2CredentialProvider", name=signing, credentialProviderVendor="CustomOauth2", tags=hosts,
        oauth2ProviderConfigInput=custom_config(vendor, signing, None, **config),
    )  # fmt: skip
    vendor.register_client(signing, **metadata)
    arn = put_external_secret(functions, weather, json.dumps({"key": planted.new_secret("API key")}))
    reference = {"apiKeySecretSource": "EXTERNAL", "apiKeySecretConfig": {"secretId": arn, "jsonKey": "key"}}
    caller.ok("CreateApiKeyCredentialProvider", name=weather, tags=hosts, **reference)
    scopes, tools = ["openid", "things.read"], {}
    for provider, flow, path in ((people, "USER_FEDERATION", "/api/things"), (machine, "M2M", "/api/things"), (signing, "M2M", "/api/things"), (weather, "API_KEY", "/api/weather")):
        name = tools[provider] = fresh("tool")
        credential = {"providerName": provider, "flow": flow} | ({} if flow == "API_KEY" else {"scopes": scopes[-1:] if flow == "M2M" else scopes})
        for _ in range(2):
            caller.ok(
                "PutTool", name=name, inputSchema={"type": "object"}, allowedWorkloads=[agent],
                request={"method": "GET", "url": f"http://{vendor.address}{path}"}, credential=credential,
            )  # fmt: skip
        caller.ok("GetTool", name=name)
    caller.ok("ListTools", workloadName=agent, maxResults=1)
    wat = workload_token(caller, agent, user)

    def invoke(provider: str, **more: Any) -> Any:
        return caller.ok("InvokeTool", workloadIdentityToken=wat, toolName=tools[provider], **more)

    asked = invoke(people, resourceOauth2ReturnUrl=app.return_url)
    browser = Browser()
    sign_in_at_vendor(browser, browser.submit(browser.get(asked["authorizationUrl"])), user)
    invoke(people, sessionUri=asked["sessionUri"])
    caller.ok("CompleteResourceTokenAuth", sessionUri=asked["sessionUri"], userIdentifier={"userId": user})
    assert invoke(people, sessionUri=asked["sessionUri"])["statusCode"] == 200
    functions.pools["gateway"].stop()
    assert invoke(people)["statusCode"] == invoke(machine)["statusCode"] == invoke(signing)["statusCode"] == 200
    # What its owner keeps is none of the vendor's: the key is read once more, and that is said.
    assert caller.call("InvokeTool", workloadIdentityToken=wat, toolName=tools[weather]).status == 403
    # A token that its API does not take would be replaced; that its grant has died is told.
    vendor.revoke(planted.plant(stored_token(caller, wat, people).json["accessToken"], "access token"), people, secret)
    assert vendor.control("revoke-grants-of", {"refreshTokenOf": user})["revoked"] <= 1
    assert caller.call("InvokeTool", workloadIdentityToken=wat, toolName=tools[people]).status == 403
    [key] = [it["userKey"] for it in caller.ok("ListConnections", workloadName=agent)["connections"]]
    session = {"agentId": agent, "userId": key, "issuer": vendor.issuer, "subject": user, "scopes": "", "expiresAt": int(time.time()) + 600}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    event = http_event("POST", f"/agents/{agent}/mcp", [("host", "api.example")], json.dumps(message).encode(), authorizer={"lambda": session})
    listed = json.loads(functions.pools["gateway"].invoke(event)["body"])
    assert "result" in listed, listed
    assert {it["name"] for it in listed["result"]["tools"]} == set(tools.values())
    for name in tools.values():
        caller.ok("DeleteTool", name=name)


def count(functions: RecordedFunctions, caller: Caller, vendor: Vendor, fresh: Any) -> None:
    """A row of counters that is not as its process has left it is looked at before it is written again."""
    table, client = functions.environment["AGENT_IDENTITY_TABLE"], functions.client_of("dynamodb")
    agent = make_workload(caller, fresh("agent"))
    wat = workload_token(caller, agent)
    for turn in range(2):
        get_new_api_key(caller, wat, fresh, lambda: None)
        call_an_open_tool(caller, agent, wat, vendor, fresh)
        rows = [row for row in client.scan(TableName=table, ProjectionExpression="pk, sk")["Items"] if row["pk"]["S"].startswith("usage#")]
        assert rows
        for row in rows if turn == 0 else []:
            client.delete_item(TableName=table, Key=row)
    assert caller.ok("GetUsage", workloadName=agent)["usage"]


def get_new_api_key(caller: Caller, wat: str, fresh: Any, before: Any) -> None:
    name, key = fresh("weather"), planted.new_secret("API key")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=key)
    before()
    assert caller.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=name)["apiKey"] == key


def use_iam(functions: RecordedFunctions, vendor: Vendor, fresh: Any) -> None:
    """A caller whose grants are those of an IAM role, at both functions that have callers."""
    functions.command("principals", "put", ROLE, "--grant", "admin,mint-jwt,use,read")
    functions.command("principals", "list")
    caller = functions.caller(functions.iam_credentials(SESSION))
    agent = make_workload(caller, fresh("agent"))
    wat = workload_token(caller, agent)
    get_new_api_key(caller, wat, fresh, functions.pools["tokens"].stop)
    call_an_open_tool(caller, agent, wat, vendor, fresh)
    caller.close()
    functions.command("principals", "delete", ROLE)
