"""A store whose write lock somebody else holds for longer than a write waits: come back, and nothing of ours failed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import planted
from harness.busy import write_lock_held
from harness.product import Server
from harness.stories import make_workload

METADATA = {
    "issuer": "https://idp.example.com",
    "authorizationEndpoint": "https://idp.example.com/authorize",
    "tokenEndpoint": "https://idp.example.com/token",
    "responseTypes": ["code"],
}


def oauth2_config():
    return {
        "customOauth2ProviderConfig": {
            "oauthDiscovery": {"authorizationServerMetadata": METADATA},
            "clientId": "client",
            "clientSecret": planted.new_secret("client secret"),
        }
    }


@pytest.fixture
def requests():
    """Each writes a secret or makes the first version of a vault key, but for the first, which writes a row alone."""
    oauth2 = {"credentialProviderVendor": "CustomOauth2", "oauth2ProviderConfigInput": oauth2_config()}
    return {
        "a workload": ("CreateWorkloadIdentity", {"name": "another"}),
        "the first workload access token": ("GetWorkloadAccessToken", {"workloadName": "agent"}),
        "an API key": ("CreateApiKeyCredentialProvider", {"name": "weather", "apiKey": planted.new_secret("API key")}),
        "a client secret": ("CreateOauth2CredentialProvider", {"name": "calendar", **oauth2}),
    }


def test_a_store_that_is_held_is_throttling_whatever_is_written(tmp_path, requests):
    server = Server(tmp_path / "store").start()
    caller = server.caller()
    make_workload(caller, "agent")

    def send(what):
        operation, members = requests[what]
        own = server.caller(caller.credentials)
        answer = own.call(operation, **members)
        own.close()
        return answer

    with write_lock_held(server.data), ThreadPoolExecutor(len(requests)) as pool:
        held = dict(zip(requests, pool.map(send, requests)))
    assert {what: (answer.status, answer.error) for what, answer in held.items()} == dict.fromkeys(
        requests, (429, "ThrottlingException")
    )
    assert {answer.message for answer in held.values()} == {"the store is busy, try again"}
    for what in requests:
        assert send(what).status in (200, 201), what
    assert not [record for record in server.log_records() if record["level"] == "ERROR"]
    assert server.stop() == 0
