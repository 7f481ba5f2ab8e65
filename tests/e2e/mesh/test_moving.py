"""Inboxes move to their new homes, when a server joins and when one is forgotten, while they are in use and while servers die:
all of each is there at any time, under the numbers that it had."""

import itertools
import random
import threading

import pytest
import requests

from lib.device import unique
from lib.server import run, until

pytestmark = pytest.mark.timeout(120)

BATCH = 200


def fill(server, nodes, each, size=0):
    """Gives each node that many envelopes; node -> its inbox."""
    pad = "x" * size
    envelopes = [
        {"dest_id": node, "type": 1, "id": f"{node}-{number}", "payload": {"number": number, "pad": pad}}
        for node in nodes
        for number in range(each)
    ]
    for begin in range(0, len(envelopes), BATCH):
        results = server.send_as_app(*envelopes[begin : begin + BATCH])
        assert all(result.get("status") == "stored" for result in results), results[:3]
    for node in nodes:
        server.ok("DELETE", "/v1/inbox", key=server.key(node), params={"to": 1})
    return {node: inbox(server, node) for node in nodes}


def inbox(server, node):
    """Its epoch, and number and id of all that lies there."""
    page = server.inbox(node)
    assert not page["more"]
    return page["epoch"], [(one["seq"], one["id"]) for one in page["messages"]]


def begins_with(server, node, before):
    """Whether the inbox is as it was, with newer ones behind; `None` where its home cannot be asked just now."""
    answer = server.get("/v1/inbox", key=server.key(node), params={"limit": 1000})
    if answer.status_code == 503:
        return None
    assert answer.status_code == 200, answer.text
    page = answer.json()
    epoch, known = before
    found = [(one["seq"], one["id"]) for one in page["messages"]]
    assert (page["epoch"], found[: len(known)]) == (epoch, known), f"{node} at {server.name}"
    assert [seq for seq, _ in found] == list(range(2, 2 + len(found))), f"{node} at {server.name}: one after the other"
    return True


class Writer:
    """Writes to some nodes, one after the other, until it is ended; remembers what was confirmed."""

    def __init__(self, server, nodes):
        self.server, self.nodes = server, nodes
        self.confirmed = {node: [] for node in nodes}
        self.sent = 0
        self.http = requests.Session()
        self.http.trust_env = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        headers = {"Authorization": f"Bearer {self.server.app()}"}
        for number in itertools.count():
            for node in self.nodes:
                if self._over.is_set():
                    return
                envelope = {"dest_id": node, "type": 1, "id": f"{node}-new-{number}", "payload": "new"}
                body = {"messages": [envelope], "wait_ms": 10_000}
                answer = self.http.post(f"{self.server.url}/v1/messages", headers=headers, json=body, timeout=30)
                self.sent += 1
                if answer.json()["results"][0].get("status") == "stored":
                    self.confirmed[node].append(envelope["id"])

    def goes_on(self, more):
        begin = self.sent
        until(lambda: self.sent >= begin + more, limit=30, pause=0.01)

    def end(self):
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.confirmed


def share(mesh, name):
    """How many envelopes lie at one server, as far as it has them in memory."""
    return mesh[name].metric("sparkmesh_inbox_envelopes")


def test_inboxes_are_whole_while_a_server_joins(make_mesh):
    """Read at any server, at once, also while others write to them: nothing is missing, and all has the number it had."""
    mesh = make_mesh(3)
    quiet, busy = [unique("quiet") for _ in range(80)], [unique("busy") for _ in range(20)]
    before = fill(mesh["s1"], quiet + busy, each=6)
    writer = Writer(mesh["s2"], busy)
    writer.goes_on(20)
    fourth = mesh.add("s4")
    for server in mesh.servers[:3]:
        mesh.link(fourth, server)
    fourth.start()
    chance = random.Random(4)
    unasked = 0
    while True:
        is_ready = fourth.get("/readyz").status_code == 200
        for node in chance.sample(quiet + busy, 10):
            servers = mesh.servers if is_ready else mesh.servers[:3]
            unasked += begins_with(chance.choice(servers), node, before[node]) is None
        if is_ready:
            break
    for node in quiet + busy:
        unasked += begins_with(fourth, node, before[node]) is None
    writer.goes_on(40)
    mesh.whole()
    confirmed = writer.end()
    assert unasked < 20, "who asks is seldom told to ask again"
    for node in quiet:
        assert {inbox(server, node) == before[node] for server in mesh.servers} == {True}
    for node in busy:
        assert begins_with(fourth, node, before[node])
        assert [id_ for _, id_ in inbox(fourth, node)[1][5:]] == confirmed[node]
    assert share(mesh, "s4") > 50, "it is home to some of them"


def test_a_forgotten_server_gives_all_away_and_is_let_in_no_more(make_mesh):
    """Anybody sees when it may be stopped; started again after that it is refused."""
    mesh = make_mesh(3)
    nodes = [unique("node") for _ in range(60)]
    before = fill(mesh["s1"], nodes, each=4)
    forget = ("mesh", mesh["s2"].url, "forget", "s3", "--secret-file", mesh["s2"].secret_file)
    said = run(*forget)
    assert said.returncode == 0 and "gives away what it keeps" in said.stdout, said
    for node in nodes:
        begins_with(mesh["s1"], node, before[node])
    for server in mesh.servers:
        until(lambda s=server: s.view().servers["s3"]["standing"] == "empty")
        assert server.view().servers["s3"]["homes"] == 0
    shown = run("mesh", mesh["s1"].url, "--secret-file", mesh["s1"].secret_file).stdout
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("s3 ")] == ["empty"], shown
    assert "it may be stopped" in mesh["s3"].log()
    assert run(*forget).returncode == 0, "said twice"
    mesh["s3"].terminate()
    assert mesh["s3"].wait(30) == 0
    mesh.whole(["s1", "s2"])
    assert {node: inbox(mesh["s1"], node) for node in nodes} == before
    mesh["s3"].start()
    until(lambda: "has been forgotten: give it a new data directory and id" in mesh["s3"].log())
    assert mesh["s1"].view().reachable() == {"s1", "s2"}


def test_a_server_that_was_dead_when_it_was_forgotten(make_mesh):
    """Its inboxes are gone with it, and everything else goes on; if it comes back, it gives away what it had."""
    mesh = make_mesh(3)
    nodes = [unique("node") for _ in range(60)]
    before = fill(mesh["s1"], nodes, each=4)
    mesh["s3"].kill()
    mesh.whole(["s1", "s2"])
    said = run("mesh", mesh["s1"].url, "forget", "s3", "--secret-file", mesh["s1"].secret_file)
    assert said.returncode == 0 and "cannot be reached" in said.stdout, said
    until(lambda: all("s3" in server.view().answer["forgotten"] for server in mesh.live()))
    waits = {node: inbox(mesh["s2"], node) for node in nodes}
    lost = [node for node in nodes if waits[node][1] == []]
    assert 0 < len(lost) < 40
    for node in sorted(set(nodes) - set(lost)):
        assert waits[node] == before[node]
    mesh["s1"].send_as_app(*({"dest_id": node, "type": 1, "id": f"{node}-new"} for node in lost))
    mesh["s3"].start()
    mesh.whole()
    for server in mesh.servers:
        until(lambda s=server: s.view().servers["s3"]["standing"] == "empty")
    for node in lost:
        epoch, found = inbox(mesh["s1"], node)
        assert [id_ for _, id_ in found] == [f"{node}-new"] + [id_ for _, id_ in before[node][1]]
        assert epoch not in (waits[node][0], before[node][0]), "the numbers mean something else now"


@pytest.mark.parametrize("victim", ["s1", "s2"])
def test_a_home_dies_while_inboxes_move(make_mesh, victim):
    """kill -9 of the old home, or of the new one, when some have moved and some have not: nothing is lost, nothing is there
    twice, and what nobody has written to is as it was."""
    mesh = make_mesh(1)
    quiet, busy = [unique("quiet") for _ in range(360)], [unique("busy") for _ in range(10)]
    before = fill(mesh["s1"], quiet + busy, each=4, size=6000)
    total = 3 * len(before)
    second = mesh.add("s2")
    mesh.link(second, mesh["s1"])
    second.start()
    moved = until(lambda: (here := share(mesh, "s2")) >= 60 and here, pause=0.002)
    mesh[victim].kill()
    other = mesh["s1" if victim == "s2" else "s2"]
    moved = max(moved, share(mesh, "s2") if other.name == "s2" else 0)
    assert moved < 0.4 * total, f"it died too late: {moved} of about {total / 2} had moved"
    writer = Writer(other, busy)
    writer.goes_on(30)
    mesh[victim].start()
    mesh.whole()
    writer.goes_on(10)
    confirmed = writer.end()
    for server in mesh.servers:
        for node in quiet:
            assert inbox(server, node) == before[node], f"{node} at {server.name}, {victim} died"
    for node in busy:
        wanted = [id_ for _, id_ in before[node][1]] + confirmed[node]
        found = until(lambda n=node, w=wanted: len(ids := [id_ for _, id_ in inbox(other, n)[1]]) >= len(w) and ids)
        assert sorted(found) == sorted(set(found)) and set(wanted) <= set(found), f"{node}: {found}"
    # What has moved is at its new home alone.
    mesh["s1"].kill()
    until(lambda: mesh["s2"].view().reachable() == {"s2"})
    at_home = [node for node in quiet if begins_with(mesh["s2"], node, before[node])]
    assert 100 < len(at_home) < 260
