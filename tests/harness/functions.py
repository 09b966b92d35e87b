"""The functions, each under AWS's own Lambda runtime emulator, behind a small HTTP API of ours: what API Gateway and Lambda are
on AWS. Requests become events of payload format 2.0 and answers become responses; nothing else is decided here.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from . import planted
from .places import BOOTSTRAPS, emulators, plain_environment, runtime_emulator
from .product import command, log_file
from .signing import Credentials, Signing
from .wire import Caller

# The routes of infra/template.yaml: what is not the data plane's goes to the control plane.
DATA_PLANE = {
    "/identities/GetWorkloadAccessToken",
    "/identities/GetWorkloadAccessTokenForJWT",
    "/identities/GetWorkloadAccessTokenForUserId",
    "/identities/oauth2/token",
    "/identities/api-key",
    "/identities/CompleteResourceTokenAuth",
    "/identities/ListConnections",
    "/identities/GetConnection",
    "/identities/DeleteConnection",
    "/identities/RetryConnection",
    "/identities/OffboardUser",
    "/identities/oauth2/authorize",
}
CALLBACK = "/identities/oauth2/callback/"
API_ID = "testapi"
ADMIN_GRANT = "admin,mint-jwt,mint-userid,use,read"


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


class Instance:
    """One execution environment: a bootstrap under the emulator, which gives it one event at a time."""

    def __init__(self, function: str, environment: dict[str, str]):
        self.function, self.environment = function, environment
        # Between the choice of a port and its use somebody else may take it.
        for _ in range(3):
            self._start()
            if self._listens():
                return
        raise AssertionError(f"{function} found no free port: {self.log.read_text(errors='replace')}")

    def _start(self) -> None:
        self.port = free_port()
        self.log = log_file(f"function-{self.function}")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(runtime_emulator()),
                    "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}",
                    "--runtime-api-address", f"127.0.0.1:{free_port()}",
                    "--log-level", "error",
                    str(BOOTSTRAPS / self.function),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=plain_environment(**self.environment, AWS_LAMBDA_FUNCTION_TIMEOUT="60"),
            )  # fmt: skip

    def _listens(self) -> bool:
        """False when its port was taken."""
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                if self.process.poll() is not None:
                    said = self.log.read_text(errors="replace")
                    assert "address already in use" in said, f"{self.function} did not start: {said}"
                    return False
                assert time.monotonic() < deadline, f"{self.function} does not listen"
                time.sleep(0.02)

    def invoke(self, event: Any) -> Any:
        """The function's answer, as JSON; an error is `{"errorType", "errorMessage"}`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=70)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            return json.loads(connection.getresponse().read() or b"null")
        finally:
            connection.close()

    def stop(self) -> None:
        # The emulator ends its bootstrap with itself.
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """Instances of one function: Lambda starts another when all are busy, here up to a number."""

    def __init__(self, function: str, environment: dict[str, str], most: int = 3):
        self.function, self.environment, self.most = function, environment, most
        self.free: queue.LifoQueue[Instance] = queue.LifoQueue()
        self.all: list[Instance] = []
        self.starting = threading.Lock()

    @contextmanager
    def instance(self) -> Iterator[Instance]:
        try:
            taken = self.free.get_nowait()
        except queue.Empty:
            taken = self._another() or self.free.get(timeout=70)
        try:
            yield taken
        finally:
            self.free.put(taken)

    def _another(self) -> Instance | None:
        with self.starting:
            if len(self.all) >= self.most:
                return None
            self.all.append(Instance(self.function, self.environment))
            return self.all[-1]

    def invoke(self, event: Any) -> Any:
        with self.instance() as instance:
            return instance.invoke(event)

    def stop(self) -> None:
        for instance in self.all:
            instance.stop()
        self.all.clear()
        self.free = queue.LifoQueue()


def http_event(method: str, target: str, headers: list[tuple[str, str]], body: bytes, **context: Any) -> dict[str, Any]:
    """A request as API Gateway's HTTP API hands it to Lambda (payload format 2.0)."""
    path, _, query = target.partition("?")
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        if name != "cookie":
            joined[name] = f"{joined[name]},{value}" if name in joined else value
    cookies = [part for name, value in headers if name.lower() == "cookie" for part in value.split("; ")]
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": joined,
        "requestContext": {
            "accountId": "123456789012", "apiId": API_ID, "domainName": joined.get("host", ""),
            "domainPrefix": API_ID, "requestId": str(uuid.uuid4()), "routeKey": f"{method} {path}",
            "stage": "$default", "time": "24/Nov/2026:12:00:00 +0000", "timeEpoch": int(time.time() * 1000),
            "http": {
                "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                "userAgent": joined.get("user-agent", ""),
            },
        } | context,
        "isBase64Encoded": is_base64,
    }  # fmt: skip
    if cookies:
        event["cookies"] = cookies
    if body:
        event["body"] = text
    return event


def own_resources(environment: dict[str, str]) -> dict[str, str]:
    """A table, a queue and an event bus of this deployment alone, made like those that the emulators have from the template."""
    of_this_run = uuid.uuid4().hex[:12]
    dynamodb, sqs = aws_client(environment, "dynamodb"), aws_client(environment, "sqs")
    shape = dynamodb.describe_table(TableName=environment["AGENT_IDENTITY_TABLE"])["Table"]
    indexes = [
        {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
        for index in shape["GlobalSecondaryIndexes"]
    ]
    table = f"functions-{of_this_run}"
    dynamodb.create_table(
        TableName=table, BillingMode="PAY_PER_REQUEST", KeySchema=shape["KeySchema"],
        AttributeDefinitions=shape["AttributeDefinitions"], GlobalSecondaryIndexes=indexes,
    )  # fmt: skip
    queue = sqs.create_queue(QueueName=f"functions-{of_this_run}")["QueueUrl"]
    # Whoever counts what is announced hears nobody else's.
    aws_client(environment, "events").create_event_bus(Name=table)
    return environment | {
        "AGENT_IDENTITY_TABLE": table, "AGENT_IDENTITY_QUEUE_URL": queue, "AGENT_IDENTITY_EVENT_BUS": table,
    }  # fmt: skip


def aws_client(environment: dict[str, str], service: str) -> Any:
    """A boto3 client of an emulated AWS service."""
    endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}", environment["AWS_ENDPOINT_URL"])
    names = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"
    return _client(service, endpoint, *(environment[name] for name in names))


@cache
def _client(service: str, endpoint: str, key_id: str, secret: str, region: str) -> Any:
    """Making one takes longer than most calls; threads may share it."""
    session = boto3.session.Session(aws_access_key_id=key_id, aws_secret_access_key=secret, region_name=region)
    return session.client(service, endpoint_url=endpoint, config=Config(max_pool_connections=32))


@dataclass
class Functions:
    """A deployment: the functions, and the URL under which they are one API. The tests use it as they use a `Server`."""

    allow_egress: tuple[str, ...] = ()
    record_cache_seconds = 30
    environment: dict[str, str] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    front: ThreadingHTTPServer | None = None
    # Whose access keys IAM knows, by the key's id; API Gateway says in each event whose it verified.
    iam_callers: dict[str, str] = field(default_factory=dict)

    def start(self) -> Functions:
        deployment = self

        class Front(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                context = deployment.iam_context(self.headers.get("authorization", ""))
                event = http_event(self.command, self.path, self.headers.items(), body, **context)
                try:
                    answer = deployment.pool_of(urlsplit(self.path).path).invoke(event)
                except (http.client.HTTPException, ConnectionError):
                    # An instance was killed: its client hears nothing.
                    self.close_connection = True
                    return
                if "statusCode" not in answer:
                    # API Gateway's answer to a function that failed.
                    answer = {"statusCode": 500, "body": '{"message":"Internal Server Error"}', "headers": {}}
                content = (answer.get("body") or "").encode()
                if answer.get("isBase64Encoded"):
                    content = base64.b64decode(content)
                self.send_response(answer["statusCode"])
                for name, value in (answer.get("headers") or {}).items():
                    if name.lower() not in ("content-length", "connection"):
                        self.send_header(name, value)
                for cookie in answer.get("cookies") or []:
                    self.send_header("set-cookie", cookie)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.front = ThreadingHTTPServer(("127.0.0.1", 0), Front)
        self.front.daemon_threads = True
        threading.Thread(target=self.front.serve_forever, daemon=True).start()
        self.environment = own_resources(emulators()) | {
            "AGENT_IDENTITY_PUBLIC_BASE_URL": self.url,
            "AGENT_IDENTITY_PRINCIPAL": "access-keys",
            "AGENT_IDENTITY_EGRESS_ALLOW": ",".join(self.allow_egress),
        } | self.environment
        self.pools = {name: Pool(name, self.environment) for name in ("credentials", "tokens", "gateway", "refresh")}
        return self

    def pool_of(self, path: str) -> Pool:
        if path == "/identities/InvokeTool" or path.startswith("/.well-known/oauth-protected-resource/"):
            return self.pools["gateway"]
        is_data = path in DATA_PLANE or path.startswith(CALLBACK)
        return self.pools["tokens" if is_data else "credentials"]

    def stop(self) -> None:
        if self.front is not None:
            self.front.shutdown()
            self.front.server_close()
        for pool in self.pools.values():
            pool.stop()

    def restart(self, **variables: str) -> None:
        """Every function anew, as a deployment with other parameters."""
        for pool in self.pools.values():
            pool.stop()
        self.environment |= variables
        self.pools = {name: Pool(name, self.environment) for name in self.pools}

    @property
    def port(self) -> int:
        assert self.front is not None
        return self.front.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def credentials(self) -> Credentials:
        """A new access key in the table, with all grants."""
        return self.create_access_key(f"test-{uuid.uuid4().hex[:12]}", ADMIN_GRANT)

    def create_access_key(self, name: str, *grants: str) -> Credentials:
        arguments = ["access-keys", "create", "--store", "dynamodb", "--name", name, "--json"]
        for grant in grants:
            arguments += ["--grant", grant]
        made = json.loads(command(*arguments, binary=BOOTSTRAPS / "agent-identity", **self.environment).stdout)
        planted.plant(made["secretAccessKey"], "secret access key")
        return Credentials(made["accessKeyId"], made["secretAccessKey"], self.environment["AWS_REGION"])

    def iam_credentials(self, user_arn: str) -> Credentials:
        """An access key of this IAM principal. The front takes its word for whose it is, and does not verify signatures."""
        key_id = f"ASIA{uuid.uuid4().hex[:16].upper()}"
        self.iam_callers[key_id] = user_arn
        return Credentials(key_id, planted.new_secret("secret access key"), self.environment["AWS_REGION"])

    def iam_context(self, authorization: str) -> dict[str, Any]:
        """What API Gateway adds to an event when IAM has authorized its caller."""
        key_id = authorization.partition("Credential=")[2].partition("/")[0]
        if key_id not in self.iam_callers:
            return {}
        account = self.environment["AGENT_IDENTITY_ACCOUNT_ID"]
        iam = {
            "accessKey": key_id, "accountId": account, "callerId": f"AROAEXAMPLE:{key_id}", "cognitoIdentity": None,
            "principalOrgId": None, "userArn": self.iam_callers[key_id], "userId": f"AROAEXAMPLE:{key_id}",
        }  # fmt: skip
        return {"authorizer": {"iam": iam}}

    def caller(self, credentials: Credentials | None = None, timeout_seconds: float = 70) -> Caller:
        return Caller(self.port, credentials or self.credentials(), Signing(), timeout_seconds)

    def boto3(self, service: str, credentials: Credentials | None = None) -> Any:
        """An unmodified boto3 client that does not retry."""
        chosen = credentials or self.credentials()
        return boto3.session.Session(
            aws_access_key_id=chosen.access_key_id,
            aws_secret_access_key=chosen.secret_access_key,
            region_name=chosen.region,
        ).client(service, endpoint_url=self.url, config=Config(retries={"total_max_attempts": 1}))

    def take_messages(self) -> list[dict[str, Any]]:
        """What waits in the queue, as SQS hands it to Lambda."""
        sqs, url = self.client_of("sqs"), self.environment["AGENT_IDENTITY_QUEUE_URL"]
        found: list[dict[str, Any]] = []
        while batch := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found += batch
            for message in batch:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [{"messageId": message["MessageId"], "body": message["Body"]} for message in found]

    def client_of(self, service: str) -> Any:
        """A boto3 client of an emulated AWS service, to look at what is there."""
        return aws_client(self.environment, service)
