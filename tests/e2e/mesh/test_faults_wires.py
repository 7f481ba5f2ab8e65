"""Links that are cut, stand still, or are bad: over wires that the test holds in its hand."""

import time

import pytest

from lib.device import Device, unique
from lib.faults import judge
from lib.server import until
from lib.traffic import Traffic

row = pytest.mark.row
pytestmark = pytest.mark.timeout(180)


def reaches(server, names):
    return lambda: server.sees(names)


@pytest.mark.parametrize("how", ["silent", "reset"])
def test_a_link_is_cut_and_healed(make_mesh, tmp_path, how):
    """There is another way: nobody is cut off, and nothing comes late."""
    mesh = make_mesh(3, "--allow-direct", wires=True)
    with Traffic(mesh, ["s1", "s2", "s3", "s1", "s2"], seed=4) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        mesh.wire("s1", "s2").cut(how)
        traffic.history.note("s1-s2 cut")
        until(lambda: frozenset(("s1", "s2")) not in mesh["s3"].view().links(), limit=15)
        traffic.goes_on(100)
        mesh.wire("s1", "s2").heal()
        traffic.history.note("s1-s2 healed")
        until(lambda: frozenset(("s1", "s2")) in mesh["s3"].view().links(), limit=15)
        traffic.goes_on(100)
        assert traffic.broken() == 0, "no device has lost its connection"
        judge(traffic, mesh, tmp_path / "evidence", late=0)


@row("A34")
def test_a_link_that_breaks_again_and_again(make_mesh, tmp_path):
    mesh = make_mesh(3, "--allow-direct", wires=True)
    with Traffic(mesh, ["s1", "s2", "s3", "s1", "s2"], seed=5) as traffic:
        traffic.chatter()
        for _ in range(8):
            traffic.goes_on(25)
            for wire in mesh.wires.values():
                if traffic.chance.random() < 0.6:
                    wire.drop()
        mesh.whole()
        judge(traffic, mesh, tmp_path / "evidence")


@pytest.mark.parametrize("shape", ["full", "line"])
@pytest.mark.parametrize("how", ["silent", "reset"])
def test_two_and_two(make_mesh, tmp_path, shape, how):
    """A partition: each half goes on by itself, mail for homes on the other side is held, and all is one again when it heals."""
    mesh = make_mesh(4, "--allow-direct", shape=shape, wires=True)
    with Traffic(mesh, ["s1", "s2", "s3", "s4", "s1", "s4"], seed=6) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        for wire in mesh.between(("s1", "s2"), ("s3", "s4")):
            wire.cut(how)
        traffic.history.note("cut in two")
        for half in (("s1", "s2"), ("s3", "s4")):
            for name in half:
                until(reaches(mesh[name], half), limit=20)
        traffic.goes_on(60)
        for wire in mesh.between(("s1", "s2"), ("s3", "s4")):
            wire.heal()
        traffic.history.note("healed")
        mesh.whole()
        traffic.goes_on(100)
        judge(traffic, mesh, tmp_path / "evidence")


def test_a_slow_link_beside_a_clean_longer_way(make_mesh, tmp_path):
    """60 ms and losses on the direct link, nothing on the way round: what is sent goes round, and the whole is as before when it heals."""
    mesh = make_mesh(3, "--allow-direct", wires=True)
    one = Device(mesh["s1"], unique("one"), path="/connectV2")
    other = Device(mesh["s3"], unique("other"), path="/connectV2")
    mesh.settled()
    with Traffic(mesh, ["s1", "s2", "s3", "s1", "s3"], seed=7) as traffic:
        traffic.chatter()
        traffic.goes_on(50)
        mesh.wire("s1", "s3").worsen(delay=0.06, jitter=0.04, loss=0.05)
        traffic.history.note("s1-s3 is bad")

        def quick():
            """The middle one of nine round trips, in seconds, is shorter than one over the bad link."""
            took = []
            for _ in range(9):
                begin = time.monotonic()
                one.confirmed(dest_id=other.node, type=1, payload="x")
                took.append(time.monotonic() - begin)
                other.fence()
            return sorted(took)[4] < 0.06

        until(quick, limit=60)
        passed = mesh.wire("s1", "s3").passed
        traffic.goes_on(100)
        assert mesh.wire("s1", "s3").passed - passed < 40_000, "nothing but control goes over it"
        mesh.wire("s1", "s3").heal()
        traffic.goes_on(50)
        one.close(), other.close()
        judge(traffic, mesh, tmp_path / "evidence", late=0)
