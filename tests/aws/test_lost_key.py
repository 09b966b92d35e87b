"""The drill of a lost CMK: its key is deleted for good, the vault is reset, and all goes on with another.

moto deletes no key, and unwraps with a key whose deletion has begun. So first a server says what KMS documents of such a key, and then the
key service is another moto, which never had it: what KMS says of one that was deleted (NotFoundException).
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer

from harness import planted
from harness.functions import Functions
from harness.places import BOOTSTRAPS
from harness.product import command
from harness.stories import (
    FRONT_END_AUDIENCE,
    connected_user,
    make_user_provider,
    make_workload,
    stored_token,
    workload_token,
)


ACCOUNT = "123456789012"
ADMIN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Admin"
BY_IAM = {
    "AGENT_IDENTITY_PRINCIPAL": "iam",
    "AGENT_IDENTITY_API_ID": "testapi",
    "AGENT_IDENTITY_ACCOUNT_ID": ACCOUNT,
    "AGENT_IDENTITY_ADMIN_ROLE": ADMIN_ROLE,
}


@pytest.fixture
def deployed(vendor):
    """A deployment of its own: what is lost here nobody else has."""
    made = []

    def deploy(**environment):
        trusted = f"issuer={vendor.issuer},audience={FRONT_END_AUDIENCE}"
        made.append(Functions((vendor.address,), {"AGENT_IDENTITY_TRUSTED_ISSUERS": trusted, **environment}).start())
        return made[-1]

    yield deploy
    for functions in made:
        functions.stop()


@pytest.fixture
def another_kms():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    yield address
    server.stop()


@pytest.fixture
def pending_kms():
    """Says of each key that its deletion has begun."""

    class Pending(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = b'{"__type": "KMSInvalidStateException", "message": "the key is pending deletion"}'
            self.send_response(400)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pending)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def replaced_key(functions, another_kms):
    """Deploys with another key, of a KMS that does not know the one of before."""
    lost = functions.environment["AGENT_IDENTITY_KMS_KEY_ID"]
    credentials = {"aws_access_key_id": "AKIAEMULATOR", "aws_secret_access_key": "emulator", "region_name": "us-east-1"}
    made = boto3.client("kms", endpoint_url=another_kms, **credentials).create_key()["KeyMetadata"]["Arn"]
    functions.restart(
        AWS_ENDPOINT_URL_KMS=another_kms, AGENT_IDENTITY_KMS_KEY_ID=made, AGENT_IDENTITY_FORMER_KMS_KEY_IDS=lost
    )  # fmt: skip
    return made


def vault(functions, name, expect=0):
    """`agent-identity vault NAME` on the operator's own machine."""
    arguments = ("vault", name, "--json", "--store", "dynamodb")
    return command(*arguments, binary=BOOTSTRAPS / "agent-identity", expect=expect, **functions.environment)


def test_the_loss_of_a_cmk(deployed, pending_kms, another_kms, vendor, app, fresh):
    functions = deployed(**BY_IAM)
    role = functions.iam_credentials(f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/ada")
    caller, control, data = functions.caller(role), *(functions.boto3(f"bedrock-agentcore{plane}", role) for plane in ("-control", ""))

    def reset():
        return control.reset_token_vault_key_material(tokenVaultId="default")

    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    users = [fresh("ada"), fresh("bea")]
    for user in users:
        connected_user(caller, agent, provider, user, app.return_url)
        planted.plant(stored_token(caller, workload_token(caller, agent, user), provider).json["accessToken"], "access token")
    with pytest.raises(control.exceptions.ConflictException, match="no key of the vault is lost"):
        reset()

    # Its deletion has begun: it may come back, and nothing is given up.
    kms = functions.environment.get("AWS_ENDPOINT_URL_KMS", functions.environment["AWS_ENDPOINT_URL"])
    functions.restart(AWS_ENDPOINT_URL_KMS=pending_kms)
    with pytest.raises(control.exceptions.ConflictException, match="may come back.*pending deletion"):
        reset()
    functions.restart(AWS_ENDPOINT_URL_KMS=kms)
    assert all("accessToken" in stored_token(caller, workload_token(caller, agent, user), provider).json for user in users)

    # It is gone, and the deployment is given another.
    made = replaced_key(functions, another_kms)
    broken = caller.call("GetWorkloadAccessTokenForUserId", workloadName=agent, userId=users[0])
    assert broken.status == 500, "until somebody resets it"
    answer = reset()
    assert answer["tokenVaultId"] == "default"
    assert answer["kmsConfiguration"] == {"keyType": "CustomerManagedKey", "kmsKeyArn": made}
    with pytest.raises(control.exceptions.ConflictException, match="no key of the vault is lost"):
        reset()

    # The first to ask is told to come again, as clients of AWS do by themselves, and then where to consent.
    wat = data.get_workload_access_token_for_user_id(workloadName=agent, userId=users[0])["workloadAccessToken"]

    def ask():
        return data.get_resource_oauth2_token(
            workloadIdentityToken=wat, resourceCredentialProviderName=provider, scopes=["openid"],
            oauth2Flow="USER_FEDERATION", resourceOauth2ReturnUrl=app.return_url,
        )  # fmt: skip

    with pytest.raises(data.exceptions.ThrottlingException, match="lost with the vault key"):
        ask()
    asked = ask()
    assert "authorizationUrl" in asked and "accessToken" not in asked
    # Whoever was not there yet is found by the sweep.
    [listed] = caller.ok("ListConnections", userId=users[1])["connections"]
    assert listed["status"] == "ACTIVE"
    assert json.loads(vault(functions, "reseal").stdout) == {"resealed": 0, "lost": 2, "left": 0}
    for user in users:
        [listed] = caller.ok("ListConnections", userId=user)["connections"]
        assert (listed["status"], listed["statusReason"]) == ("NEEDS_CONSENT", "key_lost"), listed

    # They consent again, and the former key is named no more.
    for user in users:
        connected_user(caller, agent, provider, user, app.return_url)
        token = stored_token(caller, workload_token(caller, agent, user), provider).json["accessToken"]
        assert vendor.call_api(planted.plant(token, "access token"))[0] == 200
    functions.restart(AGENT_IDENTITY_FORMER_KMS_KEY_IDS="")
    for user in users:
        assert "accessToken" in stored_token(caller, workload_token(caller, agent, user), provider).json
    caller.close()


def test_where_callers_have_access_keys_they_are_lost_too_and_the_operator_goes_on(deployed, another_kms, fresh):
    functions = deployed()
    caller = functions.caller()
    agent = make_workload(caller, fresh("agent"))
    assert "no key of the vault is lost" in vault(functions, "reset", expect=1).stderr
    made = replaced_key(functions, another_kms)
    # Nobody can call the operation: whose signature it is takes a secret that is lost.
    assert caller.call("GetTokenVault").status == 500
    assert json.loads(vault(functions, "reset").stdout) == {"kmsKeyArn": made}
    assert json.loads(vault(functions, "reseal").stdout) == {"resealed": 0, "lost": 1, "left": 0}
    refused = caller.call("GetTokenVault")
    assert refused.status in (401, 403), refused
    another = functions.caller()
    assert another.ok("GetWorkloadIdentity", name=agent)["name"] == agent
    assert another.ok("GetTokenVault")["kmsConfiguration"]["kmsKeyArn"] == made
    for each in (caller, another):
        each.close()
