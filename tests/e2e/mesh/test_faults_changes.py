"""The mesh itself changes while devices talk: all servers are restarted one by one, one is added, one is forgotten."""

import pytest

from lib.device import Device, unique
from lib.faults import judge
from lib.server import run, until
from lib.traffic import Traffic

pytestmark = pytest.mark.timeout(240)


def test_all_servers_are_restarted_one_by_one(make_mesh, tmp_path):
    """SIGTERM, which drains; nobody notices more than a new connection."""
    mesh = make_mesh(3, "--allow-direct", "--drain-deadline", "15s")
    with Traffic(mesh, [None] * 6, seed=10) as traffic:
        traffic.chatter()
        traffic.goes_on(50)
        for server in mesh.servers:
            traffic.history.note(f"{server.name} is asked to end")
            server.terminate()
            assert server.wait(30) == 0, server.log()[-3000:]
            traffic.goes_on(50)
            server.start()
            traffic.history.note(f"{server.name} started")
            mesh.whole()
            traffic.goes_on(50)
        judge(traffic, mesh, tmp_path / "evidence")


def test_a_server_is_added_and_one_forgotten(make_mesh, tmp_path):
    """Inboxes and sessions move to their new homes while they are in use; nothing that waits is lost."""
    mesh = make_mesh(3, "--allow-direct")
    writer = Device(mesh[0], unique("writer"), path="/connectV2")
    away = [unique("away") for _ in range(20)]
    for node in away:
        for number in range(3):
            assert writer.confirmed(dest_id=node, type=1, payload=number)["status"] == "stored"
    writer.close()
    with Traffic(mesh, ["s1", "s2", "s1", "s2", None], seed=11, rooms=6) as traffic:
        traffic.chatter()
        traffic.goes_on(50)
        fourth = mesh.add("s4")
        for server in mesh.servers[:3]:
            mesh.link(fourth, server)
        fourth.start()
        traffic.history.note("s4 added")
        mesh.whole()
        traffic.goes_on(150)
        # While it lives, so that it ships what it has: what only a dead server had is lost with it.
        ended = run("mesh", mesh[0].url, "forget", "s3", "--secret-file", mesh[0].secret_file)
        assert ended.returncode == 0, ended.stderr
        traffic.history.note("s3 forgotten")
        traffic.goes_on(50)
        until(lambda: all(len(mesh["s4"].inbox(node)["messages"]) == 3 for node in away), limit=40)
        mesh["s3"].terminate()
        assert mesh["s3"].wait(60) == 0
        traffic.history.note("s3 has left")
        mesh.whole(["s1", "s2", "s4"])
        traffic.goes_on(150)
        judge(traffic, mesh, tmp_path / "evidence")
    for node in away:
        waits = until(lambda n=node: len(found := mesh["s4"].inbox(n)["messages"]) == 3 and found)
        assert [m["payload"] for m in waits] == [0, 1, 2], f"{node} after two moves"
        assert [m["seq"] for m in waits] == [1, 2, 3]
