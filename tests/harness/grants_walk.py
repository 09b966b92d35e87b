"""D1: every operation, on a foreign workload, on a foreign provider, in a role that the principal lacks.

One walk for embedded mode and for the functions behind IAM: a module of tests imports all of it, and has fixtures `caller`, who
may do everything, and `principal`, which makes callers with just some grants.
"""

import pytest

from . import model, planted
from .stories import make_workload, workload_token

ADMIN_ON_WORKLOADS = [name for name in model.OPERATIONS if "WorkloadIdentity" in name and not name.startswith("List")]
ADMIN_ON_PROVIDERS = [
    name for name in model.OPERATIONS if "CredentialProvider" in name and not name.startswith("List")
]
MINTING = [name for name in model.OPERATIONS if name.startswith("GetWorkloadAccessToken")]
READING = ["GetResourceApiKey", "GetResourceOauth2Token"]


@pytest.fixture(scope="module")
def ground(caller, fresh):
    """An own and a foreign workload and provider of each kind, made by the administrator."""
    names = {}
    for whose in ("own", "foreign"):
        names[whose] = {
            "workload": make_workload(caller, fresh(f"{whose}-agent"), "http://127.0.0.1/return"),
            "api key": fresh(f"{whose}-weather"),
            "oauth2": fresh(f"{whose}-github"),
        }
        secret = planted.new_secret("API key")
        caller.ok("CreateApiKeyCredentialProvider", name=names[whose]["api key"], apiKey=secret)
        caller.ok("CreateOauth2CredentialProvider", **oauth2_members(names[whose]["oauth2"]))
    return names


def oauth2_members(name):
    return {
        "name": name,
        "credentialProviderVendor": "GithubOauth2",
        "oauth2ProviderConfigInput": {
            "githubOauth2ProviderConfig": {"clientId": "one", "clientSecret": planted.new_secret("client secret")}
        },
    }


def control_members(operation, workload, names):
    """What the operation needs, on this workload or on these providers."""
    if "WorkloadIdentity" in operation:
        return {"name": workload}
    if "TokenVault" in operation:
        members = {"kmsConfiguration": {"keyType": "ServiceManagedKey"}} if operation == "SetTokenVaultCMK" else {}
        return {"tokenVaultId": "default"} | members
    if "ApiKey" in operation:
        needs_key = operation.startswith(("Create", "Update"))
        return {"name": names["api key"]} | ({"apiKey": planted.new_secret("API key")} if needs_key else {})
    full = operation.startswith(("Create", "Update"))
    return oauth2_members(names["oauth2"]) if full else {"name": names["oauth2"]}


def read_members(operation, wat, names):
    members = {"workloadIdentityToken": wat}
    if operation == "GetResourceApiKey":
        return members | {"resourceCredentialProviderName": names["api key"]}
    return members | {
        "resourceCredentialProviderName": names["oauth2"],
        "scopes": ["repo"],
        "oauth2Flow": "USER_FEDERATION",
        "resourceOauth2ReturnUrl": "http://127.0.0.1/return",
    }


def denied(caller, operation, **members):
    answer = caller.refused(operation, 403, "AccessDeniedException", **members)
    assert operation in answer.message
    return answer


@pytest.mark.parametrize("operation", model.OPERATIONS)
def test_d1_without_any_grant_every_operation_is_denied(principal, caller, ground, operation):
    names = ground["own"]
    wat = workload_token(caller, names["workload"], "alice")
    if operation in READING:
        members = read_members(operation, wat, names)
    elif operation in MINTING:
        members = {"workloadName": names["workload"]} | minting_user(operation)
    elif operation == "CompleteResourceTokenAuth":
        members = {"sessionUri": consent_of(caller, names), "userIdentifier": {"userId": "alice"}}
    elif operation.startswith("List"):
        members = {}
    else:
        members = control_members(operation, names["workload"], names)
    denied(principal(), operation, **members)


def minting_user(operation):
    if operation.endswith("ForJWT"):
        return {"userToken": "aaaa.bbbb.cccc"}
    return {"userId": "alice"} if operation.endswith("ForUserId") else {}


def consent_of(caller, names):
    wat = workload_token(caller, names["workload"], "alice")
    said = caller.ok("GetResourceOauth2Token", **read_members("GetResourceOauth2Token", wat, names))
    return said["sessionUri"]


@pytest.mark.parametrize("operation", ADMIN_ON_WORKLOADS)
def test_d1_an_administrator_of_one_workload_may_not_touch_another(principal, ground, operation):
    admin = principal(f"admin workload={ground['own']['workload']}")
    denied(admin, operation, name=ground["foreign"]["workload"])
    if operation.startswith(("Get", "Update")):
        admin.ok(operation, name=ground["own"]["workload"])


@pytest.mark.parametrize("operation", ADMIN_ON_PROVIDERS)
def test_d1_an_administrator_of_one_provider_may_not_touch_another(principal, ground, operation):
    own, foreign = ground["own"], ground["foreign"]
    admin = principal(f"admin provider={own['api key']}", f"admin provider={own['oauth2']}")
    denied(admin, operation, **control_members(operation, own["workload"], foreign))
    if operation.startswith(("Get", "Update")):
        admin.ok(operation, **control_members(operation, own["workload"], own))


@pytest.mark.parametrize("operation", MINTING)
def test_d1_a_token_for_a_foreign_workload_is_denied(principal, ground, operation):
    minter = principal(f"mint-jwt,mint-userid workload={ground['own']['workload']}")
    members = {"workloadName": ground["foreign"]["workload"]} | minting_user(operation)
    denied(minter, operation, **members)
    if operation != "GetWorkloadAccessTokenForJWT":
        minter.ok(operation, **members | {"workloadName": ground["own"]["workload"]})


@pytest.mark.parametrize("operation", READING)
@pytest.mark.parametrize(
    ("workload", "provider"), [("foreign", "own"), ("own", "foreign"), ("foreign", "foreign")],
)  # fmt: skip
def test_d1_reading_needs_the_workload_and_the_provider_together(
    principal, caller, ground, operation, workload, provider
):
    own = ground["own"]
    reader = principal(
        f"read workload={own['workload']} provider={own['api key']}",
        f"read workload={own['workload']} provider={own['oauth2']}",
    )
    wat = workload_token(caller, ground[workload]["workload"], "alice")
    denied(reader, operation, **read_members(operation, wat, ground[provider]))
    mine = workload_token(caller, own["workload"], "alice")
    reader.ok(operation, **read_members(operation, mine, own))


@pytest.mark.parametrize(
    ("workload", "provider"), [("foreign", "own"), ("own", "foreign"), ("foreign", "foreign")],
)  # fmt: skip
def test_d1_completing_a_consent_needs_the_workload_and_the_provider_together(
    principal, caller, ground, workload, provider
):
    own = ground["own"]
    minter = principal(f"mint-userid workload={own['workload']} provider={own['oauth2']}")
    session = consent_of(caller, {"workload": ground[workload]["workload"], "oauth2": ground[provider]["oauth2"]})
    user = {"userIdentifier": {"userId": "alice"}}
    denied(minter, "CompleteResourceTokenAuth", sessionUri=session, **user)
    # On his own ground nothing but the user's return is missing.
    answer = minter.refused(
        "CompleteResourceTokenAuth", 400, "ValidationException", sessionUri=consent_of(caller, own), **user
    )
    assert answer.wrong_fields == ["sessionUri"]


def test_d1_who_mints_for_jwts_may_not_name_users_when_completing(principal, caller, ground):
    session = consent_of(caller, ground["own"])
    user = {"userIdentifier": {"userId": "alice"}}
    for role in ("admin", "mint-jwt", "use", "read"):
        denied(principal(role), "CompleteResourceTokenAuth", sessionUri=session, **user)


@pytest.mark.parametrize("role", ["admin", "mint-jwt", "mint-userid", "use"])
@pytest.mark.parametrize("operation", READING)
def test_d1_no_other_role_reads_credentials(principal, caller, ground, role, operation):
    wat = workload_token(caller, ground["own"]["workload"], "alice")
    denied(principal(role), operation, **read_members(operation, wat, ground["own"]))


@pytest.mark.parametrize("role", ["mint-jwt", "mint-userid", "use", "read"])
@pytest.mark.parametrize("operation", ADMIN_ON_WORKLOADS + ADMIN_ON_PROVIDERS)
def test_d1_no_other_role_administers(principal, ground, role, operation):
    names = ground["own"]
    denied(principal(role), operation, **control_members(operation, names["workload"], names))


def test_d1_who_mints_for_jwts_may_not_name_users_himself(principal, ground):
    minter = principal("mint-jwt")
    workload = ground["own"]["workload"]
    denied(minter, "GetWorkloadAccessTokenForUserId", workloadName=workload, userId="alice")


def test_d1_a_grant_can_name_the_operation(principal, caller, ground):
    reader = principal("read operation=GetResourceApiKey")
    wat = workload_token(caller, ground["own"]["workload"], "alice")
    reader.ok("GetResourceApiKey", **read_members("GetResourceApiKey", wat, ground["own"]))
    members = read_members("GetResourceOauth2Token", wat, ground["own"])
    denied(reader, "GetResourceOauth2Token", **members)


def test_d1_a_list_leaves_out_what_its_reader_may_not_see(principal, ground):
    admin = principal(f"admin workload={ground['own']['workload']}")
    said = admin.ok("ListWorkloadIdentities")
    assert [item["name"] for item in said["workloadIdentities"]] == [ground["own"]["workload"]]


@pytest.mark.parametrize(
    ("operation", "kind"), [("ListApiKeyCredentialProviders", "api key"), ("ListOauth2CredentialProviders", "oauth2")],
)  # fmt: skip
def test_d1_a_list_of_providers_leaves_out_what_its_reader_may_not_see(principal, caller, ground, operation, kind):
    everything = [item["name"] for item in caller.ok(operation)["credentialProviders"]]
    assert {ground["own"][kind], ground["foreign"][kind]} <= set(everything)
    admin = principal(f"admin provider={ground['own'][kind]}")
    said = admin.ok(operation)
    assert [item["name"] for item in said["credentialProviders"]] == [ground["own"][kind]]
    found, page = [], admin.ok(operation, maxResults=1)
    while page.get("nextToken"):
        found += page["credentialProviders"]
        page = admin.ok(operation, maxResults=1, nextToken=page["nextToken"])
    names = [item["name"] for item in found + page["credentialProviders"]]
    assert names == [ground["own"][kind]], "small pages show the same"
    nothing = principal("admin provider=matches-nothing").ok(operation)
    assert nothing["credentialProviders"] == []


def test_d1_a_denied_name_and_an_unknown_name_look_the_same(principal, ground):
    admin = principal(f"admin workload={ground['own']['workload']}")
    exists = denied(admin, "GetWorkloadIdentity", name=ground["foreign"]["workload"])
    absent = denied(admin, "GetWorkloadIdentity", name="nobody-made-this")
    assert exists.message.replace(ground["foreign"]["workload"], "N") == absent.message.replace("nobody-made-this", "N")
