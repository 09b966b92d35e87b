"""Writes vectors.json: requests signed by botocore itself, which the verifier must accept.

    python3 -m venv venv && venv/bin/pip install boto3==1.44.5
    venv/bin/python shared/api/tests/sigv4/generate.py > shared/api/tests/sigv4/vectors.json

Two sources: unmodified boto3 clients whose requests are caught before they leave, and botocore's signer over requests
that no client of ours happens to send. The key is the one of AWS's documentation and opens nothing.
"""

import base64
import datetime
import json
from unittest import mock
from urllib.parse import urlsplit

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime.datetime(2026, 11, 23, 9, 5, 7)
ARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/a b"
# Not stable from run to run: kept only where they are signed.
NOISE = {"amz-sdk-invocation-id", "amz-sdk-request", "user-agent"}


def vector(name, request, **differences):
    url = urlsplit(request.url)
    kept = text(request.headers["Authorization"]).split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = [
        [key.lower(), text(value)]
        for key, value in request.headers.items()
        if key.lower() in kept or key.lower() not in NOISE
    ]
    if not any(key == "host" for key, _ in headers):
        headers.append(["host", url.netloc])
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    return {
        "name": name,
        "method": request.method,
        "path": url.path or "/",
        "query": url.query or None,
        "headers": headers,
        "body_base64": base64.b64encode(body).decode(),
        "body_repeated": 1,
        "access_key_id": KEY_ID,
        "secret_access_key": SECRET,
        "session_token": None,
        "region": "us-east-1",
        "service": "bedrock-agentcore",
        "signed_at_seconds": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
    } | differences


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def signed(name, method, url, headers=(), body=b"", token=None, region="us-east-1", service="bedrock-agentcore", **more):
    request = AWSRequest(method, url, data=body)
    for key, value in headers:
        request.headers.add_header(key, value)
    botocore.auth.SigV4Auth(Credentials(KEY_ID, SECRET, token), service, region).add_auth(request)
    return vector(name, request, session_token=token, region=region, service=service, **more)


def sent(name, service, operation, /, endpoint="http://127.0.0.1:7420", token=None, **parameters):
    """What an unmodified client puts on the wire for `operation`."""
    caught = []

    def catch(request, **_):
        caught.append(request)
        return AWSResponse(request.url, 200, {}, Raw())

    client = boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET, aws_session_token=token, config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip
    client.meta.events.register("before-send.*.*", catch)
    getattr(client, operation)(**parameters)
    return vector(name, caught[0], session_token=token)


class Raw:
    def stream(self, **_):
        yield b"{}"


def vectors():
    control, data = "bedrock-agentcore-control", "bedrock-agentcore"
    post = "http://127.0.0.1:7420/identities/ListWorkloadIdentities"
    json_type = ("Content-Type", "application/json")
    yield sent("boto3 create", control, "create_workload_identity", name="agent")
    yield sent("boto3 with a session token", control, "list_workload_identities", token="FwoGZXIvYXdzE/+token==")
    yield sent("boto3 data plane", data, "get_workload_access_token_for_user_id", workloadName="agent", userId="ü")
    yield sent("boto3 tags", control, "tag_resource", resourceArn=ARN, tags={"stage": "dev"})
    yield sent("boto3 list tags", control, "list_tags_for_resource", resourceArn=ARN)
    yield sent("boto3 untag", control, "untag_resource", resourceArn=ARN, tagKeys=["b c", "a", "ä+/=&~*"])
    yield sent("boto3 behind a stage", control, "list_workload_identities", endpoint="https://api.example.com/prod/")
    yield signed("empty body", "POST", post, [json_type])
    yield signed("get of the root", "GET", "http://127.0.0.1:7420")
    yield signed("execute-api", "POST", post, [json_type], b"{}", service="execute-api", region="eu-central-1")
    yield signed(
        "more signed headers", "POST", post,
        [json_type, ("amz-sdk-invocation-id", "5d1f"), ("Content-Length", "2"), ("X-Amz-User-Agent", "aws-sdk-js/3"),
         ("X-Amz-Content-SHA256", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")], b"{}",
    )  # fmt: skip
    yield signed(
        "spaces and repeats in headers", "POST", post,
        [json_type, ("X-Note", "  two   words\tand  a tab "), ("X-Note", '"a  b"'), ("X-Note", "")], b"{}",
    )  # fmt: skip
    yield signed("repeated query keys", "GET", "http://127.0.0.1:7420/x?b=2&a=1&a=0&a-b=3&c=&d")
    yield signed("unicode in the query", "GET", "http://127.0.0.1:7420/x?k=%C3%BC%20%F0%9F%94%91&%C3%A4=%2B%25")
    yield signed("a bare plus in the query", "GET", "http://127.0.0.1:7420/x?k=a+b")
    yield signed("unusual characters in the path", "PUT", "http://127.0.0.1:7420/a:b/~c%20d(e)/%F0%9F%94%91/", [], b"x")
    yield signed("dot segments and double slashes", "DELETE", "http://127.0.0.1:7420//a/./b/../c//%2E%2E/d")
    yield signed("bytes that are no text", "POST", post, [json_type], bytes(range(256)))
    megabyte = signed("a megabyte", "POST", post, [json_type], b"0123456789abcdef" * 65536)
    yield megabyte | {"body_base64": base64.b64encode(b"0123456789abcdef").decode(), "body_repeated": 65536}


with mock.patch("botocore.auth.get_current_datetime", lambda *_, **__: NOW):
    print(json.dumps(list(vectors()), indent=1, ensure_ascii=True))
