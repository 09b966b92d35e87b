"""P9: what a scheduled refresh reads depends on what is due and not on what is stored, counted on its way to DynamoDB Local."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.aws_calls import Recording
from bench.deployment import TICK, Deployment
from bench.runtime_api import Bootstrap
from harness.stories import connected_user

DUE = 100
STORED = (1_000, 10_000, 100_000)
LIFE_SECONDS = 90
"""Tokens are due after half of that: long enough that none is due again while the others are refreshed."""

READS = ("Query", "GetItem", "BatchGetItem")
SHARDS = 16
A_YEAR_IN_MS = 365 * 86_400 * 1000


@dataclass
class Ticked:
    """One tick and its refreshes, with so many connections stored."""

    stored: int
    recording: Recording
    refreshes: int


def measure(deployment: Deployment) -> Iterator[Ticked]:
    vendor, provider = deployment.vendor, deployment.provider
    vendor.set_client_behaviour(provider, LIFE_SECONDS, keeps_refresh_token=True, answers_after_ms=0)
    for user in range(DUE):
        connected_user(deployment.caller, deployment.workload, provider, f"due-{user}", deployment.return_url)
    stored = DUE
    for wanted in STORED:
        with deployment.instance("refresh") as process:
            # Who came first may be due again already. Keys of issuers and heads of the trail are done here, too.
            while work_off(deployment, process):
                pass
        refreshed_at = time.monotonic()
        fill(deployment, stored, wanted)
        stored = wanted
        time.sleep(max(0.0, refreshed_at + LIFE_SECONDS / 2 + 2 - time.monotonic()))
        before = vendor.count("refresh_token")
        with deployment.instance("refresh") as process, deployment.proxy.recorded() as recording:
            assert work_off(deployment, process) == DUE
        yield Ticked(wanted, recording, vendor.count("refresh_token") - before)


def work_off(deployment: Deployment, process: Bootstrap) -> int:
    """A tick, and all that it finds, one after the other: so that each costs what it costs alone."""
    due = tick(deployment, process)
    for record in due:
        failed = process.invoke({"Records": [record]})
        assert failed == {"batchItemFailures": []}, failed
    return len(due)


def tick(deployment: Deployment, process: Bootstrap) -> list[dict[str, Any]]:
    """What it puts into the queue, as SQS hands it to Lambda."""
    answer = process.invoke(json.loads(TICK.read_text()))
    found = deployment.functions.take_messages()
    assert len(found) == answer["due"], answer
    return found


def fill(deployment: Deployment, present: int, wanted: int) -> None:
    """Connections that are due in a year, over all shards, beside those that are there."""
    dynamodb, table = deployment.functions.client_of("dynamodb"), deployment.functions.environment["AGENT_IDENTITY_TABLE"]
    model = next(
        item
        for page in dynamodb.get_paginator("scan").paginate(TableName=table)
        for item in page["Items"]
        if item["pk"]["S"].startswith("connection#")
    )
    due_at = str(int(time.time() * 1000) + A_YEAR_IN_MS)

    def row(number: int) -> dict[str, Any]:
        elsewhere = {"pk": {"S": f"connection#filler#{number}"}, "ds": {"S": f"due#{number % SHARDS}"}, "da": {"N": due_at}}
        return {"PutRequest": {"Item": model | elsewhere}}

    def write(first: int) -> None:
        rows = [row(number) for number in range(first, min(first + 25, wanted))]
        said = dynamodb.batch_write_item(RequestItems={table: rows})
        assert not said["UnprocessedItems"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(present, wanted, 25)))
