"""What `serve` does not start with: each refusal names the flag, and nothing is made before it."""

import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from harness import planted
from harness.places import BINARY, plain_environment
from harness.product import Server, command, create_access_key, log_file

PUBLIC = ("--public-base-url", "https://identity.example.com")
MALFORMED = {
    "no URL": ("--public-base-url", "nonsense"),
    "a URL without a host": ("--public-base-url", "https://"),
    "another scheme": ("--public-base-url", "ftp://id.example.com"),
    "a path": ("--public-base-url", "https://id.example.com/path"),
    "a query": ("--public-base-url", "https://id.example.com/?a=b"),
    "a fragment": ("--public-base-url", "https://id.example.com/#a"),
    "a user": ("--public-base-url", "https://user@id.example.com"),
    "an empty URL": ("--public-base-url", ""),
    "no region": ("--region", ""),
    "a region with spaces": ("--region", "us east 1"),
    "a region with a slash": ("--region", "../us-east-1"),
    "a region with a line": ("--region", "us-east-1\nx"),
    "a filter of no level": ("--log", "agent_identity=loud"),
    "a broken filter": ("--log", "info=info=info"),
    "no address": ("--listen", "nonsense"),
    "no egress rule": ("--allow-egress", "nonsense"),
    "no issuer": ("--trusted-issuer", "nonsense"),
    "an empty issuer": ("--trusted-issuer", ""),
    "an empty list of issuers": ("--trusted-issuer", "[]"),
    "an issuer of blanks": ("--trusted-issuer", " ; "),
}
VARIABLES = {
    "AGENT_IDENTITY_TRUSTED_ISSUERS": "--trusted-issuer",
    "AGENT_IDENTITY_PUBLIC_BASE_URL": "--public-base-url",
}
OTHER_VARIABLES = ["EGRESS_ALLOW", "EXTRA_CA_FILE", "REGION", "LOG", "LISTEN", "DATA"]


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def serve(store, *arguments, expect=None, listen="127.0.0.1:0", **environment):
    # A server that starts after all would not end by itself.
    done = command(
        "serve", "--listen", listen, "--data", str(store), *arguments, expect=expect, timeout_seconds=15, **environment
    )
    assert done.returncode in (1, 2) and done.stdout == "", done
    return done


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_value_is_a_usage_error_that_names_its_flag(store, what):
    flag, value = MALFORMED[what]
    listen = value if flag == "--listen" else "127.0.0.1:0"
    done = serve(store, *(() if flag == "--listen" else (flag, value)), listen=listen, expect=2)
    assert flag in done.stderr
    assert not store.exists(), "a usage error makes no data directory"


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_that_would_open_the_server_is_a_mistake_and_not_a_default(store, variable):
    """An unset variable is a default. An empty one of these is a script that went wrong."""
    done = serve(store, **{variable: ""})
    assert VARIABLES[variable] in done.stderr or variable in done.stderr
    assert not store.exists()


def test_any_other_empty_variable_is_as_if_it_were_not_there(store):
    server = Server(store, environment={f"AGENT_IDENTITY_{name}": "" for name in OTHER_VARIABLES}).start()
    assert server.credentials().region == "us-east-1"
    assert server.stop() == 0


@pytest.mark.parametrize("what", ["the file", "the directory"])
def test_a_store_that_cannot_be_written_is_refused_with_the_way_to_mend_it(what):
    """Nothing is read-only to root, who runs this as somebody else."""
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        binary = shutil.copy(BINARY, place)
        store = Path(place) / "home" / "store"
        store.parent.mkdir()
        if nobody:
            os.chown(store.parent, nobody["user"], nobody["group"])

        def run(*arguments):
            return subprocess.run(
                [binary, *arguments, "--data", str(store)], capture_output=True, text=True, timeout=30,
                env=plain_environment(), **nobody,
            )  # fmt: skip

        made = run("access-keys", "create", "--name", "first", "--grant", "admin", "--json")
        assert made.returncode == 0, made.stderr
        planted.plant(json.loads(made.stdout)["secretAccessKey"], "secret access key")
        database = store / "agent-identity.db"
        (database if what == "the file" else store).chmod(0o400 if what == "the file" else 0o500)
        for arguments in (("serve", "--listen", "127.0.0.1:0"), ("access-keys", "list"), ("access-keys", "revoke", "first")):
            done = run(*arguments)
            log_file("command").write_text(done.stderr)
            assert (done.returncode, done.stdout) == (1, ""), done
            assert str(database) in done.stderr and "read-only" in done.stderr and "chmod 600" in done.stderr
            assert "the log has its cause" not in done.stderr
        store.chmod(0o700)


@pytest.mark.parametrize("host", ["id.example.com", "192.0.2.1", "localhost.evil.example", "127.0.0.1.evil.example"])
def test_a_public_address_without_https_is_refused_also_on_loopback(store, host):
    done = serve(store, "--public-base-url", f"http://{host}")
    assert "--public-base-url" in done.stderr and "https" in done.stderr


@pytest.mark.parametrize("content", ["/dev/null", "no such file", "no PEM", "a PEM of something else"])
def test_further_roots_that_are_none_are_refused(store, tmp_path, content):
    file = tmp_path / "roots.pem"
    if content == "no PEM":
        file.write_text("nonsense\n")
    elif content == "a PEM of something else":
        file.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    path = "/dev/null" if content == "/dev/null" else str(file)
    done = serve(store, "--extra-ca-file", path)
    assert "--extra-ca-file" in done.stderr and path in done.stderr


def test_further_roots_can_come_from_the_environment_and_are_checked(store):
    done = serve(store, AGENT_IDENTITY_EXTRA_CA_FILE="/dev/null")
    assert "--extra-ca-file" in done.stderr or "AGENT_IDENTITY_EXTRA_CA_FILE" in done.stderr


def test_d21_a_public_bind_with_only_an_expired_key_of_ones_own_is_refused(store):
    create_access_key(store, "short", "admin", expires_in=1)
    time.sleep(2.1)
    assert "access-keys create" in serve(store, *PUBLIC, listen="0.0.0.0:0").stderr


def test_d21_a_public_bind_with_only_a_key_without_grants_is_refused(store):
    create_access_key(store, "nobody")
    assert "access-keys create" in serve(store, *PUBLIC, listen="0.0.0.0:0").stderr


def test_d21_a_public_bind_with_only_a_revoked_key_is_refused(store):
    key = create_access_key(store, "leaver", "admin")
    command("access-keys", "revoke", key.access_key_id, "--data", str(store))
    assert "access-keys create" in serve(store, *PUBLIC, listen="0.0.0.0:0").stderr


def test_d21_a_public_bind_with_a_key_of_ones_own_starts(store):
    """Without this, the refusals above could have another reason."""
    for name, grants, expires_in in (("nobody", (), None), ("short", ("admin",), 600)):
        create_access_key(store, name, *grants, expires_in=expires_in)
    with log_file("serve").open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "serve", "--listen", "0.0.0.0:0", "--data", str(store), *PUBLIC],
            stdout=subprocess.PIPE, stderr=log, env=plain_environment(),
        )  # fmt: skip
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(20), "it is not ready"
        assert process.stdout.readline().startswith(b"listening on http://")
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not (store / "access-key.json").exists(), "the default key is for loopback only"
