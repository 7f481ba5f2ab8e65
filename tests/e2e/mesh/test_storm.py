"""A server dies with all its devices, or everybody comes at once: who follows the offers is never refused, and who does not
takes nothing down."""

import pytest

from lib.crowd import Crowd, room_for
from lib.device import Device, unique

pytestmark = pytest.mark.timeout(120)

MANY = 1200
# Handshakes per second of each survivor: many fewer than can ask in that time, so that some must wait.
RATE = 80


@pytest.mark.skipif(not room_for(MANY), reason="this process may not open so many files")
def test_a_server_dies_with_all_its_devices(make_mesh):
    """They ask the survivors, at once; each comes when it was told, and none is refused."""
    options = {
        "s1": {"env": {"SPARKMESH_REGION": "here", "SPARKMESH_ADMISSION_RATE": 100_000}},
        "s2": {"env": {"SPARKMESH_ADMISSION_RATE": RATE}},
        "s3": {"env": {"SPARKMESH_ADMISSION_RATE": RATE}},
    }
    mesh = make_mesh(3, options=options)
    crowd = Crowd(mesh.servers, MANY, params={"region": "here"}, prefix=unique("storm"))
    try:
        crowd.come()
        assert mesh["s1"].metric("sparkmesh_connections") == MANY
        crowd.again()
        crowd.params = {}
        crowd.servers = mesh.servers[1:]
        mesh["s1"].kill()
        crowd.all_gone()
        crowd.all_there()
        tally = crowd.again()
        print(
            f"refused {dict(tally.refused)}, late {tally.late}, longest wait told {max(tally.told)}, gone {tally.gone}"
        )
        assert not tally.refused, tally.refused
        assert max(tally.told) > 0, "nobody had to wait: this proves nothing"
        for name in ("s2", "s3"):
            assert mesh[name].metric("sparkmesh_admissions_refused_total", came="offered") <= tally.late
            assert mesh[name].metric("sparkmesh_connections") > MANY / 3, "they are spread"
        late = Device(mesh["s2"], unique("after"))
        assert late.confirmed(dest_id=late.node, type=1, payload="all is well")["status"] == "delivered"
        late.close()
    finally:
        crowd.close()


@pytest.mark.skipif(not room_for(600), reason="this process may not open so many files")
def test_all_come_at_once_and_ask_nobody(make_mesh):
    """They get 503 and a time to come back, each another one; who comes with an offer, and who is there, notices nothing."""
    server = make_mesh(1, "--allow-direct", "--admission-rate", 100)["s1"]
    there, other = Device(server, unique("there")), Device(server, unique("other"))
    crowd = Crowd([server], 600, direct=[server], prefix=unique("rush"))
    try:
        crowd.set_out()
        guests = []
        for number in range(10):
            # An offer is good, and this server has room for those it has told to come.
            guests.append(Device(server, unique("guest")))
            assert there.confirmed(dest_id=other.node, type=1, payload=number)["status"] == "delivered"
            other.wait_for(payload=number)
        crowd.all_there()
        tally = crowd.again()
        assert tally.refused["socket", 503] > 0 and set(tally.refused) == {("socket", 503)}, tally.refused
        assert all(after and 1 <= after <= 120 for after in tally.retries)
        assert len(set(tally.retries)) > 2, "they are not all told to come back at the same time"
        assert server.metric("sparkmesh_admissions_refused_total", came="direct") == sum(tally.refused.values())
        assert server.metric("sparkmesh_admissions_refused_total", came="offered") == 0
        for one in [*guests, there, other]:
            one.close()
    finally:
        crowd.close()
