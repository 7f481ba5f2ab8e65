"""Several servers as processes of one mesh, each on a loopback address of its own, linked directly or over wires that can be
cut; all can be killed, paused and started again by name.

What a mesh looks like from inside is read from `GET /v1/mesh`; `View` is the one place that knows that answer's form.
"""

import itertools
import os
import secrets
import socket
import time
from pathlib import Path

import requests

from .server import Server, until
from .wire import Loop, Wire

# Outside the range from which the kernel takes ports by itself.
PORT = 7411
SETTLE_LIMIT = 30


def own_addresses():
    """Loopback addresses that no other process of the tests takes: the pid makes them its own, and a bind tries them."""
    pid = os.getpid()
    for number in itertools.count():
        low = 2 + number % 250
        high = (pid + 7919 * (number // 250)) % 62_500
        address = f"127.{1 + high // 250}.{1 + high % 250}.{low}"
        with socket.socket() as probe:
            try:
                probe.bind((address, PORT))
            except OSError:
                continue
        yield address


ADDRESSES = own_addresses()


class View:
    """The mesh as one server sees it."""

    def __init__(self, answer):
        self.answer = answer
        self.servers = {one["node_id"]: one for one in answer["servers"]}

    def reachable(self):
        return {node for node, one in self.servers.items() if one.get("reachable", True)}

    def links(self):
        """Unordered pairs of servers that are linked, as far as both ends say so."""
        said = {(a, link["peer"]) for a, one in self.servers.items() for link in one.get("links", [])}
        return {frozenset(pair) for pair in said if pair[::-1] in said}

    def attachments(self):
        """How many devices are attached, at all servers together."""
        return sum(one.get("attachments", one["connections"]) for one in self.servers.values())

    def attached(self):
        """Server -> what tells one state of its attachment list from another."""
        return {
            node: (one.get("incarnation"), one.get("attachment_number"), one.get("attachments", one["connections"]))
            for node, one in self.servers.items()
            if node in self.reachable()
        }


class Member(Server):
    """One server of a mesh. It keeps its address over restarts, for the others have it."""

    def __init__(self, mesh, name, *flags, **options):
        super().__init__(mesh.directory / name, *flags, port=PORT, secret=mesh.secret, **options)
        self.mesh, self.name = mesh, name
        self.peers = []

    def command(self):
        peers = [word for address in self.peers for word in ("--peer", f"ws://{address}")]
        return [*super().command(), "--node-id", self.name, "--links", self.mesh.linking, *peers]

    def view(self):
        return View(self.ok("GET", "/v1/mesh", key=self.admin()))

    def sees(self, names):
        """Whether it is ready and reaches exactly these servers."""
        try:
            return self.get("/readyz").status_code == 200 and self.view().reachable() == set(names)
        except (requests.RequestException, AssertionError):
            return False


def pairs(shape, count):
    if shape == "full":
        return list(itertools.combinations(range(count), 2))
    if shape == "line":
        return [(i, i + 1) for i in range(count - 1)]
    return [tuple(pair) for pair in shape]


class Mesh:
    """`shape`: "full", "line", or pairs of indices. `wires`: each link runs over a `Wire` of its own, and servers dial no
    link that is not in the shape."""

    def __init__(
        self, directory, count, *flags, shape="full", wires=False, config=None, names=None, options=None, secret=None
    ):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.secret = secret or secrets.token_hex(32)
        self.loop = Loop() if wires else None
        self.wires = {}
        self.linking = "full" if shape == "full" and not wires else "static"
        self.flags, self.config, self.options = flags, config, options or {}
        self.servers = []
        for name in names or [f"s{i + 1}" for i in range(count)]:
            self.add(name)
        for a, b in pairs(shape, count):
            self.link(a, b)

    # -- what it is made of -------------------------------------------------------------------------------------------

    def add(self, name, **options):
        """One more server, not started yet."""
        more = self.options.get(name, {}) | options
        member = Member(self, name, *self.flags, config=self.config, host=next(ADDRESSES), **more)
        self.servers.append(member)
        return member

    def remove(self, member):
        """It is of the mesh no more; its process is the caller's."""
        self.servers.remove(member)
        for pair in [pair for pair in self.wires if member.name in pair]:
            wire = self.wires.pop(pair)
            for other in self.servers:
                other.peers = [peer for peer in other.peers if peer != wire.address]
            wire.close()

    def link(self, a, b):
        """The former of the two dials the latter; in a full mesh whoever is there first is found by the other."""
        one, other = self[a], self[b]
        address = f"{other.host}:{PORT}"
        if self.loop:
            wire = Wire(self.loop, one.host, (other.host, PORT), seed=len(self.wires))
            self.wires[frozenset((one.name, other.name))] = wire
            address = wire.address
        one.peers.append(address)
        if self.linking == "full":
            other.peers.append(f"{one.host}:{PORT}")

    def __getitem__(self, which):
        if isinstance(which, Member):
            return which
        if isinstance(which, int):
            return self.servers[which]
        return next(server for server in self.servers if server.name == which)

    def wire(self, a, b):
        return self.wires[frozenset((self[a].name, self[b].name))]

    def between(self, group, others):
        """The wires from one group of servers to another."""
        pairs_ = (frozenset((self[a].name, self[b].name)) for a in group for b in others)
        return [self.wires[pair] for pair in pairs_ if pair in self.wires]

    def live(self):
        return [server for server in self.servers if server.is_alive()]

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self):
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.ready()
        return self.whole()

    def close(self):
        for server in self.servers:
            server.close()
        for wire in self.wires.values():
            wire.close()
        if self.loop:
            self.loop.close()

    def whole(self, names=None, limit=SETTLE_LIMIT):
        """Waits until all that live are ready and see each other and nobody else (or just `names`)."""
        names = names or [server.name for server in self.live()]
        deadline = time.monotonic() + limit
        for name in names:
            while not self[name].sees(names):
                assert time.monotonic() < deadline, f"{name} does not see {names} after {limit} s:\n" + "\n".join(
                    map(self.told, names)
                )
                time.sleep(0.02)
        return self

    def settled(self, limit=SETTLE_LIMIT):
        """Waits until all that live know the same attachments."""

        def agree():
            seen = [server.view().attached() for server in self.live()]
            return all(one == seen[0] for one in seen)

        until(agree, limit=limit, pause=0.01)

    def told(self, name):
        """What one server says of the mesh, and the end of its log: for messages of tests that fail."""
        server = self[name]
        try:
            answer = server.view().answer
        except (requests.RequestException, AssertionError) as error:
            answer = error
        return f"{answer}\n{server.log()[-3000:]}"

    def logs(self):
        return "\n".join(f"=== {server.name}\n{server.log()}" for server in self.servers if server.process)

    def panicked(self):
        return [server.name for server in self.servers if server.process and "panicked" in server.past + server.log()]
