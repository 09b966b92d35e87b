"""D21: being on the same machine is not a proof of anything."""

import pytest

from harness import model
from harness.product import Server, command, create_access_key
from harness.signing import Signing, sign
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
