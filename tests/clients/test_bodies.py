"""Bodies that are no request at all: never a 500, never a dropped connection, and a modelled error that says why."""

import http.client
import json
import socket
import time

import pytest

from harness import model
from harness.wire import Connection

BODIES = {
    "an object that does not end": b'{"name": "abc"',
    "two objects": b'{"name":"abc"}{"name":"abc"}',
    "a trailing comma": b'{"name":"abc",}',
    "single quotes": b"{'name':'abc'}",
    "a comment": b'{"name":"abc"/* no */}',
    "a byte order mark": b'\xef\xbb\xbf{"name":"abc"}',
    "a bare word": b"name",
    "NaN": b'{"name": NaN}',
    "a number without end": b'{"maxResults": 1' + b"0" * 10_000 + b"}",
    "an array": b'[{"name":"abc"}]',
    "a string": b'"abc"',
    "a number": b"42",
    "null": b"null",
    "true": b"true",
    "invalid UTF-8": b'{"name":"ab\xff\xfec", "maxResults":"x", "nextToken":1}',
    "an overlong UTF-8 sequence": b'{"name":"ab\xc0\xafc", "nextToken":1}',
    "a UTF-8 surrogate": b'{"name":"ab\xed\xa0\x80c", "nextToken":1}',
    "UTF-16": '{"name":"abc"}'.encode("utf-16"),
    "an escaped lone high surrogate": b'{"name":"ab\\ud800c", "nextToken":1}',
    "an escaped lone low surrogate": b'{"name":"ab\\udc00c", "nextToken":1}',
    "surrogates in the wrong order": b'{"name":"ab\\udc00\\ud800c", "nextToken":1}',
    "a raw NUL": b'{"name":"ab\0c", "nextToken":1}',
    "a raw line break in a string": b'{"name":"ab\nc", "nextToken":1}',
    "only NUL": b"\0" * 64,
    "arrays 100,000 deep": b"[" * 100_000,
    "objects 100,000 deep": b'{"a":' * 100_000,
    "a closed nest in a member": b'{"name":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "form fields": b"name=abc&nextToken=1",
    "XML": b"<name>abc</name>",
}


def assert_modelled(answer, operation):
    assert answer.status == 400, answer
    assert answer.error == "ValidationException" and answer.error in model.modelled_errors(operation)
    assert answer.json["reason"] in ("CannotParse", "FieldValidationFailed")
    assert answer.message


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("operation", model.OPERATIONS)
def test_a_body_that_is_no_request_is_refused_on_an_open_connection(caller, operation, body):
    before = caller.connection.used
    assert_modelled(caller.raw(operation, body), operation)
    assert caller.connection.is_open
    assert caller.call("ListWorkloadIdentities").status == 200
    assert caller.connection.used == before + 2, "both requests went over one connection"


# Listing and GetTokenVault need no member.
@pytest.mark.parametrize("operation", [name for name in model.OPERATIONS if not name.startswith(("List", "GetTokenVault"))])
@pytest.mark.parametrize("body", [b"", b"{}", b" "])
def test_an_empty_request_is_refused(caller, operation, body):
    assert_modelled(caller.raw(operation, body), operation)


@pytest.mark.parametrize("name", ["ab\0c", "ab\u202ec", "ab\U0001f600c", "\ufeffabc", "abc\n"])
def test_characters_that_names_may_not_have_are_refused_by_field(caller, name):
    answer = caller.refused("CreateWorkloadIdentity", 400, "ValidationException", name=name)
    assert answer.wrong_fields == ["name"]


@pytest.mark.parametrize("user_id", ["\0", "a\0b", "\u202e", "😀" * 128, "' OR 1=1 --", "../../x", "a\r\nb"])
def test_a_user_id_of_any_characters_is_an_opaque_name_or_refused(caller, user_id, fresh):
    name = fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    answer = caller.call("GetWorkloadAccessTokenForUserId", workloadName=name, userId=user_id)
    assert answer.status in (200, 400), answer
    if answer.status == 400:
        assert answer.wrong_fields == ["userId"]


def test_the_limit_counts_characters_and_not_bytes(caller, fresh):
    name = fresh("agent")
    caller.ok("CreateWorkloadIdentity", name=name)
    caller.ok("GetWorkloadAccessTokenForUserId", workloadName=name, userId="é" * 128)
    answer = caller.refused(
        "GetWorkloadAccessTokenForUserId", 400, "ValidationException", workloadName=name, userId="é" * 129
    )
    assert answer.wrong_fields == ["userId"]


def test_a_duplicate_member_is_refused_or_the_same_for_check_and_use(caller, fresh):
    first, second = fresh("agent"), fresh("agent")
    answer = caller.raw("CreateWorkloadIdentity", json.dumps({"name": first}).encode()[:-1] + f',"name":"{second}"}}'.encode())
    if answer.status == 201:
        assert answer.json["name"] in (first, second)
        caller.ok("GetWorkloadIdentity", name=answer.json["name"])
    else:
        assert_modelled(answer, "CreateWorkloadIdentity")


@pytest.mark.parametrize("megabytes", [2, 12])
@pytest.mark.parametrize("operation", model.OPERATIONS)
def test_a_large_body_gets_413_and_the_connection_stays(caller, operation, megabytes):
    body = b'{"name":"' + b"x" * (megabytes * 1024 * 1024) + b'"}'
    before = caller.connection.used
    answer = caller.raw(operation, body)
    assert (answer.status, answer.error) == (413, "ValidationException"), answer
    assert answer.message
    assert caller.call("ListWorkloadIdentities").status == 200
    assert caller.connection.used == before + 2, "both requests went over one connection"


def test_boto3_sees_a_large_body_as_a_validation_exception(server):
    client = server.boto3("bedrock-agentcore-control")
    with pytest.raises(client.exceptions.ValidationException) as refused:
        client.create_workload_identity(name="abc", allowedResourceOauth2ReturnUrls=["https://x/" + "y" * 2000] * 6000)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_body_of_almost_one_mebibyte_is_read(caller):
    body = json.dumps({"name": "abc", "ignored": "x" * (1024 * 1024 - 200)}).encode()
    assert len(body) < 1024 * 1024
    caller_answer = caller.raw("GetWorkloadIdentity", body)
    assert caller_answer.status in (200, 404), caller_answer


def test_a_body_without_an_end_is_given_up_without_an_answer_to_it(server, caller):
    target = model.path_of("ListWorkloadIdentities")
    headers = caller.signed(target, b"{}") | {"Content-Length": "100"}
    with Connection(server.port, timeout_seconds=5) as connection:
        connection._http.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection._http.putheader(name, value)
        connection._http.endheaders(b"{}")
        connection._http.sock.shutdown(socket.SHUT_WR)
        try:
            assert connection._http.getresponse().status in (400, 408)
        except (http.client.HTTPException, ConnectionError):
            pass
    assert caller.call("ListWorkloadIdentities").status == 200


def test_a_slow_client_does_not_hold_up_others(server, caller):
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /identities/ListWorkloadIdentities HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        for _ in range(20):
            assert caller.call("ListWorkloadIdentities").status == 200
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"],
    ids=["empty", "no target", "TLS", "version", "negative length", "two lengths", "many headers", "long target"],
)  # fmt: skip
def test_what_is_no_http_does_no_harm(server, caller, request_bytes):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        try:
            raw.sendall(request_bytes)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(100)
        except OSError:
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5") and not answer.startswith(b"HTTP/1.1 2"), answer
    assert caller.call("ListWorkloadIdentities").status == 200


@pytest.mark.parametrize("length_first", [True, False])
def test_a_body_with_two_framings_is_read_by_its_chunks_and_ends_the_connection(server, length_first):
    """RFC 9112 §6.1: whoever is in front may have read it by the other, and take what follows for its own."""
    framings = ["Content-Length: 40", "Transfer-Encoding: chunked"]
    lines = [
        "POST /nothing-is-here HTTP/1.1", f"Host: 127.0.0.1:{server.port}",
        *(framings if length_first else framings[::-1]), "", "2\r\n{}\r\n0\r\n\r\n",
    ]  # fmt: skip
    smuggled = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(("\r\n".join(lines) + smuggled).encode())
        answer = b""
        while received := client.recv(65536):
            answer += received
    assert answer.startswith(b"HTTP/1.1 404 ") and b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1, "what followed was taken for a request"
