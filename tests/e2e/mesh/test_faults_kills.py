"""kill -9 of servers while devices talk: wherever the dead one stood on the way, what was confirmed arrives, once in order,
and every sender is told."""

import pytest
from websockets.exceptions import ConnectionClosed

from lib.device import CONFIRMATION, JOINED, Device, unique
from lib.faults import judge, no_ghosts
from lib.server import until
from lib.traffic import Traffic

row = pytest.mark.row
pytestmark = pytest.mark.timeout(180)

SPREAD = ["s1", "s2", "s3", "s1", "s2", "s3"]


@row("A50", "A73")
@pytest.mark.parametrize("victim", ["s1", "s2", "s3"])
def test_any_server_under_load(make_mesh, tmp_path, victim):
    """Each server has devices, is home of some and of some sessions; it dies, and comes back."""
    mesh = make_mesh(3, "--allow-direct")
    gone = Device(mesh[victim], unique("gone"), path="/connectV2")
    with Traffic(mesh, SPREAD, rate=40, seed=1) as traffic:
        traffic.chatter()
        traffic.goes_on(300)
        mesh[victim].kill()
        traffic.history.note(f"{victim} killed")
        no_ghosts(mesh, [gone.node])
        traffic.goes_on(100)
        traffic.connected()
        mesh[victim].start()
        traffic.history.note(f"{victim} started")
        mesh.whole()
        traffic.goes_on(100)
        judge(traffic, mesh, tmp_path / "evidence")


@row("A32", "A73")
def test_the_recipients_server(make_mesh):
    """What is on its way when the recipient's server dies is stored, and replayed in order where the recipient comes back."""
    mesh = make_mesh(3, "--allow-direct")
    alice = Device(mesh[0], unique("alice"), path="/connectV2")
    bob = Device(mesh[1], unique("bob"), path="/connectV2", inbox="auto")
    mesh.settled()
    total = 400
    for number in range(total // 2):
        alice.send(dest_id=bob.node, type=1, payload=number, id=str(number), reference=str(number))
    mesh[1].kill()
    for number in range(total // 2, total):
        alice.send(dest_id=bob.node, type=1, payload=number, id=str(number), reference=str(number))
    told = {alice.wait_for(type=CONFIRMATION)["reference"] for _ in range(total)}
    assert told == {str(number) for number in range(total)}, "every one is told"
    before = []
    with pytest.raises((ConnectionClosed, TimeoutError, OSError)):
        while True:
            before.append(bob.receive(within=1)["payload"])
    bob = Device(mesh[2], bob.node, path="/connectV2", inbox="auto")
    after = [frame["payload"] for frame in bob.fence() if frame["type"] == 1]
    while not after or after[-1] != total - 1:
        after.append(bob.receive()["payload"])
    for met in (before, after):
        assert met == sorted(set(met)), "in order, and none twice on one edge"
    assert sorted(set(before + after)) == list(range(total)), "and none is missing"


def test_a_home_that_nobody_is_attached_to(make_mesh, tmp_path):
    """The third server is home of some devices and sessions only: nobody who is online loses a connection or a message, and
    devices at the other two go on within a few seconds, and when it is back."""
    mesh = make_mesh(3, "--allow-direct")
    with Traffic(mesh, ["s1", "s2"] * 4, seed=2, rooms=8, share=0.5) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        mesh["s3"].kill()
        traffic.history.note("s3 killed")
        traffic.goes_on(200, within=15)
        mesh["s3"].start()
        traffic.history.note("s3 started")
        mesh.whole()
        traffic.goes_on(200)
        judge(traffic, mesh, tmp_path / "evidence", late=0, bound=10.0)


def home_of(mesh, server, sender, node):
    """The server whose inboxes grow by what is stored for `node`."""
    before = {one.name: one.metric("sparkmesh_inbox_envelopes") for one in mesh.live()}
    assert sender.confirmed(dest_id=node, type=1, payload="where do you live?")["status"] == "stored"
    (name,) = [one.name for one in mesh.live() if one.metric("sparkmesh_inbox_envelopes") > before[one.name]]
    return name


def test_mail_for_a_dead_home_is_held(make_mesh):
    """It is confirmed, survives the crash of who holds it, and is in the inbox, in order, when the home is back."""
    mesh = make_mesh(3, "--allow-direct")
    alice = Device(mesh[0], unique("alice"), path="/connectV2")
    while home_of(mesh, mesh[0], alice, node := unique("away")) != "s3":
        pass
    mesh["s3"].kill()
    for number in range(20):
        assert alice.confirmed(within=30, dest_id=node, type=1, payload=number)["status"] == "stored"
    mesh["s1"].kill()
    mesh["s1"].start()
    mesh["s3"].start()
    mesh.whole()
    until(lambda: len(mesh["s2"].inbox(node)["messages"]) == 21)
    messages = mesh["s2"].inbox(node)["messages"]
    assert [m["payload"] for m in messages] == ["where do you live?", *range(20)]
    assert [m["seq"] for m in messages] == list(range(1, 22))
    bob = Device(mesh[1], node, path="/connectV2", inbox="auto")
    for number in ["where do you live?", *range(20)]:
        bob.expect(payload=number)
    bob.close()


@row("A67", "A80")
@pytest.mark.parametrize("victim", ["s1", "s2", "s3"])
def test_what_changes_while_a_sessions_home_is_dead(make_mesh, victim):
    """Sessions whose home is dead go on at their deputies, members come and go, and nothing of it is lost when the home returns."""
    mesh = make_mesh(3, "--allow-direct")
    first, second = (server for server in mesh.servers if server.name != victim)
    owner, bob = (Device(at, unique("member"), path="/connectV2") for at in (first, second))
    rooms = [unique("room") for _ in range(9)]
    for room in rooms:
        body = {"session_id": room, "anyone_can_join": True, "members": [[owner.node], [bob.node]]}
        first.ok("POST", "/v1/sessions", 201, key=first.app(), json=body)
    mesh.settled()
    mesh[victim].kill()
    late = Device(second, unique("late"), path="/connectV2")
    for room in rooms:
        until(lambda r=room: second.post(f"/v1/sessions/{r}/join", key=late.key).status_code == 200)
        owner.wait_for(type=JOINED, src_id=late.node, dest_session_id=room)
        assert first.post(f"/v1/sessions/{room}/leave", key=bob.key).status_code == 200
        done = owner.confirmed(dest_session_id=room, type=1, payload=room)
        assert (done["status"], done["delivered"]) == ("delivered", 1)
        late.wait_for(payload=room, src_id=owner.node)
    mesh[victim].start()
    mesh.whole()
    for room in rooms:
        for server in mesh.servers:

            def members(at=server, of=room):
                answer = at.get(f"/v1/sessions/{of}", key=owner.key)
                return answer.status_code == 200 and answer.json()["members"]

            assert until(members) == [owner.node, late.node], f"{room} at {server.name}"
        done = late.confirmed(dest_session_id=room, type=1, payload="after")
        assert (done["status"], done["delivered"]) == ("delivered", 1)
        owner.wait_for(payload="after", dest_session_id=room)


@pytest.mark.parametrize("relay", ["s2", "s3"])
def test_a_relay_in_the_middle_of_a_line_of_four(make_mesh, tmp_path, relay):
    """Its death cuts the mesh in two; both parts go on, and all comes together when it is back."""
    mesh = make_mesh(4, "--allow-direct", shape="line")
    with Traffic(mesh, ["s1", "s4", "s1", "s4", "s2", "s3"], seed=3) as traffic:
        traffic.chatter()
        traffic.goes_on(100)
        mesh[relay].kill()
        traffic.history.note(f"{relay} killed")
        traffic.goes_on(50)
        mesh[relay].start()
        traffic.history.note(f"{relay} started")
        mesh.whole()
        traffic.goes_on(100)
        judge(traffic, mesh, tmp_path / "evidence")
