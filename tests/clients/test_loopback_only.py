"""D21: being on the same machine is not a proof of anything."""

import subprocess

import pytest

from harness import model, planted
from harness.places import BINARY, plain_environment
from harness.product import Server, command, create_access_key, log_file
from harness.signing import Signing, sign
from harness.stories import make_workload, workload_token
from harness.wire import Connection

TARGET = model.path_of("ListWorkloadIdentities")
FORWARDED = [
    ("Forwarded", "for=203.0.113.7"), ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443"),
]  # fmt: skip


def send(server, credentials, host=None, method="POST", target=TARGET, **headers):
    base = {"Host": host or f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    signed = sign(credentials, method, target, base | extra, b"{}", Signing())
    with Connection(server.port) as connection:
        return connection.send(method, target, signed, b"{}")


@pytest.fixture
def default_key(server):
    return server.credentials()


@pytest.fixture
def own_key(server, fresh):
    return create_access_key(server.data, fresh("own"), "admin")


@pytest.mark.parametrize(("name", "value"), FORWARDED)
def test_d21_the_default_key_is_refused_behind_a_proxy(server, default_key, name, value):
    answer = send(server, default_key, **{name: value})
    assert answer.status == 403 and answer.error, answer
    assert "workloadIdentities" not in answer.json
    assert send(server, default_key).status == 200


@pytest.mark.parametrize(("name", "value"), FORWARDED)
def test_d21_a_key_of_the_operators_own_works_behind_a_proxy(server, own_key, name, value):
    assert send(server, own_key, **{name: value}).status == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_d21_the_names_of_this_machine_with_our_port_are_accepted(server, default_key, host):
    assert send(server, default_key, host=f"{host}:{server.port}").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil.example:{port}",
             "127.0.0.1:{port}@evil.example", "0.0.0.0:{port}", "127.0.0.2:{port}"],
)  # fmt: skip
def test_d21_any_other_host_is_refused_on_operations(server, default_key, own_key, host):
    host = host.format(port=server.port)
    for key in (default_key, own_key):
        answer = send(server, key, host=host)
        assert 400 <= answer.status < 500, answer
        assert b"workloadIdentities" not in answer.body


@pytest.mark.parametrize("path", ["/healthz", "/identities/oauth2/authorize?request_uri=x", "/identities/oauth2/callback/x"])
def test_d21_a_foreign_host_is_refused_on_every_route(server, path):
    with Connection(server.port) as connection:
        foreign = connection.send("GET", path, {"Host": "evil.example"})
    assert foreign.status in (400, 403, 421), foreign
    own = server.get(path)
    assert own.status != foreign.status or own.body != foreign.body, "the host made no difference"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:{port}", "http://localhost"])
def test_d21_operations_refuse_any_origin(server, default_key, own_key, origin):
    for key in (default_key, own_key):
        answer = send(server, key, Origin=origin.format(port=server.port))
        assert answer.status == 403 and answer.error, answer
        assert b"workloadIdentities" not in answer.body


def test_d21_a_preflight_gets_no_permission(server):
    with Connection(server.port) as connection:
        answer = connection.send("OPTIONS", TARGET, {
            "Host": f"127.0.0.1:{server.port}", "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization",
        })  # fmt: skip
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_d21_the_default_key_is_refused_when_a_public_address_is_set(tmp_path):
    server = Server(tmp_path / "store").start()
    default_key = server.credentials()
    assert send(server, default_key).status == 200
    assert server.stop() == 0
    own_key = create_access_key(server.data, "own", "admin")
    public = Server(
        server.data, port=server.port, arguments=("--public-base-url", "https://identity.example.com")
    ).start()
    assert send(public, own_key, host="identity.example.com").status == 200
    refused = send(public, default_key, host="identity.example.com")
    assert refused.status == 403 and refused.error, refused
    assert public.stop() == 0


def test_d21_however_the_public_address_is_typed_it_is_one_origin(tmp_path):
    """`HTTPS://` too makes Secure cookies of the host alone, and the port that https implies is the same host."""
    server = Server(tmp_path / "store", arguments=("--public-base-url", "HTTPS://Identity.Example.com:443/")).start()
    key = create_access_key(server.data, "own", "admin,mint-userid,read")
    for host in ("identity.example.com", "Identity.Example.com:443"):
        assert send(server, key, host=host).status == 200, host
    for host in ("identity.example.com:80", "identity.example.com:8443"):
        assert send(server, key, host=host).status == 403, host
    caller = server.caller(key)
    make_workload(caller, "agent", "https://app.example.com/return")
    made = caller.ok(
        "CreateOauth2CredentialProvider", name="code-host", credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput={
            "githubOauth2ProviderConfig": {"clientId": "client", "clientSecret": planted.new_secret("client secret")}
        },
    )  # fmt: skip
    assert made["callbackUrl"].startswith("https://identity.example.com/identities/oauth2/callback/")
    said = caller.ok(
        "GetResourceOauth2Token", workloadIdentityToken=workload_token(caller, "agent", "alice"),
        resourceCredentialProviderName="code-host", scopes=["repo"], oauth2Flow="USER_FEDERATION",
        resourceOauth2ReturnUrl="https://app.example.com/return",
    )  # fmt: skip
    page = server.get(said["authorizationUrl"].removeprefix("https://identity.example.com"))
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-agent-identity-consent=") and "; Secure" in cookie
    planted.plant(cookie.split(";")[0].split("=")[1], "cookie of a browser")
    caller.close()
    assert server.stop() == 0


def test_d21_beyond_loopback_the_health_is_told_under_any_name_and_nothing_else_is(tmp_path):
    store = tmp_path / "store"
    create_access_key(store, "own", "admin")
    with log_file("serve").open("wb") as log:
        process = subprocess.Popen(
            [BINARY, "serve", "--listen", "0.0.0.0:0", "--data", str(store),
             "--public-base-url", "https://identity.example.com"],
            stdout=subprocess.PIPE, stderr=log, env=plain_environment(),
        )  # fmt: skip
    try:
        port = int(process.stdout.readline().rsplit(b":", 1)[1])
        with Connection(port) as connection:
            for host, path, status in (
                ("10.0.0.7:8080", "/healthz", 200), ("identity.example.com", "/healthz", 200),
                ("10.0.0.7:8080", "/identities/oauth2/authorize?request_uri=x", 403),
                ("identity.example.com", "/identities/oauth2/authorize?request_uri=x", 400),
            ):  # fmt: skip
                assert connection.send("GET", path, {"Host": host}).status == status, (host, path)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_refused_before_any_operation_is_in_the_log_too(server):
    with Connection(server.port) as connection:
        connection.send("GET", "/healthz", {"Host": "evil.example"})
        connection.send("POST", "/invocations", {"Host": f"127.0.0.1:{server.port}"})
    refused = [record for record in server.log_records() if record["level"] == "INFO" and "error" in record]
    assert any((record.get("host"), record["status"]) == ("evil.example", 403) for record in refused)
    unknown = "UnknownOperationException"
    assert any((record.get("path"), record["error"]) == ("/invocations", unknown) for record in refused)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_d21_a_public_bind_without_a_public_address_is_refused(tmp_path, address):
    done = command("serve", "--listen", address, "--data", str(tmp_path / "store"), expect=None)
    assert done.returncode in (1, 2), done
    assert "--public-base-url" in done.stderr


def test_d21_a_public_bind_needs_https(tmp_path):
    done = command(
        "serve", "--listen", "0.0.0.0:0", "--data", str(tmp_path / "store"),
        "--public-base-url", "http://identity.example.com", expect=None,
    )  # fmt: skip
    assert done.returncode in (1, 2) and "https" in done.stderr


def test_d21_a_public_bind_without_a_key_of_ones_own_is_refused(tmp_path):
    done = command(
        "serve", "--listen", "0.0.0.0:0", "--data", str(tmp_path / "store"),
        "--public-base-url", "https://identity.example.com", expect=None,
    )  # fmt: skip
    assert done.returncode in (1, 2) and "access-keys create" in done.stderr


@pytest.mark.parametrize("target", ["169.254.169.254:80", "169.254.0.0/16", "[fe80::1]:80", "[fd00:ec2::254]:80"])
def test_d21_metadata_and_link_local_addresses_can_never_be_listed(tmp_path, target):
    done = command(
        "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "store"), "--allow-egress", target, expect=None
    )
    assert done.returncode in (1, 2) and target.split("/")[0].strip("[]").split("]")[0] in done.stderr
