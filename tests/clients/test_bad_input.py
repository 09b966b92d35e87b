"""Every single way to break each operation's request, as the service model has it, gets a 400 that names the field."""

import uuid

import pytest

from harness import model, planted
from harness.requests_of_operations import REQUESTS, RETURN_URLS, USER, encoded
from harness.stories import Consent, connected_user, make_user_provider, make_workload, workload_token
from harness.stories import workload_token_for_jwt
from harness.browser import Browser
from harness.violations import violations

CASES = [
    pytest.param(operation, violation, id=f"{operation}{f' ({label})' if label else ''}: {violation.what}"[:180])
    for (operation, label), request in REQUESTS.items()
    for violation in violations(operation, request)
]


@pytest.fixture(scope="module")
def allow_egress(vendor):
    return (vendor.address,)


@pytest.fixture(scope="module")
def things(caller, vendor, app):
    """What the valid requests speak of."""
    made = {"workload": "workload", "api key": "weather", "oauth2": "github", "oauth2 to update": "to-update"}
    make_workload(caller, "workload", *RETURN_URLS, app.return_url)
    caller.ok("CreateApiKeyCredentialProvider", name="weather", apiKey=planted.new_secret("API key"))
    for name in ("github", "to-update"):
        config = {"clientId": "one", "clientSecret": planted.new_secret("client secret")}
        caller.ok(
            "CreateOauth2CredentialProvider",
            name=name,
            credentialProviderVendor="GithubOauth2",
            oauth2ProviderConfigInput={"githubOauth2ProviderConfig": config},
        )
    made["wat"] = workload_token(caller, "workload", USER)
    github = {"resourceOauth2ReturnUrl": RETURN_URLS[0]}
    made["session"] = Consent(caller, made["wat"], "github", ["repo"], github).begin().session_uri
    make_user_provider(caller, vendor, "vendor")
    made["completed session"] = connected_user(caller, "workload", "vendor", USER, app.return_url).session_uri
    made["user token"] = vendor.make_jwt(USER)
    jwt_wat = workload_token_for_jwt(caller, "workload", made["user token"])
    consent = Consent(caller, jwt_wat, "vendor", more={"resourceOauth2ReturnUrl": app.return_url}).begin()
    consent.agree(Browser(), USER)
    assert consent.complete(userToken=made["user token"]).status == 200
    made["completed jwt session"] = consent.session_uri
    return made


@pytest.fixture
def filled(caller, things):
    """What exists, with new victims for a request that creates or deletes."""

    def fill(operation):
        name = f"n-{uuid.uuid4().hex[:12]}"
        if operation == "DeleteWorkloadIdentity":
            make_workload(caller, name)
        elif operation == "DeleteApiKeyCredentialProvider":
            caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
        elif operation == "DeleteOauth2CredentialProvider":
            secret = planted.new_secret("client secret")
            caller.ok(
                "CreateOauth2CredentialProvider",
                name=name,
                credentialProviderVendor="GithubOauth2",
                oauth2ProviderConfigInput={"githubOauth2ProviderConfig": {"clientId": "a", "clientSecret": secret}},
            )
        return things | {"fresh": name, "doomed workload": name, "doomed api key": name, "doomed oauth2": name}

    return fill


def test_every_operation_is_covered():
    assert {operation for operation, _ in REQUESTS} == set(model.OPERATIONS)
    assert len(CASES) > 1500


@pytest.mark.parametrize(("operation", "label"), REQUESTS, ids=lambda text: text or "-")
def test_the_request_is_accepted_before_it_is_broken(caller, filled, operation, label):
    answer = caller.raw(operation, encoded(REQUESTS[operation, label], filled(operation)))
    # There is nothing to reset while no key is lost.
    accepted = 409 if operation == "ResetTokenVaultKeyMaterial" else model.success_status(operation)
    assert answer.status == accepted, answer


@pytest.mark.parametrize(("operation", "violation"), CASES)
def test_a_broken_request_is_refused_and_the_field_is_named(caller, things, operation, violation):
    answer = caller.raw(operation, encoded(violation.request, things | {"fresh": f"n-{uuid.uuid4().hex[:12]}"}))
    assert (answer.status, answer.error) == (400, "ValidationException"), f"{violation.what}: {answer}"
    assert answer.json["reason"] == "FieldValidationFailed"
    assert answer.message
    named = [name for field in answer.wrong_fields for name in field.replace("[", ".").split(".")]
    assert violation.member in named, f"{violation.what}: names {answer.wrong_fields}"
    assert caller.connection.is_open, "the connection was closed"
