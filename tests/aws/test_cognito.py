"""Users of a Cognito user pool, which is moto's: the preset, the authorizer, and workload access tokens by their tokens."""

import base64
import json

import pytest

from harness import planted
from harness.cognito import Cognito
from harness.functions import Functions, Instance
from harness.places import BOOTSTRAPS, REPOSITORY
from harness.product import command

METHOD_ARN = "arn:aws:execute-api:us-east-1:123456789012:testapi/prod/GET/orders/1"
TICK = REPOSITORY / "infra" / "events" / "refresh-schedule.json"
BLOCKED = (403, "AccessDeniedException")


@pytest.fixture(scope="module")
def cognito():
    running = Cognito()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def functions(cognito):
    running = Functions((), dict(cognito.environment)).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def caller(functions):
    made = functions.caller()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool(cognito):
    return cognito.make_pool()


@pytest.fixture(scope="module")
def client(pool):
    return pool.make_client()


@pytest.fixture(scope="module")
def ada(pool):
    return pool.make_user("ada")


@pytest.fixture(scope="module")
def tokens(pool, client, ada):
    return pool.sign_in(client, *ada)


@pytest.fixture(scope="module")
def agent(functions, caller, pool, client, fresh):
    """An agent for users of the pool's one app, by the preset."""
    name = fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    command(
        "authorizer", "put", name, "--preset", "cognito", "--region", "us-east-1", "--user-pool", pool.id, "--client", client,
        "--store", "dynamodb", "--json",
        binary=BOOTSTRAPS / "agent-identity", **functions.environment,
    )  # fmt: skip
    return name


def authorizer(functions, agent, **changes):
    """A new process of the function; a variable that is None is not there."""
    wanted = ("AWS_", "AGENT_IDENTITY_TABLE", "AGENT_IDENTITY_EXTRA_CA_FILE", "LD_PRELOAD", "ROUTE")
    given = {name: value for name, value in functions.environment.items() if name.startswith(wanted)}
    given = given | {"AGENT_IDENTITY_AGENT": agent} | changes
    return Instance("authorizer", {name: value for name, value in given.items() if value is not None})


def verdicts(functions, agent, *tokens, **changes):
    """What API Gateway does with each token, asked of one new process."""
    instance = authorizer(functions, agent, **changes)
    try:
        return [verdict(instance.invoke(event(token))) for token in tokens]
    finally:
        instance.stop()


def event(token):
    return {"type": "TOKEN", "methodArn": METHOD_ARN, "authorizationToken": f"Bearer {token}"}


def verdict(answer):
    if "errorMessage" in answer:
        return answer["errorMessage"]
    return answer["policyDocument"]["Statement"][0]["Effect"]


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def ask(caller, agent, token):
    answer = caller.call("GetWorkloadAccessTokenForJWT", workloadName=agent, userToken=token)
    if answer.status == 200:
        planted.plant(answer.json["workloadAccessToken"], "workload access token")
    return answer


def test_moto_writes_tokens_as_cognito_does(tokens, pool, client):
    """D25: what the preset is there for."""
    access, of_id = claims(tokens["AccessToken"]), claims(tokens["IdToken"])
    assert (access["iss"], access["client_id"], access["token_use"]) == (pool.issuer, client, "access")
    assert "aud" not in access
    assert (of_id["iss"], of_id["aud"], of_id["token_use"]) == (pool.issuer, client, "id")


def test_d25_an_access_token_passes_and_an_id_token_does_not(functions, agent, tokens):
    assert verdicts(functions, agent, tokens["AccessToken"], tokens["IdToken"]) == ["Allow", "Deny"]


def test_the_session_says_who_by_which_client(functions, agent, tokens, pool, client):
    instance = authorizer(functions, agent)
    try:
        context = instance.invoke(event(tokens["AccessToken"]))["context"]
    finally:
        instance.stop()
    subject = claims(tokens["AccessToken"])["sub"]
    assert (context["agentId"], context["issuer"], context["subject"]) == (agent, pool.issuer, subject)
    assert context["clientId"] == client


def test_an_access_token_of_another_client_or_another_pool_does_not_pass(functions, agent, pool, cognito, ada):
    of_another_client = pool.sign_in(pool.make_client(), *ada)["AccessToken"]
    other = cognito.make_pool()
    of_another_pool = other.sign_in(other.make_client(), *other.make_user("ada"))["AccessToken"]
    assert verdicts(functions, agent, of_another_client, of_another_pool) == ["Deny", "Unauthorized"]


def test_a_workload_access_token_is_had_by_the_access_token_alone(caller, agent, tokens, pool, ada):
    assert ask(caller, agent, tokens["AccessToken"]).status == 200
    for refused in (tokens["IdToken"], pool.sign_in(pool.make_client(), *ada)["AccessToken"]):
        assert ask(caller, agent, refused).status in (401, 403)


def test_d15_a_banned_user_is_refused_and_nobody_else(functions, caller, agent, pool, client, tokens):
    bob = pool.sign_in(client, *pool.make_user("bob"))["AccessToken"]
    who = {"issuer": pool.issuer, "subject": claims(bob)["sub"], "agentId": agent}
    caller.ok("BlockUser", **who)
    assert verdicts(functions, agent, bob, tokens["AccessToken"]) == ["Deny", "Allow"]
    answer = ask(caller, agent, bob)
    assert (answer.status, answer.error) == BLOCKED
    caller.ok("UnblockUser", **who)
    assert verdicts(functions, agent, bob) == ["Allow"]


def test_the_prefetch_brings_the_pools_keys_to_where_the_pool_cannot_be_reached(functions, agent, tokens):
    functions.pools["refresh"].invoke(json.loads(TICK.read_text()))
    without_a_way = {"LD_PRELOAD": None, "ROUTE": None}
    assert verdicts(functions, agent, tokens["AccessToken"], **without_a_way) == ["Allow"]
