"""The drill of a lost CMK: its key is deleted for good, the vault is reset, and all goes on with another.

moto deletes no key, and unwraps with a key whose deletion has begun. So first a server says what KMS documents of such a key, and then the
key service is another moto, which never had it: what KMS says of one that was deleted (NotFoundException).
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from harness import planted
from harness.browser import Browser
from harness.functions import Functions, Pool
from harness.product import command
from harness.stories import (
    FRONT_END_AUDIENCE,
    Consent,
    connected_user,
    make_user_provider,
    make_workload,
    stored_token,
    workload_token,
)


@pytest.fixture
def functions(vendor):
    """A deployment of its own: what is lost here nobody else has."""
    trusted = f"issuer={vendor.issuer},audience={FRONT_END_AUDIENCE}"
    running = Functions((vendor.address,), {"AGENT_IDENTITY_TRUSTED_ISSUERS": trusted}).start()
    yield running
    running.stop()


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


def restart(functions, **variables):
    for pool in functions.pools.values():
        pool.stop()
    functions.environment |= variables
    functions.pools = {name: Pool(name, functions.environment) for name in functions.pools}


def reset(functions):
    return functions.boto3("bedrock-agentcore-control").reset_token_vault_key_material(tokenVaultId="default")


def consent(caller, agent, provider, user, return_url):
    begun = Consent(caller, workload_token(caller, agent, user), provider, more={"resourceOauth2ReturnUrl": return_url}).begin()
    begun.agree(Browser(), user)
    assert begun.complete(userId=user).status == 200


def test_the_loss_of_a_cmk(functions, pending_kms, another_kms, vendor, app, fresh):
    lost = functions.environment["AGENT_IDENTITY_KMS_KEY_ID"]
    caller = functions.caller()
    agent, provider = make_workload(caller, fresh("agent"), app.return_url), make_user_provider(caller, vendor, fresh("people"))
    users = [fresh("ada"), fresh("bea")]
    for user in users:
        connected_user(caller, agent, provider, user, app.return_url)
        planted.plant(stored_token(caller, workload_token(caller, agent, user), provider).json["accessToken"], "access token")
    with pytest.raises(ClientError, match="no key of the vault is lost") as refused:
        reset(functions)
    assert refused.value.response["Error"]["Code"] == "ConflictException"

    # Its deletion has begun: it may come back, and nothing is given up.
    kms = functions.environment.get("AWS_ENDPOINT_URL_KMS", functions.environment["AWS_ENDPOINT_URL"])
    restart(functions, AWS_ENDPOINT_URL_KMS=pending_kms)
    with pytest.raises(ClientError, match="may come back.*pending deletion"):
        reset(functions)
    restart(functions, AWS_ENDPOINT_URL_KMS=kms)
    assert all("accessToken" in stored_token(caller, workload_token(caller, agent, user), provider).json for user in users)

    # It is gone, and the deployment is given another.
    credentials = {"aws_access_key_id": "AKIAEMULATOR", "aws_secret_access_key": "emulator", "region_name": "us-east-1"}
    made = boto3.client("kms", endpoint_url=another_kms, **credentials).create_key()["KeyMetadata"]["Arn"]
    restart(
        functions,
        AWS_ENDPOINT_URL_KMS=another_kms,
        AGENT_IDENTITY_KMS_KEY_ID=made,
        AGENT_IDENTITY_FORMER_KMS_KEY_IDS=lost,
    )
    broken = caller.call("GetWorkloadAccessTokenForUserId", workloadName=agent, userId=users[0])
    assert broken.status == 500, "until somebody resets it"
    answer = reset(functions)
    assert answer["tokenVaultId"] == "default"
    assert answer["kmsConfiguration"] == {"keyType": "CustomerManagedKey", "kmsKeyArn": made}
    with pytest.raises(ClientError, match="no key of the vault is lost"):
        reset(functions)

    # The first is told to come again, as boto3 does by itself; then where to consent.
    reader = functions.boto3("bedrock-agentcore")
    wat = reader.get_workload_access_token_for_user_id(workloadName=agent, userId=users[0])["workloadAccessToken"]
    asked = reader.get_resource_oauth2_token(
        workloadIdentityToken=wat, resourceCredentialProviderName=provider, scopes=["openid"],
        oauth2Flow="USER_FEDERATION", resourceOauth2ReturnUrl=app.return_url,
    )  # fmt: skip
    assert "authorizationUrl" in asked and "accessToken" not in asked
    # Whoever was not there yet is found by the sweep, from the operator's own machine.
    [listed] = caller.ok("ListConnections", userId=users[1])["connections"]
    assert listed["status"] == "ACTIVE"
    swept = command(
        "vault", "reseal", "--json", "--store", "dynamodb", "--table", functions.environment["AGENT_IDENTITY_TABLE"],
        "--kms-key-id", made, "--former-kms-key-id", lost,
        **{name: value for name, value in functions.environment.items() if name.startswith("AWS_")},
    )  # fmt: skip
    assert json.loads(swept.stdout)["left"] == 0 and json.loads(swept.stdout)["lost"] >= 2
    for user in users:
        [listed] = caller.ok("ListConnections", userId=user)["connections"]
        assert (listed["status"], listed["statusReason"]) == ("NEEDS_CONSENT", "key_lost"), listed

    # They consent again, and the former key is named no more.
    for user in users:
        consent(caller, agent, provider, user, app.return_url)
        token = stored_token(caller, workload_token(caller, agent, user), provider).json["accessToken"]
        assert vendor.call_api(planted.plant(token, "access token"))[0] == 200
    restart(functions, AGENT_IDENTITY_FORMER_KMS_KEY_IDS="")
    for user in users:
        assert "accessToken" in stored_token(caller, workload_token(caller, agent, user), provider).json
    caller.close()
