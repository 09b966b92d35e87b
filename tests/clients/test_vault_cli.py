"""`agent-identity vault`: keys are rotated beside a running server, and what they have sealed is resealed."""

import json
import sqlite3
import threading

import pytest

from harness import planted
from harness.product import command, create_access_key
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token

LASTING = ["vault", "secret", "access-key"]


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


def vault(server, name):
    return command("vault", name, "--data", str(server.data), "--json")


def versions(server):
    return {key["purpose"]: key["versions"] for key in json.loads(vault(server, "show").stdout)["keys"]}


def test_no_read_fails_while_keys_are_rotated_and_resealed(server, caller, vendor, app, fresh):
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    user = fresh("user")
    connected_user(caller, agent, provider, user, app.return_url)
    wat = workload_token(caller, agent, user)
    token = planted.plant(stored_token(caller, wat, provider).json["accessToken"], "access token")
    key = create_access_key(server.data, fresh("admin"), "admin")
    answers, stop = [], threading.Event()

    def read():
        reader = server.caller()
        while not stop.is_set():
            answers.append(stored_token(reader, wat, provider))
        reader.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            before = versions(server)
            made = {it["purpose"]: it["version"] for it in json.loads(vault(server, "rotate").stdout)["current"]}
            assert list(made) == LASTING
            assert all(versions(server)[purpose] == [*before[purpose], made[purpose]] for purpose in LASTING)
            swept = vault(server, "reseal")
            counted = json.loads(swept.stdout)
            assert counted["resealed"] >= 2 and counted["left"] == 0, "the user's key, and access keys"
            assert f"{counted['resealed']} resealed so far" in swept.stderr
            assert json.loads(vault(server, "reseal").stdout) == {"resealed": 0, "lost": 0, "left": 0}
    finally:
        stop.set()
        reader.join()
    assert answers and all(answer.json.get("accessToken") == token for answer in answers), answers
    assert server.boto3("bedrock-agentcore-control", key).list_workload_identities()["workloadIdentities"]


def sealed_under(server):
    """Which version of the vault key has sealed each secret and signing key of the directory, as its first bytes say."""
    database = sqlite3.connect(f"file:{server.data / 'agent-identity.db'}?mode=ro", uri=True)
    tables = ("secrets", "external_secrets", "signing_keys")
    found = {table: [int.from_bytes(row[0][1:5]) for row in database.execute(f"SELECT sealed FROM {table}")] for table in tables}
    database.close()
    return found


def test_secrets_and_signing_keys_are_resealed_too(server, caller, app, fresh):
    key, theirs, agent = planted.new_secret("API key"), planted.new_secret("API key"), make_workload(caller, fresh("agent"), app.return_url)
    ours, external, signing = fresh("ours"), fresh("theirs"), fresh("signing")
    caller.ok("CreateApiKeyCredentialProvider", name=ours, apiKey=key)
    command("secrets", "put", external, "--data", str(server.data), stdin=json.dumps({"key": theirs}))
    caller.ok(
        "CreateApiKeyCredentialProvider", name=external, apiKeySecretSource="EXTERNAL",
        apiKeySecretConfig={"secretId": external, "jsonKey": "key"},
    )  # fmt: skip
    command("keys", "create", signing, "--alg", "ES256", "--data", str(server.data))
    made = {it["purpose"]: it["version"] for it in json.loads(vault(server, "rotate").stdout)["current"]}
    assert all(version < made["secret"] for versions in sealed_under(server).values() for version in versions)
    assert json.loads(vault(server, "reseal").stdout)["left"] == 0
    resealed = sealed_under(server)
    assert all(versions for versions in resealed.values()), "there are some of each"
    assert {version for versions in resealed.values() for version in versions} == {made["secret"]}
    # A process that has none of them in memory.
    assert server.stop() == 0
    server.start()
    reader = server.caller()
    wat = workload_token(reader, agent, fresh("user"))
    for name, expected in ((ours, key), (external, theirs)):
        answer = reader.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=name)
        assert answer["apiKey"] == expected
    reader.close()
