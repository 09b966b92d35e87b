"""D22: `env --profile NAME` writes a profile of its own, and never over one of the user's."""

import json
import os
import subprocess
import sys

import pytest

from harness import planted
from harness.places import plain_environment
from harness.product import command

NAME = "local-identity"
OURS = f"services = agent-identity-{NAME}"
OTHERS_CONFIG = """\
# written by hand
[default]
region = eu-west-1

[profile of-another-account]
region = eu-central-1
output   =   json
; a comment that stays

[services something-else]
s3 =
  endpoint_url = http://127.0.0.1:9000

[sso-session company]
sso_region = eu-west-1
"""
OTHERS_CREDENTIALS = """\
[default]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = a-secret-of-the-users-own

[of-another-account]
aws_access_key_id = AKIAI44QH8DHBEXAMPLE
aws_secret_access_key = another-secret-of-the-users-own
"""
USERS_CONFIG = f"[profile {NAME}]\nregion = eu-west-1\nrole_arn = arn:aws:iam::123456789012:role/mine\n"
USERS_CREDENTIALS = f"[{NAME}]\naws_access_key_id = AKIAI55QH8DHBEXAMPLE\naws_secret_access_key = nobody-can-give-this-back\n"

FOREIGN = {
    "a profile": (USERS_CONFIG, ""),
    "a profile of other services": (USERS_CONFIG + "services = something-else\n", ""),
    "a profile that mentions ours in a comment": (USERS_CONFIG + f"# {OURS}\n", ""),
    "a profile that is ours under a longer name": (USERS_CONFIG + f"{OURS}-2\n", ""),
    "ours, in another profile": (f"[profile {NAME}-2]\n{OURS}\n\n{USERS_CONFIG}", ""),
    "credentials": ("", USERS_CREDENTIALS),
    "both": (USERS_CONFIG, USERS_CREDENTIALS),
    "an odd header": (USERS_CONFIG.replace("[profile ", "[  profile   "), ""),
    "no newline at the end": (USERS_CONFIG.rstrip(), USERS_CREDENTIALS.rstrip()),
    "windows lines": (USERS_CONFIG.replace("\n", "\r\n"), USERS_CREDENTIALS.replace("\n", "\r\n")),
}


def test_as_json_the_profile_is_an_object(server, tmp_path):
    said = command("env", "--data", str(server.data), "--url", server.url, "--profile", NAME, "--json", HOME=str(tmp_path))
    assert json.loads(said.stdout) == {"AWS_PROFILE": NAME}
    assert OURS in (tmp_path / ".aws" / "config").read_text()


@pytest.fixture
def home(tmp_path):
    """A home directory with the configuration files of somebody who uses AWS."""
    (tmp_path / ".aws").mkdir(mode=0o700)
    write(tmp_path, OTHERS_CONFIG, OTHERS_CREDENTIALS)
    return tmp_path


def write(home, config, credentials):
    (home / ".aws" / "config").write_bytes(config.encode())
    (home / ".aws" / "credentials").write_bytes(credentials.encode())


def both(home):
    return tuple((home / ".aws" / name).read_bytes() for name in ("config", "credentials"))


def env_profile(server, home, *arguments, name=NAME, expect=0, **environment):
    done = command(
        "env", "--data", str(server.data), "--url", server.url, "--profile", name, *arguments,
        expect=expect, HOME=str(home), **environment,
    )  # fmt: skip
    secret = server.credentials().secret_access_key
    assert secret not in done.stdout and secret not in done.stderr
    return done


def boto3_says(home, program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", f"import boto3\n{program}"],
        capture_output=True, text=True, timeout=60, env=plain_environment(HOME=str(home), **environment),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("kind", FOREIGN)
def test_d22_a_profile_of_the_users_own_is_refused_and_stays_as_it_is(server, home, kind):
    config, credentials = FOREIGN[kind]
    write(home, OTHERS_CONFIG + "\n" + config, OTHERS_CREDENTIALS + "\n" + credentials)
    before = both(home)
    done = env_profile(server, home, expect=1)
    assert NAME in done.stderr and done.stdout == ""
    assert both(home) == before
    assert sorted(os.listdir(home / ".aws")) == ["config", "credentials"], "no half-written file is left"


def test_d22_a_profile_of_ours_is_rewritten_and_other_sections_stay(server, home):
    env_profile(server, home)
    first = both(home)
    env_profile(server, home)
    assert both(home) == first, "a second time changes nothing"
    env_profile(server, home, "--region", "eu-north-1")
    config, credentials = (text.decode() for text in both(home))
    assert "eu-north-1" in config and "us-east-1" not in config
    assert config.startswith(OTHERS_CONFIG.rstrip()) and credentials.startswith(OTHERS_CREDENTIALS.rstrip())
    assert config.count(f"[profile {NAME}]") == credentials.count(f"[{NAME}]") == 1
    assert config.count(f"[services agent-identity-{NAME}]") == 1

    # Keys that are no longer ours are replaced: the profile says that it is ours.
    secret = server.credentials().secret_access_key
    stale = credentials.replace(secret, "stale")
    assert stale != credentials
    write(home, config, stale)
    env_profile(server, home, "--region", "eu-north-1")
    assert both(home) == (config.encode(), credentials.encode())


def test_d22_the_files_are_private_and_a_link_stays_a_link(server, home, tmp_path):
    elsewhere = tmp_path / "dotfiles"
    (home / ".aws" / "config").rename(elsewhere)
    (home / ".aws" / "config").symlink_to(elsewhere)
    env_profile(server, home)
    assert (home / ".aws" / "config").is_symlink() and OURS in elsewhere.read_text()
    assert (home / ".aws" / "credentials").stat().st_mode & 0o777 == 0o600


def test_d22_a_profile_works_with_boto3_and_no_other_profile_is_redirected(server, home):
    said = env_profile(server, home).stdout
    assert said.strip() == f"export AWS_PROFILE='{NAME}'"
    services = ("bedrock-agentcore", "bedrock-agentcore-control", "s3")
    program = (
        "for profile in ('{}', 'of-another-account', 'default'):\n"
        "    session = boto3.Session(profile_name=profile)\n"
        "    print(*(session.client(name).meta.endpoint_url for name in {}))\n"
        "control = boto3.Session(profile_name='{}').client('bedrock-agentcore-control')\n"
        "print(control.list_workload_identities()['ResponseMetadata']['HTTPStatusCode'])\n"
    ).format(NAME, services, NAME)
    *endpoints, status = boto3_says(home, program)
    assert status == "200"
    assert endpoints[:2] == [server.url, server.url]
    assert all(endpoint.endswith(".amazonaws.com") for endpoint in endpoints[2:]), endpoints
    (default,) = boto3_says(home, "print(boto3.client('bedrock-agentcore').meta.endpoint_url)")
    assert default.endswith(".amazonaws.com")
    (chosen,) = boto3_says(home, "print(boto3.client('bedrock-agentcore').meta.endpoint_url)", AWS_PROFILE=NAME)
    assert chosen == server.url


def test_d22_files_elsewhere_are_found_by_their_variables(server, tmp_path):
    config, credentials = tmp_path / "deep" / "my-config", tmp_path / "my-credentials"
    places = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    env_profile(server, tmp_path, **places)
    assert OURS in config.read_text() and f"[{NAME}]" in credentials.read_text()
    assert not (tmp_path / ".aws").exists()
    (url,) = boto3_says(
        tmp_path, f"print(boto3.Session(profile_name='{NAME}').client('bedrock-agentcore').meta.endpoint_url)", **places
    )
    assert url == server.url


@pytest.mark.parametrize("name", ["default", "", "two words", "a]b", "a\nb", "../x", "a'b", "é"])
def test_d22_a_name_that_is_no_profile_is_refused(server, home, name):
    before = both(home)
    done = env_profile(server, home, name=name, expect=None)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert both(home) == before


def test_d22_the_profile_holds_our_key_and_nothing_of_the_environment(server, tmp_path):
    planted.plant(server.credentials().secret_access_key, "secret access key")
    env_profile(server, tmp_path, AWS_SESSION_TOKEN="stale-token-of-another-account", AWS_PROFILE="of-another-account")
    config, credentials = (text.decode() for text in both(tmp_path))
    assert "stale-token" not in config + credentials and "of-another-account" not in config + credentials
