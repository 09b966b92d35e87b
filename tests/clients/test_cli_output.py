"""What a command could not print is not done: exit 1, and a secret that nobody got lets nobody in."""

import json
import subprocess

import pytest

from harness import planted
from harness.places import BINARY, plain_environment
from harness.product import command, log_file


def to_a_full_disk(*arguments, stdin=None):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [BINARY, *arguments], input=stdin, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            env=plain_environment(),
        )  # fmt: skip
    log_file("command").write_text(done.stderr)
    assert done.returncode == 1, done
    assert "standard output" in done.stderr and "No space left" in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def store(server):
    """The data directory of a server: everything that can be listed is there."""
    command("keys", "create", "signer", "--alg", "ES256", "--data", str(server.data))
    return str(server.data)


COMMANDS = {
    "env": ("env",),
    "env as JSON": ("env", "--json"),
    "the list of keys": ("access-keys", "list"),
    "the list of keys as JSON": ("access-keys", "list", "--json"),
    "a public key": ("keys", "public", "signer"),
    "a secret": ("secrets", "put", "somebodys"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_what_could_not_be_printed_is_a_failure(store, what):
    stdin = planted.new_secret("external secret") if what == "a secret" else None
    to_a_full_disk(*COMMANDS[what], "--data", store, stdin=stdin)


def test_a_server_that_cannot_say_that_it_is_ready_does_not_start(tmp_path):
    to_a_full_disk("serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "store"))


def test_the_quickstart_does_not_claim_to_have_told_its_story():
    to_a_full_disk("quickstart")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_access_key_whose_secret_nobody_got_is_revoked(store, fresh, form):
    name = fresh("lost")
    done = to_a_full_disk("access-keys", "create", "--name", name, "--grant", "admin", "--data", store, *form)
    assert "revoked" in done.stderr
    listed = json.loads(command("access-keys", "list", "--data", store, "--json").stdout)
    assert f"access-key/{name}" not in [key["principal"] for key in listed]
    again = command("access-keys", "create", "--name", name, "--grant", "admin", "--data", store, "--json")
    planted.plant(json.loads(again.stdout)["secretAccessKey"], "secret access key")


def test_a_signing_key_that_was_made_is_named_although_its_arn_could_not_be_printed(store, fresh):
    name = fresh("signer")
    done = to_a_full_disk("keys", "create", name, "--alg", "ES256", "--data", store)
    assert "arn:aws:kms:" in done.stderr, done.stderr
    assert command("keys", "public", name, "--data", store).stdout


def test_a_reader_that_has_read_enough_is_no_failure(store):
    script = f"{BINARY} access-keys list --data {store} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=plain_environment(), timeout=60)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_arns_can_be_had_as_json(store, fresh):
    secret = command(
        "secrets", "put", "shared", "--data", store, "--json", stdin=planted.new_secret("external secret")
    )
    key = command("keys", "create", name := fresh("signer"), "--alg", "RS256", "--data", store, "--json")
    secret, key = json.loads(secret.stdout), json.loads(key.stdout)
    assert secret["arn"].startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:")
    assert key["arn"].startswith("arn:aws:kms:us-east-1:000000000000:key/")
    assert (secret["name"], key["name"]) == ("shared", name)
