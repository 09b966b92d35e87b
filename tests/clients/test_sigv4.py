"""Signature Version 4, verified over the bytes received: what is accepted and each way to be refused."""

import hashlib
import hmac
import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from harness import model
from harness.signing import Credentials, Signing, sign, timestamp
from harness.wire import Connection

TARGET = model.path_of("ListWorkloadIdentities")
BODY = b"{}"


@pytest.fixture
def credentials(server):
    return server.credentials()


@pytest.fixture
def send(server, credentials):
    """Signs in some way, then changes what is sent in some way."""

    def send(signing=Signing(), key=credentials, target=TARGET, body=BODY, change=None, sent_body=None, **headers):
        base = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
        signed = sign(key, "POST", target, base | headers, body, signing)
        if change:
            signed = change(signed)
        with Connection(server.port) as connection:
            return connection.send("POST", target, signed, body if sent_body is None else sent_body)

    return send


def assert_refused(answer, *errors):
    assert answer.status in (400, 401, 403), answer
    assert answer.error in errors, answer
    assert answer.message
    assert "workloadIdentities" not in answer.json


def test_our_signer_and_botocores_agree(credentials, server):
    headers = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    request = AWSRequest("POST", f"{server.url}{TARGET}", data=BODY, headers={"Content-Type": "application/json"})
    SigV4Auth(
        BotoCredentials(credentials.access_key_id, credentials.secret_access_key), "bedrock-agentcore", "us-east-1"
    ).add_auth(request)
    for _ in range(3):  # unless the second turned in between
        ours = sign(credentials, "POST", TARGET, headers, BODY, Signing(region="us-east-1"))
        if ours["X-Amz-Date"] == request.headers["X-Amz-Date"]:
            assert ours["Authorization"] == request.headers["Authorization"]
            return
        SigV4Auth(
            BotoCredentials(credentials.access_key_id, credentials.secret_access_key),
            "bedrock-agentcore",
            "us-east-1",
        ).add_auth(request)
    raise AssertionError("the clock ran away three times")


def test_what_boto3_signs_is_accepted(send):
    assert send().status == 200


def test_the_execute_api_scope_is_accepted(send):
    assert send(Signing(service="execute-api")).status == 200


@pytest.mark.parametrize("service", ["s3", "lambda", "bedrock", "bedrock-agentcore-control", ""])
def test_any_other_scope_is_refused(send, service):
    assert_refused(send(Signing(service=service)), "InvalidSignatureException", "IncompleteSignatureException")


def test_more_signed_headers_as_the_javascript_sdk_sends_them_are_accepted(send):
    names = ("content-type", "host", "x-amz-date", "x-amz-content-sha256", "amz-sdk-invocation-id", "amz-sdk-request")
    answer = send(
        Signing(signed_headers=names, claimed_payload_hash=hashlib.sha256(BODY).hexdigest()),
        **{"amz-sdk-invocation-id": "5d1f", "amz-sdk-request": "attempt=1; max=3"},
    )
    assert answer.status == 200


def test_header_values_with_runs_of_spaces_are_canonicalised(send):
    names = ("content-type", "host", "x-amz-date", "x-note")
    assert send(Signing(signed_headers=names), **{"x-note": "  two   words  "}).status == 200


def test_a_wrong_secret_is_an_invalid_signature(send, credentials):
    wrong = Credentials(credentials.access_key_id, "not-the-secret-of-this-key", credentials.region)
    assert_refused(send(key=wrong), "InvalidSignatureException")


def test_an_unknown_key_is_an_unrecognized_client(send, credentials):
    unknown = Credentials("AKIAIOSFODNN7EXAMPLE", credentials.secret_access_key, credentials.region)
    assert_refused(send(key=unknown), "UnrecognizedClientException")


@pytest.mark.parametrize("offset", [-290, 290])
def test_a_clock_that_is_off_by_less_than_five_minutes_is_accepted(send, offset):
    assert send(Signing(clock_offset_seconds=offset)).status == 200


@pytest.mark.parametrize("offset", [-310, 310, -86_400, 86_400])
def test_a_clock_that_is_off_by_more_than_five_minutes_is_refused(send, offset):
    answer = send(Signing(clock_offset_seconds=offset))
    assert_refused(answer, "InvalidSignatureException")
    assert ("not yet current" if offset > 0 else "expired") in answer.message


def test_a_tampered_body_is_refused(send):
    assert_refused(send(sent_body=b'{"maxResults":1}'), "InvalidSignatureException")


def test_a_body_that_contradicts_its_claimed_hash_is_refused(send):
    names = ("content-type", "host", "x-amz-date", "x-amz-content-sha256")
    signing = Signing(signed_headers=names, claimed_payload_hash=hashlib.sha256(BODY).hexdigest())
    assert_refused(send(signing, sent_body=b'{"maxResults":1}'), "InvalidSignatureException")


def test_a_tampered_path_is_refused(server, credentials):
    headers = sign(
        credentials, "POST", TARGET,
        {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}, BODY,
    )  # fmt: skip
    with Connection(server.port) as connection:
        answer = connection.send("POST", model.path_of("ListApiKeyCredentialProviders"), headers, BODY)
    assert_refused(answer, "InvalidSignatureException")


def test_a_query_that_was_not_signed_is_refused(server, credentials):
    headers = sign(
        credentials, "POST", TARGET,
        {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}, BODY,
    )  # fmt: skip
    with Connection(server.port) as connection:
        assert_refused(connection.send("POST", f"{TARGET}?a=b", headers, BODY), "InvalidSignatureException")


def test_a_tampered_signed_header_is_refused(send):
    assert_refused(send(change=lambda h: h | {"Content-Type": "text/plain"}), "InvalidSignatureException")


def test_no_authorization_is_a_missing_token(send):
    def without(headers):
        return {name: value for name, value in headers.items() if name != "Authorization"}

    assert_refused(send(change=without), "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    "value",
    ["", "Bearer abc", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e",
     "AWS4-HMAC-SHA256 Credential=AKIA/20260101/r/bedrock-agentcore/aws4_request, SignedHeaders=host, Signature=zz",
     "AWS4-HMAC-SHA1 Credential=a, SignedHeaders=host, Signature=b", "AWS4-ECDSA-P256-SHA256 Credential=a"],
)  # fmt: skip
def test_an_authorization_that_is_no_signature_is_refused(send, value):
    answer = send(change=lambda headers: headers | {"Authorization": value})
    assert_refused(
        answer, "MissingAuthenticationTokenException", "IncompleteSignatureException", "InvalidSignatureException",
        "UnrecognizedClientException",
    )  # fmt: skip


def test_a_signature_of_the_right_length_with_one_digit_changed_is_refused(send):
    def flip(headers):
        value = headers["Authorization"]
        return headers | {"Authorization": value[:-1] + ("0" if value[-1] != "0" else "1")}

    assert_refused(send(change=flip), "InvalidSignatureException")


@pytest.mark.parametrize(
    "claimed",
    ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
     "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"],
)  # fmt: skip
def test_d22_a_payload_that_is_not_signed_is_refused(send, claimed):
    names = ("content-type", "host", "x-amz-date", "x-amz-content-sha256")
    answer = send(Signing(signed_headers=names, claimed_payload_hash=claimed))
    assert_refused(answer, "InvalidSignatureException", "IncompleteSignatureException")


@pytest.mark.parametrize("left_out", ["host", "x-amz-date"])
def test_d22_host_and_date_must_be_signed(send, left_out):
    names = tuple(name for name in ("content-type", "host", "x-amz-date") if name != left_out)
    answer = send(Signing(signed_headers=names))
    assert_refused(answer, "InvalidSignatureException", "IncompleteSignatureException")


def test_d22_a_signature_in_the_query_is_refused(server, credentials):
    amz_date = timestamp()
    scope = f"{amz_date[:8]}/{credentials.region}/bedrock-agentcore/aws4_request"
    query = "&".join([
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        f"X-Amz-Credential={credentials.access_key_id}%2F{scope.replace('/', '%2F')}",
        f"X-Amz-Date={amz_date}",
        "X-Amz-Expires=300",
        "X-Amz-SignedHeaders=host",
    ])
    canonical = "\n".join([
        "POST", TARGET, query, f"host:127.0.0.1:{server.port}", "", "host", hashlib.sha256(BODY).hexdigest(),
    ])  # fmt: skip
    text = "\n".join(["AWS4-HMAC-SHA256", amz_date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    value = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    with Connection(server.port) as connection:
        answer = connection.send(
            "POST", f"{TARGET}?{query}&X-Amz-Signature={value}",
            {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}, BODY,
        )  # fmt: skip
    assert_refused(
        answer, "MissingAuthenticationTokenException", "InvalidSignatureException", "IncompleteSignatureException"
    )


def test_a_default_key_with_a_session_token_that_it_does_not_have_is_refused(send, credentials):
    with_token = Credentials(credentials.access_key_id, credentials.secret_access_key, credentials.region, "made-up")
    assert_refused(send(key=with_token), "UnrecognizedClientException", "InvalidSignatureException")


def test_a_signed_query_is_verified_in_canonical_order(send):
    answer = send(target=f"{TARGET}?b=2&a=1&a=0")
    assert answer.error != "InvalidSignatureException", answer


def test_a_refusal_says_nothing_about_what_the_right_signature_is(send, credentials):
    wrong = Credentials(credentials.access_key_id, "not-the-secret-of-this-key", credentials.region)
    right = sign(credentials, "POST", TARGET, {"Host": "h", "Content-Type": "application/json"}, BODY)
    text = json.dumps(send(key=wrong).json)
    assert right["Authorization"].rsplit("=", 1)[1] not in text
    assert credentials.secret_access_key not in text
