"""Authorizers: kept as they are given, held to their workload, and decisive for whose token speaks to an agent."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import model, planted
from harness.product import create_access_key
from harness.requests_of_operations import DISCOVERY_URL, OWN_REQUESTS, encoded
from harness.stories import make_workload
from harness.violations import violations

CASES = [
    pytest.param(operation, violation, id=f"{operation}{f' ({label})' if label else ''}: {violation.what}"[:180])
    for (operation, label), request in OWN_REQUESTS.items()
    for violation in violations(operation, request)
]
RULES = {"discoveryUrl": DISCOVERY_URL, "allowedAudience": ["agents"]}
INTROSPECTION = {"endpoint": "https://login.example.com/introspect", "clientId": "agents", "clientSecret": "of the client that asks"}
# Members of AWS's shape that are not supported, each with a value that AWS would take.
PRIVATE = {"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-0123456789abcdefg"}}
UNSUPPORTED = {
    "privateEndpoint": PRIVATE,
    "privateEndpointOverrides": [{"domain": "login.example.com", "privateEndpoint": PRIVATE}],
    "certificateConfigurations": [{"s3": {"uri": "s3://bucket/ca.pem"}}],
}


def claim(name, kind, operator, value):
    member = "matchValueStringList" if isinstance(value, list) else "matchValueString"
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": kind,
        "authorizingClaimMatchValue": {"claimMatchValue": {member: value}, "claimMatchOperator": operator},
    }


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


@pytest.fixture(scope="module")
def principal(server, fresh):
    """Callers with just these grants."""
    opened = []

    def make(*grants):
        opened.append(server.caller(create_access_key(server.data, fresh("principal"), *grants)))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


@pytest.fixture
def agent(caller, fresh):
    return make_workload(caller, fresh("agent"))


def put(caller, agent, name="people", rules=None, **members):
    configuration = {"customJWTAuthorizer": RULES if rules is None else rules}
    return caller.call("PutAuthorizer", agentId=agent, name=name, authorizerConfiguration=configuration, **members)


def token_for(caller, agent, jwt):
    answer = caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=jwt)
    if answer.status == 200:
        planted.plant(answer.json["workloadAccessToken"], "workload access token")
    return answer


def test_an_authorizer_is_kept_as_it_was_given(caller, agent):
    rules = RULES | {"allowedAudience": ["b", "a"], "allowedClients": ["one"], "allowedScopes": ["x", "y"]}
    options = {"leewaySeconds": 0, "azpAsClient": True, "algorithms": ["RS256", "EdDSA"]}
    assert put(caller, agent, rules=rules, options=options).json == {"version": 1}
    got = caller.ok("GetAuthorizer", agentId=agent, name="people")
    assert got["authorizerConfiguration"] == {"customJWTAuthorizer": rules}
    assert (got["agentId"], got["name"], got["version"], got["options"]) == (agent, "people", 1, options)
    assert put(caller, agent).json == {"version": 2}
    replaced = caller.ok("GetAuthorizer", agentId=agent, name="people")
    assert (replaced["authorizerConfiguration"], replaced["options"]) == ({"customJWTAuthorizer": RULES}, {})
    assert replaced["createdTime"] == got["createdTime"] <= replaced["lastUpdatedTime"]


def test_the_secret_of_the_client_that_asks_is_never_given_back_and_needed_each_time(caller, agent):
    secret = planted.new_secret("client secret")
    asks = INTROSPECTION | {"clientSecret": secret, "clientAuthentication": "client_secret_post"}
    assert put(caller, agent, options={"introspection": asks}).json == {"version": 1}
    answer = caller.call("GetAuthorizer", agentId=agent, name="people")
    kept = {name: value for name, value in asks.items() if name != "clientSecret"}
    assert answer.json["options"] == {"introspection": kept} and secret not in answer.body.decode()
    assert secret not in caller.call("ListAuthorizers", agentId=agent).body.decode()
    again = put(caller, agent, options={"introspection": kept})
    assert (again.status, again.wrong_fields) == (400, ["options.introspection.clientSecret"])
    usual = {name: value for name, value in asks.items() if name != "clientAuthentication"}
    assert put(caller, agent, options={"introspection": usual}).json == {"version": 2}
    kept["clientAuthentication"] = "client_secret_basic"
    assert caller.ok("GetAuthorizer", agentId=agent, name="people")["options"] == {"introspection": kept}


def test_one_authorizer_of_an_agent_asks_about_tokens(caller, agent):
    """Nobody can tell of which issuer an opaque token is, and it must not be shown to another."""
    options = {"introspection": INTROSPECTION}
    assert put(caller, agent, "people", options=options).status == 200
    answer = put(caller, agent, "others", options=options)
    assert (answer.status, answer.error, answer.wrong_fields) == (400, "ValidationException", ["options.introspection"])
    assert "`people`" in answer.message
    assert put(caller, agent, "others").status == put(caller, agent, "people", options=options).status == 200


def test_a_list_has_pages_and_a_deleted_one_is_gone(caller, agent):
    for name in ("c", "a", "b"):
        assert put(caller, agent, name).status == 200
    page = caller.ok("ListAuthorizers", agentId=agent, maxResults=2)
    assert [item["name"] for item in page["authorizers"]] == ["a", "b"]
    rest = caller.ok("ListAuthorizers", agentId=agent, maxResults=2, nextToken=page["nextToken"])
    assert [item["name"] for item in rest["authorizers"]] == ["c"] and "nextToken" not in rest
    assert caller.ok("DeleteAuthorizer", agentId=agent, name="a") == {}
    for operation in ("GetAuthorizer", "DeleteAuthorizer"):
        caller.refused(operation, 404, "ResourceNotFoundException", agentId=agent, name="a")


def test_the_token_of_a_page_is_good_for_its_list_only(caller, agent):
    token = caller.ok("ListWorkloadIdentities", maxResults=1).get("nextToken", "x" * 40)
    for wrong in (token, "x" * 40):
        answer = caller.refused("ListAuthorizers", 400, "ValidationException", agentId=agent, nextToken=wrong)
        assert answer.wrong_fields == ["nextToken"]


def test_an_unknown_agent_is_not_found(caller):
    assert put(caller, "nobody-made-this").error == "ResourceNotFoundException"
    caller.refused("ListAuthorizers", 404, "ResourceNotFoundException", agentId="nobody-made-this")


def test_d9_an_agent_made_anew_has_none_of_the_authorizers_before(caller, agent):
    assert put(caller, agent).status == 200
    caller.ok("DeleteWorkloadIdentity", name=agent)
    caller.refused("GetAuthorizer", 404, "ResourceNotFoundException", agentId=agent, name="people")
    make_workload(caller, agent)
    assert caller.ok("ListAuthorizers", agentId=agent)["authorizers"] == []
    assert put(caller, agent).json == {"version": 1}


def test_an_agent_has_ten_authorizers_at_most(caller, agent):
    for number in range(10):
        assert put(caller, agent, f"rule-{number}").status == 200
    answer = put(caller, agent, "one-more")
    assert (answer.status, answer.error) == (402, "ServiceQuotaExceededException"), answer
    assert put(caller, agent, "rule-3").json == {"version": 2}, "replacing needs no place"


@pytest.mark.parametrize(
    ("rule", "passes", "refused"),
    [
        (claim("group", "STRING", "EQUALS", "staff"), ["staff"], ["staff guest", "staf", ["staff"], 7, None, {"staff": 1}]),
        (claim("group", "STRING", "CONTAINS", "staff"), ["staff", "guest staff"], ["nonstaff", "staffs", ["staff"], None]),
        (claim("group", "STRING_ARRAY", "CONTAINS", "b"), [["a", "b"]], [["a"], [], "b", ["b", 1], None]),
        (claim("group", "STRING_ARRAY", "CONTAINS_ANY", ["b", "c"]), [["c"], ["a", "b"]], [["a"], ["b c"], "b", None]),
    ],
    ids=["equals", "a word", "a member", "one of several"],
)  # fmt: skip
def test_a_claim_must_say_what_the_rule_says_and_in_its_form(caller, vendor, agent, rule, passes, refused):
    assert put(caller, agent, rules={"discoveryUrl": vendor.discovery_url, "customClaims": [rule]}).status == 200
    for value, status in [(it, 200) for it in passes] + [(it, 401) for it in refused]:
        assert token_for(caller, agent, vendor.make_jwt("ada", group=value)).status == status, value


def test_all_claims_must_hold_and_those_that_decide_anyway_can_be_compared_too(caller, vendor, agent):
    claims = [claim("client_id", "STRING", "EQUALS", "agent-front-end"), claim("tid", "STRING", "EQUALS", "tenant-1")]
    assert put(caller, agent, rules={"discoveryUrl": vendor.discovery_url, "customClaims": claims}).status == 200
    assert token_for(caller, agent, vendor.make_jwt("ada", tid="tenant-1")).status == 200
    assert token_for(caller, agent, vendor.make_jwt("ada", tid="tenant-2")).status == 401
    assert token_for(caller, agent, vendor.make_jwt("ada", tid="tenant-1", client_id="other")).status == 401


def test_what_awss_shape_has_besides_is_kept_and_never_opens_anything(caller, vendor, agent):
    rules = {
        "discoveryUrl": vendor.issuer + "/.well-known/oauth-authorization-server",
        "allowedScopes": ["chat.write"],
        "advertisedScopeMapping": {"chat.write": "api://agents/chat.write"},
    }
    assert put(caller, agent, rules=rules).status == 200
    assert caller.ok("GetAuthorizer", agentId=agent, name="people")["authorizerConfiguration"]["customJWTAuthorizer"] == rules
    jwt = vendor.make_jwt("ada", scope="chat.write")
    assert token_for(caller, agent, jwt).status == 200, "an issuer by its RFC 8414 metadata"
    assert token_for(caller, agent, vendor.make_jwt("ada", scope="api://agents/chat.write")).status == 401
    rules |= {"allowedWorkloadConfiguration": {"workloadIdentities": [agent]}}
    assert put(caller, agent, rules=rules).status == 200
    assert caller.ok("GetAuthorizer", agentId=agent, name="people")["authorizerConfiguration"]["customJWTAuthorizer"] == rules
    assert token_for(caller, agent, jwt).status == 401, "no user's token proves a workload"


def test_d10_users_of_an_issuer_are_known_by_one_claim_for_ever(caller, vendor, agent, fresh):
    url = f"https://{fresh('issuer')}.example/.well-known/openid-configuration"
    rules = {"discoveryUrl": url, "allowedAudience": ["agents"]}
    assert put(caller, agent, rules=rules, options={"subjectClaim": "oid"}).status == 200
    assert caller.ok("GetAuthorizer", agentId=agent, name="people")["subjectClaim"] == "oid"
    caller.ok("DeleteAuthorizer", agentId=agent, name="people")
    other = make_workload(caller, fresh("other-agent"))
    answer = put(caller, other, rules=rules, options={"subjectClaim": "sub"})
    assert (answer.status, answer.wrong_fields) == (400, ["options.subjectClaim"])
    assert "known by" in answer.message and "`oid`" in answer.message
    assert put(caller, other, rules=rules).status == 200
    assert caller.ok("GetAuthorizer", agentId=other, name="people")["subjectClaim"] == "oid"


@pytest.fixture(scope="module")
def things(caller):
    workload = make_workload(caller, "agent-of-the-requests")
    assert put(caller, workload, "kept").status == 200
    return {"workload": workload, "authorizer": "kept"}


def test_every_operation_of_ours_is_covered():
    assert {operation for operation, _ in OWN_REQUESTS} == set(model.OWN_OPERATIONS)
    assert len(CASES) > 100


@pytest.mark.parametrize(("operation", "label"), OWN_REQUESTS, ids=lambda text: text or "-")
def test_the_request_is_accepted_before_it_is_broken(caller, things, operation, label):
    if operation == "DeleteAuthorizer":
        assert put(caller, things["workload"], "doomed").status == 200
        things = things | {"authorizer": "doomed"}
    answer = caller.raw(operation, encoded(OWN_REQUESTS[operation, label], things))
    assert answer.status == model.success_status(operation), answer


@pytest.mark.parametrize(("operation", "violation"), CASES)
def test_a_broken_request_is_refused_and_the_field_is_named(caller, things, operation, violation):
    answer = caller.raw(operation, encoded(violation.request, things))
    assert (answer.status, answer.error) == (400, "ValidationException"), f"{violation.what}: {answer}"
    assert answer.json["reason"] == "FieldValidationFailed"
    named = [name for field in answer.wrong_fields for name in field.replace("[", ".").split(".")]
    assert violation.member in named, f"{violation.what}: names {answer.wrong_fields}"


@pytest.mark.parametrize("member", UNSUPPORTED)
def test_a_member_that_is_not_supported_is_refused_and_not_left_out(caller, agent, member):
    answer = put(caller, agent, rules=RULES | {member: UNSUPPORTED[member]})
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert answer.wrong_fields == [f"authorizerConfiguration.customJWTAuthorizer.{member}"]
    assert "not supported" in answer.message


@pytest.mark.parametrize(
    ("rules", "options", "field"),
    [
        ({"allowedAudiences": ["x"]}, {}, "authorizerConfiguration.customJWTAuthorizer.allowedAudiences"),
        ({}, {"introspection": {}}, "options.introspection.clientSecret"),
        ({}, {"introspection": INTROSPECTION | {"scope": "x"}}, "options.introspection.scope"),
        ({}, {"introspection": INTROSPECTION | {"endpoint": "https://u:p@login.example.com/introspect"}}, "endpoint"),
        ({}, {"introspection": INTROSPECTION | {"endpoint": "https://login.example.com/introspect?x=y"}}, "endpoint"),
        ({}, {"introspection": INTROSPECTION | {"endpoint": "ftp://login.example.com/introspect"}}, "endpoint"),
        ({}, {"introspection": INTROSPECTION | {"clientAuthentication": "private_key_jwt"}}, "clientAuthentication"),
        ({}, {"leeway": 5}, "options.leeway"),
        ({}, {"algorithms": ["HS256"]}, "options.algorithms[0]"),
        ({}, {"algorithms": ["none"]}, "options.algorithms[0]"),
        ({}, {"maxTokenAgeSeconds": 0}, "options.maxTokenAgeSeconds"),
        ({}, {"leewaySeconds": 301}, "options.leewaySeconds"),
        ({}, {"subjectClaim": "two words"}, "options.subjectClaim"),
        ({}, {"issueWorkloadAccessToken": "yes"}, "options.issueWorkloadAccessToken"),
        ({"advertisedScopeMapping": {"chat.write": "chat"}}, {}, "advertisedScopeMapping"),
        ({"customClaims": [claim("a", "STRING", "CONTAINS_ANY", ["x"])]}, {}, "claimMatchOperator"),
        ({"customClaims": [claim("a", "STRING_ARRAY", "EQUALS", "x")]}, {}, "claimMatchOperator"),
        ({"customClaims": [claim("a", "STRING", "EQUALS", ["x"])]}, {}, "claimMatchValue"),
        ({"customClaims": [claim("a", "STRING_ARRAY", "CONTAINS_ANY", "x")]}, {}, "claimMatchValue"),
        ({"customClaims": [claim("a", "STRING", "EQUALS", "two words")]}, {}, "matchValueString"),
        ({"discoveryUrl": "https://login.example.com/a/.well-known/openid-configuration/b"}, {}, "discoveryUrl"),
        ({"discoveryUrl": "https://u@login.example.com/.well-known/openid-configuration"}, {}, "discoveryUrl"),
        ({"discoveryUrl": "ftp://login.example.com/.well-known/openid-configuration"}, {}, "discoveryUrl"),
        ({"discoveryUrl": "/.well-known/openid-configuration"}, {}, "discoveryUrl"),
    ],
)  # fmt: skip
def test_a_member_that_is_misspelt_or_unusable_is_refused(caller, agent, rules, options, field):
    answer = put(caller, agent, rules=RULES | rules, options=options)
    assert (answer.status, answer.error) == (400, "ValidationException"), answer
    assert [name for name in answer.wrong_fields if name.endswith(field)], answer.wrong_fields


def test_d4_an_issuer_alone_is_not_enough(caller, agent):
    answer = put(caller, agent, rules={"discoveryUrl": DISCOVERY_URL})
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert answer.wrong_fields == ["authorizerConfiguration.customJWTAuthorizer"]
    for rule in ("allowedAudience", "allowedClients", "allowedScopes"):
        assert put(caller, agent, rules={"discoveryUrl": DISCOVERY_URL, rule: ["x"]}).status == 200
    claims = [claim("group", "STRING", "EQUALS", "staff")]
    assert put(caller, agent, rules={"discoveryUrl": DISCOVERY_URL, "customClaims": claims}).status == 200
    workloads = {"allowedWorkloadConfiguration": {"workloadIdentities": ["caller"]}}
    assert put(caller, agent, rules={"discoveryUrl": DISCOVERY_URL} | workloads).status == 400, "no rule on the token"


def members_of(operation, agent):
    if operation in model.BAN_OPERATIONS:
        return {"agentId": agent, "userId": "nobody"}
    members = {"agentId": agent} | ({} if operation == "ListAuthorizers" else {"name": "people"})
    if operation == "PutAuthorizer":
        members["authorizerConfiguration"] = {"customJWTAuthorizer": RULES}
    return members


def denied(caller, operation, agent):
    answer = caller.refused(operation, 403, "AccessDeniedException", **members_of(operation, agent))
    assert operation in answer.message
    return answer


@pytest.mark.parametrize("operation", model.OWN_OPERATIONS)
def test_d1_without_the_role_of_an_administrator_every_operation_is_denied(principal, agent, operation):
    denied(principal(), operation, agent)
    denied(principal("mint-jwt,mint-userid,use,read"), operation, agent)
    denied(principal("admin operation=*Workload*"), operation, agent)


@pytest.mark.parametrize("operation", model.OWN_OPERATIONS)
def test_d1_an_administrator_of_one_agent_may_not_touch_anothers(caller, principal, agent, fresh, operation):
    own = make_workload(caller, fresh("own-agent"))
    assert put(caller, own).status == put(caller, agent).status == 200
    admin = principal(f"admin workload={own}")
    foreign = denied(admin, operation, agent)
    unknown = denied(admin, operation, "nobody-made-this")
    assert foreign.message.replace(agent, "N") == unknown.message.replace("nobody-made-this", "N")
    admin.ok(operation, **members_of(operation, own))


def test_d4_an_agent_with_authorizers_takes_tokens_that_one_of_them_lets_pass(caller, vendor, agent):
    front_end = "https://agents.example.com"
    genuine, other_audience = vendor.make_jwt("ada"), vendor.make_jwt("ada", aud="https://elsewhere.example.com")
    # Without a rule, and without a trusted issuer, embedded mode on loopback takes any issuer's.
    assert token_for(caller, agent, genuine).status == token_for(caller, agent, other_audience).status == 200
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": [front_end]}
    assert put(caller, agent, rules=rules | {"allowedClients": ["agent-front-end"]}).status == 200
    assert token_for(caller, agent, genuine).status == 200
    for refused in (
        other_audience,
        vendor.make_jwt("ada", aud=None),
        vendor.make_jwt("ada", client_id="another-client"),
        vendor.make_jwt("ada", client_id=None, azp="agent-front-end"),
        vendor.make_jwt("ada", exp=1_700_000_000),
        vendor.make_jwt("ada", iss="http://127.0.0.1:9"),
    ):
        answer = token_for(caller, agent, refused)
        assert (answer.status, answer.error) == (401, "UnauthorizedException"), answer
    needs_scope = rules | {"allowedScopes": ["chat.write", "profile"]}
    assert put(caller, agent, rules=needs_scope).status == 200
    assert token_for(caller, agent, vendor.make_jwt("ada", scope="profile")).status == 401
    assert token_for(caller, agent, vendor.make_jwt("ada", scope="profile chat.write extra")).status == 200
    assert put(caller, agent, "others", {"discoveryUrl": vendor.discovery_url, "allowedClients": ["x"]}).status == 200
    assert token_for(caller, agent, vendor.make_jwt("ada", client_id="x")).status == 200, "one of them is enough"


def test_options_hold_for_real_tokens(caller, vendor, agent):
    rules = {"discoveryUrl": vendor.discovery_url, "allowedClients": ["agent-front-end"]}
    by_azp = vendor.make_jwt("ada", client_id=None, azp="agent-front-end")
    for options, jwt, status in (
        ({}, by_azp, 401),
        ({"azpAsClient": True}, by_azp, 200),
        ({"requiredTyp": "JWT"}, vendor.make_jwt("ada"), 401),
        ({"requiredTyp": "at+jwt"}, vendor.make_jwt("ada"), 200),
        ({"algorithms": ["ES256"]}, vendor.make_jwt("ada"), 401),
        ({"algorithms": ["RS256"]}, vendor.make_jwt("ada"), 200),
        ({"maxTokenAgeSeconds": 3600}, vendor.make_jwt("ada", iat=None), 401),
        ({"maxTokenAgeSeconds": 3600}, vendor.make_jwt("ada"), 200),
    ):
        assert put(caller, agent, rules=rules, options=options).status == 200
        assert token_for(caller, agent, jwt).status == status, options


def test_boto3_knows_the_operations_by_the_models_that_are_committed(server, agent, monkeypatch):
    monkeypatch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
    key = server.credentials()
    client = boto3.session.Session(
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region
    ).client(model.CONTROL, endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))
    configuration = {"customJWTAuthorizer": RULES}
    made = client.put_authorizer(agentId=agent, name="people", authorizerConfiguration=configuration)
    assert made["version"] == 1
    got = client.get_authorizer(agentId=agent, name="people")
    assert got["authorizerConfiguration"] == configuration and got["createdTime"].year >= 2026
    assert [item["name"] for item in client.list_authorizers(agentId=agent)["authorizers"]] == ["people"]
    client.delete_authorizer(agentId=agent, name="people")
    with pytest.raises(ClientError) as refused:
        client.get_authorizer(agentId=agent, name="people")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert client.list_workload_identities()["workloadIdentities"], "AWS's operations are still there"
