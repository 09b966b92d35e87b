"""`agent-identity run`: a program whose requests get their credentials on the way (D23). The programs are others': curl, Python, Node, git.
An API by https is on the other side, and a real OpenID provider."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import planted
from harness.authority import Authority
from harness.browser import Browser
from harness.places import BINARY, plain_environment
from harness.product import Server, command, create_access_key, log_file
from harness.stories import make_user_provider, make_workload, sign_in_at_vendor
from harness.upstream import Reply, Upstream, echo


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def api(authority):
    """The API whose tools there are."""
    running = Upstream(authority.for_host("localhost", "127.0.0.1"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def other(authority):
    """An API of which the agent has no tool."""
    running = Upstream(authority.for_host("localhost", "127.0.0.1"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trusted(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("trust") / "authority.pem"
    path.write_text(authority.certificate)
    return path


@pytest.fixture(scope="module")
def serve_environment(trusted):
    return {"AGENT_IDENTITY_EXTRA_CA_FILE": str(trusted)}


@pytest.fixture(scope="module")
def allow_egress(vendor, api, other):
    ports = [f"{host}:{it.port}" for it in (api, other) for host in ("localhost", "127.0.0.1")]
    return (vendor.address, *ports)


@pytest.fixture(autouse=True)
def as_before(api, other):
    api.reset()
    other.reset()


@pytest.fixture(scope="module")
def hosts(api):
    return {"agent-identity:injectable-hosts": f"localhost:{api.port} 127.0.0.1:{api.port}"}


@pytest.fixture(scope="module")
def key(caller, hosts, fresh):
    name, secret = fresh("weather"), planted.new_secret("API key")
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=secret, tags=hosts)
    return name, secret


@pytest.fixture(scope="module")
def agent(caller, api, key, fresh):
    """An agent whose programs may GET and POST below /v1 of `localhost`, with a key, and GET all of 127.0.0.1 with it elsewhere."""
    name = make_workload(caller, fresh("agent"))
    put_open(caller, fresh("v1"), name, f"https://localhost:{api.port}/v1", ["GET", "HEAD", "POST"], key[0])
    put_open(
        caller, fresh("all"), name, f"https://127.0.0.1:{api.port}", ["GET"], key[0], {"location": "QUERY", "name": "key"}
    )
    return name


def put_open(caller, tool, agent, url, methods, provider, placement=None, flow="API_KEY", **credential):
    place = {} if placement is None else {"placement": placement}
    caller.ok(
        "PutTool", name=tool, request={"methods": methods, "url": url}, allowedWorkloads=[agent],
        credential={"providerName": provider, "flow": flow, **place, **credential},
    )  # fmt: skip
    return tool


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def start(server, agent, *program, options=(), environment=None, ignored=(), **more):
    """The command, running. It ignores these signals as nohup has it, and no others, whatever these tests were started with."""

    def as_meant():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    more.setdefault("stdout", subprocess.PIPE)
    more.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen(
        [BINARY, "run", "--agent", agent, "--data", str(server.data), "--url", server.url, *options, "--", *map(str, program)],
        env=plain_environment(**(environment or {})),
        text=True,
        preexec_fn=as_meant,
        **more,
    )  # fmt: skip


def run(server, agent, *program, expect=0, **more):
    process = start(server, agent, *program, **more)
    out, err = process.communicate(timeout=60)
    log_file("command").write_text(err + out)
    assert process.returncode == expect, f"{process.returncode}: {out}{err}"
    return out, err


PYTHON = """
import json, sys, urllib.request, urllib.error
for line in sys.stdin if len(sys.argv) < 2 else sys.argv[1:]:
    try:
        print(urllib.request.urlopen(line.strip(), timeout=30).read().decode())
    except urllib.error.HTTPError as error:
        print(json.dumps({"status": error.code, "body": error.read().decode(), "ours": error.headers.get("x-agent-identity-error")}))
"""


def python(*urls):
    return (sys.executable, "-c", PYTHON, *urls)


def node_can_proxy():
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.strip().lstrip("v").split(".")[0]) >= 24


def test_programs_of_others_get_the_credential_on_the_way_and_never_see_it(server, agent, api, key):
    url = f"https://localhost:{api.port}/v1/things/a%2Fb?x=1&x=2"
    post = ("curl", "-sS", "--compressed", "-H", "X-One: 1", "-H", "Authorization: Bearer mine", "-d", "hello=wörld", url)
    for program in [post, python(url), (sys.executable, "-c", f"import requests; print(requests.get({url!r}, headers={{'X-One': '1'}}).text)")]:
        out, err = run(server, agent, *program)
        seen = api.last()
        assert (seen.path, seen.headers["authorization"]) == ("/v1/things/a%2Fb?x=1&x=2", f"Bearer {key[1]}")
        said = json.loads(out)
        assert key[1] not in out + err and said["headers"]["authorization"] == "Bearer [redacted]"
        assert not {"proxy-authorization", "proxy-connection", "x-forwarded-for", "cookie"} & set(seen.headers)
    assert len(api.seen) == 3
    assert (api.seen[0].method, api.seen[0].body.decode()) == ("POST", "hello=wörld")
    assert {seen.headers.get("x-one") for seen in api.seen} == {"1", None}


def test_node_and_git_take_the_certificate(server, agent, api, key):
    """Node reads HTTPS_PROXY itself from version 24 on; before it a program does so. Git asks for what is no repository."""
    through = """
const http = require("http"), tls = require("tls");
const proxy = new URL(process.env.HTTPS_PROXY), target = new URL(process.argv[1]);
const login = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
http.request({ host: proxy.hostname, port: proxy.port, method: "CONNECT", path: target.host,
               headers: { "Proxy-Authorization": `Basic ${login}` } })
  .on("connect", (response, socket) => {
    const opened = tls.connect({ socket, servername: target.hostname }, () => {
      opened.write(`GET ${target.pathname} HTTP/1.1\\r\\nHost: ${target.host}\\r\\nConnection: close\\r\\n\\r\\n`);
      opened.pipe(process.stdout);
    });
  }).end();
"""
    url = f"https://localhost:{api.port}/v1/node"
    script = "fetch(process.argv[1]).then(r => r.text()).then(console.log)" if node_can_proxy() else through
    out, _ = run(server, agent, "node", "-e", script, url)
    assert '"/v1/node"' in out and api.last().headers["authorization"] == f"Bearer {key[1]}"
    run(server, agent, "git", "ls-remote", f"https://localhost:{api.port}/v1/repository.git")
    seen = next(seen for seen in api.seen if seen.path == "/v1/repository.git/info/refs?service=git-upload-pack")
    assert seen.headers["authorization"] == f"Bearer {key[1]}"
    assert seen.headers["user-agent"].startswith("git/")


def test_headers_that_servers_take_for_another_request_do_not_travel(server, agent, api):
    names = ["X-HTTP-Method-Override", "X_HTTP_Method", "X-Original-URL", "X-Rewrite-URL", "X_Forwarded_Host", "X-Forwarded-Host"]
    headers = [part for name in names for part in ("-H", f"{name}: /admin")]
    run(server, agent, "curl", "-sS", "-X", "POST", *headers, f"https://localhost:{api.port}/v1/x")
    sent = {name.replace("_", "-") for name in api.last().headers}
    assert not sent & {name.lower().replace("_", "-") for name in names}


def test_a_credential_does_not_come_in_pieces_from_an_api_that_echoes_it(server, agent, api, key):
    def in_ranges(seen):
        body = echo(seen).body
        first, _, last = seen.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        return Reply(body=body[int(first) : int(last) + 1 if last else None])

    api.answer = in_ranges
    url, pieces = f"https://localhost:{api.port}/v1/x", ""
    for at in range(0, 600, 12):
        pieces += run(server, agent, "curl", "-sS", "-r", f"{at}-{at + 11}", url)[0][:12]
        if at > 100 and "range" not in api.last().headers:
            break
    assert "range" not in api.last().headers and key[1] not in pieces


def test_an_answer_that_says_it_is_ours_or_is_none_is_not_believed(server, agent, api):
    api.answer = lambda _: Reply(headers=(("X-Agent-Identity-Error", "ConsentRequired"),))
    out, _ = run(server, agent, "curl", "-sSi", f"https://localhost:{api.port}/v1/x")
    assert "agent-identity-error" not in out.lower()
    api.answer = lambda _: Reply(raw=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    out, _ = run(server, agent, *python(f"https://localhost:{api.port}/v1/x"))
    assert json.loads(out)["status"] == 502


def test_a_key_in_the_query_goes_there_and_the_programs_own_does_not(server, agent, api, key):
    out, _ = run(server, agent, *python(f"https://127.0.0.1:{api.port}/anything?key=mine&a=1"))
    assert api.last().path == f"/anything?a=1&key={key[1]}"
    assert key[1] not in out and "authorization" not in api.last().headers


def test_statuses_headers_binary_bodies_and_heads_come_as_they_are(server, agent, api):
    url = f"https://localhost:{api.port}/v1/x"
    body = bytes(range(256))
    api.answer = lambda _: Reply(418, body, (("Content-Type", "image/x"), ("X-Two", "a"), ("X-Two", "b"), ("Set-Cookie", "c=1")))
    said = subprocess.run(
        [BINARY, "run", "-q", "--agent", agent, "--data", str(server.data), "--url", server.url, "--", "curl", "-sSi", url],
        env=plain_environment(), capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    head, _, got = said.partition(b"\r\n\r\nHTTP")[2].partition(b"\r\n\r\n")
    assert got == body and head.startswith(b"/1.1 418 ")
    lines = head.lower().split(b"\r\n")
    assert b"content-type: image/x" in lines and b"x-two: a, b" in lines and b"set-cookie" not in head.lower()
    out, _ = run(server, agent, "curl", "-sSI", url)
    assert "418" in out and api.last().method == "HEAD"


def test_what_no_tool_takes_is_refused_and_goes_nowhere(server, agent, api, key):
    root = f"https://localhost:{api.port}"
    refused = ["/v2", "/", "/v1x", "/v1/%2e%2e/admin", "/v1/..;/admin", "/v1/..%2fadmin", "/v1/%252e%252e/admin"]
    out, _ = run(server, agent, *python(*(root + path for path in refused)))
    for line, path in zip(out.splitlines(), refused, strict=True):
        said = json.loads(line)
        expected = (403, "NoTool") if "%" not in path and ";" not in path else (400, "ValidationException")
        assert (said["status"], said["ours"]) == expected, (path, said)
    out, _ = run(server, agent, "curl", "-sS", "-X", "DELETE", root + "/v1/things")
    assert json.loads(out)["error"] == "NoTool" and "DELETE" in json.loads(out)["message"]
    out, _ = run(server, agent, "curl", "-sS", "--path-as-is", root + "/v1/../admin")
    assert json.loads(out)["error"] == "ValidationException"
    assert api.seen == []


def test_other_hosts_are_tunnelled_unopened(server, agent, other, trusted, key):
    """The program sees the host's own certificate, and not that of the run."""
    script = f"""
import http.client, os, ssl, base64
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
login = base64.b64encode(f"{{proxy.username}}:{{proxy.password}}".encode()).decode()
connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=ssl.create_default_context())
connection.set_tunnel("localhost", {other.port}, {{"Proxy-Authorization": "Basic " + login}})
connection.request("GET", "/", headers={{"Authorization": "Bearer mine"}})
print(connection.sock.getpeercert()["issuer"], connection.getresponse().status)
"""
    out, _ = run(server, agent, sys.executable, "-c", script, environment={"SSL_CERT_FILE": str(trusted)})
    assert "agent-identity tests" in out and out.strip().endswith("200")
    assert other.last().headers["authorization"] == "Bearer mine"


def test_d23_the_program_has_a_proxy_and_a_certificate_and_nothing_else_of_ours(server, agent, api):
    mine = server.env() | {"AWS_ENDPOINT_URL": server.url, "AGENT_IDENTITY_LOG": "info", "OTHER": "kept", "COPY": server.credentials().secret_access_key}
    out, _ = run(server, agent, sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))", environment=mine)
    environment = json.loads(out)
    assert environment["OTHER"] == "kept"
    assert [name for name in environment if name.startswith(("AGENT_IDENTITY", "AWS_ACCESS", "AWS_SECRET", "BEDROCK"))] == []
    text = json.dumps(environment)
    assert server.credentials().secret_access_key not in text and server.credentials().access_key_id not in text
    assert str(server.data) not in text and f"127.0.0.1:{server.port}" not in text
    assert environment["HTTPS_PROXY"] == environment["https_proxy"]
    # What is opened on loopback is not exempt.
    assert environment["NO_PROXY"] == "::1"
    bundle = Path(environment["SSL_CERT_FILE"])
    assert not bundle.parent.exists()


def test_d23_the_bundle_adds_one_certificate_which_is_constrained(server, agent, api, trusted):
    script = "import os, sys; sys.stdout.write(open(os.environ['SSL_CERT_FILE']).read())"
    out, _ = run(server, agent, sys.executable, "-c", script, environment={"CURL_CA_BUNDLE": str(trusted)})
    certificates = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", out, re.S)
    assert trusted.read_text().strip() in certificates
    assert len(certificates) > 50, "the system's are there"
    shown = subprocess.run(["openssl", "x509", "-noout", "-text"], input=certificates[0], capture_output=True, text=True, check=True).stdout
    constraints = shown[shown.index("X509v3 Name Constraints: critical") :]
    assert "DNS:localhost" in constraints and "IP:127.0.0.1/255.255.255.255" in constraints
    assert "CA:TRUE, pathlen:0" in shown
    assert "PRIVATE" not in out


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_of_ones_own_do_not_take_the_place_of_the_systems(server, agent, trusted, variable):
    script = "import os, sys; sys.stdout.write(open(os.environ['SSL_CERT_FILE']).read())"
    named = trusted if variable == "SSL_CERT_FILE" else trusted.parent
    out, _ = run(server, agent, sys.executable, "-c", script, environment={variable: str(named)})
    assert out.count("BEGIN CERTIFICATE") > 50
    if variable == "SSL_CERT_FILE":
        assert trusted.read_text().strip().split("\n")[1] in out


def test_a_key_of_the_servers_in_the_environment_is_the_one_that_is_used(server, agent, fresh, api):
    """Also where nobody has named the server; one of an account on AWS is left alone."""
    none = create_access_key(server.data, fresh("runner"), "use workload=other-* provider=*")
    given = {"AWS_ACCESS_KEY_ID": none.access_key_id, "AWS_SECRET_ACCESS_KEY": none.secret_access_key}
    _, err = run(server, agent, "true", environment=given, expect=1)
    assert "AccessDenied" in err
    theirs = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    out, err = run(server, agent, sys.executable, "-c", "import os; print(os.environ['AWS_ACCESS_KEY_ID'])", environment=theirs)
    assert out.strip() == theirs["AWS_ACCESS_KEY_ID"]
    assert "is no key of this server" in err


def test_d21_who_listens_where_the_server_was_gets_nothing(server, agent, fresh):
    """Also with a key in the environment: this user has the directory of the server that is named, and what is there is another."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        port = impostor.getsockname()[1]

        def listen():
            while True:
                try:
                    stream, _ = impostor.accept()
                except OSError:
                    return
                with stream:
                    asked.append(stream.recv(10000))
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=listen, daemon=True).start()
        program = [BINARY, "run", "--agent", agent, "--data", str(server.data), "--url", f"http://127.0.0.1:{port}", "--", "true"]
        done = subprocess.run(program, env=plain_environment(**server.env()), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "somebody else answers" in done.stderr
    assert asked and not any(b"Authorization" in request or b"AWS4" in request or b"POST" in request for request in asked)


def test_a_key_that_ends_is_refused_with_the_cure(server, agent, fresh):
    mine = create_access_key(server.data, fresh("runner"), "use workload=* provider=*", expires_in=600)
    given = {"AWS_ACCESS_KEY_ID": mine.access_key_id, "AWS_SECRET_ACCESS_KEY": mine.secret_access_key, "AWS_SESSION_TOKEN": mine.session_token}
    _, err = run(server, agent, "true", environment=given, expect=1)
    assert "without --expires-in" in err


def test_d23_the_warning_is_given_also_where_nothing_else_is_said(server, agent):
    _, err = run(server, agent, "true", options=("-q",))
    assert err.startswith("agent-identity: warning: COMMAND runs as a user who can read") and err.count("\n") == 1


def test_a_program_that_opens_and_closes_or_speaks_another_protocol_is_told_what_is_so(server, agent, api):
    script = """
import base64, os, socket, ssl, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
def connected():
    stream = socket.create_connection((proxy.hostname, proxy.port))
    target = f"localhost:{sys.argv[1]}"
    stream.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\nProxy-Authorization: Basic {login}\\r\\n\\r\\n".encode())
    assert b" 200 " in stream.recv(1000)
    return stream
connected().close()
def handshake(**options):
    context = ssl.create_default_context(**options)
    if not options:
        context.set_alpn_protocols(["h2"])
    try:
        context.wrap_socket(connected(), server_hostname="localhost").recv(1)
    except ssl.SSLError:
        pass
for _ in range(2):
    handshake()

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
for _ in range(2):
    try:
        context.wrap_socket(connected(), server_hostname="localhost")
    except ssl.SSLError:
        pass
"""
    _, err = run(server, agent, sys.executable, "-c", script, str(api.port), options=("-q",))
    lines = [line for line in err.splitlines() if "warning" not in line]
    assert [("HTTP/2 alone" in line, "does not trust" in line) for line in lines] == [(True, False), (False, True)], err


def test_d23_the_proxy_is_for_this_program_alone(server, agent, api):
    """Another program on this machine that finds the port."""
    script = "import os, sys, time; print(os.environ['HTTPS_PROXY'], flush=True); sys.stdin.read()"
    process = start(server, agent, sys.executable, "-c", script, stdin=subprocess.PIPE)
    proxy = process.stdout.readline().strip()
    user, password, port = re.fullmatch(r"http://([^:]+):([A-Za-z0-9_-]{43})@127\.0\.0\.1:(\d+)", proxy).groups()
    target = f"localhost:{api.port}"
    for login in (None, f"{user}:{password[:-1]}x", f"{user}:", f":{password}"):
        header = "" if login is None else f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n"
        with socket.create_connection(("127.0.0.1", int(port))) as stream:
            stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{header}\r\n".encode())
            assert stream.recv(100).startswith(b"HTTP/1.1 407 ")
    process.communicate("", timeout=20)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    assert api.seen == []


def test_the_end_of_the_program_is_the_end_of_the_command(server, agent):
    assert run(server, agent, "sh", "-c", "exit 7", expect=7)
    assert run(server, agent, "sh", "-c", "kill -9 $$", expect=137)
    _, err = run(server, agent, "no-such-program", expect=127)
    assert "cannot run no-such-program" in err
    _, err = run(server, agent, "/", expect=126)
    process = start(server, agent, sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    trap = "import signal, sys, time; signal.signal(signal.SIGHUP, lambda *_: sys.exit(9)); print('up', flush=True); time.sleep(60)"
    process = start(server, agent, sys.executable, "-c", trap)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=20)
    assert process.returncode == 9


def test_what_nohup_ignores_stays_ignored_and_no_signal_leaves_the_program_alone(server, agent, tmp_path):
    script = """
import signal, time
print(*[name for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM") if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN], flush=True)
time.sleep(1)
"""

    for ignored, told in [((signal.SIGHUP,), "SIGHUP\n"), ((signal.SIGINT, signal.SIGQUIT), "SIGINT SIGQUIT\n"), ((), "\n")]:
        process = start(server, agent, sys.executable, "-c", script, ignored=ignored)
        assert process.stdout.readline() == told
        for number in (*ignored, signal.SIGQUIT):
            process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_who_cannot_be_served_is_told_why(server, caller, agent, fresh, tmp_path):
    lonely = make_workload(caller, fresh("agent"))
    for options, name, cause in [
        ((), lonely, "no tool is open to the programs of"),
        ((), fresh("nobody"), "no tool is open to the programs of"),
        (("--user-token-file", str(tmp_path / "absent")), agent, "--user-token-file must name a file"),
        (("--user-id", ""), agent, "userId"),
    ]:
        _, err = run(server, name, "true", options=options, expect=1)
        assert cause in err
    said = command("run", "--agent", agent, "--data", str(server.data), expect=2)
    assert "COMMAND" in said.stderr
    said = command("run", "--agent", agent, "--data", str(tmp_path / "none"), "--", "true", expect=1)
    assert "no default access key" in said.stderr


def test_a_key_of_the_role_use_is_enough_and_reads_no_token(server, caller, agent, key, api, fresh):
    """What `docs/operations.md` tells who wants that the program cannot have the credential."""
    mine = create_access_key(server.data, fresh("runner"), f"use,mint-userid workload={agent} provider={key[0]}")
    given = {"AWS_ACCESS_KEY_ID": mine.access_key_id, "AWS_SECRET_ACCESS_KEY": mine.secret_access_key}
    program = [BINARY, "run", "--agent", agent, "--url", server.url, "--user-id", "ada", "--", *python(f"https://localhost:{api.port}/v1/x")]
    done = subprocess.run(program, env=plain_environment(**given), capture_output=True, text=True, timeout=60)
    log_file("command").write_text(done.stderr)
    assert done.returncode == 0, done.stderr
    assert api.last().headers["authorization"] == f"Bearer {key[1]}" and key[1] not in done.stdout
    # The server is this user's, so that it warns all the same.
    assert "warning: COMMAND runs as a user who can read" in done.stderr
    asking = server.caller(mine)
    wat = asking.ok("GetWorkloadAccessTokenForUserId", workloadName=agent, userId="ada")["workloadAccessToken"]
    planted.plant(wat, "workload access token")
    assert asking.call("GetResourceApiKey", workloadIdentityToken=wat, resourceCredentialProviderName=key[0]).status == 403
    asking.close()
    # Without that grant nothing is found, and nothing called.
    none = create_access_key(server.data, fresh("runner"), "use,mint-userid workload=other-* provider=*")
    given = {"AWS_ACCESS_KEY_ID": none.access_key_id, "AWS_SECRET_ACCESS_KEY": none.secret_access_key}
    done = subprocess.run(program, env=plain_environment(**given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "AccessDenied" in done.stderr


LOOK = """
import os, sys
from pathlib import Path
for path in sys.argv[1:]:
    try:
        Path(path).read_bytes() if not path.endswith("/") else os.listdir(path)
        print("read", path)
    except PermissionError:
        print("closed", path)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to start processes of two users")
def test_d23_where_serve_is_another_users_there_is_nothing_to_find(api, trusted, fresh, tmp_path_factory):
    """As `docs/operations.md` sets it up: the server's user, the program's user, and a key that reads no token."""
    serving, running = 64001, 64002
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o755)
    binary = Path(shutil.copy(BINARY, place))
    shutil.copy(trusted, place / "authority.pem")
    (place / "data").mkdir()
    os.chown(place / "data", serving, serving)
    egress = (f"localhost:{api.port}",)
    trust = {"AGENT_IDENTITY_EXTRA_CA_FILE": str(place / "authority.pem")}
    server = Server(place / "data", egress, environment=trust, binary=binary, user=serving).start()
    try:
        caller = server.caller()
        name, secret = fresh("weather"), planted.new_secret("API key")
        caller.ok(
            "CreateApiKeyCredentialProvider", name=name, apiKey=secret,
            tags={"agent-identity:injectable-hosts": f"localhost:{api.port}"},
        )  # fmt: skip
        agent = make_workload(caller, fresh("agent"))
        put_open(caller, fresh("tool"), agent, f"https://localhost:{api.port}", ["GET"], name)
        mine = create_access_key(server.data, fresh("runner"), f"use,mint-userid workload={agent} provider={name}")
        given = {"AWS_ACCESS_KEY_ID": mine.access_key_id, "AWS_SECRET_ACCESS_KEY": mine.secret_access_key}

        def as_runner(*program):
            done = subprocess.run(
                [binary, "run", "--agent", agent, "--url", server.url, "--user-id", "ada", "--", *program],
                user=running, group=running, extra_groups=[], cwd="/", timeout=60,
                env=plain_environment(**given), capture_output=True, text=True,
            )  # fmt: skip
            log_file("command").write_text(done.stderr)
            return done

        done = as_runner("curl", "-sS", f"https://localhost:{api.port}/x")
        assert api.last().headers["authorization"] == f"Bearer {secret}" and secret not in done.stdout
        assert "warning" not in done.stderr and done.returncode == 0
        system = shutil.which("python3", path="/usr/bin") or sys.executable
        places = [f"{server.data}/", f"{server.data}/agent-identity.db", f"{server.data}/master.key", f"/proc/{server.pid}/environ"]
        looked = as_runner(system, "-c", LOOK + "Path(f'/proc/{os.getppid()}/environ').read_bytes()", *places)
        assert looked.stdout.split("\n")[:-1] == [f"closed {path}" for path in places]
        assert "PermissionError" in looked.stderr
        caller.close()
    finally:
        server.stop()
        shutil.rmtree(place)


def test_consent_is_asked_for_and_then_the_program_is_served(server, caller, vendor, api, fresh, hosts):
    provider = make_user_provider(caller, vendor, fresh("vendor"), tags=hosts)
    agent = make_workload(caller, fresh("agent"))
    put_open(caller, fresh("mine"), agent, f"https://localhost:{api.port}", ["GET"], provider, flow="USER_FEDERATION", scopes=["openid"])
    script = """
import json, sys, urllib.request, urllib.error
for _ in sys.stdin:
    try:
        print(urllib.request.urlopen(sys.argv[1]).read().decode(), flush=True)
    except urllib.error.HTTPError as error:
        print(json.dumps({"status": error.code} | json.loads(error.read())), flush=True)
"""
    process = start(
        server, agent, sys.executable, "-c", script, f"https://localhost:{api.port}/me", options=("--user-id", "ada"), stdin=subprocess.PIPE
    )

    def once():
        process.stdin.write("go\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    asked = once()
    assert (asked["status"], asked["error"]) == (511, "ConsentRequired")
    again = once()
    assert again["authorizationUrl"] == asked["authorizationUrl"], "a second try begins no second consent"
    browser = Browser()
    sign_in_at_vendor(browser, browser.submit(browser.get(asked["authorizationUrl"])), "ada")
    served = once()
    token = api.last().headers["authorization"].removeprefix("Bearer ")
    planted.plant(token, "access token")
    assert served["path"] == "/me" and token not in json.dumps(served)
    _, err = process.communicate(timeout=20)
    assert err.count("the user must consent") == 1 and asked["authorizationUrl"] in err


def test_large_slow_and_broken_answers_and_requests_are_said_to_be_so(server, agent, api):
    url = f"https://localhost:{api.port}/v1/x"
    api.answer = lambda _: Reply(body=b"x" * (1024 * 1024 + 1))
    out, _ = run(server, agent, *python(url))
    said = json.loads(out)
    assert (said["status"], said["ours"]) == (502, "UNKNOWN_OUTCOME") and "1048576" in said["body"]
    api.answer = lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    out, _ = run(server, agent, *python(url))
    assert json.loads(out)["ours"] == "UNKNOWN_OUTCOME"
    # Control characters take six bytes each in JSON: what fits the server fits its answer to this command too.
    api.answer = lambda _: Reply(body=b"\x01" * (1024 * 1024))
    out, _ = run(server, agent, "curl", "-sS", url)
    assert out == "\x01" * (1024 * 1024)
    api.answer = echo
    # Quotation marks take two bytes in JSON.
    for character, size, status in (("x", 800 * 1024, "200"), ("x", 900 * 1024 + 1, "413"), ('"', 450 * 1024, "200"), ('"', 600 * 1024, "413")):
        out, _ = run(
            server, agent, sys.executable, "-c",
            "import sys, requests; print(requests.post(sys.argv[1], data=sys.argv[2] * int(sys.argv[3])).status_code)", url, character, str(size),
        )  # fmt: skip
        assert out.strip() == status
    out, _ = run(
        server, agent, sys.executable, "-c",
        "import sys, requests; print(requests.post(sys.argv[1], data=bytes([255, 254])).status_code)", url,
    )  # fmt: skip
    assert out.strip() == "415"


def test_many_requests_at_once_are_all_served(server, agent, api):
    script = """
import sys, requests
from concurrent.futures import ThreadPoolExecutor
session = requests.Session()
with ThreadPoolExecutor(16) as pool:
    print(sorted(set(pool.map(lambda n: session.get(f"{sys.argv[1]}/{n}").status_code, range(200)))))
"""
    out, _ = run(server, agent, sys.executable, "-c", script, f"https://localhost:{api.port}/v1")
    assert out.strip() == "[200]"
    assert sorted(int(seen.path.rsplit("/", 1)[1]) for seen in api.seen) == list(range(200))


def test_two_runs_at_once_know_nothing_of_each_other(server, agent, api):
    url = f"https://localhost:{api.port}/v1/x"
    with ThreadPoolExecutor(4) as pool:
        for out, _ in pool.map(lambda _: run(server, agent, *python(url)), range(4)):
            assert json.loads(out)["path"] == "/v1/x"


def test_a_server_that_is_away_is_an_error_of_ours_and_the_next_request_is_served(server, agent, api):
    script = """
import json, sys, urllib.request, urllib.error
for _ in sys.stdin:
    try:
        print(urllib.request.urlopen(sys.argv[1]).status, flush=True)
    except urllib.error.HTTPError as error:
        print(error.code, error.headers["x-agent-identity-error"], flush=True)
"""
    process = start(server, agent, sys.executable, "-c", script, f"https://localhost:{api.port}/v1/x", stdin=subprocess.PIPE)

    def once():
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    assert once() == "200"
    server.stop()
    assert once() == "502 UNREACHABLE"
    server.start()
    assert once() == "200"
    process.communicate(timeout=20)


def test_d5_a_request_that_may_have_been_made_is_not_called_unreachable(trusted, api, fresh, tmp_path, hosts):
    """The server dies while the API is at it."""
    server = Server(tmp_path / "data", (f"localhost:{api.port}",), environment={"AGENT_IDENTITY_EXTRA_CA_FILE": str(trusted)}).start()
    caller = server.caller()
    name, agent = fresh("weather"), make_workload(caller, fresh("agent"))
    caller.ok("CreateApiKeyCredentialProvider", name=name, apiKey=planted.new_secret("API key"), tags=hosts)
    put_open(caller, fresh("tool"), agent, f"https://localhost:{api.port}", ["POST"], name)
    caller.close()

    def die(_seen):
        server.kill()
        return Reply()

    api.answer = die
    process = start(server, agent, "curl", "-sSi", "-d", "x", f"https://localhost:{api.port}/pay")
    out, _ = process.communicate(timeout=60)
    assert len(api.seen) == 1 and "x-agent-identity-error: UNKNOWN_OUTCOME" in out and "may have been done" in out
