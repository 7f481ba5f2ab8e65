"""Row A52: real nginx with the configuration of nginx/, before three servers: balanced, by name, with TLS."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time

import pytest
import requests
import urllib3
from websockets.sync.client import connect

from lib.device import Device, unique
from lib.mesh import ADDRESSES, Mesh
from lib.server import ROOT, until

row = pytest.mark.row

NAMES = ["a.example.org", "b.example.org", "c.example.org"]
BALANCED = "mesh.example.org"
PLAIN, SEALED = 7480, 7443


class Nginx:
    """The files of nginx/, with the addresses of these servers in the place of the examples."""

    def __init__(self, directory, servers):
        self.directory = directory
        self.host = next(ADDRESSES)
        (directory / "logs").mkdir(parents=True)
        self.certificate = directory / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-days", "2", "-subj", f"/CN={BALANCED}"]
            + ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in [BALANCED, *NAMES])]
            + ["-keyout", str(directory / "key.pem"), "-out", str(self.certificate)],
            check=True,
            capture_output=True,
        )
        places = {
            r"listen 80\b": f"listen {self.host}:{PLAIN}",
            r"listen 443\b": f"listen {self.host}:{SEALED}",
            r"/etc/nginx/sparkmesh/": f"{directory}/",
            r"/var/log/nginx/": f"{directory}/logs/",
            r"10\.0\.0\.5:8080": f"{servers[0].host}:{servers[0].port}",
            r"10\.0\.0\.6:8080": f"{servers[1].host}:{servers[1].port}",
            r"10\.0\.0\.7:8080": f"{servers[2].host}:{servers[2].port}",
        }
        texts = {name: (ROOT / "nginx" / name).read_text() for name in ("sparkmesh.conf", "proxy.conf")}
        for example, ours in places.items():
            assert any(re.search(example, text) for text in texts.values()), f"{example} is not in nginx/"
            texts = {name: re.sub(example, ours, text) for name, text in texts.items()}
        for name, text in texts.items():
            (directory / name).write_text(text)
        (directory / "nginx.conf").write_text(
            f"daemon off;\nworker_processes 2;\npid {directory}/pid;\nerror_log {directory}/logs/error.log info;\n"
            "events { worker_connections 1000; }\n"
            "http {\n"
            + "".join(
                f"  {part}_temp_path {directory}/{part};\n"
                for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f"  include {directory}/sparkmesh.conf;\n}}\n"
        )
        command = [
            program(),
            "-p",
            str(directory),
            "-e",
            str(directory / "logs/error.log"),
            "-c",
            str(directory / "nginx.conf"),
        ]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(self.answers)

    def answers(self):
        assert self.process.poll() is None, self.log("error.log")
        with contextlib.suppress(OSError), socket.create_connection((self.host, SEALED), timeout=1):
            return True
        return False

    def log(self, name="sparkmesh.log"):
        return (self.directory / "logs" / name).read_text()

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=20)

    # -- as a client ----------------------------------------------------------------------------------------------

    def get(self, path, *, name=BALANCED, source="127.0.0.1", **options):
        """By plain HTTP, from an address of ours."""
        with requests.Session() as session:
            session.trust_env = False
            adapter = requests.adapters.HTTPAdapter()
            adapter.init_poolmanager(1, 1, source_address=(source, 0))
            session.mount("http://", adapter)
            headers = options.pop("headers", {}) | {"Host": name}
            return session.get(f"http://{self.host}:{PLAIN}{path}", headers=headers, timeout=30, **options)

    def get_sealed(self, path, *, name=BALANCED, headers=()):
        """By HTTPS, with the certificate checked; the JSON of the answer."""
        pool = urllib3.HTTPSConnectionPool(
            self.host, SEALED, ca_certs=str(self.certificate), server_hostname=name, assert_hostname=name
        )
        with pool:
            answer = pool.request("GET", path, headers=dict(headers) | {"Host": name}, timeout=30)
        assert answer.status == 200, answer.data
        return json.loads(answer.data)

    def open(self, url, **options):
        """A WebSocket through nginx to the host that a URL names, which no name server knows."""
        sealed = url.startswith("wss://")
        plain = socket.create_connection((self.host, SEALED if sealed else PLAIN), timeout=15)
        return connect(url, sock=plain, proxy=None, compression=None, ping_interval=None, **options)


def program():
    found = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert found, "nginx is not installed: scripts/test does that, or `apt-get install nginx`"
    return found


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    mesh = Mesh(tmp_path_factory.mktemp("behind-nginx"), 3)
    for server, name in zip(mesh.servers, NAMES, strict=True):
        server.flags += ["--proxy-80-port", name]
    mesh.start()
    yield mesh
    mesh.close()


@pytest.fixture(scope="module")
def nginx(mesh, tmp_path_factory):
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), mesh.servers)
    yield nginx
    nginx.close()


def test_the_entry_is_balanced(mesh, nginx):
    met = {nginx.get("/healthz").json()["node_id"] for _ in range(30)}
    assert met == {server.node_id for server in mesh.servers}


def test_one_host_for_each_server(mesh, nginx):
    for server, name in zip(mesh.servers, NAMES, strict=True):
        for _ in range(3):
            assert nginx.get("/healthz", name=name).json()["node_id"] == server.node_id
    assert nginx.get("/healthz", name="elsewhere.example.org").status_code == 404


@row("A52", "A74")
@pytest.mark.parametrize("sealed", [False, True], ids=["80", "443"])
def test_a_conversation_through_the_hosts_that_the_offers_name(mesh, nginx, sealed):
    """Ask the balanced entry, connect to the host that is named, and talk, over whatever servers it has become."""
    import ssl

    context = {"ssl": ssl.create_default_context(cafile=str(nginx.certificate))} if sealed else {}
    with contextlib.ExitStack() as opened:
        nodes, sockets, servers = [unique("device") for _ in range(4)], [], set()
        for node in nodes:
            key = mesh[0].key(node)
            asked, headers = "/v1/connect-info?need_80_port=1", {"Authorization": f"Bearer {key}"}
            offer = nginx.get_sealed(asked, headers=headers) if sealed else nginx.get(asked, headers=headers).json()
            assert offer["proxy_80_port"] in NAMES
            scheme = "wss" if sealed else "ws"
            assert offer["ws_url"] == f"{scheme}://{offer['proxy_80_port']}/v1/connect", "as it was asked"
            servers.add(offer["node_id"])
            url = f"{offer['ws_url']}?auth_key={key}&validation_key={offer['validation_key']}"
            sockets.append(opened.enter_context(nginx.open(url, **context)))
        mesh.settled()
        for number, (one, other) in enumerate([(0, 1), (1, 2), (2, 3), (3, 0)]):
            sockets[one].send(json.dumps({"dest_id": nodes[other], "type": 1, "payload": number, "reference": "r"}))
            assert json.loads(sockets[other].recv(timeout=15))["payload"] == number
            assert json.loads(sockets[one].recv(timeout=15))["status"] == "delivered", "the pong came through"


def test_who_asks_is_known_and_cannot_be_made_up(mesh, nginx):
    """Failures slow their own address down: so it must be the client's, and not nginx's, nor what the client says."""

    def fail(source, **headers):
        begin = time.monotonic()
        answer = nginx.get("/v1/connect-info?auth_key=bad", name=NAMES[0], source=source, headers=headers)
        assert answer.status_code == 401
        return time.monotonic() - begin

    took = [
        fail("127.0.0.77", **{"X-Forwarded-For": f"198.51.100.{n}", "Forwarded": f"for=203.0.113.{n}"})
        for n in range(6)
    ]
    assert took[-1] >= 1.5, f"the sixth failure of one address waits long: {took}"
    assert fail("127.0.0.78") < 1.0, "and the first of another does not"


def test_no_key_is_in_the_log(mesh, nginx):
    key = mesh[0].key("alice")
    assert nginx.get(f"/v1/connect-info?auth_key={key}").status_code == 200
    until(lambda: "GET /v1/connect-info" in nginx.log())
    assert key not in nginx.log() and "auth_key" not in nginx.log()


def test_a_browser_page_of_the_proxys_own_host_is_let_in(mesh, nginx):
    node = unique("browser")
    key = mesh[0].key(node)
    offer = mesh[0].ok("GET", "/v1/connect-info?need_80_port=1", key=key)
    url = f"{offer['ws_url']}?auth_key={key}&validation_key={offer['validation_key']}"
    with nginx.open(url, origin=f"http://{offer['proxy_80_port']}") as opened:
        opened.send(json.dumps({"dest_id": node, "type": 1, "payload": "from a browser"}))
        assert json.loads(opened.recv(timeout=15))["payload"] == "from a browser"


def test_a_server_that_dies_is_passed_over(mesh, nginx):
    """Nobody who asks the balanced entry notices; and it gets its share again when it is back."""
    key = mesh[0].key(unique("asker"))
    mesh[2].kill()
    try:
        for _ in range(20):
            answer = nginx.get("/v1/connect-info?need_80_port=1", headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200, answer.text
        until(
            lambda: (
                nginx.get("/v1/connect-info", headers={"Authorization": f"Bearer {key}"}).json()["node_id"]
                != mesh[2].name
            )
        )
        away = unique("away")
        sender = Device(mesh[0], unique("sender"))
        sent = nginx.get("/healthz", name=NAMES[2])
        assert sent.status_code == 502, "its own host has nobody behind it"
        assert sender.confirmed(within=30, dest_id=away, type=1)["status"] == "stored"
        sender.close()
    finally:
        mesh[2].start()
        mesh.whole()
    until(lambda: nginx.get("/healthz").json()["node_id"] == mesh[2].node_id, limit=30)
