"""The CMK is changed while the deployment runs: no read fails, and the former key is needed no more afterwards."""

import threading

import pytest
from botocore.exceptions import ClientError

from harness import planted
from harness.stories import connected_user, make_user_provider, make_workload, stored_token, workload_token


def new_key(functions):
    return functions.client_of("kms").create_key()["KeyMetadata"]["Arn"]


@pytest.fixture
def changed(functions):
    """The deployment's own key, and another; afterwards it is as it was."""
    before = functions.environment["AGENT_IDENTITY_KMS_KEY_ID"]
    yield before, new_key(functions)
    functions.restart(AGENT_IDENTITY_KMS_KEY_ID=before, AGENT_IDENTITY_FORMER_KMS_KEY_IDS="")


def test_the_cmk_is_changed_while_reads_go_on(functions, vendor, app, fresh, changed):
    before, after = changed
    caller = functions.caller()
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    user = fresh("user")
    connected_user(caller, agent, provider, user, app.return_url)
    wat = workload_token(caller, agent, user)
    token = planted.plant(stored_token(caller, wat, provider).json["accessToken"], "access token")

    control = functions.boto3("bedrock-agentcore-control")
    with pytest.raises(ClientError, match="VaultKeyArn"):
        control.set_token_vault_cmk(kmsConfiguration={"keyType": "CustomerManagedKey", "kmsKeyArn": after})

    functions.restart(AGENT_IDENTITY_KMS_KEY_ID=after, AGENT_IDENTITY_FORMER_KMS_KEY_IDS=before)
    answers, stop = [], threading.Event()

    def read(reader):
        while not stop.is_set():
            answers.append(stored_token(reader, wat, provider))
        reader.close()

    readers = [threading.Thread(target=read, args=(functions.caller(),)) for _ in range(2)]
    for reader in readers:
        reader.start()
    vault = control.get_token_vault()
    assert vault["kmsConfiguration"] == {"keyType": "CustomerManagedKey", "kmsKeyArn": after}
    made = control.set_token_vault_cmk(tokenVaultId="default", kmsConfiguration=vault["kmsConfiguration"])
    assert made["lastModifiedDate"] > vault["lastModifiedDate"]
    again = control.set_token_vault_cmk(kmsConfiguration=vault["kmsConfiguration"])
    assert again["lastModifiedDate"] == made["lastModifiedDate"]
    stop.set()
    for reader in readers:
        reader.join()
    assert answers and all(answer.json.get("accessToken") == token for answer in answers), answers

    # Without the former key, and with that key disabled.
    functions.restart(AGENT_IDENTITY_KMS_KEY_ID=after, AGENT_IDENTITY_FORMER_KMS_KEY_IDS="")
    kms = functions.client_of("kms")
    kms.disable_key(KeyId=before.rpartition("/")[2])
    try:
        assert stored_token(caller, wat, provider).json["accessToken"] == token
    finally:
        kms.enable_key(KeyId=before.rpartition("/")[2])
    # Back, for what else runs here.
    functions.restart(AGENT_IDENTITY_KMS_KEY_ID=before, AGENT_IDENTITY_FORMER_KMS_KEY_IDS=after)
    configuration = {"keyType": "CustomerManagedKey", "kmsKeyArn": before}
    functions.boto3("bedrock-agentcore-control").set_token_vault_cmk(kmsConfiguration=configuration)
    caller.close()
