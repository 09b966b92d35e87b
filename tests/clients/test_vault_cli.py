"""`agent-identity vault`: keys are rotated beside a running server, and what they have sealed is resealed."""

import json
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
