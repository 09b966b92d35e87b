"""`agent-identity authorizer`: presets, configurations, and why a token does not pass."""

import json
import time

import pytest

from harness import planted
from harness.product import command
from harness.stories import make_workload, sign_in, workload_token_for_jwt

GUID = "aaaabbbb-0000-cccc-1111-dddd2222eeee"


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


@pytest.fixture
def agent(caller, fresh):
    return make_workload(caller, fresh("agent"))


@pytest.fixture
def run(server, vendor):
    def call(*arguments, expect=0, stdin=None):
        data = ("--data", str(server.data))
        reach = ("--allow-egress", vendor.address) if arguments[0] in ("put", "check") else ()
        return command("authorizer", *arguments, *data, *reach, expect=expect, stdin=stdin)

    return call


def claim(name, value):
    return {
        "inboundTokenClaimName": name,
        "inboundTokenClaimValueType": "STRING",
        "authorizingClaimMatchValue": {"claimMatchValue": {"matchValueString": value}, "claimMatchOperator": "EQUALS"},
    }


PRESETS = {
    "cognito": (
        ["--region", "eu-west-1", "--user-pool", "eu-west-1_AbCdEfGhI", "--client", "one", "--client", "two"],
        {
            "discoveryUrl": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI/.well-known/openid-configuration",
            "allowedClients": ["one", "two"],
            "customClaims": [claim("token_use", "access")],
        },
        {},
    ),
    "okta": (
        ["--domain", "dev-123.okta.com", "--audience", "api://default", "--client", "0oa1"],
        {
            "discoveryUrl": "https://dev-123.okta.com/oauth2/default/.well-known/openid-configuration",
            "allowedAudience": ["api://default"],
            "customClaims": [claim("cid", "0oa1")],
        },
        {"subjectClaim": "uid"},
    ),
    "entra": (
        ["--tenant", GUID, "--audience", "api", "--client", "front-end", "--scope", "access_as_user"],
        {
            "discoveryUrl": f"https://login.microsoftonline.com/{GUID}/v2.0/.well-known/openid-configuration",
            "allowedAudience": ["api"],
            "allowedScopes": ["access_as_user"],
            "customClaims": [claim("tid", GUID), claim("azp", "front-end")],
        },
        {"subjectClaim": "oid"},
    ),
    "entra v1": (
        ["--tenant", GUID, "--entra-version", "v1", "--audience", "api://x", "--client", "front-end"],
        {
            "discoveryUrl": f"https://sts.windows.net/{GUID}/.well-known/openid-configuration",
            "allowedAudience": ["api://x"],
            "customClaims": [claim("tid", GUID), claim("appid", "front-end")],
        },
        {"subjectClaim": "oid"},
    ),
    "auth0": (
        ["--domain", "example.eu.auth0.com", "--audience", "https://agents", "--client", "one"],
        {
            "discoveryUrl": "https://example.eu.auth0.com/.well-known/openid-configuration",
            "allowedAudience": ["https://agents"],
            "allowedClients": ["one"],
        },
        {"azpAsClient": True},
    ),
    "oidc": (
        ["--issuer", "https://idp.example/realms/x/", "--audience", "agents"],
        {
            "discoveryUrl": "https://idp.example/realms/x/.well-known/openid-configuration",
            "allowedAudience": ["agents"],
        },
        {},
    ),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_an_ordinary_authorizer(caller, run, agent, preset):
    flags, configuration, options = PRESETS[preset]
    done = run("put", agent, "--preset", preset.split()[0], *flags)
    assert done.stdout == f"stored the authorizer main of {agent}, version 1; it holds within 30 seconds\n"
    got = caller.ok("GetAuthorizer", agentId=agent, name="main")
    assert got["authorizerConfiguration"] == {"customJWTAuthorizer": configuration}
    assert got["options"] == options and got["subjectClaim"] == options.get("subjectClaim", "sub")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--preset", "cognito", "--region", "eu-west-1", "--user-pool", "eu-west-1_x"], "--client is needed"),
        (["--preset", "cognito", "--user-pool", "eu-west-1_x", "--client", "c"], "--region is needed"),
        (
            ["--preset", "cognito", "--region", "eu-west-1", "--user-pool", "eu-west-1_x", "--client", "c", "--audience", "a"],
            "access tokens of Cognito have no audience",
        ),
        (["--preset", "okta", "--domain", "a.okta.com", "--audience", "a", "--tenant", GUID], "--tenant is not for this"),
        (["--preset", "okta", "--domain", "a.okta.com", "--audience", "a", "--client", "b", "--client", "c"], "one --client"),
        (["--preset", "entra", "--tenant", "common", "--audience", "a", "--client", "b"], "neither a domain nor `common`"),
        (["--preset", "entra", "--tenant", GUID, "--audience", "a"], "--client or --scope"),
        (["--preset", "oidc", "--issuer", "https://idp.example"], "an issuer is not enough"),
        (["--config", "{"], "not JSON"),
        (["--config", "no-such-file.json"], "--config must name a file"),
        (["--config", '{"discoveryUrl": "https://a.example/.well-known/openid-configuration"}'], "at least one of"),
    ],
)  # fmt: skip
def test_what_makes_no_authorizer_is_said(run, agent, flags, said):
    done = run("put", agent, *flags, expect=1)
    assert done.stdout == "" and done.stderr.startswith("error: ") and said in done.stderr, done.stderr


def test_one_of_the_two_is_needed(run, agent):
    run("put", agent, expect=2)
    run("put", agent, "--preset", "oidc", "--config", "{}", expect=2)


def test_a_configuration_is_taken_as_aws_writes_it_and_as_the_operation_takes_it(run, agent, tmp_path, vendor):
    rules = {"discoveryUrl": vendor.discovery_url, "allowedAudience": ["agents"]}
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"authorizerConfiguration": {"customJWTAuthorizer": rules}, "options": {"azpAsClient": True}}))
    for number, (config, stdin) in enumerate([
        (json.dumps(rules), None), (json.dumps({"customJWTAuthorizer": rules}), None), (str(file), None),
        ("-", json.dumps(rules)),
    ], 1):  # fmt: skip
        done = run("put", agent, "--name", "main", "--config", config, "--json", stdin=stdin)
        assert json.loads(done.stdout) == {"agentId": agent, "name": "main", "version": number}
        got = json.loads(run("get", agent, "--json").stdout)
        assert got["authorizerConfiguration"] == {"customJWTAuthorizer": rules}
        assert got["options"] == ({"azpAsClient": True} if number == 3 else {})
    assert json.loads(run("get", agent).stdout) == got
    listed = run("list", agent).stdout
    assert listed == f"""\
+------------+---------+------------------------+----------+-----------------+
| authorizer | version | issuer                 | users by | rules           |
+============================================================================+
| main       | 4       | {vendor.issuer:<22} | sub      | allowedAudience |
+------------+---------+------------------------+----------+-----------------+
"""
    assert [it["name"] for it in json.loads(run("list", agent, "--json").stdout)] == ["main"]
    assert run("delete", agent, "--name", "main").stdout == f"deleted the authorizer main of {agent}, within 30 seconds\n"
    assert "has no authorizer named `main`" in run("delete", agent, "--name", "main", expect=1).stderr


def test_the_presets_say_what_they_take(run):
    shown = command("authorizer", "presets").stdout
    listed = json.loads(command("authorizer", "presets", "--json").stdout)
    assert [it["name"] for it in listed] == ["cognito", "okta", "entra", "auth0", "oidc"]
    assert all(f"| {it['name']} " in shown and it["traps"] for it in listed)


@pytest.fixture
def check(run, tmp_path):
    def call(agent, jwt, *arguments, expect=0):
        file = tmp_path / "token"
        file.write_text(jwt + "\n")
        return run("check", agent, "--token", str(file), *arguments, expect=expect).stdout

    return call


@pytest.fixture
def ruled(run, agent, vendor):
    """An agent with two authorizers."""
    rules = {
        "discoveryUrl": vendor.discovery_url, "allowedAudience": ["https://agents.example.com"],
        "allowedClients": ["agent-front-end"], "allowedScopes": ["chat"], "customClaims": [claim("group", "staff")],
    }  # fmt: skip
    run("put", agent, "--config", json.dumps(rules))
    other = {"discoveryUrl": "https://idp.example/.well-known/openid-configuration", "allowedAudience": ["x"]}
    run("put", agent, "--name", "other", "--config", json.dumps(other))
    return agent


def test_a_token_is_explained_rule_by_rule(vendor, ruled, check):
    user = f"sub `ada` of {vendor.issuer}"
    passing = check(ruled, vendor.make_jwt("ada", scope="chat", group="staff"))
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in passing.splitlines() if line.startswith("| ")] == [
        ["authorizer", "rule", "holds", "why"],
        ["main", "token", "yes", user],
        ["main", "allowedAudience", "yes", ""],
        ["main", "allowedClients", "yes", ""],
        ["main", "allowedScopes", "yes", ""],
        ["main", "customClaims group", "yes", ""],
        ["other", "token", "no", "its issuer is not trusted here (issuer)"],
    ]
    assert passing.endswith("the token passes\n")
    failing = check(ruled, vendor.make_jwt("ada", client_id="evil", group=["staff"], scope="chat"), expect=1)
    assert "| no    | its client is none that the authorizer allows" in failing
    assert "| no    | a claim that the authorizer asks for is missing, of another form, or says something else" in failing
    assert failing.endswith("the token does not pass\n")


def test_the_explanation_as_json(vendor, ruled, check):
    jwt = vendor.make_jwt("ada", scope="other", group="staff", exp=int(time.time()) + 100)
    shown = json.loads(check(ruled, jwt, "--json", expect=1))
    assert (shown["agentId"], shown["passes"]) == (ruled, False)
    main, other = shown["authorizers"]
    assert main["token"]["holds"] and main["token"]["subject"] == "ada" and main["token"]["issuer"] == vendor.issuer
    assert {it["rule"]: it.get("code") for it in main["rules"]} == {
        "allowedAudience": None, "allowedClients": None, "allowedScopes": "scope", "customClaims group": None,
    }  # fmt: skip
    assert other["token"] == {"holds": False, "code": "issuer", "reason": "its issuer is not trusted here"}
    expired = json.loads(check(ruled, vendor.make_jwt("ada", exp=1_700_000_000), "--json", expect=1))
    assert expired["authorizers"][0]["token"]["code"] == "expired"


def test_what_is_explained_is_what_is_decided(caller, vendor, ruled, check):
    for claims in ({}, {"scope": "chat"}, {"scope": "chat", "group": "staff"}, {"scope": "chat", "group": "staff", "aud": "x"}):
        jwt = vendor.make_jwt("ada", **claims)
        decided = caller.call("GetWorkloadAccessTokenForJWT", workloadName=ruled, userToken=jwt)
        if decided.status == 200:
            planted.plant(decided.json["workloadAccessToken"], "workload access token")
        passes = json.loads(check(ruled, jwt, "--json", expect=0 if decided.status == 200 else 1))["passes"]
        assert passes is (decided.status == 200), claims


def test_a_token_comes_from_stdin_with_or_without_its_scheme_and_never_from_the_command_line(run, vendor, ruled):
    jwt = vendor.make_jwt("ada", scope="chat", group="staff")
    for text in (jwt, f"Bearer {jwt}\n"):
        assert run("check", ruled, "--token", "-", stdin=text).stdout.endswith("the token passes\n")
    run("check", ruled, "--token", "-", stdin=f"{jwt} {jwt}", expect=1)
    # A token in the place of the file is not repeated.
    done = run("check", ruled, "--token", "aaaa.bbbb.cccc", expect=1)
    assert "must name a file" in done.stderr and "bbbb" not in done.stdout + done.stderr


def test_an_agent_without_authorizers_lets_nobody_pass(run, vendor, agent, check, caller):
    assert f"{agent} has no authorizer" in check(agent, vendor.make_jwt("ada"), expect=1)
    assert "no workload identity named" in run("check", "nobody-made-this", "--token", "-", stdin="x", expect=1).stderr
    workload_token_for_jwt(caller, agent, vendor.make_jwt("ada"))


@pytest.fixture
def asker(vendor, fresh, tmp_path):
    """A client that may ask the issuer about tokens: the flags for it, with its secret in a file."""
    client, secret = fresh("agents"), planted.new_secret("client secret")
    vendor.register_client(client, client_secret=secret)
    file = tmp_path / "client-secret"
    file.write_text(secret + "\n")
    flags = ["--introspection-endpoint", f"{vendor.issuer}/token/introspection", "--introspection-client", client]
    return flags, file, secret


def test_the_secret_of_the_client_that_asks_comes_from_a_file_or_stdin(run, agent, vendor, asker, tmp_path, check):
    flags, file, secret = asker
    preset = ["--preset", "oidc", "--issuer", vendor.issuer, "--client", "front-end-of-the-cli"]
    kept = {"endpoint": flags[1], "clientId": flags[3], "clientAuthentication": "client_secret_basic"}
    config = tmp_path / "config.json"
    rules = {"discoveryUrl": vendor.discovery_url, "allowedClients": ["front-end-of-the-cli"]}
    body = {"authorizerConfiguration": {"customJWTAuthorizer": rules}, "options": {"introspection": kept}}
    config.write_text(json.dumps(body))
    whole = json.dumps(body | {"options": {"introspection": kept | {"clientSecret": secret}}})
    for arguments, stdin in (
        ([*preset, *flags, "--introspection-secret", str(file)], None),
        ([*preset, *flags, "--introspection-secret", "-"], secret),
        (["--config", str(config), "--introspection-secret", str(file)], None),
        (["--config", "-"], whole),
    ):
        done = run("put", agent, *arguments, stdin=stdin)
        assert done.stdout.startswith("stored the authorizer main")
        shown = run("get", agent).stdout
        assert json.loads(shown)["options"]["introspection"] == kept and secret not in shown
    token = sign_in(vendor, "ada", resource=None, client="front-end-of-the-cli")["access_token"]
    assert check(agent, token).endswith("the token passes\n")
    other = sign_in(vendor, "ada", resource=None, client="another-of-the-cli")["access_token"]
    assert "its client is none that the authorizer allows" in check(agent, other, expect=1)
    assert "its issuer says that it is not active (inactive)" in check(agent, "nobody-has-issued-this", expect=1)


def test_a_secret_on_the_command_line_is_not_taken(run, agent, vendor, asker, tmp_path):
    flags, file, secret = asker
    asks = {"endpoint": flags[1], "clientId": flags[3], "clientSecret": secret}
    rules = {"discoveryUrl": vendor.discovery_url, "allowedClients": ["x"]}
    body = json.dumps({"authorizerConfiguration": {"customJWTAuthorizer": rules}, "options": {"introspection": asks}})
    preset = ["--preset", "oidc", "--issuer", vendor.issuer, "--client", "x"]
    for arguments, code, said in (
        (["--config", body], 1, "other users of the machine see command lines"),
        ([*preset, *flags, "--introspection-secret", secret], 1, "--introspection-secret must name a file"),
        ([*preset, "--introspection-secret", str(file)], 1, "needs an --introspection-endpoint"),
        ([*preset, *flags], 2, "--introspection-secret"),
        (["--config", "-", "--introspection-secret", "-"], 1, "cannot both be stdin"),
    ):
        done = run("put", agent, *arguments, expect=code, stdin=json.dumps(rules))
        assert said in done.stderr and secret not in done.stdout + done.stderr
