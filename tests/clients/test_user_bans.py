"""D15: a ban holds now, and not when tokens end."""

import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import model, planted
from harness.product import command, create_access_key
from harness.stories import make_workload, workload_token, workload_token_for_jwt


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


@pytest.fixture(scope="module")
def weather(caller, fresh):
    name = fresh("weather")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
    return name


@pytest.fixture
def agent(caller, fresh):
    return make_workload(caller, fresh("agent"))


@pytest.fixture
def user(fresh):
    return fresh("user")


@pytest.fixture
def use(caller, weather):
    def call(wat):
        return caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=weather)

    return call


def refusal(answer):
    return answer.status, answer.error, answer.message


BLOCKED = (403, "AccessDeniedException", "the user is blocked")
SIGNED_OUT = (401, "UnauthorizedException", "the user was signed out and must sign in again")


def test_d15_a_blocked_user_has_nothing_and_an_unblocked_one_everything(caller, agent, user, use):
    wat, others = workload_token(caller, agent, user), workload_token(caller, agent, f"not-{user}")
    alone = workload_token(caller, agent)
    assert caller.ok("BlockUser", userId=user) == {"blocked": True}
    assert refusal(use(wat)) == BLOCKED
    assert refusal(caller.call("GetWorkloadAccessTokenForUserId", workloadName=agent, userId=user)) == BLOCKED
    assert use(others).status == use(alone).status == 200
    assert caller.ok("BlockUser", userId=user) == {"blocked": True}, "again, and nothing more"
    assert caller.ok("UnblockUser", userId=user) == {"blocked": False}
    assert use(wat).status == 200


def test_d15_a_ban_for_one_agent_is_none_for_another(caller, agent, user, use, fresh):
    other = make_workload(caller, fresh("other-agent"))
    here, there = workload_token(caller, agent, user), workload_token(caller, other, user)
    caller.ok("BlockUser", agentId=agent, userId=user)
    assert refusal(use(here)) == BLOCKED
    assert use(there).status == 200
    caller.ok("UnblockUser", userId=user)
    assert refusal(use(here)) == BLOCKED, "the ban for all is another one"
    caller.refused("BlockUser", 404, "ResourceNotFoundException", agentId="nobody-made-this", userId=user)


def test_d15_a_signed_out_users_tokens_are_dead_and_a_new_sign_in_is_not(caller, agent, user, use):
    wat = workload_token(caller, agent, user)
    began = time.time()
    answer = caller.ok("SignOutUser", userId=user)
    assert answer["blocked"] is False and began - 1 <= answer["notBefore"] <= time.time() + 1
    assert refusal(use(wat)) == SIGNED_OUT
    again = workload_token(caller, agent, user)
    assert use(again).status == 200
    caller.ok("UnblockUser", userId=user)
    assert refusal(use(wat)) == SIGNED_OUT, "a sign-out is not taken back"


def test_d15_a_jwt_of_an_earlier_sign_in_opens_nothing_even_when_it_was_refreshed_since(caller, vendor, agent, user, use):
    def ask(**claims):
        answer = caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=vendor.make_jwt(user, **claims))
        if answer.status == 200:
            planted.plant(answer.json["workloadAccessToken"], "workload access token")
        return answer

    now = int(time.time())
    wat = workload_token_for_jwt(caller, agent, vendor.make_jwt(user, auth_time=now - 100))
    assert use(wat).status == 200
    answer = caller.ok("SignOutUser", issuer=vendor.issuer, subject=user)
    assert answer["subjectClaim"] == "sub"
    assert refusal(use(wat)) == SIGNED_OUT
    later = int(answer["notBefore"]) + 1
    for claims in ({"iat": now - 1}, {"iat": None}, {"iat": later, "auth_time": now - 100}, {"auth_time": "long ago"}):
        assert refusal(ask(**claims)) == SIGNED_OUT, claims
    assert ask(iat=now - 1, auth_time=later).status == ask(iat=later).status == 200


@pytest.mark.parametrize(("banned", "known"), [("", ""), ("/", "")])
def test_d15_the_last_slash_of_an_issuer_makes_no_other_user(caller, vendor, agent, user, banned, known):
    caller.ok("BlockUser", issuer=vendor.issuer + banned, subject=user)
    asked = caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=vendor.make_jwt(user))
    assert refusal(asked) == BLOCKED
    caller.ok("UnblockUser", issuer=vendor.issuer + known, subject=user)
    workload_token_for_jwt(caller, agent, vendor.make_jwt(user))


def test_d1_a_ban_for_all_agents_takes_a_grant_on_all(server, caller, agent, user, fresh):
    own = server.caller(create_access_key(server.data, fresh("own"), f"admin workload={agent}"))
    own.ok("BlockUser", agentId=agent, userId=user)
    for operation in model.BAN_OPERATIONS:
        answer = own.refused(operation, 403, "AccessDeniedException", userId=user)
        assert operation in answer.message and "all workload identities" in answer.message
    own.close()
    every = server.caller(create_access_key(server.data, fresh("every"), "admin"))
    every.ok("SignOutUser", userId=user)
    every.close()


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({}, ["issuer", "subject"]),
        ({"issuer": "https://a.example"}, ["subject"]),
        ({"subject": "ada"}, ["issuer"]),
        ({"userId": "ada", "subject": "ada"}, ["userId"]),
        ({"userId": "ada", "issuer": "https://a.example", "subject": "ada"}, ["userId"]),
    ],
)
def test_a_user_is_named_in_one_way(caller, members, wrong):
    for operation in model.BAN_OPERATIONS:
        assert caller.refused(operation, 400, "ValidationException", **members).wrong_fields == wrong


def test_boto3_knows_the_operations(server, agent, user, use, caller, monkeypatch):
    monkeypatch.setenv("AWS_DATA_PATH", str(model.OWN_MODELS))
    key = server.credentials()
    session = boto3.session.Session(
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key, region_name=key.region
    )
    settings = Config(retries={"total_max_attempts": 1})
    control = session.client(model.CONTROL, endpoint_url=server.url, config=settings)
    data = session.client(model.DATA, endpoint_url=server.url, config=settings)
    wat = workload_token(caller, agent, user)
    assert control.block_user(agentId=agent, userId=user)["blocked"] is True
    with pytest.raises(ClientError) as refused:
        data.get_workload_access_token_for_user_id(workloadName=agent, userId=user)
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert control.unblock_user(agentId=agent, userId=user)["blocked"] is False
    assert control.sign_out_user(userId=user)["notBefore"].year >= 2026
    assert refusal(use(wat)) == SIGNED_OUT


def test_d15_a_ban_by_the_command_line_holds_in_the_server_that_runs(server, caller, agent, user, use):
    wat = workload_token(caller, agent, user)
    assert use(wat).status == 200
    done = command("user", "block", "--user-id", user, "--agent", agent, "--data", str(server.data))
    assert done.stdout == f"the user is blocked for {agent}; it holds within 30 seconds\n"
    time.sleep(server.record_cache_seconds + 0.2)
    assert refusal(use(wat)) == BLOCKED
    shown = command("user", "unblock", "--user-id", user, "--agent", agent, "--json", "--data", str(server.data))
    assert '"blocked":false' in shown.stdout
    time.sleep(server.record_cache_seconds + 0.2)
    assert use(wat).status == 200
    known = command("user", "sign-out", "--issuer", "https://a.example/", "--subject", user, "--data", str(server.data))
    assert known.stdout == "the user, known by sub, is signed out for all agents; it holds within 30 seconds\n"
    command("user", "block", "--subject", user, "--data", str(server.data), expect=2)
    command("user", "block", "--agent", "nobody-made-this", "--user-id", user, "--data", str(server.data), expect=1)
