"""`agent-identity quickstart`: the whole story in one command."""

import re
import selectors
import signal
import subprocess
import time

import boto3
import pytest

from harness.places import BINARY, plain_environment
from harness.product import command, log_file


def test_quickstart_tells_the_whole_story_in_under_ten_seconds():
    began = time.monotonic()
    said = command("quickstart").stdout
    assert time.monotonic() - began < 10
    for step in ("JWT", "verified session", "authorizationUrl", "agree", "accessToken", "apiKey", "refresh", "serve", "boto3"):
        assert step in said, f"the story does not tell of {step}"
    _, called = said.split("POST /identities/InvokeTool")
    assert re.search(r'-> \{"events":\[.+\],"user":"ada"\}', called), "the tool answers with the user's own calendar"
    assert "eyJ" not in called, "and no token is shown"


def test_quickstart_shows_no_secret_in_full():
    said = command("quickstart").stdout
    shown = [word for word in re.findall(r"[A-Za-z0-9_.-]{32,}", said) if not re.fullmatch(r"[a-z0-9-]{36}", word)]
    assert shown == []


def test_two_quickstarts_at_once_do_not_meet():
    running = [
        subprocess.Popen([BINARY, "quickstart"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment())
        for _ in range(2)
    ]
    for process in running:
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0, stderr.decode()


@pytest.fixture
def started(tmp_path):
    """Starts a quickstart whose temporary directory is of our choosing, and reads until it says something."""
    running = []

    def start(*arguments, until):
        with log_file("quickstart").open("wb") as log:
            process = subprocess.Popen(
                [BINARY, "quickstart", *arguments],
                stdout=subprocess.PIPE, stderr=log, env=plain_environment(TMPDIR=str(tmp_path)),
            )  # fmt: skip
        running.append(process)
        deadline, said = time.monotonic() + 20, ""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while until not in said:
                assert selector.select(max(0.0, deadline - time.monotonic())), f"it never says `{until}`: {said}"
                piece = process.stdout.read1()
                assert piece, f"it ended by itself with {process.wait()}: {said}"
                said += piece.decode()
        return process, said

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("arguments", "until"), [(("--keep",), "Ctrl-C"), ((), "\n")], ids=["at the end", "in the middle"],
)  # fmt: skip
def test_a_signal_leaves_nothing_behind(started, tmp_path, arguments, until, signal_number, code):
    process, _ = started(*arguments, until=until)
    assert list(tmp_path.iterdir()) != [], "there is something to leave behind"
    process.send_signal(signal_number)
    assert process.wait(10) == code
    assert list(tmp_path.iterdir()) == []


def test_keep_leaves_it_running_until_it_is_told_to_stop(started, tmp_path):
    process, said = started("--keep", until="Ctrl-C")
    (url,) = set(re.findall(r"server +(http://127\.0\.0\.1:\d+)", said))
    client = boto3.client(
        "bedrock-agentcore-control", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="no-key-of-this-server",
    )  # fmt: skip
    with pytest.raises(client.exceptions.ClientError) as refused:
        client.list_workload_identities()
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) in (0, 130)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
