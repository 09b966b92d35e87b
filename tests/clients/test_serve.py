"""`serve` and `env`: files and their modes, ready line, exit codes, what is printed for clients."""

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from harness import planted
from harness.places import BINARY, plain_environment
from harness.product import Server, command, complete_lines, log_file
from harness.stories import make_workload, workload_token


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_private_data_directory(store):
    server = Server(store).start()
    assert mode(store) == 0o700
    for name in ("agent-identity.db", "master.key", "access-key.json"):
        assert mode(store / name) == 0o600, name
    (running,) = (store / "serve").glob("*.json")
    assert running.name == f"{server.pid}.json"
    assert server.url in running.read_text()
    assert server.stop() == 0


EXIT_CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}


@pytest.mark.parametrize("signal_number", EXIT_CODES)
def test_a_signal_ends_it_cleanly(store, signal_number):
    server = Server(store).start()
    assert server.stop(signal_number) == EXIT_CODES[signal_number]
    assert server.log_records()[-1]["message"] == "stopped"


@pytest.mark.parametrize("signal_number", EXIT_CODES)
def test_a_signal_ends_a_start_that_waits_for_another_process(store, signal_number):
    server = Server(store).start()
    assert server.stop() == 0
    directory = os.open(store, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    log = log_file("serve")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0", "--data", str(store)],
            stdout=subprocess.PIPE, stderr=stderr, env=plain_environment(),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while "waiting for it" not in log.read_text():
            assert time.monotonic() < deadline and process.poll() is None, "it does not say what it waits for"
            time.sleep(0.05)
        process.send_signal(signal_number)
        assert process.wait(3) == EXIT_CODES[signal_number]
        assert process.stdout.read() == b"", "it was never ready"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(directory)
    again = Server(store).start()
    assert again.stop() == 0


def test_the_ready_line_is_the_only_thing_on_standard_output(store):
    server = Server(store).start()
    server.caller().ok("ListWorkloadIdentities")
    server.process.send_signal(signal.SIGTERM)
    rest = server.process.stdout.read()
    assert server.stop() == 0
    assert rest == b""


def test_what_was_written_is_there_after_a_restart(store):
    first = Server(store).start()
    make_workload(first.caller(), "agent", "https://a.example/return")
    keys = first.credentials()
    assert first.stop() == 0
    second = Server(store).start()
    assert second.credentials() == keys
    assert second.caller().ok("GetWorkloadIdentity", name="agent")["allowedResourceOauth2ReturnUrls"]
    assert second.stop() == 0


def test_env_prints_what_official_clients_read(server):
    variables = server.env()
    assert variables["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] == server.url
    assert variables["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"] == server.url
    assert variables["BEDROCK_AGENTCORE_CP_ENDPOINT"] == variables["BEDROCK_AGENTCORE_DP_ENDPOINT"] == server.url
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"]
    assert "127.0.0.1" in variables["NO_PROXY"]


def test_env_works_in_a_shell_and_boto3_needs_nothing_else(server, tmp_path):
    script = (
        f'eval "$({BINARY} env --data {server.data} --url {server.url})" && '
        f"{sys.executable} -c 'import boto3; "
        f'c = boto3.client("bedrock-agentcore-control"); print(c.list_workload_identities()["workloadIdentities"] != None)\''
    )
    environment = plain_environment(HOME=str(tmp_path), AWS_SESSION_TOKEN="stale", AWS_PROFILE="of-another-account")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_d22_env_unsets_what_would_win_over_it_and_extends_no_proxy(server, tmp_path):
    script = (
        f'eval "$({BINARY} env --data {server.data} --url {server.url})" && '
        'echo "token=${AWS_SESSION_TOKEN-unset} profile=${AWS_PROFILE-unset} no_proxy=$NO_PROXY"'
    )
    environment = plain_environment(
        HOME=str(tmp_path), AWS_SESSION_TOKEN="stale", AWS_PROFILE="of-another-account", NO_PROXY="intranet.example"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "token=unset profile=unset" in done.stdout
    hosts = done.stdout.strip().split("no_proxy=")[1].split(",")
    assert {"intranet.example", "127.0.0.1", "localhost"} <= set(hosts)


def test_d22_env_profile_leaves_the_users_other_aws_calls_alone(server, tmp_path):
    environment = plain_environment(HOME=str(tmp_path))
    done = subprocess.run(
        [BINARY, "env", "--data", str(server.data), "--url", server.url, "--profile", "local-identity"],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    config = (tmp_path / ".aws" / "config").read_text()
    assert "[profile local-identity]" in config and "services" in config
    program = (
        "import boto3\n"
        "session = boto3.Session(profile_name='local-identity')\n"
        "print(session.client('bedrock-agentcore').meta.endpoint_url)\n"
        "print(session.client('bedrock-agentcore-control').list_workload_identities() is not None)\n"
        "print(session.client('s3').meta.endpoint_url)\n"
    )
    used = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert used.returncode == 0, used.stderr
    endpoint, worked, s3 = used.stdout.split()
    assert (endpoint, worked) == (server.url, "True")
    assert "amazonaws.com" in s3


def test_env_works_after_the_server_has_stopped(store):
    server = Server(store).start()
    before = server.env()
    assert server.stop() == 0
    after = json.loads(command("env", "--data", str(store), "--json").stdout)
    assert after["AWS_ACCESS_KEY_ID"] == before["AWS_ACCESS_KEY_ID"]
    assert after["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] == before["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"]


def test_env_prints_the_region_of_the_server_unless_told_otherwise(store):
    server = Server(store, arguments=("--region", "eu-central-1")).start()

    def region(*more, **environment):
        said = command("env", "--data", str(store), "--json", *more, **environment).stdout
        variables = json.loads(said)
        planted.plant(variables["AWS_SECRET_ACCESS_KEY"], "secret access key")
        assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"]
        return variables["AWS_REGION"]

    assert region() == "eu-central-1"
    assert region("--url", server.url) == "eu-central-1"
    assert region("--region", "eu-west-1") == "eu-west-1"
    assert region(AGENT_IDENTITY_REGION="eu-west-2") == "eu-west-2"
    assert server.stop() == 0
    assert region() == "eu-central-1", "the one that ran last"


def test_env_asks_which_of_two_servers_is_meant(store):
    first, second = Server(store).start(), Server(store).start()
    unclear = command("env", "--data", str(store), expect=None)
    assert unclear.returncode in (1, 2) and "--url" in unclear.stderr
    for server in (first, second):
        assert server.env()["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] == server.url
    assert (first.stop(), second.stop()) == (0, 0)


@pytest.mark.parametrize("arguments", [("no-such-command",), ("serve", "--no-such-flag"), ("serve", "--listen", "x")])
def test_a_wrong_command_line_is_a_usage_error(arguments):
    assert command(*arguments, expect=2).stderr


def test_a_taken_port_is_an_error_that_names_it(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("serve", "--listen", f"127.0.0.1:{port}", "--data", str(store), expect=1)
    assert str(port) in done.stderr


def test_a_data_directory_that_others_can_read_is_made_private_or_refused(tmp_path):
    store = tmp_path / "store"
    store.mkdir(mode=0o755)
    os.chmod(store, 0o755)
    try:
        server = Server(store).start()
    except AssertionError as refused:
        assert "ended with 1" in str(refused)
    else:
        assert mode(store) == 0o700
        assert server.stop() == 0


def test_a_lost_master_key_is_an_error_and_no_new_key(store):
    server = Server(store).start()
    make_workload(server.caller(), "agent")
    assert server.stop() == 0
    (store / "master.key").unlink()
    done = command("serve", "--listen", "127.0.0.1:0", "--data", str(store), expect=1)
    assert "master" in done.stderr
    assert not (store / "master.key").exists()


def test_two_processes_on_one_directory_see_each_others_writes(store):
    first, second = Server(store).start(), Server(store).start()
    make_workload(first.caller(), "made-by-the-first")
    assert second.caller().ok("GetWorkloadIdentity", name="made-by-the-first")
    second.caller().ok("DeleteWorkloadIdentity", name="made-by-the-first")
    first.caller().refused("GetWorkloadIdentity", 404, "ResourceNotFoundException", name="made-by-the-first")
    assert (first.stop(), second.stop()) == (0, 0)


def test_an_api_key_updated_through_one_process_is_served_by_the_other_within_two_seconds(store):
    """Without an error in between, however warm the other is with the old key."""
    first, second = Server(store).start(), Server(store).start()
    writing = first.caller()
    make_workload(writing, "agent")
    keys = [planted.new_secret("API key")]
    writing.ok("CreateApiKeyCredentialProvider", name="weather", apiKey=keys[0])
    wat = workload_token(writing, "agent", "alice")
    seen, stop = [], threading.Event()

    def read(caller):
        while not stop.is_set():
            answer = caller.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName="weather")
            seen.append((time.monotonic(), answer.json.get("apiKey", f"{answer.status} {answer.body!r}")))
        caller.close()

    readers = [threading.Thread(target=read, args=(second.caller(writing.credentials),)) for _ in range(3)]
    for reader in readers:
        reader.start()
    acknowledged = [time.monotonic()]
    # Slow and quick changes: within the record cache's second, and after it.
    for pause in (1.2, 0.0, 0.05, 0.4, 1.1, 2.2):
        time.sleep(pause)
        keys.append(planted.new_secret("API key"))
        writing.ok("UpdateApiKeyCredentialProvider", name="weather", apiKey=keys[-1])
        acknowledged.append(time.monotonic())
    time.sleep(2.2)
    stop.set()
    for reader in readers:
        reader.join(10)
    writing.close()
    assert (first.stop(), second.stop()) == (0, 0)

    assert [found for _, found in seen if found not in keys] == [], "an error in between"
    ended = acknowledged[1:]
    late = [
        (at - end, keys.index(found)) for at, found in seen for end in ended[keys.index(found) : keys.index(found) + 1]
        if at > end + 2
    ]  # fmt: skip
    assert late == [], "an old key was served more than two seconds after its replacement was acknowledged"
    assert {found for at, found in seen if at > ended[-1] + 2} == {keys[-1]}


def test_settings_can_come_from_the_environment(store):
    first = Server(store).start()
    default_key = first.credentials()
    assert first.stop() == 0
    environment = {
        "AGENT_IDENTITY_EGRESS_ALLOW": " 127.0.0.1:9, idp.internal:443 ,",
        "AGENT_IDENTITY_PUBLIC_BASE_URL": "https://i.example.com",
    }
    server = Server(store, environment=environment).start()
    answer = server.caller(default_key).call("ListWorkloadIdentities")
    assert answer.status == 403, "the public base URL of the environment did not take the default key away"
    assert server.stop() == 0


def test_a_server_needs_no_flag_at_all(store):
    planted.watch_data(store)
    environment = plain_environment(
        AGENT_IDENTITY_DATA=str(store), AGENT_IDENTITY_LISTEN="127.0.0.1:0", AGENT_IDENTITY_REGION="eu-north-1",
        AGENT_IDENTITY_TRUSTED_ISSUERS="issuer=https://idp.example.com,audience=agents", AGENT_IDENTITY_LOG="warn",
    )  # fmt: skip
    log = log_file("serve")
    with log.open("wb") as stderr:
        process = subprocess.Popen([BINARY, "serve"], stdout=subprocess.PIPE, stderr=stderr, env=environment)
    try:
        assert process.stdout.readline().startswith(b"listening on http://127.0.0.1:")
        said = command("env", "--json", AGENT_IDENTITY_DATA=str(store)).stdout
        variables = json.loads(said)
        planted.plant(variables["AWS_SECRET_ACCESS_KEY"], "secret access key")
        assert variables["AWS_REGION"] == "eu-north-1"
        process.terminate()
        assert process.wait(10) == 0
        said = [json.loads(line) for line in complete_lines(log)]
        assert {record["level"] for record in said} <= {"WARN"}, "only warnings were asked for"
        # The issuer, whose keys are read before anybody needs them, is not there.
        assert all(record["issuer"] == "https://idp.example.com" for record in said), said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
