"""Rows A49-A53, A75, A79: the commands, the configuration, going away, the figures, the log, browsers."""

import json
import re
import stat
import subprocess
import threading
import time

import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lib.device import CONFIRMATION, ERROR, GOING_AWAY, Device, socket_url, unique
from lib.raw import RawDevice
from lib.server import READY, Lines, binary, clean_environment, run, until

row = pytest.mark.row
SECRET = "an-operators-secret-" * 3


def serve(tmp_path, *flags, wait=True, **env):
    """`sparkmesh serve` with exactly these flags; its URL once it is ready."""
    process = subprocess.Popen(
        [binary(), "serve", *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=clean_environment(**env),
    )
    out, errors = Lines(process.stdout), Lines(process.stderr)
    ready = out.wait_for(READY, 60) if wait else None
    return process, ready and ready.group(1), out, errors


@pytest.fixture
def serving(tmp_path):
    running = []

    def start(*flags, **env):
        process, url, out, errors = serve(tmp_path, *flags, **env)
        running.append(process)
        assert url, "".join(errors.text)
        return process, url, out, errors

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secrets"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


# -- the command line and the configuration (A49) ---------------------------------------------------------------------


@row("A49")
@pytest.mark.parametrize("spelling", ["dashes", "underscores", "equals"])
def test_the_originals_flags(serving, tmp_path, secret_file, spelling):
    flags = [
        ("--host-address", "127.0.0.1"),
        ("--port", "0"),
        ("--proxy-80-port", "a.example.org"),
        ("--force", "True"),
        ("--log-level", "debug"),
        ("--num-max-connections", "50"),
        ("--data-dir", tmp_path / "d"),
        ("--secret-file", secret_file),
    ]
    if spelling != "dashes":
        flags = [("--" + name[2:].replace("-", "_"), value) for name, value in flags]
    words = [f"{n}={v}" for n, v in flags] if spelling == "equals" else [word for flag in flags for word in flag]
    _, url, _, _ = serving(*words)
    import requests

    key = jwt.encode({"sub": "alice", "exp": int(time.time()) + 60}, SECRET, algorithm="HS256")
    offer = requests.get(url + "/v1/connect-info", params={"auth_key": key}, timeout=10).json()
    assert offer["proxy_80_port"] == "a.example.org"


@row("A49")
def test_flag_before_environment_before_file(serving, tmp_path, secret_file):
    (tmp_path / "c.toml").write_text(
        f'proxy-80-port = "file"\nnum-max-connections = 11\nport = 0\ndata-dir = "d"\nsecret-file = "{secret_file}"\n'
    )

    def proxy(*flags, **env):
        settings = run("serve", "--config", tmp_path / "c.toml", *flags, "--check", **env)
        assert settings.returncode == 0, settings.stderr
        return re.search(r'proxy-80-port = "(\w+)"', settings.stdout).group(1)

    assert proxy() == "file"
    assert proxy(SPARKMESH_PROXY_80_PORT="environment") == "environment"
    assert proxy("--proxy-80-port", "flag", SPARKMESH_PROXY_80_PORT="environment") == "flag"
    _, url, _, _ = serving("--config", tmp_path / "c.toml")
    assert url


WRONG = {
    "no secret": ((), "secret"),
    "an unknown flag": (("--sekret", "x"), "--sekret"),
    "a secret as a flag": (("--secret", SECRET), "--secret"),
    "a port that is none": (("--port", "70000"), "70000"),
    "a file that is not there": (("--secret-file", "/nowhere/at/all"), "/nowhere/at/all"),
    "--dev beyond loopback": (("--dev", "--host-address", "192.0.2.1"), "loopback"),
    "half of TLS": (("--tls-cert", "c.pem"), "tls-key"),
    "an unknown store": (("--store", "postgres"), "postgres"),
}


@row("A49")
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_start_says_what_to_do_and_exits_with_2(tmp_path, what):
    flags, word = WRONG[what]
    secret = {} if "secret" in what or "--dev" in flags else {"SPARKMESH_SECRET": SECRET}
    ended = run("serve", "--data-dir", tmp_path / "d", *flags, **secret)
    assert ended.returncode == 2, ended.stderr
    assert word in ended.stderr and "panicked" not in ended.stderr
    assert SECRET not in ended.stderr.replace("--secret ", "")


@row("A49")
def test_a_wrong_configuration_file(tmp_path, secret_file):
    for text, word in [
        ("prot = 1", "prot"),
        ("port = 'x'", "port"),
        ("[push.pigeon]\nx = 1", "pigeon"),
        ("port = ", "TOML"),
    ]:
        (tmp_path / "c.toml").write_text(text)
        ended = run(
            "serve", "--config", tmp_path / "c.toml", "--secret-file", secret_file, "--data-dir", tmp_path / "d"
        )
        assert ended.returncode == 2, (text, ended.stderr)
        assert word in ended.stderr and str(tmp_path / "c.toml") in ended.stderr


@row("A49")
def test_the_secret_from_the_environment_and_for_development(serving, tmp_path):
    _, url, _, _ = serving("--port", 0, "--data-dir", tmp_path / "a", SPARKMESH_SECRET=SECRET)
    import requests

    key = run("key", "--node", "alice", SPARKMESH_SECRET=SECRET).stdout.strip()
    assert requests.get(url + "/v1/connect-info", params={"auth_key": key}, timeout=10).status_code == 200
    _, url, out, _ = serving("--dev", "--port", 0, "--data-dir", tmp_path / "b")
    key = run("key", "--node", "alice", "--data-dir", tmp_path / "b").stdout.strip()
    assert requests.get(url + "/v1/connect-info", params={"auth_key": key}, timeout=10).status_code == 200
    until(lambda: "sparkmesh connect" in "".join(out.text) or "sparkmesh key" in "".join(out.text), limit=5)


@row("A75")
def test_what_is_secret_is_for_its_owner_only(serving, tmp_path):
    serving("--dev", "--port", 0, "--data-dir", tmp_path / "d")
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    readable = [
        path for path in (tmp_path / "d").iterdir() if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert readable == []


@row("A49")
def test_force(serving, tmp_path, secret_file):
    """A live server with the same address and another identity stops the start, unless forced; the same one never does."""
    process, url, _, _ = serving("--port", 0, "--data-dir", tmp_path / "a", "--secret-file", secret_file)
    port = url.rsplit(":", 1)[1]
    other = ("--port", 0, "--bind", "127.0.0.1:0", "--data-dir", tmp_path / "b", "--secret-file", secret_file)
    same_address = ("--port", port, "--bind", "127.0.0.1:0", "--data-dir", tmp_path / "b", "--secret-file", secret_file)
    ended = run("serve", *same_address)
    assert ended.returncode not in (0, 101)
    assert "--force" in ended.stderr
    forced, _, _, _ = serving(*same_address, "--force")
    forced.kill(), forced.wait()
    process.kill(), process.wait()
    serving("--port", port, "--data-dir", tmp_path / "a", "--secret-file", secret_file)
    assert other


@row("A6")
def test_the_key_command(secret_file):
    made = run(
        "key", "--node", "alice", "--client", "al", "--role", "app", "--ttl", "30d", "--secret-file", secret_file
    )
    assert made.returncode == 0, made.stderr
    claims = jwt.decode(made.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["client_id"], claims["role"]) == ("alice", "al", "app")
    assert abs(claims["exp"] - time.time() - 30 * 86_400) < 60
    plain = jwt.decode(
        run("key", "--node", "bob", "--secret-file", secret_file).stdout.strip(), SECRET, algorithms=["HS256"]
    )
    assert "role" not in plain and "client_id" not in plain
    for wrong in (("--node", "a b"), ("--node", "a", "--role", "root"), ("--node", "a", "--ttl", "soon"), ()):
        ended = run("key", *wrong, "--secret-file", secret_file)
        assert ended.returncode == 2 and ended.stdout == ""


class Terminal:
    """`sparkmesh connect` as a person has it before them."""

    def __init__(self, server, node, *flags, **env):
        self.process = subprocess.Popen(
            [binary(), "connect", "--node", node, *flags, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(**env),
            bufsize=1,
        )
        self.shown, self.told = Lines(self.process.stdout), Lines(self.process.stderr)

    def type(self, line):
        self.process.stdin.write(line + "\n")

    def sees(self, pattern):
        found = self.shown.wait_for(pattern, 15)
        assert found, "".join(self.shown.text + self.told.text)
        return found

    def close(self):
        self.process.kill()
        self.process.wait()


def test_the_connect_command(server, device):
    bob = device()
    alice = Terminal(server, unique("alice"), "--secret-file", str(server.secret_file))
    try:
        alice.type(f"@{bob.node} hello from a terminal")
        got = bob.wait_for(payload="hello from a terminal")
        bob.send(dest_id=got["src_id"], type=1, payload="hello back")
        alice.sees("hello back")
        alice.process.stdin.close()
        assert alice.process.wait(timeout=15) == 0
    finally:
        alice.close()


def test_the_connect_command_tells_what_is_wrong(server):
    refused = run("connect", "--node", "alice", "--key", "bad", server.url, stdin="")
    assert refused.returncode not in (0, 101) and refused.stderr
    nobody = run("connect", "--node", "alice", "--key", "x", "http://127.0.0.1:1", stdin="", timeout=60)
    assert nobody.returncode not in (0, 101) and nobody.stderr
    secretless = run("connect", "--node", "alice", server.url, stdin="")
    assert secretless.returncode in (1, 2) and "secret" in secretless.stderr


def test_help_and_version():
    assert run("--version").stdout.startswith("sparkmesh ")
    for command in ("serve", "key", "connect", "bench"):
        assert "Usage: sparkmesh " + command in run(command, "--help").stdout


# -- going away (A51, A79) --------------------------------------------------------------------------------------------


def goes_away(one):
    """The GOING_AWAY frame, and the close that follows."""
    frames = one.closed(1001)
    (told,) = [f for f in frames if f["type"] == GOING_AWAY]
    assert told["reconnect_after_ms"] >= 0
    return frames


@row("A51", "A79")
@pytest.mark.parametrize("how", ["SIGTERM", "POST /v1/drain"])
@pytest.mark.one_server("here all go at once; for a mesh: mesh/test_faults_changes.py")
def test_draining_tells_everybody_and_waits_for_no_idle_socket(make_server, how):
    server = make_server("--drain-deadline", "20s")
    idle = [Device(server, f"idle-{i}") for i in range(20)]
    deaf = [RawDevice(server, f"deaf-{i}", answers=False) for i in range(3)]
    begin = time.monotonic()
    if how == "SIGTERM":
        server.terminate()
    else:
        assert server.ok("POST", "/v1/drain", 202, key=server.admin())["status"] == "draining"
    for one in idle:
        goes_away(one)
    assert server.wait(30) == 0, server.log()
    assert time.monotonic() - begin < 15, "who says nothing is not waited for until the deadline"
    assert "panicked" not in server.log()
    for one in deaf:
        one.close()


@row("A51", "A79", "A12")
@pytest.mark.one_server("nobody else is there to be offered")
def test_who_drains_offers_nothing(make_server):
    """200 devices a second: a thousand take some seconds, in which nobody is let in."""
    server = make_server("--drain-deadline", "60s", "--allow-direct")
    key = server.key("late")
    early = socket_url(server, "late")
    devices = [Device(server, f"d{i}", path="/connectV2") for i in range(700)]
    server.terminate()
    until(lambda: server.get("/readyz").status_code == 503)
    assert server.get("/readyz").json()["reasons"] == ["draining"]
    assert server.get("/healthz").status_code == 200
    refused = server.refused("GET", "/v1/connect-info", 503, "draining", key=key)
    assert int(refused.headers["Retry-After"]) >= 1
    with pytest.raises(InvalidStatus) as status:
        connect(early, proxy=None)
    assert status.value.response.status_code == 503
    closed = [one for one in devices if goes_away(one)]
    assert len(closed) == 700
    assert server.wait(60) == 0


@row("A51", "A38")
@pytest.mark.one_server("here all go at once; for a mesh: mesh/test_faults_changes.py")
def test_draining_loses_nothing(make_server):
    server = make_server("--drain-deadline", "20s")
    alice, mute = Device(server, "alice"), RawDevice(server, "mute", answers=False)
    for number in range(50):
        alice.send(dest_id="mute", type=1, payload=number, reference=str(number))
    mute.unacknowledged(payload=49)
    server.terminate()
    frames = goes_away(alice)
    assert server.wait(30) == 0
    confirmed = {f["reference"] for f in frames if f["type"] == CONFIRMATION}
    server.start()
    kept = [m["payload"] for m in server.inbox("mute")["messages"]]
    assert kept == list(range(50)), f"unacknowledged when the server went; {len(confirmed)} were confirmed"


@row("A51")
def test_the_deadline_holds_while_messages_pour_in(make_server):
    server = make_server("--drain-deadline", "3s")
    alice, mute = Device(server, "alice"), RawDevice(server, "mute", answers=False, receive_buffer=4096)

    def pour():
        try:
            while True:
                alice.send(dest_id="mute", type=1, payload="x" * 10_000)
        except (ConnectionClosed, OSError):
            pass

    threading.Thread(target=pour, daemon=True).start()
    time.sleep(0.5)
    begin = time.monotonic()
    server.terminate()
    assert server.wait(30) == 0
    assert time.monotonic() - begin < 8
    alice.break_off(), mute.close()


# -- health, figures, log ---------------------------------------------------------------------------------------------


def test_health(server):
    alive = server.get("/healthz").json()
    assert alive == {"status": "ok", "node_id": server.named(alive["node_id"]).node_id}
    ready = server.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.one_server("counts what one process does; in a mesh several count the same envelope")
def test_metrics(make_server):
    server = make_server()
    empty = server.metrics()
    assert empty["sparkmesh_connections"] == 0
    alice, bob = Device(server, "alice"), Device(server, "bob")
    alice.confirmed(dest_id="bob", type=1), alice.confirmed(dest_id="bob", type=0)
    alice.confirmed(dest_id="away", type=1), alice.confirmed(dest_id="away", type=0)
    alice.confirmed(dest_id="bob", type=1, id="twice"), alice.confirmed(dest_id="bob", type=1, id="twice")
    server.get("/v1/connect-info", params={"auth_key": "bad"})
    alice.send("{bad")
    alice.wait_for(type=ERROR)
    assert server.metric("sparkmesh_connections") == 2
    assert server.metric("sparkmesh_connections_total") == 2
    counted = {
        (feature, outcome): server.metric("sparkmesh_envelopes_total", feature=feature, outcome=outcome)
        for feature in ("reliable", "fast")
        for outcome in ("delivered", "stored", "dropped", "duplicate")
    }
    assert counted == {
        ("reliable", "delivered"): 2,
        ("reliable", "stored"): 1,
        ("reliable", "dropped"): 0,
        ("reliable", "duplicate"): 1,
        ("fast", "delivered"): 1,
        ("fast", "stored"): 0,
        ("fast", "dropped"): 1,
        ("fast", "duplicate"): 0,
    }
    assert server.metric("sparkmesh_received_total", feature="reliable") == 4
    assert server.metric("sparkmesh_inbox_envelopes") == 1
    assert server.metric("sparkmesh_inbox_bytes") > 0
    assert server.metric("sparkmesh_commit_seconds_count") >= 1
    assert server.metric("sparkmesh_refused_total", reason="unauthorized") >= 1
    assert server.metric("sparkmesh_refused_total", reason="bad_envelope") == 1
    bob.close()
    until(lambda: server.metric("sparkmesh_connections") == 1)
    assert server.metric("sparkmesh_closed_total") == 1
    page = server.get("/metrics", key=server.admin())
    assert page.headers["Content-Type"].startswith("text/plain")
    assert "alice" not in page.text and "bob" not in page.text, "no id becomes a label"


@pytest.mark.one_server("one address is for one process")
def test_metrics_without_a_key_on_their_own_address(make_server):
    import socket

    import requests

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    make_server("--metrics-bind", f"127.0.0.1:{port}")
    answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    assert answer.status_code == 200 and "sparkmesh_connections 0" in answer.text
    assert requests.get(f"http://127.0.0.1:{port}/v1/mesh", timeout=10).status_code == 404


@row("A64")
def test_the_log_holds_no_contents_no_keys_and_no_anonymous_members(make_server):
    server = make_server("--log-level", "trace")
    alice, fox = Device(server, "alice-the-owner"), Device(server, "bob-in-disguise", client="bob-the-user")
    offer = server.offer("alice-the-owner")
    alice.confirmed(dest_id="bob-in-disguise", type=1, payload="CONTENTS-ONLINE")
    alice.confirmed(
        dest_id="away", type=1, payload="CONTENTS-STORED", payload1={"CONTENTS-DEEP": 1}, extra="CONTENTS-EXTRA"
    )
    server.ok("PUT", "/v1/push-tokens", key=alice.key, json={"provider": "fcm", "token": "TOKEN-OF-A-PHONE"})
    alice.send('{"payload":"CONTENTS-BROKEN"')
    before = len(server.log())
    session = server.ok("POST", "/v1/sessions", 201, key=alice.key, json={"anyone_can_join": True, "presence": True})[
        "session_id"
    ]
    server.ok("POST", f"/v1/sessions/{session}/join", key=fox.key, json={"anonymous_id": "the-fox"})
    fox.confirmed(dest_session_id=session, type=1, payload="CONTENTS-SESSION")
    fox.close()
    alice.wait_for(type=106)
    alice.confirmed(dest_session_id=session, dest_id="the-fox", type=1, payload="CONTENTS-PRIVATE")
    server.refused(
        "POST",
        f"/v1/sessions/{session}/join",
        409,
        "conflict",
        key=server.key("carol"),
        json={"anonymous_id": "the-fox"},
    )
    server.terminate()
    server.wait()
    log = server.log()
    assert log.count("\n") > 3, "something is said"
    assert "CONTENTS" not in log
    assert "TOKEN-OF-A-PHONE" not in log
    for secret in (server.secret, alice.key, fox.key, offer["validation_key"]):
        assert secret not in log and secret[-20:] not in log
    about_sessions = [line for line in log[before:].splitlines() if session in line]
    assert not [line for line in about_sessions if "bob-in-disguise" in line or "bob-the-user" in line]


# -- browsers ---------------------------------------------------------------------------------------------------------


def test_browsers(make_server):
    good, evil = "https://app.example.org", "https://evil.example"
    server = make_server("--allow-origin", good, "--allow-origin", "http://localhost:3000")
    key = server.key("alice")
    asked = server.request(
        "OPTIONS",
        "/v1/sessions",
        headers={
            "Origin": good,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == good
    allowed = asked.headers["Access-Control-Allow-Methods"]
    assert all(method in allowed for method in ("GET", "POST", "PUT", "DELETE"))
    assert {h.strip().lower() for h in asked.headers["Access-Control-Allow-Headers"].split(",")} >= {
        "authorization",
        "content-type",
    }
    for path, status in (("/v1/connect-info", 200), ("/v1/sessions/nowhere", 404), ("/nowhere", 404)):
        answer = server.get(path, key=key, headers={"Origin": good})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == good, "refusals can be read too"
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
    foreign = server.get("/v1/connect-info", key=key, headers={"Origin": evil})
    assert "Access-Control-Allow-Origin" not in foreign.headers
    refused = server.request(
        "OPTIONS", "/v1/sessions", headers={"Origin": evil, "Access-Control-Request-Method": "POST"}
    )
    assert refused.status_code == 403 and "Access-Control-Allow-Origin" not in refused.headers
    with connect(socket_url(server, "alice"), origin=good, proxy=None) as socket:
        socket.send(json.dumps({"dest_id": "alice", "type": 1, "payload": "from a browser"}))
        assert json.loads(socket.recv(timeout=15))["payload"] == "from a browser"
    for origin in (evil, "null", "https://app.example.org.evil.example", "http://app.example.org"):
        with pytest.raises(InvalidStatus) as status:
            connect(socket_url(server, "alice"), origin=origin, proxy=None)
        assert status.value.response.status_code == 403


@pytest.mark.one_server("starts the process by hand")
def test_with_dev_pages_of_this_machine_may_ask_and_others_not(serving, tmp_path):
    """A page that was loaded from one server of a local mesh goes on with another."""
    import requests

    _, url, _, _ = serving("--dev", "--port", 0, "--data-dir", tmp_path / "d")
    key = requests.post(url + "/dev/key", json={"node_id": "alice"}, timeout=10).json()["key"]

    def ask(origin):
        headers = {"Origin": origin, "Authorization": f"Bearer {key}"}
        return requests.get(url + "/v1/connect-info", headers=headers, timeout=10)

    near, far = "http://127.0.0.1:1", "http://127.0.0.1.example.org"
    assert ask(near).headers["Access-Control-Allow-Origin"] == near
    assert "Access-Control-Allow-Origin" not in ask(far).headers
    offer = ask(near).json()
    address = f"{offer['ws_url']}?auth_key={key}&validation_key="
    with connect(address + offer["validation_key"], origin=near, proxy=None):
        pass
    with pytest.raises(InvalidStatus):
        connect(address + ask(near).json()["validation_key"], origin=far, proxy=None)
    policy = requests.get(url, timeout=10).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    sources = policy.split("connect-src ")[1].split(" ")
    assert sources[0] == "'self'"
    assert {source.split("://")[1] for source in sources[1:]} == {"127.0.0.1:*", "localhost:*"}


def test_any_origin(make_server):
    server = make_server("--allow-origin", "*")
    with connect(socket_url(server, "alice"), origin="https://anything.example", proxy=None):
        pass


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.one_server("starts the process by hand")
def test_tls(make_server, tmp_path):
    import ssl

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    server = make_server("--tls-cert", cert, "--tls-key", key, start=False)
    process = subprocess.Popen(
        server.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()
    )
    try:
        out, errors = Lines(process.stdout), Lines(process.stderr)
        ready = out.wait_for(r"sparkmesh ready on (https://\S+)", 60)
        assert ready, "".join(errors.text)
        import requests

        url = ready.group(1).rstrip("/")
        offer = requests.get(
            url + "/v1/connect-info", params={"auth_key": server.key("alice")}, verify=str(cert), timeout=10
        ).json()
        assert offer["ws_url"].startswith("wss://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(cert))
        full = f"{offer['ws_url']}?auth_key={server.key('alice')}&validation_key={offer['validation_key']}"
        with connect(full, ssl=context, proxy=None) as socket:
            socket.send('{"dest_id":"alice","type":1,"payload":"sealed"}')
            assert json.loads(socket.recv(timeout=15))["payload"] == "sealed"
    finally:
        process.kill()
        process.wait()


def test_the_servers_memory_is_its_own(server):
    """No test above may have made the shared server grow without bound."""
    assert server.resident_bytes() < 300_000_000
