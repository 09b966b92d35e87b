"""`serve` is killed under load: whoever got a credential, and whatever was changed, is in the audit trail (D18)."""

import json
import threading
import time

from harness import planted
from harness.product import Server, command
from harness.stories import make_workload, workload_token

from crash.load import NO_ANSWER

READERS = 6
KILLS = 15


class Reader(threading.Thread):
    """Gets an API key again and again, and makes workloads, and remembers the requests that were answered."""

    def __init__(self, caller, wat, name):
        super().__init__(daemon=True)
        self.caller, self.wat, self.name_of_workloads = caller, wat, name
        self.given, self.made, self.surprises = [], [], []

    def run(self):
        number = 0
        try:
            while True:
                number += 1
                key = self.caller.call("GetResourceApiKey", workloadIdentityToken=self.wat, resourceCredentialProviderName="weather")
                self.remember(key, self.given)
                if number % 4 == 0:
                    made = self.caller.call("CreateWorkloadIdentity", name=f"{self.name_of_workloads}-{number}")
                    self.remember(made, self.made)
        except NO_ANSWER:
            self.caller.close()

    def remember(self, answer, where):
        if answer.status < 300:
            where.append(answer.headers["x-amzn-requestid"])
        else:
            self.surprises.append(answer)


def exported(server):
    lines = command("audit", "export", "--data", str(server.data)).stdout.splitlines()
    return [record for line in lines for record in json.loads(line).get("link", {}).get("records", [])]


def test_d18_no_kill_loses_a_record_of_what_was_answered(tmp_path, dice):
    server = Server(tmp_path / "store").start()
    credentials = server.caller().credentials
    caller = server.caller(credentials)
    make_workload(caller, "agent")
    caller.ok("CreateApiKeyCredentialProvider", name="weather", apiKey=planted.new_secret("API key"))
    given, made = [], []
    for kill in range(KILLS):
        wat = workload_token(server.caller(credentials), "agent", "ada")
        readers = [Reader(server.caller(credentials), wat, f"w-{kill}-{number}") for number in range(READERS)]
        for reader in readers:
            reader.start()
        time.sleep(dice.uniform(0.1, 0.5))
        server.kill()
        for reader in readers:
            reader.join(30)
            assert not reader.is_alive() and reader.surprises == []
            given += reader.given
            made += reader.made
        server = Server(server.data, port=server.port).start()
    assert server.stop() == 0
    records = exported(server)
    keys = [record["request"] for record in records if record["operation"] == "GetResourceApiKey"]
    workloads = [record["request"] for record in records if record["operation"] == "CreateWorkloadIdentity"]
    assert len(keys) == len(set(keys)) and len(workloads) == len(set(workloads)), "each once"
    assert set(given) <= set(keys) and set(made) <= set(workloads)
    assert len(given) > 5 * KILLS and len(made) > KILLS // 2, "there was hardly any load"
    assert len(keys) - len(given) <= READERS * KILLS, "what is on record and was not answered is what the kills cut off"
    report = json.loads(command("audit", "verify", "--data", str(server.data), "--json").stdout)
    assert report["findings"] == []
    assert len(report["withoutEnd"]) >= KILLS, "a killed process leaves its chains without an end, and it is said"
