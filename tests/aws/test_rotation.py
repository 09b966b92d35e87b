"""The functions are killed in refreshes at a provider that rotates, with a grace and without: the figures of D6 on the DynamoDB adapter."""

import http.client
import json
import os
import random
import secrets
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from crash.rotation import kill_and_count
from harness.functions import Functions, Pool
from harness.places import REPOSITORY

TICK = json.loads((REPOSITORY / "infra" / "events" / "refresh-schedule.json").read_text())
AT_ONCE = 3
"""Instances of the function that gives tokens: all are killed together."""


class Deployed:
    """The functions as Lambda runs them: instances that are killed in the middle of an invocation."""

    def __init__(self, vendor, fresh):
        self.functions = Functions((vendor.address,)).start()
        self.credentials = self.functions.credentials()
        self.busy_for, self.answers_after_ms, self.died_at, self.told = 0.5, 200, [], set()
        self.renewing = threading.Lock()
        events, self.sqs = self.functions.client_of("events"), self.functions.client_of("sqs")
        self.queue = self.sqs.create_queue(QueueName=fresh("events"))["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule, bus = fresh("rule"), self.functions.environment["AGENT_IDENTITY_EVENT_BUS"]
        events.put_rule(Name=rule, EventBusName=bus, EventPattern='{"source":["agent-identity"],"detail-type":["Connection Needs Consent"]}')
        events.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
        self.more_refreshers()
        self.warm_up()

    def more_refreshers(self):
        self.functions.pools["refresh"] = Pool("refresh", self.functions.environment, 8)

    def warm_up(self):
        """Instances that wait for requests, so that a kill hits one at work and not one that starts."""
        pool = self.functions.pools["tokens"] = Pool("tokens", self.functions.environment, AT_ONCE)
        starting = [threading.Thread(target=lambda: pool.free.put(pool._another())) for _ in range(AT_ONCE)]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()

    def caller(self):
        return self.functions.caller(self.credentials)

    def kill(self):
        dying = self.functions.pools["tokens"].all
        for instance in dying:
            # The emulator first, which would answer for its bootstrap; that goes on until it is killed itself.
            children = Path(f"/proc/{instance.process.pid}/task").glob("*/children")
            bootstraps = {int(pid) for of_thread in children for pid in of_thread.read_text().split()}
            instance.process.kill()
            for bootstrap in bootstraps:
                os.kill(bootstrap, signal.SIGKILL)
        self.died_at.append(time.time())
        for instance in dying:
            instance.process.wait()
        self.warm_up()
        return len(dying)

    def renew(self):
        # A tick is not stopped half-way: it has a test of its own (`test_faults`).
        with self.renewing:
            for pool in self.functions.pools.values():
                pool.stop()
            self.more_refreshers()
            self.warm_up()

    def work_off_what_is_due(self):
        with self.renewing:
            self.functions.pools["refresh"].invoke(TICK)
        url, records = self.functions.environment["AGENT_IDENTITY_QUEUE_URL"], []
        while batch := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            records += [{"messageId": message["MessageId"], "body": message["Body"]} for message in batch]
            for message in batch:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        if records:
            # As Lambda does: a batch that watches a dead holder's lease for half a minute keeps no other from being worked off.
            threading.Thread(target=self.deliver, args=(self.functions.pools["refresh"], records), daemon=True).start()

    def deliver(self, pool, records):
        # An instance that is stopped meanwhile leaves them due.
        with suppress(http.client.HTTPException, OSError):
            pool.invoke({"Records": records})

    def announced(self):
        while batch := self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in batch:
                detail = json.loads(message["Body"])["detail"]
                self.told.add((detail["userKey"], detail["reason"]))
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return self.told

    def stop(self):
        self.functions.stop()


@pytest.mark.parametrize("grace", [60, 0])
def test_d6_what_kills_in_refreshes_cost(vendor, app, fresh, capsys, grace):
    kills, seed = int(os.environ.get("CRASH_KILLS", "30")), int(os.environ.get("CRASH_SEED", secrets.randbelow(2**32)))
    with capsys.disabled():
        print(f"\ncrash: CRASH_SEED={seed}")
    vendor.reset()
    place = Deployed(vendor, fresh)
    try:
        name = fresh(f"rotating-{grace}")
        kill_and_count(place, vendor, app.return_url, name, grace, max(kills // 2, 15), random.Random(seed), capsys)
    finally:
        place.stop()
        vendor.reset()
