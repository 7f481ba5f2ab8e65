"""The mesh as clients, apps and admins see it while nothing breaks: offers, draining, what crosses a link, what is shown."""

import json
import time

import pytest

from lib.device import CONFIRMATION, GOING_AWAY, Device, socket_url, unique
from lib.raw import RawDevice
from lib.server import run, until

row = pytest.mark.row

DIRECT = {"path": "/connectV2"}


def offers(server, count, **params):
    """The servers that so many devices are offered."""
    found = [server.ok("GET", "/v1/connect-info", key=server.key(unique("asker")), params=params) for _ in range(count)]
    return [offer["node_id"] for offer in found]


# -- where devices are sent (A11, A12) --------------------------------------------------------------------------------


@row("A11")
def test_devices_are_spread_by_load(make_mesh):
    """Thirty devices ask the same server and connect where they are told; each server has its share."""
    mesh = make_mesh(3)
    devices = [Device(mesh[0], unique("device")) for _ in range(30)]

    def shares():
        return sorted(one["connections"] for one in mesh[1].view().servers.values())

    assert sum(until(lambda: sum(shares()) == 30 and shares())) == 30
    assert shares()[0] >= 5, shares()
    for one, other in zip(devices, devices[1:], strict=False):
        assert one.confirmed(dest_id=other.node, type=1)["status"] in ("delivered", "stored")
    for one in devices:
        one.close()


@row("A12")
def test_nobody_is_sent_to_a_server_that_is_full_or_dead(make_mesh):
    mesh = make_mesh(3, "--allow-direct", options={"s2": {"env": {"SPARKMESH_NUM_MAX_CONNECTIONS": "3"}}})
    inside = [Device(mesh["s2"], unique("inside"), **DIRECT) for _ in range(3)]
    for server in mesh.servers:
        until(lambda s=server: s.view().servers["s2"]["connections"] == 3, limit=5)
        assert set(offers(server, 30)) == {"s1", "s3"}, "a full server is offered by nobody, nor by itself"
    outside = [Device(mesh["s2"], unique("outside")) for _ in range(12)]
    assert mesh["s2"].view().servers["s2"]["connections"] == 3
    mesh["s3"].kill()
    until(lambda: set(offers(mesh["s1"], 10)) == {"s1"}, limit=10)
    for one in inside + outside:
        one.close()


def test_an_offer_names_where_else_to_ask(make_mesh):
    """All that live and do not drain, whoever is asked; also in the offer of a GOING_AWAY."""
    mesh = make_mesh(3, "--allow-direct", "--drain-deadline", "20s")

    def told(server):
        return set(server.ok("GET", "/v1/connect-info", key=server.key(unique("asker")))["servers"])

    assert all(told(server) == {one.url for one in mesh.servers} for server in mesh.servers)
    one = Device(mesh["s2"], unique("one"), **DIRECT)
    mesh["s3"].kill()
    until(lambda: told(mesh["s1"]) == {mesh["s1"].url, mesh["s2"].url}, limit=10)
    mesh["s2"].terminate()
    (going,) = [frame for frame in one.closed(1001) if frame["type"] == GOING_AWAY]
    assert going["offer"]["servers"] == [mesh["s1"].url]
    until(lambda: told(mesh["s1"]) == {mesh["s1"].url}, limit=10)
    form = mesh["s1"].ok("GET", "/connectV3?get_pre_connection_info=True", key=mesh["s1"].key(unique("old")))
    assert "servers" not in form, "the original's form stays what it was"


@row("A12")
def test_of_many_who_ask_before_anybody_comes_all_find_a_place(make_mesh):
    """Twelve places at three servers, and twelve devices that are all sent there by one of them before the first connects."""
    mesh = make_mesh(3, options={name: {"env": {"SPARKMESH_NUM_MAX_CONNECTIONS": "4"}} for name in ("s1", "s2", "s3")})
    nodes = [unique("device") for _ in range(12)]
    given = [(node, mesh["s2"].ok("GET", "/v1/connect-info", key=mesh["s2"].key(node))) for node in nodes]
    assert sorted(offer["node_id"] for _, offer in given) == ["s1"] * 4 + ["s2"] * 4 + ["s3"] * 4
    devices = [Device(mesh[offer["node_id"]], node, url=socket_url(mesh[0], node, offer=offer)) for node, offer in given]
    # What is given away but may not be taken is still offered; what is taken is not.
    for server in mesh.servers:
        until(lambda s=server: s.get("/v1/connect-info", key=s.key(unique("asker"))).status_code == 503, limit=5)
    devices.pop().close()
    until(lambda: mesh["s1"].get("/v1/connect-info", key=mesh["s1"].key(unique("asker"))).status_code == 200, limit=5)
    for one in devices:
        one.close()


@row("A52", "A74")
def test_who_needs_port_80_is_sent_to_a_server_that_has_it(make_mesh):
    mesh = make_mesh(3, options={"s3": {"env": {"SPARKMESH_PROXY_80_PORT": "c.example.org"}}})
    for server in mesh.servers:
        offer = server.ok("GET", "/v1/connect-info?need_80_port=1", key=server.key(unique("asker")))
        assert (offer["node_id"], offer["proxy_80_port"]) == ("s3", "c.example.org")
        assert offer["ws_url"] == "ws://c.example.org/v1/connect"


@row("A11")
def test_a_sessions_members_are_sent_where_most_of_it_is(make_mesh):
    mesh = make_mesh(3, "--allow-direct")
    room = unique("room")
    there = [Device(mesh["s2"], unique("there"), **DIRECT) for _ in range(8)]
    body = {"session_id": room, "members": [[one.node] for one in there]}
    mesh["s1"].ok("POST", "/v1/sessions", 201, key=mesh["s1"].app(), json=body)
    for server in mesh.servers:
        until(lambda s=server: set(offers(s, 4, session_id=room)) == {"s2"})
    for one in there:
        one.close()


@row("A10")
def test_a_validation_key_is_good_where_the_offer_says_and_nowhere_else(make_mesh):
    mesh = make_mesh(3)
    for asked in mesh.servers:
        node = unique("device")
        offer = asked.ok("GET", "/v1/connect-info", key=asked.key(node))
        wrong = next(server for server in mesh.servers if server.name != offer["node_id"])
        one = Device(wrong, node, path="/v1/connect", validation_key=offer["validation_key"])
        one.closed(4401)
        one = Device(asked, node, url=socket_url(asked, node, offer=offer))
        assert one.confirmed(dest_id=node, type=1)["status"] == "delivered"
        one.close()


# -- going away (A51, A79) --------------------------------------------------------------------------------------------


@row("A51", "A79")
@pytest.mark.parametrize("how", ["SIGTERM", "POST /v1/drain"])
def test_a_server_that_drains_moves_its_devices(make_mesh, how):
    """Each is told where to go, with an offer that is good; what was not acknowledged comes there, and nobody is lost."""
    mesh = make_mesh(3, "--allow-direct", "--drain-deadline", "20s")
    leaving = mesh["s2"]
    devices = [Device(leaving, unique("moves"), inbox="auto", **DIRECT) for _ in range(40)]
    mute = RawDevice(leaving, unique("mute"), answers=False, **DIRECT)
    alice = Device(mesh["s1"], unique("alice"), **DIRECT)
    mesh.settled()
    for number in range(20):
        alice.send(dest_id=mute.node, type=1, payload=number, reference=str(number))
    mute.unacknowledged(payload=19)
    begin = time.monotonic()
    if how == "SIGTERM":
        leaving.terminate()
    else:
        leaving.ok("POST", "/v1/drain", 202, key=leaving.admin())
    for one in devices:
        (told,) = [frame for frame in one.closed(1001) if frame["type"] == GOING_AWAY]
        offer = told["offer"]
        assert offer["node_id"] in ("s1", "s3")
        moved = Device(
            mesh[offer["node_id"]], one.node, url=socket_url(alice.server, one.node, offer=offer), inbox="auto"
        )
        one.moved = moved
    assert leaving.wait(30) == 0, leaving.log()[-3000:]
    assert time.monotonic() - begin < 20, "who is gone is not waited for"
    mesh.whole()
    for number, one in enumerate(devices):
        assert alice.confirmed(dest_id=one.node, type=1, payload=number)["status"] in ("delivered", "stored")
        one.moved.wait_for(payload=number)
    back = Device(mesh["s3"], mute.node, inbox="auto", **DIRECT)
    met = [back.receive()["payload"] for _ in range(20)]
    assert met == list(range(20))
    assert set(offers(mesh["s1"], 6)) <= {"s1", "s3"}


@row("A79")
def test_a_drain_is_paced(make_mesh):
    """200 devices a second, so that the others are not run over."""
    mesh = make_mesh(2, "--allow-direct", "--drain-deadline", "60s")
    devices = [Device(mesh["s2"], unique("d"), **DIRECT) for _ in range(400)]
    begin = time.monotonic()
    mesh["s2"].terminate()
    until(lambda: "s2" not in offers(mesh["s1"], 2))
    for one in devices:
        one.closed(1001)
    assert 1.5 <= time.monotonic() - begin <= 20
    assert mesh["s2"].wait(30) == 0


# -- what crosses a link (A18, A67) -----------------------------------------------------------------------------------


@row("A18", "A67")
def test_a_message_to_a_session_crosses_each_link_once(make_mesh):
    """Sixty members at the far end of three in a line: one copy of it goes over each link, or two where the home is beyond."""
    mesh = make_mesh(3, "--allow-direct", shape="line", wires=True)
    sender = Device(mesh["s1"], unique("sender"), **DIRECT)
    members = [Device(mesh["s3"], unique("member"), **DIRECT) for _ in range(60)]
    mesh.settled()
    size, count = 50_000, 10
    room = unique("room")
    body = {"session_id": room, "members": [[sender.node], *([one.node] for one in members)]}
    mesh["s1"].ok("POST", "/v1/sessions", 201, key=mesh["s1"].app(), json=body)
    before = [wire.passed for wire in mesh.wires.values()]
    for number in range(count):
        done = sender.confirmed(dest_session_id=room, type=1, payload=[number, "x" * size])
        assert (done["status"], done["delivered"]) == ("delivered", 60)
    for one in members:
        got = [one.receive() for _ in range(count)]
        assert [frame["payload"][0] for frame in got] == list(range(count))
        assert [frame["session_seq"] for frame in got] == sorted(frame["session_seq"] for frame in got)
    for wire, then in zip(mesh.wires.values(), before, strict=True):
        crossed = wire.passed - then
        assert count * size <= crossed < 2.5 * count * size, f"{crossed / count / size:.1f} copies of each"
    for one in [sender, *members]:
        one.close()


def test_an_envelope_passes_a_line_of_four_in_order(make_mesh):
    mesh = make_mesh(4, "--allow-direct", shape="line")
    alice = Device(mesh["s1"], unique("alice"), **DIRECT)
    bob = Device(mesh["s4"], unique("bob"), **DIRECT)
    mesh.settled()
    total = 3000
    for number in range(total):
        alice.send(dest_id=bob.node, type=1, payload=number, reference="last" if number == total - 1 else None)
    assert [bob.receive()["payload"] for _ in range(total)] == list(range(total))
    assert alice.wait_for(type=CONFIRMATION)["status"] == "delivered"
    alice.close(), bob.close()


@row("A73")
def test_while_the_recipient_is_there_nothing_is_written_anywhere(make_mesh):
    """Through two relays: neither they nor the ends touch a disk."""
    mesh = make_mesh(4, "--allow-direct", shape="line")
    one = Device(mesh[0], unique("one"), path="/connectV2")
    other = Device(mesh[3], unique("other"), path="/connectV2")
    mesh.settled()
    assert one.confirmed(dest_id=other.node, type=1, payload="first")["status"] == "delivered"
    other.wait_for(payload="first")

    def commits():
        return [server.metric("sparkmesh_commit_seconds_count") for server in mesh.servers]

    before = commits()
    for number in range(100):
        assert one.confirmed(dest_id=other.node, type=1, payload=number)["status"] == "delivered"
        other.expect(payload=number)
    assert commits() == before
    one.close(), other.close()


def test_nothing_goes_round_in_circles(make_mesh):
    """To somebody who has just gone, over three servers that may each think that another knows better."""
    mesh = make_mesh(3, "--allow-direct", wires=True)
    alice = Device(mesh["s1"], unique("alice"), **DIRECT)
    for turn in range(10):
        bob = Device(mesh[1 + turn % 2], unique("bob"), **DIRECT)
        for number in range(20):
            alice.send(dest_id=bob.node, type=1, payload=number, reference=str(number))
            if number == 10:
                bob.break_off()
        statuses = {alice.wait_for(type=CONFIRMATION)["status"] for _ in range(20)}
        assert statuses <= {"delivered", "stored"}
    mesh.settled()
    before = sum(wire.passed for wire in mesh.wires.values())
    time.sleep(2)
    passed = sum(wire.passed for wire in mesh.wires.values()) - before
    assert passed < 20_000, f"{passed} bytes in 2 s, with nothing to do"
    alice.close()


# -- who may be a server ----------------------------------------------------------------------------------------------


def test_another_secret_makes_no_link(make_mesh):
    mesh = make_mesh(2, start=False)
    mesh["s2"].secret_file.chmod(0o600)
    mesh["s2"].secret_file.write_text("another-secret-" * 3)
    mesh["s2"].secret = "another-secret-" * 3
    for server in mesh.servers:
        server.launch().ready()
    until(lambda: all(server.get("/readyz").status_code == 200 for server in mesh.servers))
    for server in mesh.servers:
        assert server.view().reachable() == {server.name}
        assert server.view().links() == set()
    lines = [line for line in mesh["s1"].log().splitlines() if "secret" in line.lower()]
    assert lines, f"the operator is told:\n{mesh['s1'].log()}"
    time.sleep(6)
    again = [line for line in mesh["s1"].log().splitlines() if "secret" in line.lower()]
    assert len(again) <= len(lines) + 1, "and not at each attempt"


def test_ready_only_when_the_mesh_is_known(make_mesh):
    """With a peer that does not answer readiness waits 5 s, and not for ever; with one that does, until both know all."""
    mesh = make_mesh(2, start=False, wires=True)
    mesh.wire("s1", "s2").cut("silent")
    begin = time.monotonic()
    for server in mesh.servers:
        server.launch().ready()
    first = mesh["s1"].get("/readyz")
    assert first.status_code == 503, "not before it has heard of the mesh"
    until(lambda: mesh["s1"].get("/readyz").status_code == 200, limit=10)
    assert time.monotonic() - begin >= 4
    mesh.wire("s1", "s2").heal()
    mesh.whole()


# -- what is shown ----------------------------------------------------------------------------------------------------


def shown(mesh, *arguments):
    ended = run("mesh", *arguments, "--secret-file", mesh[0].secret_file)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_mesh_command(make_mesh):
    mesh = make_mesh(4, "--allow-direct", shape="line")
    one = Device(mesh["s4"], unique("one"), **DIRECT)
    mesh.settled()
    table = shown(mesh, mesh[0].url)
    assert all(name in table for name in ("s1", "s2", "s3", "s4"))
    answer = json.loads(shown(mesh, mesh[0].url, "--json"))
    assert {one["node_id"] for one in answer["servers"]} == {"s1", "s2", "s3", "s4"}
    path = shown(mesh, mesh[0].url, "--path", "s1", "s4")
    assert [path.index(name) for name in ("s1", "s2", "s3", "s4")] == sorted(
        path.index(name) for name in ("s1", "s2", "s3", "s4")
    )
    for impossible in (("s1", "s4", "--without-link", "s2", "s3"), ("s1", "nobody")):
        ended = run("mesh", mesh[0].url, "--path", *impossible, "--secret-file", mesh[0].secret_file)
        assert ended.returncode not in (0, 101), ended.stdout
        assert ended.stderr and "panicked" not in ended.stderr
    one.close()


# -- who keeps what (L21) ---------------------------------------------------------------------------------------------


def store(server, node, text):
    """A message for somebody who is away."""
    sender = Device(server, unique("sender"))
    assert sender.confirmed(dest_id=node, type=1, payload=text)["status"] == "stored"
    sender.close()


def kept(server, node):
    """What a server that is alone has for `node`; nothing where another one is its home."""
    answer = server.get("/v1/inbox", key=server.key(node))
    return [one["payload"] for one in answer.json()["messages"]] if answer.status_code == 200 else []


@row("L21")
def test_a_pinned_inbox_is_kept_where_the_pin_says(make_mesh):
    env = {"SPARKMESH_PIN": "eu-=s2,user-[100-199]=s3,us-=not-there-yet"}
    mesh = make_mesh(3, options={name: {"env": env} for name in ("s1", "s2", "s3")})
    homes = {"s2": [unique("eu-a") for _ in range(4)], "s3": ["user-100", "user-150", "user-0199"]}
    for node in homes["s2"] + homes["s3"] + ["us-1"]:
        store(mesh["s1"], node, node)
    assert mesh["s1"].view().answer["pins"] == ["eu-=s2", "user-[100-199]=s3", "us-=not-there-yet"]
    assert "not-there-yet has joined" in mesh["s1"].log()
    for name, nodes in homes.items():
        # It lives alone, and has them all.
        for other in mesh.servers:
            other.kill()
        mesh[name].launch().ready()
        mesh.whole([name])
        for node in nodes:
            assert until(lambda n=node, s=name: kept(mesh[s], n), limit=15) == [node]
    logs = mesh.logs()
    assert "pins of s" not in logs, logs


@row("L21")
def test_pins_that_differ_are_told_and_what_lies_elsewhere_moves_when_they_change(make_mesh):
    def pinned(text):
        return {"env": {"SPARKMESH_PIN": text}}

    mesh = make_mesh(2, options={"s1": pinned("x-=s1"), "s2": pinned("x-=s1")})
    store(mesh["s2"], "x-1", "before")
    assert mesh["s1"].view().answer["other_pins"] == []
    # One at a time, as a person would.
    for name in ("s1", "s2"):
        mesh[name].terminate()
        assert mesh[name].wait() == 0
        mesh[name].env["SPARKMESH_PIN"] = "x-=s2"
        mesh[name].start()
        mesh.whole()
        if name == "s1":
            for one, other in (("s1", "s2"), ("s2", "s1")):
                assert mesh[one].view().answer["other_pins"] == [other]
                until(lambda a=one, b=other: f"the pins of {b} are not those of {a}" in mesh[a].log())
            table = run("mesh", mesh["s1"].url, "--secret-file", mesh["s1"].secret_file).stdout
            assert "other pins than s1: s2" in table
    until(lambda: [server.view().answer["other_pins"] for server in mesh.servers] == [[], []])
    until(lambda: mesh["s1"].metric("sparkmesh_inbox_envelopes") == 0 and kept(mesh["s2"], "x-1"), limit=20)
    mesh["s1"].kill()
    assert until(lambda: kept(mesh["s2"], "x-1"), limit=15) == ["before"]
