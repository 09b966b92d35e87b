"""tests/emulators.py: what it starts is what the template declares, on loopback, and it ends just that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from emulators import started_at
from infra.cloudformation import load

TESTS = Path(__file__).resolve().parents[1]
NAME = f"test-{os.getpid()}"


def emulators(*arguments: str) -> str:
    command = [sys.executable, TESTS / "emulators.py", *arguments, "--name", NAME]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def processes() -> list[int]:
    state = json.loads((TESTS / ".work" / "emulators" / NAME / "state.json").read_text())
    return [process["pid"] for process in state["processes"]]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    yield json.loads(emulators("up", "--json"))
    emulators("down")


def client(environment: dict[str, str], service: str, url: str) -> Any:
    session = boto3.session.Session(
        environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=environment["AWS_REGION"]
    )
    return session.client(service, endpoint_url=environment[url])


@pytest.mark.parametrize("server", ["AGENT_IDENTITY_TEST_MOTO", "AGENT_IDENTITY_TEST_DYNAMODB_LOCAL"])
def test_the_table_is_the_templates(environment: dict[str, str], server: str) -> None:
    declared = load()["Resources"]["Table"]["Properties"]
    dynamodb = client(environment, "dynamodb", server)
    table = dynamodb.describe_table(TableName=environment["AGENT_IDENTITY_TABLE"])["Table"]
    assert table["KeySchema"] == declared["KeySchema"]
    [index], [wanted] = table["GlobalSecondaryIndexes"], declared["GlobalSecondaryIndexes"]
    assert {name: index[name] for name in wanted} == wanted
    ttl = dynamodb.describe_time_to_live(TableName=environment["AGENT_IDENTITY_TABLE"])["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": declared["TimeToLiveSpecification"]["AttributeName"]}


def test_the_queue_hands_on_to_dead_letters(environment: dict[str, str]) -> None:
    declared = load()["Resources"]["RefreshQueue"]["Properties"]
    sqs = client(environment, "sqs", "AWS_ENDPOINT_URL")
    said = sqs.get_queue_attributes(QueueUrl=environment["AGENT_IDENTITY_QUEUE_URL"], AttributeNames=["All"])["Attributes"]
    assert said["VisibilityTimeout"] == str(declared["VisibilityTimeout"])
    redrive = json.loads(said["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith("RefreshDeadLetters")
    assert redrive["maxReceiveCount"] == declared["RedrivePolicy"]["maxReceiveCount"]


def test_key_and_bus_are_there(environment: dict[str, str]) -> None:
    kms = client(environment, "kms", "AWS_ENDPOINT_URL")
    assert kms.describe_key(KeyId=environment["AGENT_IDENTITY_KMS_KEY_ID"])["KeyMetadata"]["Enabled"]
    events = client(environment, "events", "AWS_ENDPOINT_URL")
    assert events.describe_event_bus(Name=environment["AGENT_IDENTITY_EVENT_BUS"])["Name"]


def listening_addresses(pid: int) -> set[str]:
    """Where a process listens, from the kernel's own table."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


def test_they_listen_on_loopback_alone(environment: dict[str, str]) -> None:
    # 127.0.0.1, as the kernel writes it.
    assert [listening_addresses(pid) for pid in processes()] == [{"0100007F"}] * 2


def test_a_second_up_finds_them_and_may_choose_the_other_table(environment: dict[str, str]) -> None:
    before = processes()
    again = json.loads(emulators("up", "--json", "--dynamodb", "moto"))
    assert again == environment | {"AWS_ENDPOINT_URL_DYNAMODB": environment["AGENT_IDENTITY_TEST_MOTO"]}
    assert processes() == before


def test_down_ends_just_these() -> None:
    """After the others: it is started anew by nobody."""
    emulators("up")
    running = processes()
    assert all(started_at(pid) for pid in running)
    emulators("down")
    assert not any(started_at(pid) for pid in running)
    emulators("down")
