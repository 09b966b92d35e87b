"""The audit trail on AWS (D18): credentials on the log lines of the functions, changes in the transactions that make them."""

import json

import pytest

from harness import planted
from harness.functions import Pool
from harness.places import BOOTSTRAPS, REPOSITORY
from harness.product import command
from harness.stories import make_workload, workload_token


@pytest.fixture(scope="module")
def caller(functions):
    made = functions.caller()
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(caller, fresh):
    return make_workload(caller, fresh("agent"))


@pytest.fixture(scope="module")
def weather(caller, fresh):
    name = fresh("weather")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"))
    return name


def of_deployment(functions, *arguments, expect=0):
    arguments = ("audit", *arguments, "--store", "dynamodb")
    return command(*arguments, binary=BOOTSTRAPS / "agent-identity", expect=expect, **functions.environment)


def lines_of(functions, function):
    return [line for instance in functions.pools[function].all for line in instance.log.read_text().splitlines()]


def told(line):
    try:
        return "audit" in json.loads(line)
    except ValueError:
        return False


def test_d18_who_got_what_is_on_the_request_s_one_log_line(functions, caller, agent, weather, tmp_path):
    wat = workload_token(caller, agent, "ada")
    answers = [
        caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=name)
        for name in (weather, weather, "nothing")
    ]
    assert [answer.status for answer in answers] == [200, 200, 404]
    lines = lines_of(functions, "tokens")
    by_request = {line["requestId"]: line for line in map(json.loads, filter(told, lines))}
    given, _, refused = (by_request[answer.headers["x-amzn-requestid"]] for answer in answers)
    assert (given["workload"], given["provider"], len(given["user"])) == (agent, weather, 24)
    assert (refused["provider"], refused["error"]) == ("nothing", "ResourceNotFoundException")
    assert given["audit"].split(":")[0] == refused["audit"].split(":")[0], "one chain a process"

    log = tmp_path / "log.jsonl"

    def verified(changed, expect):
        log.write_text("\n".join(changed) + "\n")
        done = command("audit", "verify", str(log), "--data", str(tmp_path / "nowhere"), "--json", expect=expect)
        return json.loads(done.stdout)

    assert verified(lines, 0)["records"] >= len(answers)
    # In any order, as CloudWatch may give them.
    assert verified(lines[::-1], 0)["findings"] == []
    assert verified(lines[lines.index(next(filter(told, lines))) + 1 :], 0)["records"] >= len(answers), "an excerpt"
    place = next(number for number, line in enumerate(lines) if given["audit"] in line)
    for name, spoiled in {
        "for another": lines[place].replace(given["user"], "0" * 24),
        "another provider": lines[place].replace(weather, "another"),
        "another request": lines[place].replace(given["requestId"], refused["requestId"]),
        "gone": "{}",
    }.items():
        findings = verified([*lines[:place], spoiled, *lines[place + 1 :]], 1)["findings"]
        assert findings and all("was changed" in it or "is missing" in it for it in findings), (name, findings)


def test_d18_changes_are_in_the_table_with_their_change(functions, caller, fresh):
    name = fresh("changed")
    made = caller.call("CreateWorkloadIdentity", name=name)
    gone = caller.call("DeleteWorkloadIdentity", name=name)
    caller.ok("BlockUser", userId="mallory")
    listed = of_deployment(functions, "list", "--workload", name, "--json").stdout.splitlines()
    records = {it["request"]: it for it in map(json.loads, listed)}
    for answer, operation, verb in ((made, "CreateWorkloadIdentity", "put"), (gone, "DeleteWorkloadIdentity", "delete")):
        record = records[answer.headers["x-amzn-requestid"]]
        assert (record["operation"], record["outcome"]) == (operation, "ok")
        assert any(change.startswith(f"{verb} workload/") for change in record["changed"])
    report = json.loads(of_deployment(functions, "verify", "--json").stdout)
    assert report["findings"] == [] and report["records"] >= 3


TICK = json.loads((REPOSITORY / "infra" / "events" / "refresh-schedule.json").read_text())


def tick(functions):
    functions.pools["refresh"].invoke(TICK)


@pytest.fixture
def items(functions):
    """What the table has of a kind, and how it is changed."""
    dynamodb, table = functions.client_of("dynamodb"), functions.environment["AGENT_IDENTITY_TABLE"]

    class Items:
        def of(self, kind):
            pages = dynamodb.get_paginator("scan").paginate(TableName=table)
            return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(f"{kind}#")]

        def delete(self, item):
            dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("pk", "sk")})

        def put(self, item):
            dynamodb.put_item(TableName=table, Item=item)

    return Items()


def test_d18_whoever_writes_to_the_table_is_found_out(functions, caller, fresh, items):
    for number in range(4):
        make_workload(caller, fresh(f"agent-{number}"))
    unsigned = json.loads(of_deployment(functions, "verify", "--json").stdout)["unsigned"]
    tick(functions)
    assert unsigned and json.loads(of_deployment(functions, "verify", "--json").stdout)["unsigned"] == []
    chains = {}
    for item in items.of("audit"):
        assert "ds" not in item, "what is signed is due no more"
        chains.setdefault(item["sk"]["S"].split("/")[0], []).append(item)
    name, chain = max(chains.items(), key=lambda chain: len(chain[1]))
    chain.sort(key=lambda item: item["sk"]["S"])
    [head] = [item for item in items.of("audit-head") if item["sk"]["S"] == name]

    def found(expected):
        findings = json.loads(of_deployment(functions, "verify", "--json", expect=1).stdout)["findings"]
        assert any(expected in finding for finding in findings), findings

    items.delete(chain[1])
    found("link 2 is missing")
    items.put(chain[1])
    items.delete(chain[-1])
    found(f"it was signed up to link {len(chain)}, and ends with link {len(chain) - 1}")
    # Whoever may write to the table alone cannot sign that it ends there.
    value = json.loads(head["b"]["B"])
    value["head"]["sequence"] -= 1
    items.put(head | {"b": {"B": json.dumps(value).encode()}})
    found("the signature of its head is not ours")
    items.put(head)
    items.put(chain[-1])
    of_deployment(functions, "verify")


def test_d18_how_far_the_lines_of_a_log_have_come_is_signed_too(functions, caller, agent, weather, tmp_path):
    """The tokens function says so in the table, and the schedule signs that: a log that was made anew, or cut off, does not match."""
    functions.pools["tokens"].stop()
    functions.environment["AGENT_IDENTITY_USAGE_EVERY"] = "0"
    functions.pools["tokens"] = Pool("tokens", functions.environment)
    wat = workload_token(caller, agent, "ada")
    for _ in range(6):
        caller.ok("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=weather)
    tick(functions)
    ours = [line for line in lines_of(functions, "tokens") if '"audit"' in line]
    trail, log = tmp_path / "trail.jsonl", tmp_path / "log.jsonl"
    trail.write_text(of_deployment(functions, "export").stdout)

    def verified(lines, expect=0):
        log.write_text("\n".join(lines))
        return json.loads(of_deployment(functions, "verify", str(trail), str(log), "--json", expect=expect).stdout)

    whole = verified(ours)
    assert whole["findings"] == []
    chain = json.loads(ours[-1])["audit"].split(":")[0]
    assert chain not in whole["unsigned"] and chain in whole["withoutEnd"]
    cut = verified(ours[:-3], expect=1)["findings"]
    assert any(f"chain {chain}" in finding and "signed up to" in finding for finding in cut), cut
