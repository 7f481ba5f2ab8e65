"""The tests for one server, on a mesh: `SPARKMESH_MESH=3` (all linked to all) or `line4` (four in a row).

A `Spread` stands where a test has a `Server`. Each HTTP call goes to the next server, each device comes in at the next, so
that who asks, who sends and who receives are on different ones; figures are summed. A test whose words are about one process is marked `one_server`.
"""

import itertools
import os
import re

from .mesh import Mesh
from .server import Server

FORM = re.compile(r"(line)?([2-9])")


def wanted():
    """(shape, count), or `None` where one server is to be tested."""
    text = os.environ.get("SPARKMESH_MESH", "")
    if not text or text == "1":
        return None
    found = FORM.fullmatch(text)
    assert found, f"SPARKMESH_MESH={text}: it is a number of servers, 3, or line4 for four in a row"
    return "line" if found.group(1) else "full", int(found.group(2))


def served(directory, *flags, **options):
    """One server, or with SPARKMESH_MESH a mesh that looks like one; not started yet."""
    return (Spread if wanted() else Server)(directory, *flags, **options)


class AllOf:
    """The processes, as far as tests ask for one: whether it has ended."""

    def __init__(self, servers):
        self.servers = servers

    def poll(self):
        codes = [server.process.poll() for server in self.servers]
        return next((code for code in codes if code is not None), None)


class Spread(Server):
    # Frames of other servers come within that time, or they are not on their way: six links of a loaded machine.
    quiet = 0.3

    def __init__(self, directory, *flags, config=None, env=None, secrets_file=None):
        shape, count = wanted()
        options = {f"s{i + 1}": {"env": env, "secrets_file": secrets_file} for i in range(count)}
        # Directly: a test decides where its devices come in, and not the load.
        flags = [*flags, *({"--allow-direct"} - set(flags))]
        # The first secret signs, with or without a name before it.
        secret = secrets_file and secrets_file.split("\n")[0].rpartition(":")[2]
        self.mesh = Mesh(directory, count, *flags, shape=shape, config=config, options=options, secret=secret)
        self.servers = self.mesh.servers
        self._asked, self._entered = itertools.cycle(self.servers), itertools.cycle(self.servers)
        self.main = self.servers[0]
        self._offered = {}

    def __getattr__(self, name):
        # Only what is not found here: url, host, port, node_id, secret, secret_file, directory, data.
        return getattr(self.__dict__["main"], name)

    def named(self, node_id):
        return self.mesh[node_id]

    def turn(self):
        """Another server is the one that is meant where a test wants one address."""
        self.main = next(self._entered)
        return self

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self):
        self.mesh.start()
        self.process = AllOf(self.servers)
        return self

    def kill(self):
        for server in self.servers:
            server.kill()

    def close(self):
        self.mesh.close()

    def restart(self):
        self.kill()
        return self.start()

    def terminate(self):
        for server in self.servers:
            server.terminate()

    def wait(self, limit=60):
        return max(server.wait(limit) for server in self.servers)

    def log(self):
        return self.mesh.logs()

    # -- where devices come in ----------------------------------------------------------------------------------------

    def entrance(self, key):
        server = next(self._entered)
        return f"ws://{server.host}:{server.port}/connectV2", {}

    def address_for(self, validation_key=None, validation_token=None, **_):
        node = self._offered.get(validation_key or validation_token)
        server = self.mesh[node] if node else self.main
        return f"{server.host}:{server.port}"

    def changed(self):
        self.mesh.settled()

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def request(self, method, path, **options):
        answer = next(self._asked).request(method, path, **options)
        if "validation_key" in answer.text and answer.ok:
            offer = answer.json()
            self._offered[offer["validation_key"]] = offer["node_id"]
        return answer

    # -- figures ------------------------------------------------------------------------------------------------------

    def metrics(self):
        total = {}
        for server in self.servers:
            for series, value in server.metrics().items():
                total[series] = total.get(series, 0.0) + value
        return total

    def resident_bytes(self):
        return max(server.resident_bytes() for server in self.servers)
