"""`serve` is killed in refreshes at a provider that rotates, with a grace and without: the figures of D6."""

import json
import time

import pytest
from harness.product import Server

from crash.rotation import kill_and_count


class Embedded:
    """`serve`: one process, which refreshes what is due by itself."""

    def __init__(self, directory, vendor):
        self.server = Server(directory, (vendor.address,)).start()
        self.credentials = self.server.credentials()
        self.told = set()
        self.busy_for, self.answers_after_ms, self.died_at = 0.15, 50, []

    def caller(self):
        return self.server.caller(self.credentials)

    def kill(self):
        self.server.kill()
        self.died_at.append(time.time())
        self.restart()
        return 1

    def renew(self):
        assert self.server.stop() == 0
        self.restart()

    def restart(self):
        self.told = self.announced()
        self.server = Server(self.server.data, self.server.allow_egress, port=self.server.port).start()

    def work_off_what_is_due(self):
        pass

    def announced(self):
        events = [record for record in self.server.log_records() if record.get("what") == "Connection Needs Consent"]
        details = [json.loads(event["detail"]) for event in events]
        return self.told | {(detail["userKey"], detail["reason"]) for detail in details}


@pytest.mark.parametrize("grace", [60, 0])
def test_d6_what_kills_in_refreshes_cost(tmp_path, vendor, app, dice, kills, capsys, grace):
    vendor.reset()
    place = Embedded(tmp_path / "store", vendor)
    kill_and_count(place, vendor, app.return_url, f"rotating-{grace}", grace, max(kills // 5, 10), dice, capsys)
    assert place.server.stop() == 0
    vendor.reset()
