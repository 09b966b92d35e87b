"""docs/operations.md, 'Operations on AWS': its commands are run as they stand there, on emulators."""

import re
import subprocess

import pytest

from harness import planted
from harness.functions import Functions, aws_client
from harness.places import BOOTSTRAPS, REPOSITORY, VENV, emulators, plain_environment
from harness.product import log_file
from infra.cloudformation import load

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
BLOCKS = dict(re.findall(r"<!-- tests/aws/test_operations\.py runs this: (\S+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))
USED = {"deployment", "principals", "access-keys", "clients", "smoke", "restore"}
ADMIN_SESSION = "arn:aws:sts::123456789012:assumed-role/Admin/ada"
AGENT_SESSION = "arn:aws:sts::123456789012:assumed-role/support-agent/i-0123"


@pytest.fixture
def shell(tmp_path):
    """A script in a shell where `out` gives these outputs of the stack."""

    def run(script, outputs, environment):
        outs = "".join(f"{name}) echo '{value}';; " for name, value in outputs.items())
        script = f'out() {{ case "$1" in {outs}*) return 1;; esac; }}\n{script}'
        variables = plain_environment(**environment) | {"HOME": str(tmp_path), "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1"}
        variables["PATH"] = f"{VENV / 'bin'}:{BOOTSTRAPS}:{variables['PATH']}"
        done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=300, env=variables, cwd=tmp_path)
        log_file("shell").write_text(done.stderr)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    return run


def outputs_of(functions):
    environment = functions.environment
    return {
        "ApiUrl": functions.url,
        "TableName": environment["AGENT_IDENTITY_TABLE"],
        "VaultKeyArn": environment["AGENT_IDENTITY_KMS_KEY_ID"],
    }


def outside(functions):
    """What somebody at a shell has: credentials, and where the emulators are; not what the functions are told."""
    return {name: value for name, value in functions.environment.items() if name.startswith("AWS_")}


def test_every_block_that_says_so_is_run():
    assert set(BLOCKS) == USED
    assert PAGE.count("runs this:") == len(USED)


def test_the_first_access_key_and_the_smoke_test(shell, functions):
    said = shell(
        f"""
        {BLOCKS["deployment"]}
        eval "$({BLOCKS["access-keys"]})"
        {BLOCKS["clients"]}
        {BLOCKS["smoke"]}
        """,
        outputs_of(functions), outside(functions),
    )  # fmt: skip
    assert "a key that opens nothing" in said


@pytest.fixture
def behind_iam():
    running = Functions(environment={
        "AGENT_IDENTITY_PRINCIPAL": "iam", "AGENT_IDENTITY_API_ID": "testapi",
        "AGENT_IDENTITY_ADMIN_ROLE": "arn:aws:iam::123456789012:role/Admin",
    }).start()  # fmt: skip
    yield running
    running.stop()


def test_principals_and_the_smoke_test_behind_iam(shell, behind_iam):
    admin, agent = (behind_iam.iam_credentials(arn) for arn in (ADMIN_SESSION, AGENT_SESSION))
    said = shell(
        f"""
        {BLOCKS["deployment"]}
        {BLOCKS["principals"]}
        {BLOCKS["clients"]}
        export AWS_ACCESS_KEY_ID={admin.access_key_id} AWS_SECRET_ACCESS_KEY={admin.secret_access_key}
        {BLOCKS["smoke"]}
        export AWS_ACCESS_KEY_ID={agent.access_key_id} AWS_SECRET_ACCESS_KEY={agent.secret_access_key}
        aws bedrock-agentcore-control create-workload-identity --name support-desk 2>&1 | grep AccessDeniedException
        """,
        outputs_of(behind_iam), outside(behind_iam),
    )  # fmt: skip
    assert "read workload=support-* provider=github" in said and "a key that opens nothing" in said
    assert "CreateWorkloadIdentity" in said.splitlines()[-1]


def test_a_restored_table_has_the_name_and_all_that_the_template_gives_it(shell, fresh):
    planted.new_secret("nothing")
    environment = emulators()
    # moto has backups, DynamoDB Local has none.
    environment["AWS_ENDPOINT_URL_DYNAMODB"] = environment["AWS_ENDPOINT_URL"]
    environment = {name: value for name, value in environment.items() if name.startswith(("AWS_", "AGENT_IDENTITY_"))}
    dynamodb, name = aws_client(environment, "dynamodb"), fresh("table")
    declared = load()["Resources"]["Table"]["Properties"]
    shape = {part: declared[part] for part in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")}
    made = dynamodb.create_table(TableName=name, DeletionProtectionEnabled=True, **shape)["TableDescription"]
    item = {"pk": {"S": "connection#w#u"}, "sk": {"S": "p"}, "ds": {"S": "due#1"}, "da": {"N": "5"}}
    dynamodb.put_item(TableName=name, Item=item)

    shell(BLOCKS["restore"], {"TableName": name, "VaultKeyArn": environment["AGENT_IDENTITY_KMS_KEY_ID"]}, environment)

    table = dynamodb.describe_table(TableName=name)["Table"]
    assert table["TableArn"] == made["TableArn"], "roles and functions know it by this"
    assert table["DeletionProtectionEnabled"] is True
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["due"]
    assert dynamodb.scan(TableName=name)["Items"] == [item]
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", declared["TimeToLiveSpecification"]["AttributeName"])
    recovery = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert dynamodb.describe_table(TableName=f"{name}-restored")["Table"]["TableStatus"] == "ACTIVE", "yours to delete"


def test_the_page_explains_every_parameter_and_every_alarm():
    template = load()
    alarms = [name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
    assert alarms and [name for name in [*template["Parameters"], *alarms] if f"`{name}`" not in PAGE] == []


def test_the_outputs_that_the_page_reads_are_those_of_the_template():
    read = set(re.findall(r"\$\(out (\w+)\)", PAGE))
    assert read <= set(load()["Outputs"]) and {"ApiUrl", "TableName", "VaultKeyArn"} <= read
