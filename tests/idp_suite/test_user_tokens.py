"""Users who prove themselves with a JWT of their identity provider."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harness import planted
from harness.browser import Browser
from harness.product import Server, command, create_access_key
from harness.stories import FRONT_END_AUDIENCE as AUDIENCE
from harness.stories import Consent, make_user_provider, make_workload, sign_in
from harness.vendor import Vendor


def ask(caller, workload, token):
    return caller.call("GetWorkloadAccessTokenForJWT", workloadName=workload, userToken=token)


def accepted(answer):
    assert answer.status == 200, answer
    return planted.plant(answer.json["workloadAccessToken"], "workload access token")


def unauthorized(answer):
    assert (answer.status, answer.error) == (401, "UnauthorizedException"), answer
    return answer.message


@pytest.mark.parametrize("kind", ["access_token", "id_token"])
def test_a_token_from_a_real_sign_in_is_accepted(caller, vendor, workload, kind):
    accepted(ask(caller, workload, sign_in(vendor, "alice")[kind]))


def test_a_token_that_has_ended_is_refused(caller, vendor, workload):
    now = int(time.time())
    message = unauthorized(ask(caller, workload, vendor.make_jwt("alice", iat=now - 7200, exp=now - 3600)))
    assert "expired" in message


def test_a_token_that_does_not_begin_yet_is_refused(caller, vendor, workload):
    unauthorized(ask(caller, workload, vendor.make_jwt("alice", nbf=int(time.time()) + 3600)))


@pytest.mark.parametrize("claim", ["exp", "sub", "iss"])
def test_a_token_without_a_needed_claim_is_refused(caller, vendor, workload, claim):
    unauthorized(ask(caller, workload, vendor.make_jwt("alice", **{claim: None})))


def test_a_token_signed_with_another_key_is_refused(caller, vendor, workload):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unauthorized(ask(caller, workload, vendor.make_jwt("alice", key=other)))


def test_a_token_with_a_changed_payload_is_refused(caller, vendor, workload):
    header, _, signature = vendor.make_jwt("alice").split(".")
    _, payload, _ = vendor.make_jwt("mallory").split(".")
    unauthorized(ask(caller, workload, f"{header}.{payload}.{signature}"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", ["", "AAAA", "kept"])
def test_a_token_that_claims_to_need_no_signature_is_refused(caller, vendor, workload, algorithm, signature):
    _, payload, kept = vendor.make_jwt("alice").split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    answer = ask(caller, workload, f"{header}.{payload}.{kept if signature == 'kept' else signature}")
    assert (answer.status, answer.error) in ((401, "UnauthorizedException"), (400, "ValidationException")), answer


def test_a_token_signed_with_the_public_key_as_an_hmac_secret_is_refused(caller, vendor, workload):
    public = vendor.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _, payload, _ = vendor.make_jwt("alice").split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"provider-key-1"}').rstrip(b"=").decode()
    mac = hmac.HMAC(public, hashes.SHA256())
    mac.update(f"{header}.{payload}".encode())
    signature = base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=").decode()
    unauthorized(ask(caller, workload, f"{header}.{payload}.{signature}"))


def test_d25_a_key_that_is_not_known_yet_is_asked_for_again_later_and_the_text_says_what_is_missing(
    caller, vendor, workload
):
    newer = vendor.make_jwt("alice", header={"kid": "published-in-a-moment", "typ": "at+jwt"})
    ask(caller, workload, newer)  # Reads the keys, unless they were read less than 30 seconds ago.
    answer = ask(caller, workload, newer)
    assert (answer.status, answer.error) == (429, "ThrottlingException"), answer
    assert "`kid`" in answer.message and "try again" in answer.message


def test_a_token_with_an_unknown_critical_header_is_refused(caller, vendor, workload):
    unauthorized(ask(caller, workload, vendor.make_jwt("alice", header={"crit": ["future"], "future": True})))


def test_a_token_that_brings_its_own_key_is_refused(caller, vendor, workload):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    unauthorized(ask(caller, workload, vendor.make_jwt("alice", key=key, header={"jwk": jwk})))


def test_an_issuer_that_may_not_be_reached_is_refused_without_asking_it(caller, vendor, workload):
    """The address in `iss` is chosen by whoever made the token: egress decides, not the token."""
    for issuer in ("http://127.0.0.2:80", "http://169.254.169.254", "https://10.0.0.1", "file:///etc/passwd"):
        answer = ask(caller, workload, vendor.make_jwt("alice", iss=issuer))
        assert 400 <= answer.status < 500, answer


def test_d10_the_same_subject_of_two_issuers_is_two_users(strangers_too, app, vendor, fresh):
    """What alice of one issuer agreed to is not there for alice of another."""
    caller, stranger = strangers_too
    provider = make_user_provider(caller, vendor, fresh("vendor"))
    more = {"resourceOauth2ReturnUrl": app.return_url}
    agent = make_workload(caller, fresh("agent"), app.return_url)
    ours, theirs = vendor.make_jwt("alice"), stranger.make_jwt("alice")
    consent = Consent(caller, accepted(ask(caller, agent, ours)), provider, more=more).begin()
    consent.agree(Browser(), "alice")
    assert consent.complete(userToken=theirs).status == 403
    assert consent.complete(userToken=ours).status == 200
    again = Consent(caller, accepted(ask(caller, agent, vendor.make_jwt("alice"))), provider, more=more)
    assert "accessToken" in again.ask().json
    other = Consent(caller, accepted(ask(caller, agent, theirs)), provider, more=more)
    assert "accessToken" not in other.ask().json


def test_what_is_no_jwt_is_refused_before_anything_is_fetched(caller, workload):
    for token in ("a.b.c", "aaaa.bbbb.cccc", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"):
        answer = ask(caller, workload, token)
        assert answer.status in (400, 401), answer


def test_d20_a_token_of_more_than_16_kib_is_refused(caller, vendor, workload):
    answer = ask(caller, workload, vendor.make_jwt("alice", padding="x" * 20_000))
    assert answer.status in (400, 401), answer


def test_d4_without_configuration_the_log_says_once_that_any_issuer_is_accepted(server, caller, vendor, workload):
    for _ in range(3):
        accepted(ask(caller, workload, vendor.make_jwt("alice")))
    warnings = [
        record for record in server.log_records()
        if vendor.issuer in json.dumps(record) and "issuer" in json.dumps(record).lower()
        and record.get("level", "").upper() == "WARN"
    ]  # fmt: skip
    assert len(warnings) == 1, warnings


@pytest.fixture
def strangers_too(tmp_path, vendor):
    """A server that may reach a second identity provider as well."""
    stranger = Vendor()
    running = Server(tmp_path / "store", (vendor.address, stranger.address)).start()
    caller = running.caller()
    yield caller, stranger
    caller.close()
    assert running.stop() == 0
    stranger.stop()


@pytest.fixture(scope="module")
def strict(tmp_path_factory, vendor):
    """A server that trusts this vendor for one audience, and nobody else."""
    rule = json.dumps({"issuer": vendor.issuer, "audiences": [AUDIENCE], "algorithms": ["RS256"], "typ": "at+jwt"})
    stranger = Vendor()
    running = Server(
        tmp_path_factory.mktemp("strict") / "store",
        (vendor.address, stranger.address),
        arguments=("--trusted-issuer", rule),
    ).start()
    caller = running.caller()
    make_workload(caller, "agent")
    yield caller, stranger
    caller.close()
    assert running.stop() == 0
    stranger.stop()


def test_d4_with_a_public_address_no_issuer_is_accepted_that_nobody_listed(tmp_path, vendor):
    """Any issuer is for loopback alone: the same directory and key, with and without the flag."""
    token = sign_in(vendor, "alice")["access_token"]
    for arguments, expected in (((), 200), (("--public-base-url", "https://id.example.com"), 401), ((), 200)):
        running = Server(tmp_path / "store", (vendor.address,), arguments=arguments).start()
        if not (tmp_path / "made").exists():
            make_workload(running.caller(), "agent")
            key = create_access_key(running.data, "own", "admin", "mint-jwt,mint-userid")
            (tmp_path / "made").touch()
        caller = running.caller(key)
        answers = [ask(caller, "agent", token), ask(caller, "agent", vendor.make_jwt("alice"))]
        assert [answer.status for answer in answers] == [expected] * 2, answers
        if expected == 401:
            for answer in answers:
                unauthorized(answer)
            by_id = caller.ok("GetWorkloadAccessTokenForUserId", workloadName="agent", userId="alice")
            planted.plant(by_id["workloadAccessToken"], "workload access token")
        caller.close()
        assert running.stop() == 0


def test_d4_a_trusted_issuer_is_accepted_for_its_audience(strict, vendor):
    caller, _ = strict
    accepted(ask(caller, "agent", sign_in(vendor, "alice")["access_token"]))
    accepted(ask(caller, "agent", vendor.make_jwt("alice", aud=["https://other.example.com", AUDIENCE])))


def test_d4_an_unknown_issuer_is_refused(strict):
    caller, stranger = strict
    unauthorized(ask(caller, "agent", stranger.make_jwt("alice")))


@pytest.mark.parametrize("audience", ["https://other.example.com", None, [], AUDIENCE + "/", AUDIENCE.upper()])
def test_d4_an_issuer_is_not_enough_the_audience_has_to_match(strict, vendor, audience):
    caller, _ = strict
    unauthorized(ask(caller, "agent", vendor.make_jwt("alice", aud=audience)))


def test_d4_the_type_of_the_token_has_to_match(strict, vendor):
    caller, _ = strict
    unauthorized(ask(caller, "agent", vendor.make_jwt("alice", header={"typ": "JWT"})))


def test_d4_an_issuer_without_audience_or_client_is_no_rule(tmp_path, vendor):
    rule = json.dumps({"issuer": vendor.issuer})
    done = command(
        "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "store"), "--trusted-issuer", rule, expect=None
    )
    assert done.returncode in (1, 2) and "audience" in done.stderr
