"""What every answer looks like: request ids, error names, members, numbers for times; and what does not exist here."""

import json

import pytest
from botocore.exceptions import ClientError

from harness import model, planted
from harness.stories import make_workload
from harness.wire import Connection

PAYMENT = (
    "CreatePaymentCredentialProvider", "GetPaymentCredentialProvider", "ListPaymentCredentialProviders",
    "DeletePaymentCredentialProvider", "GetResourcePaymentToken",
)  # fmt: skip


def test_every_answer_has_a_request_id_of_its_own(caller, fresh):
    answers = [caller.call("ListWorkloadIdentities") for _ in range(3)]
    answers.append(caller.call("GetWorkloadIdentity", name="nobody-made-this"))
    answers.append(caller.raw("GetWorkloadIdentity", b"{"))
    ids = [answer.headers["x-amzn-requestid"] for answer in answers]
    assert len(set(ids)) == len(ids) and all(ids)


def test_boto3_shows_the_request_id(server):
    client = server.boto3("bedrock-agentcore-control")
    assert client.list_workload_identities()["ResponseMetadata"]["RequestId"]
    with pytest.raises(ClientError) as refused:
        client.get_workload_identity(name="nobody-made-this")
    assert refused.value.response["ResponseMetadata"]["RequestId"]


def test_the_request_id_of_a_failure_is_in_the_log(caller, server):
    answer = caller.call("GetWorkloadIdentity", name="nobody-made-this")
    assert answer.headers["x-amzn-requestid"] in server.log.read_text()


def test_the_principal_is_in_the_log_and_its_secret_is_not(caller, server):
    caller.ok("ListWorkloadIdentities")
    log = server.log.read_text()
    assert "access-key/" in log
    assert caller.credentials.secret_access_key not in log


def test_times_are_json_numbers(caller, fresh):
    name = make_workload(caller, fresh("agent"))
    got = caller.ok("GetWorkloadIdentity", name=name)
    for member in ("createdTime", "lastUpdatedTime"):
        assert isinstance(got[member], int | float) and 1.7e9 < got[member] < 4e9


def test_an_error_has_header_message_and_for_validation_reason_and_fields(caller):
    missing = caller.refused("GetWorkloadIdentity", 404, "ResourceNotFoundException", name="nobody-made-this")
    assert missing.json["message"]
    invalid = caller.refused("GetWorkloadIdentity", 400, "ValidationException", name="x")
    assert invalid.json["reason"] == "FieldValidationFailed"
    assert invalid.json["fieldList"] and all({"name", "message"} == set(entry) for entry in invalid.json["fieldList"])
    unreadable = caller.raw("GetWorkloadIdentity", b"{")
    assert (unreadable.status, unreadable.json["reason"]) == (400, "CannotParse")


def test_boto3_raises_the_modelled_class_with_its_members(server):
    client = server.boto3("bedrock-agentcore-control")
    with pytest.raises(client.exceptions.ValidationException) as refused:
        client.create_workload_identity(name="has a space")
    response = refused.value.response
    assert response["reason"] == "FieldValidationFailed"
    assert [entry["name"] for entry in response["fieldList"]] == ["name"]
    assert response["message"] == response["Error"]["Message"]


def test_a_deleted_answer_has_no_body(caller, fresh):
    answer = caller.call("DeleteWorkloadIdentity", name=make_workload(caller, fresh("agent")))
    assert (answer.status, answer.body) == (204, b"")


def test_unknown_members_are_ignored(caller, fresh):
    caller.ok("CreateWorkloadIdentity", name=fresh("agent"), aMemberOfTheFuture={"any": ["thing"]})


def test_null_is_the_same_as_absent(caller, fresh):
    caller.ok("CreateWorkloadIdentity", name=fresh("agent"), allowedResourceOauth2ReturnUrls=None, tags=None)
    caller.ok("ListWorkloadIdentities", nextToken=None, maxResults=None)


@pytest.mark.parametrize("operation", PAYMENT)
def test_payment_operations_are_unknown_and_say_so(caller, operation):
    answer = caller.at(model.path_of(operation))
    assert (answer.status, answer.error) == (404, "UnknownOperationException")
    assert answer.message


def test_an_operation_of_another_agentcore_service_is_unknown(server):
    client = server.boto3("bedrock-agentcore-control")
    with pytest.raises(ClientError) as refused:
        client.list_gateways()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert "Identity" in refused.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    "target",
    ["/", "/identities", "/identities/", "/identities/NoSuchOperation", "/identities/getworkloadidentity",
     "/identities/GetWorkloadIdentity/", "//identities/GetWorkloadIdentity", "/identities/%47etWorkloadIdentity"],
)  # fmt: skip
def test_any_other_path_is_unknown(caller, target):
    answer = caller.at(target)
    assert (answer.status, answer.error) == (404, "UnknownOperationException"), answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_other_method_is_unknown(caller, method):
    # A body where a method has none would be the next request on this connection.
    body = b"{}" if method in ("PUT", "PATCH") else b""
    answer = caller.at(model.path_of("ListWorkloadIdentities"), body, method)
    assert answer.status in (404, 405), answer
    assert answer.error == "UnknownOperationException"


def test_health_needs_no_signature(server):
    assert server.get("/healthz").status == 200


def test_a_secret_that_breaks_a_limit_is_not_repeated_in_the_error(caller, fresh):
    secret = planted.new_secret("API key") + "x" * 70_000
    answer = caller.refused(
        "CreateApiKeyCredentialProvider", 400, "ValidationException", name=fresh("weather"), apiKey=secret
    )
    assert "planted-" not in answer.body.decode()


def test_a_chunked_request_is_answered(server, caller):
    with Connection(server.port) as connection:
        target = model.path_of("ListWorkloadIdentities")
        headers = caller.signed(target, b"{}") | {"Transfer-Encoding": "chunked"}
        chunked = b"2\r\n{}\r\n0\r\n\r\n"
        connection._http.putrequest("POST", target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection._http.putheader(name, value)
        connection._http.endheaders(chunked)
        response = connection._http.getresponse()
        assert response.status == 200 and "workloadIdentities" in json.loads(response.read())
