"""The real binary as a child process: started on a free port with a data directory of its own, and ended by its pid."""

import json
import os
import queue
import re
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path

import jwt
import requests

from .disk import Disk

ROOT = Path(__file__).resolve().parents[3]
READY = re.compile(r"sparkmesh ready on (http://\S+)")
START_LIMIT = 60


def binary():
    path = Path(os.environ.get("SPARKMESH_BIN", ROOT / "target/debug/sparkmesh"))
    assert path.exists(), f"{path} is not there: run `cargo build`, or set SPARKMESH_BIN"
    return str(path)


def clean_environment(**more):
    """Ours without what would configure a server, or send loopback requests through a proxy."""
    drop = ("SPARKMESH_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(drop)}
    return kept | {k: str(v) for k, v in more.items()}


def run(*args, stdin=None, timeout=30, **env):
    """The binary as a command that ends by itself."""
    return subprocess.run(
        [binary(), *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean_environment(**env),
        check=False,
    )


def stranger():
    """A header that lets each request come from an address of its own: failures slow down their address."""
    address = ".".join(["198", *(str(secrets.randbelow(256)) for _ in range(3))])
    return {"X-Forwarded-For": address}


class Lines:
    """A pipe drained by a thread, so that the child never blocks on it; its lines can be waited for."""

    def __init__(self, pipe):
        self.text = []
        self._fresh = queue.Queue()
        threading.Thread(target=self._drain, args=(pipe,), daemon=True).start()

    def _drain(self, pipe):
        for line in pipe:
            self.text.append(line)
            self._fresh.put(line)
        self._fresh.put(None)

    def wait_for(self, pattern, limit):
        """The first match in a line not looked at before; `None` when the child ends or the time is up."""
        deadline = time.monotonic() + limit
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._fresh.get(timeout=left)
            except queue.Empty:
                return None
            if line is None:
                return None
            if found := re.search(pattern, line):
                return found
        return None


class Server:
    """One server. `flags` are added to those that make it loopback-only and temporary; `disk`: megabytes of a small disk of its
    own (lib/disk.py) for its data directory."""

    # How long a fence listens for what still comes from other servers: there are none.
    quiet = 0.0

    def __init__(
        self,
        directory,
        *flags,
        config=None,
        env=None,
        secrets_file=None,
        host="127.0.0.1",
        port=0,
        secret=None,
        disk=None,
    ):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.disk = None
        if disk:
            mount = self.directory / "disk"
            mount.mkdir()
            self.disk = Disk(mount, disk)
            self.data = mount / "data"
        self.secret_file = self.directory / "secrets"
        self.secret = secret or secrets.token_hex(32)
        if not self.secret_file.exists():
            self.secret_file.write_text(secrets_file or f"{self.secret}\n")
            self.secret_file.chmod(0o600)
        self.host, self.wanted_port = host, port
        self.flags = [str(flag) for flag in flags]
        if config is not None:
            path = self.directory / "config.toml"
            path.write_text(config)
            self.flags += ["--config", str(path)]
        self.env = env or {}
        self.process = None
        # What it printed before it was started again.
        self.past = ""
        self.http = requests.Session()
        self.http.trust_env = False

    # -- life ---------------------------------------------------------------------------------------------------------

    def command(self):
        return [
            binary(),
            "serve",
            "--host-address",
            self.host,
            "--port",
            str(self.wanted_port),
            "--data-dir",
            str(self.data),
            "--secret-file",
            str(self.secret_file),
            "--trust-proxy",
            "127.0.0.1",
            *self.flags,
        ]

    def start(self):
        return self.launch().ready()

    def launch(self):
        """Begins to start."""
        assert self.process is None or self.process.poll() is not None
        if self.process:
            self.past += self.log()
        command = self.command()
        self.process = subprocess.Popen(
            self.disk.wrap(command) if self.disk else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # SIGXFSZ stays ignored, as Python has it: a test makes the disk "full" with a file size limit.
            restore_signals=False,
            env=clean_environment(**self.env),
        )
        self.stdout, self.stderr = Lines(self.process.stdout), Lines(self.process.stderr)
        return self

    def ready(self):
        """Waits until it listens."""
        ready = self.stdout.wait_for(READY, START_LIMIT)
        if ready is None:
            code = self.process.poll()
            self.kill()
            raise AssertionError(f"the server did not become ready (exit code {code}):\n{self.log()}")
        self.url = ready.group(1).rstrip("/")
        self.host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        self.node_id = self.http.get(self.url + "/healthz", timeout=10).json()["node_id"]
        return self

    def close(self):
        """It ends, and its disk with it."""
        self.kill()
        if self.disk:
            self.disk.close()

    def kill(self):
        """kill -9: nothing is flushed, nobody is told."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait(timeout=30)

    def restart(self):
        """After a kill or a stop, on the same data directory (and another port)."""
        self.kill()
        return self.start()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def pause(self):
        """It stands still: its sockets stay open, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def wait(self, limit=60):
        return self.process.wait(timeout=limit)

    def log(self):
        """All it has printed since it was started, on both outputs."""
        return "".join(self.stdout.text + self.stderr.text)

    # -- keys ---------------------------------------------------------------------------------------------------------

    def key(self, node, *, client=None, role=None, ttl=3600, secret=None, headers=None, **claims):
        """An auth key, minted with a JWT library that is not ours."""
        body = {"sub": node, "exp": int(time.time()) + ttl}
        if client is not None:
            body["client_id"] = client
        if role is not None:
            body["role"] = role
        body = {k: v for k, v in (body | claims).items() if v is not ...}
        return jwt.encode(body, secret or self.secret, algorithm="HS256", headers=headers)

    # -- where devices come in ----------------------------------------------------------------------------------------

    def entrance(self, key):
        """The address for a new edge and what else it needs: by an offer, as any client."""
        offer = self.ok("GET", "/v1/connect-info", key=key)
        return offer["ws_url"], {"validation_key": offer["validation_key"]}

    def address_for(self, **_):
        """Of the server that takes an edge with these parameters."""
        return f"{self.host}:{self.port}"

    def named(self, node_id):
        """The server of that id, which must be one of ours."""
        assert node_id == self.node_id
        return self

    def turn(self):
        """What the next test is given."""
        return self

    def changed(self):
        """A device has come or gone; waits until that is known to everybody, which here it is."""

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def request(self, method, path, *, key=None, **options):
        headers = stranger() | options.pop("headers", {})
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        try:
            return self.http.request(method, self.url + path, headers=headers, timeout=60, **options)
        except requests.ConnectionError:
            # A connection that was kept from before it was killed and started again.
            if method != "GET" or not self.is_alive():
                raise
            return self.http.request(method, self.url + path, headers=headers, timeout=60, **options)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)

    def ok(self, method, path, status=200, **options):
        """The JSON of an answer that must have `status`."""
        answer = self.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def refused(self, method, path, status, code, **options):
        """Demands a refusal in the form of the specification; gives the answer."""
        answer = self.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        error = answer.json()["error"]
        assert error["code"] == code, error
        assert error["message"], "a refusal has words for a person"
        return answer

    def app(self):
        return self.key("the-app", role="app")

    def admin(self):
        return self.key("the-admin", role="admin")

    def offer(self, node, **options):
        return self.ok("GET", "/v1/connect-info", key=self.key(node, **options))

    def inbox(self, node, **params):
        """What waits for a device, by HTTP."""
        return self.ok("GET", "/v1/inbox", key=self.key(node), params={"limit": 1000} | params)

    def send_as_app(self, *envelopes, wait_ms=10_000):
        body = {"messages": list(envelopes), "wait_ms": wait_ms}
        return self.ok("POST", "/v1/messages", key=self.app(), json=body)["results"]

    # -- figures ------------------------------------------------------------------------------------------------------

    def metrics(self):
        """`name{label="value"}` -> figure, labels in the order of the page."""
        answer = self.get("/metrics", key=self.admin())
        assert answer.status_code == 200, answer.text
        figures = {}
        for line in answer.text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                figures[name] = float(value)
        return figures

    def metric(self, name, **labels):
        """The sum of all series of `name` that have these labels."""
        total = 0.0
        for series, value in self.metrics().items():
            base, _, rest = series.partition("{")
            if base == name and all(f'{k}="{v}"' in rest for k, v in labels.items()):
                total += value
        return total

    def resident_bytes(self):
        """Of the process, as the kernel counts them."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024


def until(check, limit=20, pause=0.05):
    """Asks `check` until it gives something true: for what no event tells."""
    deadline = time.monotonic() + limit
    while True:
        last = check()
        if last:
            return last
        assert time.monotonic() < deadline, f"not true after {limit} s: {last!r}"
        time.sleep(pause)


def dumps(value):
    return json.dumps(value, separators=(",", ":"))
