"""Servers that stand still for a while, and servers whose clocks are wrong."""

import time

import pytest

from lib.device import Device, unique
from lib.faults import FAKETIME, LONG, faked, judge, no_ghosts
from lib.server import until
from lib.traffic import Traffic

pytestmark = pytest.mark.timeout(240)

PAUSE = 30 if LONG else 12


@pytest.mark.parametrize("shape", ["full", "line"])
def test_a_server_stands_still_and_wakes(make_mesh, tmp_path, shape):
    """SIGSTOP: its sockets are open and nothing comes. Others take it for dead; what it does when it wakes harms nobody."""
    mesh = make_mesh(3, "--allow-direct", shape=shape)
    sleeper = Device(mesh["s2"], unique("sleeper"), path="/connectV2")
    mesh.settled()
    with Traffic(mesh, ["s1", "s2", "s3", "s1", "s2", "s3"], seed=8) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        traffic.avoided.add("s2")
        mesh["s2"].pause()
        traffic.history.note("s2 paused")
        begin = time.monotonic()
        others = [mesh["s1"], mesh["s3"]]
        for server in others:
            names = ["s1", "s3"] if shape == "full" else [server.name]
            until(lambda s=server, n=names: s.sees(n), limit=20)
        traffic.goes_on(30, within=40)
        time.sleep(max(0.0, PAUSE - (time.monotonic() - begin)))
        mesh["s2"].resume()
        traffic.history.note("s2 woken")
        traffic.avoided.clear()
        mesh.whole()
        traffic.goes_on(100)
        sleeper.close()
        no_ghosts(mesh, [sleeper.node])
        judge(traffic, mesh, tmp_path / "evidence", bound=PAUSE + 25.0)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed: scripts/test does that")
@pytest.mark.parametrize("off", ["+1h", "-1h"])
def test_a_clock_an_hour_off(make_mesh, tmp_path, off):
    """Offers are good at servers whose clock differs, and a time to live is the time that is left, not a date."""
    mesh = make_mesh(3, "--allow-direct", options={"s2": {"env": faked(off)}})
    shown = {server.name: server.get("/healthz").headers["Date"] for server in mesh.servers}
    assert shown["s1"][:22] != shown["s2"][:22], f"the clock of s2 is not off: {shown}"
    life = {"ttl": 3 * 3600}
    for asked in mesh.servers:
        for _ in range(6):
            node = unique("roams")
            offer = asked.ok("GET", "/v1/connect-info", key=asked.key(node, **life))
            at = mesh[offer["node_id"]]
            url = f"ws://{at.host}:{at.port}/v1/connect?auth_key={at.key(node, **life)}"
            one = Device(at, node, url=f"{url}&validation_key={offer['validation_key']}")
            assert one.confirmed(dest_id=node, type=1, payload="x")["status"] == "delivered", (asked.name, at.name)
            one.close()
    senders = [Device(server, unique("sender"), path="/connectV2", **life) for server in mesh.servers]
    mesh.settled()
    for one in senders:
        for other in senders:
            assert one.confirmed(dest_id=other.node, type=1, ttl_ms=20_000)["status"] == "delivered"
    away = [unique("away") for _ in range(6)]
    for node in away:
        for one in senders:
            assert one.confirmed(dest_id=node, type=1, payload="short", ttl_ms=500)["status"] == "stored"
            assert one.confirmed(dest_id=node, type=1, payload="long", ttl_ms=600_000)["status"] == "stored"

    def waits(node):
        key = mesh[0].key(node, **life)
        return [m["payload"] for m in mesh[0].ok("GET", "/v1/inbox", key=key, params={"limit": 100})["messages"]]

    for node in away:
        until(lambda n=node: waits(n) == ["long"] * 3)
    with Traffic(mesh, ["s1", "s2", "s3", "s1", "s2", "s3"], seed=9) as traffic:
        traffic.chatter()
        traffic.goes_on(200)
        for one in senders:
            one.close()
        judge(traffic, mesh, tmp_path / "evidence", late=0)
