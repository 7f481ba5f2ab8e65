"""The disks of servers are full, really: small ones of their own. And devices of all kinds meanwhile."""

import random

import pytest

from lib import disk
from lib.device import CONFIRMATION, ERROR, Device, unique
from lib.faults import judge
from lib.kinds import KINDS, spread
from lib.server import until
from lib.traffic import Traffic

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(disk.unavailable() is not None, reason=f"no small disk can be mounted: {disk.unavailable()}"),
]

SMALL = {"disk": 64}


def told(traffic, status):
    with traffic.history.lock:
        return sum(any(word == status for _, word in one.told) for one in traffic.history.envelopes.values())


def test_devices_of_all_kinds_while_disks_are_full_and_servers_die(make_mesh, tmp_path):
    mesh = make_mesh(3, "--allow-direct", options={"s1": SMALL, "s2": SMALL})
    kinds = spread(40, list(KINDS.values()), random.Random(8))
    places = [None if i % 3 == 2 else f"s{i % 3 + 1}" for i in range(len(kinds))]
    with Traffic(mesh, places, rate=2, seed=8, rooms=8, members=8, kinds=kinds) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        mesh["s1"].disk.fill()
        traffic.history.note("the disk of s1 is full")
        until(lambda: mesh["s1"].get("/readyz").status_code == 503)
        traffic.goes_on(100)
        mesh["s1"].disk.free()
        traffic.history.note("and has room again")
        mesh.whole()
        mesh["s2"].disk.fill()
        traffic.history.note("the disk of s2 is full, and it is killed")
        traffic.goes_on(50)
        mesh["s2"].kill()
        mesh["s2"].disk.free()
        mesh["s2"].start()
        mesh.whole()
        traffic.goes_on(100)
        assert told(traffic, "unavailable"), "nothing was to be stored while the disks were full"
        judge(traffic, mesh, tmp_path / "evidence", bound=45.0)


def test_what_is_held_for_others_needs_a_disk_too(make_mesh):
    """The home is dead, and the disk of the sender's server is full: nothing is promised. With room again it is held."""
    mesh = make_mesh(2, "--allow-direct", "--pin", "far-=s2", options={"s1": SMALL})
    alice, away = Device(mesh["s1"], unique("alice"), path="/connectV2"), unique("far-away")
    mesh["s2"].kill()
    mesh["s1"].disk.fill()
    # More than fits into what the store's file has already.
    mail = "x" * 200_000
    alice.send(dest_id=away, type=1, payload=mail, id="one", reference="r")
    alice.wait_for(type=ERROR, code="unavailable", id="one", within=30)
    mesh["s1"].disk.free()

    def stored():
        """Sent again, as the error says; a store that has failed is not tried for a moment."""
        alice.send(dest_id=away, type=1, payload=mail, id="one", reference="again")
        told = alice.wait_for(reference="again", within=30)
        return told["type"] == CONFIRMATION and told["status"] == "stored"

    until(stored, limit=30)
    mesh["s2"].start()
    mesh.whole()
    until(lambda: [m["payload"] for m in mesh["s2"].inbox(away)["messages"]] == [mail])
    alice.close()
