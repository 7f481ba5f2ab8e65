"""Rows A13-A23, A35: what an envelope carries, whom it reaches, and what becomes of one nobody is there for."""

import json

import pytest

from lib.device import (
    ACK,
    CONFIG_REQUEST,
    CONFIRMATION,
    ERROR,
    NODE_UNKNOWN,
    SESSION_UNAUTHORIZED,
    USER_OFFLINE,
    unique,
)

row = pytest.mark.row


# -- A13-A15: the copy that arrives -----------------------------------------------------------------------------------

PASSED_ON = {
    "plain text": '"payload":"hi"',
    "three payloads": '"payload":1,"payload1":[2],"payload2":{"three":3}',
    "nested unknown keys (A13)": '"extra":{"a":[{"b":{"c":[1,2,{"d":null}]}}]},"x-trace":"1"',
    "zero (A15)": '"payload":0',
    "empty text (A15)": '"payload":""',
    "false (A15)": '"payload":false',
    "null (A15)": '"payload":null',
    "empty containers (A15)": '"payload":[],"payload1":{}',
    "falsy unknown keys (A15)": '"empty":"","zero":0,"no":false,"nothing":null',
    "white space kept": '"payload":  { "a" :\t[ 1 , 2 ] }',
    "numbers as written": '"payload":[1.0,1e5,-0,12345678901234567890123,0.10]',
    "escapes as written": r'"payload":"\u00e9\u0041\/\ud83d\ude00 é"',
    "the same unknown key twice": '"twice":1,"twice":2',
    "is_ack_required (A13)": '"is_ack_required":true',
    "names of methods (A63)": '"to_son_anonymize":1,"close":1,"__class__":"x","prototype":{"a":1}',
    "a payload that looks like an envelope": '"payload":{"src_id":"forged","dest_id":"nobody","type":-9}',
}


@row("A13", "A15", "A63")
@pytest.mark.parametrize("what", PASSED_ON)
@pytest.mark.parametrize("way", ["online", "inbox"])
def test_passed_on_byte_for_byte(server, device, what, way):
    members = PASSED_ON[what]
    bob, alice = unique("bob"), device()
    if way == "online":
        receiver = device(bob)
    status = "delivered" if way == "online" else "stored"
    alice.send(f'{{"dest_id":"{bob}","type":1,"reference":"r",{members}}}')
    assert alice.wait_for(type=CONFIRMATION)["status"] == status
    if way == "inbox":
        receiver = device(bob, inbox="auto")
    text = receiver._receive(15)
    assert members in text, text
    receiver.nothing()


@row("A14")
def test_what_the_server_sets(server, device):
    alice, bob = device(client="alice-the-user"), device()
    alice.confirmed(dest_id=bob.node, type=1, payload="x")
    got = bob.expect(payload="x")
    assert got["dest_id"] == bob.node
    assert got["src_id"] == alice.node
    assert got["src_client_id"] == "alice-the-user"
    assert 1 <= len(got["id"]) <= 64
    offset = alice.fetch(timestamp=got["timestamp"])["server_timestamp_add_diff"]
    assert 0 <= offset < 60_000, "timestamp is the server's clock in milliseconds"
    assert "seq" not in got and "session_seq" not in got
    bob.send(dest_id=alice.node, type=1)
    assert "src_client_id" not in alice.expect(src_id=bob.node), "bob's key names no client"


FORGED = {
    "src_id": "admin",
    "src_client_id": "boss",
    "timestamp": 1,
    "seq": 77,
    "session_epoch": 9,
    "session_seq": 9,
    "anonymize_src_id": "ghost",
}


@row("A14", "A62")
@pytest.mark.parametrize("way", ["online", "inbox"])
def test_what_only_the_server_sets_cannot_be_forged(server, device, way):
    alice, bob = device(), unique("bob")
    receiver = device(bob) if way == "online" else None
    alice.confirmed(dest_id=bob, type=1, payload="mine", **FORGED)
    receiver = receiver or device(bob, inbox="auto")
    got = receiver.expect(payload="mine")
    assert got["src_id"] == alice.node
    assert got["timestamp"] > 1_700_000_000_000
    assert got.get("seq") == (None if way == "online" else 1)
    assert not {"src_client_id", "session_epoch", "session_seq", "anonymize_src_id"} & set(got), got


@row("A62")
def test_a_forged_field_in_escapes_is_forged_too(server, device):
    alice, bob = device(), device()
    alice.send(
        f'{{"dest_id":"{bob.node}","type":1,"\\u0073rc_id":"admin","anonymize_src\\u005fid":"ghost","reference":"r"}}'
    )
    alice.wait_for(type=CONFIRMATION)
    text = bob._receive(15)
    assert "admin" not in text and "ghost" not in text
    assert json.loads(text)["src_id"] == alice.node


@row("A13")
def test_the_senders_id_is_kept(server, device):
    alice, bob = device(), device()
    confirmation = alice.confirmed(dest_id=bob.node, type=1, id="my-own-é-1")
    assert confirmation["id"] == "my-own-é-1"
    assert bob.receive()["id"] == "my-own-é-1"


# -- A16-A20: whom it reaches -----------------------------------------------------------------------------------------


@row("A16")
def test_one_device(server, device):
    alice, bob, carol = device(), device(), device()
    alice.confirmed(dest_id=bob.node, type=1, payload="for bob")
    bob.expect(payload="for bob")
    carol.nothing()


@row("A16")
def test_oneself(server, device):
    alice = device()
    alice.send(dest_id=alice.node, type=1, payload="note to self")
    alice.expect(payload="note to self", src_id=alice.node)


@row("A17")
def test_all_devices_of_a_client_but_the_sending_one(server, device):
    user = unique("user")
    phone, tablet, laptop, other = device(client=user), device(client=user), device(client=user), device()
    away = unique("watch")
    server.offer(away, client=user)
    confirmation = phone.confirmed(dest_client_id=user, type=1, payload="sync")
    assert (confirmation["status"], confirmation["delivered"], confirmation["stored"]) == ("stored", 2, 1)
    for receiver in (tablet, laptop):
        receiver.expect(payload="sync", dest_client_id=user, src_id=phone.node, src_client_id=user)
    other.nothing(), phone.nothing()
    (kept,) = server.inbox(away)["messages"]
    assert kept["payload"] == "sync"


@row("A17")
def test_precedence_of_destinations(server, device):
    user = unique("user")
    alice, bob, tablet = device(), device(), device(client=user)
    alice.confirmed(dest_id=bob.node, dest_client_id=user, type=1, payload="to the device")
    bob.expect(payload="to the device", dest_client_id=user)
    tablet.nothing()
    session = server.ok("POST", "/v1/sessions", 201, key=alice.key, json={"anyone_can_join": True})["session_id"]
    server.ok("POST", f"/v1/sessions/{session}/join", key=bob.key)
    alice.wait_for(type=100)
    alice.confirmed(dest_client_id=user, dest_session_id=session, type=1, payload="to the client")
    tablet.expect(payload="to the client", dest_session_id=session)
    bob.nothing()


@row("A20")
@pytest.mark.parametrize(
    "frame", ["{}", '{"type":0}', '{"type":1,"payload":"nobody"}', '{"payload":{"a":1},"id":"x"}', '{"dest_id":null}']
)
def test_a_frame_without_destination_is_a_keep_alive(server, device, frame):
    alice = device()
    alice.send(frame)
    alice.nothing()


@row("A2", "A35")
def test_the_newest_connection_receives_and_all_may_send(server, device):
    alice, old = device(), device(unique("bob"))
    alice.confirmed(dest_id=old.node, type=1, payload=1)
    old.expect(payload=1)
    new = device(old.node)
    alice.confirmed(dest_id=old.node, type=1, payload=2)
    new.expect(payload=2)
    old.nothing()
    old.send(dest_id=alice.node, type=1, payload="from the old one", reference="r")
    alice.expect(payload="from the old one")
    assert any(f["type"] == CONFIRMATION for f in new.fence() + old.fence()), "to any edge of the sender"
    new.close()
    alice.confirmed(dest_id=old.node, type=1, payload=3)
    old.expect(payload=3)


# -- A21-A23: types, and what becomes of an envelope for somebody who is away -----------------------------------------

APPLICATION_TYPES = [0, 1, 2, 50, 99, 200, 201, 1000, 2**31, 2**53]
RESERVED_TYPES = [
    -1,
    -2,
    -3,
    -4,
    -5,
    -7,
    -8,
    -9,
    -10,
    -100,
    -102,
    -103,
    100,
    101,
    102,
    103,
    104,
    105,
    106,
    150,
    199,
    -(2**53),
]


@row("A21")
@pytest.mark.parametrize("kind", APPLICATION_TYPES)
def test_types_of_applications(server, device, kind):
    alice, bob = device(), device()
    alice.confirmed(dest_id=bob.node, type=kind, payload="x")
    assert bob.receive()["type"] == kind


@row("A21")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
def test_types_of_the_server(server, device, kind):
    alice, bob = device(), device()
    alice.send(dest_id=bob.node, type=kind, payload={}, id="refused-1")
    alice.refused("bad_envelope", id="refused-1")
    alice.confirmed(dest_id=bob.node, type=1, payload="the edge is still open")
    assert bob.receive()["payload"] == "the edge is still open"


AWAY = [
    # type, feature -> stored, and thus noticed
    (None, None, False),
    (0, None, False),
    (1, None, True),
    (2, None, True),
    (99, None, True),
    (200, None, True),
    (None, "RELIABLE", True),
    (0, "RELIABLE", True),
    (1, "FAST", False),
    (200, "FAST", False),
    (0, "FAST", False),
]


@row("A22")
@pytest.mark.parametrize("kind,feature,stored", AWAY)
def test_who_is_away(server, device, kind, feature, stored):
    alice, bob = device(), unique("away")
    server.offer(bob)
    envelope = {"dest_id": bob, "payload": "later?", "id": "away-1"}
    envelope |= {} if kind is None else {"type": kind}
    envelope |= {} if feature is None else {"feature": feature}
    notices, confirmation = alice.settled(**envelope)
    wanted = ("stored", 0, 1, 0) if stored else ("dropped", 0, 0, 1)
    assert tuple(confirmation[k] for k in ("status", "delivered", "stored", "dropped")) == wanted
    if stored:
        (notice,) = notices
        assert (notice["type"], notice["src_id"], notice["id"]) == (USER_OFFLINE, bob, "away-1")
        assert notice["timestamp"] > 1_700_000_000_000
    else:
        assert notices == [], "discarded without a notice (trap 1)"
    assert [m["payload"] for m in server.inbox(bob)["messages"]] == (["later?"] if stored else [])


@row("A23")
def test_who_was_never_seen(server, device):
    alice, ghost = device(), unique("ghost")
    (first, second), _ = alice.settled(dest_id=ghost, type=1, payload="anybody?", id="g1")
    assert (first["type"], first["src_id"], first["id"]) == (USER_OFFLINE, ghost, "g1")
    assert (second["type"], second["src_id"], second["dest_id"]) == (NODE_UNKNOWN, ghost, alice.node)
    device(ghost, inbox="auto").expect(payload="anybody?", src_id=alice.node, seq=1)


@row("A17", "A23")
def test_a_client_never_seen(server, device):
    alice, user = device(), unique("nobody")
    (notice,), confirmation = alice.settled(dest_client_id=user, type=1)
    assert (notice["type"], notice["src_client_id"]) == (NODE_UNKNOWN, user)
    assert confirmation["status"] == "dropped"


@row("A18", "A21")
def test_minus_five_leaves_the_edge_open(server, device):
    alice = device()
    alice.send(dest_session_id=unique("no-such"), type=1, id="s1", reference="r1")
    (notice,) = alice.fence()
    assert (notice["type"], notice["dest_id"], notice["id"], notice["reference"]) == (
        SESSION_UNAUTHORIZED,
        alice.node,
        "s1",
        "r1",
    )
    assert alice.confirmed(dest_id=alice.node, type=1)["status"] == "delivered"


def test_an_ack_for_nothing_is_ignored(server, device):
    alice = device()
    alice.send(type=ACK, src_id="nobody", id="never-sent").send(type=ACK, seq=10**12)
    alice.nothing()
    alice.send(type=ACK)
    alice.refused("bad_envelope")


def test_a_confirmation_is_for_any_edge_of_the_sender_and_is_never_stored(server, device, raw):
    """The sender leaves before its message is delivered: the confirmation is not kept for it."""
    alice, bob = device(), raw(unique("slow"), answers=False)
    alice.send(dest_id=bob.node, type=1, payload="x", reference="r1")
    bob.unacknowledged(payload="x")
    alice.nothing()
    elsewhere = device(alice.node)
    alice.close()
    bob.recover()
    elsewhere.expect(type=CONFIRMATION, reference="r1", status="delivered")
    assert server.inbox(alice.node)["messages"] == []


def test_the_config_request_answers_without_a_fetch(server, device):
    alice = device()
    alice.send(type=CONFIG_REQUEST, payload={"timestamp": 1})
    answer = alice.expect(type=-102)
    assert "messages" not in answer["payload"]
    assert answer["payload"]["server_timestamp_add_diff"] > 1_700_000_000_000
    alice.send(type=CONFIG_REQUEST, payload="no JSON in here")
    alice.expect(type=ERROR, code="bad_envelope")


# -- a client's devices -----------------------------------------------------------------------------------------------


@row("A17")
def test_to_the_client_and_to_its_device_keep_their_order(server, device):
    alice, user, node = device(), unique("user"), unique("phone")
    device(node, client=user).close()
    for number in range(20):
        whom = {"dest_client_id": user} if number % 2 == 0 else {"dest_id": node}
        alice.send(type=1, payload=number, **whom)
    alice.confirmed(dest_id=node, type=1, payload="last")
    assert [m["payload"] for m in server.inbox(node)["messages"]] == [*range(20), "last"]


@row("A17")
def test_a_device_that_changes_its_user_hears_nothing_for_the_former(device):
    alice, former, later, node = device(), unique("former"), unique("later"), unique("shared")
    before = device(node, client=former)
    now = device(node, client=later)
    before.close()
    alice.confirmed(dest_client_id=later, type=1, payload="for the later one")
    now.expect(payload="for the later one")
    alice.send(dest_client_id=former, type=1, payload="for the former one")
    alice.confirmed(dest_id=node, type=1, payload="a fence")
    now.expect(payload="a fence")


@row("A44")
def test_an_id_under_a_mask_is_another_id(server, device):
    """What was said behind a mask does not count as said again by name: it would tell who wears it."""
    fox, bob = device(), device()
    room = server.ok("POST", "/v1/sessions", 201, key=fox.key, json={"anyone_can_join": True, "is_anonymous": True})
    server.ok("POST", f"/v1/sessions/{room['session_id']}/join", key=bob.key, json={})
    fox.confirmed(dest_id=bob.node, type=1, id="same", payload="by name")
    fox.confirmed(dest_session_id=room["session_id"], dest_id=bob.node, type=1, id="same", payload="masked")
    bob.wait_for(payload="by name")
    assert bob.wait_for(payload="masked")["src_id"] != fox.node
