"""The delivery promise (section 9 of the specification) and the faults it rules out, each by events and not by waiting."""

import socket
import threading

import pytest

from lib.device import ACK, CONFIRMATION, ERROR, USER_OFFLINE, Device, unique
from lib.raw import CLOSE, PONG, Closed, frame
from lib.server import until

row = pytest.mark.row


# -- 1 and 5: when a sender is told -----------------------------------------------------------------------------------


def test_confirmed_by_the_pong_and_not_before(device, raw):
    alice, bob = device(), raw(unique("bob"), answers=False)
    alice.send(dest_id=bob.node, type=1, payload="x", reference="r1")
    bob.unacknowledged(payload="x")
    alice.nothing()
    bob.recover()
    alice.expect(type=CONFIRMATION, reference="r1", status="delivered", delivered=1, stored=0, dropped=0)


def test_a_pong_is_cumulative(device, raw):
    alice, bob = device(), raw(unique("bob"), answers=False)
    for number in range(20):
        alice.send(dest_id=bob.node, type=1, payload=number, reference=str(number))
    bob.unacknowledged(payload=19)
    alice.nothing()
    bob.recover()
    assert [alice.expect(type=CONFIRMATION)["reference"] for _ in range(20)] == [str(n) for n in range(20)]


@pytest.mark.parametrize("payload", [b"", b"\xff" * 8, b"not a counter", b"18446744073709551615", b"9" * 125])
def test_a_counter_never_sent_acknowledges_nothing(device, raw, payload):
    alice, bob = device(), raw(unique("bob"), answers=False)
    alice.send(dest_id=bob.node, type=1, payload="x", reference="r1")
    bob.unacknowledged(payload="x")
    bob.write(frame(PONG, payload))
    bob.fence()
    alice.nothing()
    bob.recover()
    alice.expect(type=CONFIRMATION, status="delivered")


def test_with_ack_app_only_the_app_acknowledges(server, device):
    alice, bob = device(), device(ack="app")
    alice.send(dest_id=bob.node, type=1, payload="x", reference="r1", id="m1")
    bob.expect(payload="x")
    bob.nothing()
    alice.nothing()
    bob.send(type=ACK, src_id=alice.node, id="m1")
    alice.expect(type=CONFIRMATION, reference="r1", status="delivered")


def test_an_app_that_crashes_before_it_acknowledges_gets_it_again(server, device):
    alice, bob = device(), device(ack="app", inbox="auto")
    alice.send(dest_id=bob.node, type=1, payload="kept?", reference="r1")
    first = bob.expect(payload="kept?")
    bob.break_off()
    alice.wait_for(type=CONFIRMATION, status="stored")
    again = device(bob.node, ack="app", inbox="auto")
    second = again.expect(payload="kept?")
    assert (first["src_id"], first["id"]) == (second["src_id"], second["id"]), "a duplicate is known by both"
    assert second["seq"] == 1
    again.send(type=ACK, seq=1)
    until(lambda: server.offer(bob.node)["pending"] == 0)


def test_replayed_messages_leave_as_they_are_acknowledged(server, device, raw):
    node, alice = unique("bob"), device()
    for number in range(5):
        alice.confirmed(dest_id=node, type=1, payload=number)
    bob = raw(node, answers=False, inbox="auto")
    bob.unacknowledged(payload=4)
    assert server.offer(node)["pending"] == 5
    bob.recover()
    until(lambda: server.offer(node)["pending"] == 0)


def test_the_counts_of_a_confirmation(server, device):
    user = unique("user")
    phone, tablet = device(client=user), device(client=user)
    server.offer(unique("watch"), client=user)
    for feature, counts in [("RELIABLE", ("stored", 1, 1, 0)), ("FAST", ("delivered", 1, 0, 0))]:
        done = phone.confirmed(dest_client_id=user, type=1, feature=feature)
        assert tuple(done[k] for k in ("status", "delivered", "stored", "dropped")) == counts
        tablet.receive()


def test_fast_is_never_stored(server, device, raw):
    alice, bob = device(), raw(unique("bob"), answers=False)
    alice.send(dest_id=bob.node, type=5, feature="FAST", payload="now or never", reference="r")
    bob.wait_for(payload="now or never")
    bob.break_off()
    alice.wait_for(type=CONFIRMATION)
    assert alice.confirmed(dest_id=bob.node, type=5, feature="FAST")["status"] == "dropped"
    assert server.inbox(bob.node)["messages"] == []


# -- 2 and 7: duplicates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receiver", ["online", "away"])
def test_the_same_id_is_delivered_once_and_confirmed_each_time(server, device, receiver):
    alice, other, bob = device(), device(), unique("bob")
    there = device(bob) if receiver == "online" else None
    wanted = "delivered" if there else "stored"
    for _ in range(3):
        done = alice.confirmed(dest_id=bob, type=1, payload="once", id="same")
        assert (done["status"], done["id"]) == (wanted, "same")
    assert other.confirmed(dest_id=bob, type=1, payload="of another sender", id="same")["status"] == wanted
    there = there or device(bob, inbox="auto")
    assert [there.receive()["payload"] for _ in range(2)] == ["once", "of another sender"]
    there.nothing()


def test_the_same_id_after_a_reconnect_of_the_sender(device):
    """What a client does that never saw its confirmation: the same again."""
    alice, bob = device(), device()
    alice.send(dest_id=bob.node, type=1, payload="once", id="same", reference="r")
    bob.expect(payload="once")
    alice.break_off()
    again = device(alice.node)
    assert again.confirmed(dest_id=bob.node, type=1, payload="once", id="same")["status"] == "delivered"
    bob.nothing()


# -- 3: order ---------------------------------------------------------------------------------------------------------


@row("A38", "A71")
def test_what_is_unacknowledged_goes_to_another_edge_in_order_before_newer(device, raw):
    alice, older = device(), device(unique("bob"))
    newest = raw(older.node, answers=False)
    for number in range(30):
        alice.send(dest_id=older.node, type=1, payload=number, reference=str(number))
    newest.unacknowledged(payload=29)
    older.nothing()
    newest.break_off()
    for number in range(30, 60):
        alice.send(dest_id=older.node, type=1, payload=number, reference=str(number))
    assert [older.receive()["payload"] for _ in range(60)] == list(range(60))
    statuses = [alice.wait_for(type=CONFIRMATION)["status"] for _ in range(60)]
    assert set(statuses) == {"delivered"}


@row("A38", "A71")
@pytest.mark.parametrize("clean", [True, False], ids=["closed", "broken"])
def test_what_is_unacknowledged_goes_to_the_inbox_in_order(server, device, raw, clean):
    alice, bob = device(), raw(unique("bob"), answers=False)
    for number in range(10):
        alice.send(dest_id=bob.node, type=1, payload=number, reference=str(number))
    bob.unacknowledged(payload=9)
    if clean:
        bob.write(frame(CLOSE, b"\x03\xe8"))
    bob.break_off()
    for _ in range(10):
        assert alice.wait_for(type=CONFIRMATION)["status"] == "stored"
    assert [m["payload"] for m in server.inbox(bob.node)["messages"]] == list(range(10))


@row("A67", "A71")
def test_a_session_message_goes_to_the_inbox_of_its_own_receiver(server, device, raw):
    owner, bob, mute = device(), device(), raw(unique("mute"), answers=False)
    room = unique("room")
    server.ok(
        "POST",
        "/v1/sessions",
        201,
        key=server.app(),
        json={"session_id": room, "members": [[owner.node], [bob.node], [mute.node]]},
    )
    owner.send(dest_session_id=room, type=1, payload="to all", reference="r")
    bob.expect(payload="to all")
    mute.unacknowledged(payload="to all")
    mute.break_off()
    done = owner.wait_for(type=CONFIRMATION)
    assert (done["status"], done["delivered"], done["stored"]) == ("stored", 1, 1)
    assert [m["payload"] for m in server.inbox(mute.node)["messages"]] == ["to all"]
    assert server.inbox(bob.node)["messages"] == []


def test_the_inbox_is_replayed_before_anything_newer(server, device):
    alice, node = device(), unique("bob")
    server.offer(node)
    for number in range(100):
        alice.send(dest_id=node, type=1, payload=number, reference=str(number))
    for _ in range(100):
        alice.wait_for(type=CONFIRMATION)
    stop = threading.Event()

    def go_on():
        number = 100
        while not stop.is_set() and number < 3000:
            alice.send(dest_id=node, type=1, payload=number)
            number += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    bob = device(node, inbox="auto")
    got = [bob.receive() for _ in range(400)]
    stop.set()
    writer.join()
    assert [f["payload"] for f in got] == list(range(400))
    assert [f["seq"] for f in got[:100]] == list(range(1, 101))


def test_order_and_completeness_over_many_breaks(server, device):
    """A receiver that loses its connection again and again: each message is first received in order, and none is lost."""
    alice, node, total = device(), unique("bob"), 3000
    server.offer(node)

    def write():
        for number in range(total):
            alice.send(dest_id=node, type=1, payload=number)

    writer = threading.Thread(target=write)
    writer.start()
    met, order, breaks = set(), [], 0
    while len(met) < total:
        bob = Device(server, node, inbox="auto", ack="app")
        for _ in range(250):
            frame = bob.receive()
            bob.send(type=ACK, src_id=frame["src_id"], id=frame["id"])
            number = frame["payload"]
            if number not in met:
                met.add(number)
                order.append(number)
            if len(met) == total:
                break
        bob.break_off()
        breaks += 1
        assert breaks < 200, f"{len(met)} of {total} after {breaks} connections"
    writer.join()
    assert order == list(range(total))
    assert breaks >= 3


# -- 4: bounded queues ------------------------------------------------------------------------------------------------


@row("A72")
def test_a_reader_that_does_not_read_harms_nobody_and_loses_nothing(server, device, raw):
    alice, bob = device(), device()
    mute = raw(unique("mute"), answers=False, receive_buffer=4096)
    total = 60
    for number in range(total):
        alice.send(dest_id=mute.node, type=1, payload=[number, "x" * 100_000], reference=str(number))
        alice.send(dest_id=bob.node, type=1, payload=number)
    assert [bob.receive()["payload"] for _ in range(total)] == list(range(total)), "the other receiver has all at once"
    until(lambda: server.metric("sparkmesh_diverted_total", reason="overflow") > 0, limit=30)
    assert server.metric("sparkmesh_queue_bytes") < 4_000_000, "what it does not take is not kept in memory"
    mute.break_off()
    for _ in range(total):
        assert alice.wait_for(within=30, type=CONFIRMATION)["status"] in ("delivered", "stored")
    back = device(mute.node, inbox="auto")
    assert [back.receive()["payload"][0] for _ in range(total)] == list(range(total))


def test_fast_that_overflows_is_dropped_and_counted(server, device, raw):
    alice, mute = device(), raw(unique("mute"), answers=False, receive_buffer=4096)
    before = server.metric("sparkmesh_envelopes_total", feature="fast", outcome="dropped")
    for number in range(200):
        alice.send(dest_id=mute.node, type=0, payload="x" * 100_000, reference=str(number))
    statuses = [alice.wait_for(type=CONFIRMATION, reference=str(number))["status"] for number in range(150, 200)]
    assert "dropped" in statuses
    assert server.metric("sparkmesh_envelopes_total", feature="fast", outcome="dropped") > before
    assert server.inbox(mute.node)["messages"] == []


def test_of_fast_ones_with_a_collapse_key_only_the_newest_waits(server, device, raw):
    """Twenty megabytes of positions for somebody who reads nothing: none is dropped for want of room, and the last one comes."""

    def figures():
        dropped = server.metric("sparkmesh_envelopes_total", feature="fast", outcome="dropped")
        return server.metric("sparkmesh_fast_replaced_total"), dropped

    sender, slow = device(unique("mover")), raw(unique("slow"), receive_buffer=1 << 16)
    before = figures()
    for number in range(5000):
        sender.send(dest_id=slow.node, feature="FAST", collapse_key="at", payload=[number, "x" * 4000])
        if number % 50 == 0:
            sender.send(dest_id=slow.node, feature="FAST", collapse_key="mood", payload=[-1 - number])
    sender.send(dest_id=slow.node, feature="FAST", payload="end")
    sender.fence()
    received = []
    while (frame := slow.receive())["payload"] != "end":
        received.append(frame["payload"][0])
    positions = [number for number in received if number >= 0]
    assert positions == sorted(positions) and positions[-1] == 4999
    assert -1 - 4950 in received, "another key is another one"
    replaced, dropped = figures()
    assert replaced - before[0] == 5100 - len(received) > 1000
    assert dropped == before[1]


def test_an_empty_queue_takes_one_message_of_any_allowed_size(device):
    alice, bob = device(), device()
    big = "x" * 999_000
    assert alice.confirmed(dest_id=bob.node, type=1, payload=big)["status"] == "delivered"
    assert bob.receive()["payload"] == big


# -- expiry and replacement -------------------------------------------------------------------------------------------


def test_ttl(server, device):
    alice, bob = device(), unique("bob")
    assert alice.confirmed(dest_id=bob, type=1, payload="soon gone", ttl_ms=400)["status"] == "stored"
    alice.confirmed(dest_id=bob, type=1, payload="stays", ttl_ms=3_600_000)
    until(lambda: [m["payload"] for m in server.inbox(bob)["messages"]] == ["stays"])
    there = device(bob, inbox="auto")
    there.expect(payload="stays")
    there.nothing()
    assert alice.confirmed(dest_id=bob, type=1, payload="now", ttl_ms=60_000)["status"] == "delivered"
    there.expect(payload="now", ttl_ms=60_000)


def test_collapse_key(server, device):
    alice, other, bob = device(), device(), unique("bob")
    alice.confirmed(dest_id=bob, type=1, payload="before")
    for number in range(4):
        alice.confirmed(dest_id=bob, type=1, payload=number, collapse_key="score")
    alice.confirmed(dest_id=bob, type=1, payload="another key", collapse_key="mood")
    other.confirmed(dest_id=bob, type=1, payload="another sender", collapse_key="score")
    assert [m["payload"] for m in server.inbox(bob)["messages"]] == ["before", 3, "another key", "another sender"]
    there = device(bob, inbox="auto")
    assert [there.receive()["payload"] for _ in range(4)] == ["before", 3, "another key", "another sender"]
    for number in range(3):
        alice.confirmed(dest_id=bob, type=1, payload=number, collapse_key="score")
    assert [there.receive()["payload"] for _ in range(3)] == [0, 1, 2], "who is there gets each"


# -- when nothing can be written --------------------------------------------------------------------------------------


@pytest.mark.one_server("sets the limits of its process")
def test_a_full_disk(make_server):
    """The disk is "full" by a file size limit of 0 on the running process: every write to a file fails."""
    import resource

    server = make_server()
    alice, bob = Device(server, "alice"), Device(server, "bob")
    server.offer("away")
    alice.confirmed(dest_id="away", type=1, payload="while there was room")
    unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
    alice.send(dest_id="away", type=1, payload="x", reference="r", id="lost?")
    told = alice.wait_for(type=ERROR)
    assert (told["code"], told["id"]) == ("unavailable", "lost?")
    assert [f["type"] for f in alice.fence()] == [], "no confirmation, and no notice that it was stored"
    answer = server.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["store"])
    assert alice.confirmed(dest_id="bob", type=1, payload="live")["status"] == "delivered"
    bob.expect(payload="live")
    refused = server.post("/v1/sessions", key=alice.key)
    assert refused.status_code == 503 and "Retry-After" in refused.headers
    assert server.metric("sparkmesh_store_failures_total") >= 1
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: server.get("/readyz").status_code == 200, limit=30)
    assert alice.confirmed(dest_id="away", type=1, payload="room again")["status"] == "stored"
    server.restart()
    assert [m["payload"] for m in server.inbox("away")["messages"]] == ["while there was room", "room again"]


@pytest.mark.one_server("starts a second process on its data")
def test_a_data_directory_in_use(make_server):
    import subprocess

    from lib.server import clean_environment

    server = make_server()
    second = subprocess.run(
        server.command(), capture_output=True, text=True, timeout=60, env=clean_environment(), check=False
    )
    assert second.returncode not in (0, 101)
    assert str(server.data) in second.stderr, second.stderr
    assert "panicked" not in second.stderr
    assert server.get("/healthz").status_code == 200


@pytest.mark.parametrize("damaged", [["db"], ["db", "conf"]], ids=["data", "everything"])
@pytest.mark.one_server("damages its files")
def test_a_damaged_store_starts_a_new_epoch(make_server, damaged):
    server = make_server()
    alice = Device(server, "alice")
    alice.confirmed(dest_id="bob", type=1, payload="before")
    before = server.inbox("bob")
    identity = server.node_id
    server.kill()
    files = [path for name in damaged for path in server.data.rglob(name)]
    assert len(files) == len(damaged), "this is what sled calls its files"
    for path in files:
        path.write_bytes(b"\xa5" * path.stat().st_size)
    server.start()
    assert server.node_id == identity, "the store is damaged, not the identity"
    if len(files) > 1:
        assert server.metric("sparkmesh_store_moved_aside_total") == 1
        assert list(server.data.glob("store*/**/db")), "it is kept for who can mend it"
    assert "ERROR" in server.log(), "the operator is told"
    after = server.inbox("bob")
    assert after["messages"] == []
    assert after["epoch"] != before["epoch"], "clients see that they must not trust their numbers"
    alice = Device(server, "alice")
    assert alice.confirmed(dest_id="bob", type=1, payload="after")["status"] == "stored"


def test_a_slow_edge_does_not_hold_up_the_other_edges_of_its_sender(device, raw):
    """One class-level send lock held up everybody in the original (A72)."""
    alice, mute, bob = device(), raw(unique("mute"), answers=False, receive_buffer=4096), device()
    for _ in range(40):
        alice.send(dest_id=mute.node, type=1, payload="x" * 100_000)
    assert alice.confirmed(dest_id=bob.node, type=1, payload="quick")["status"] == "delivered"


def test_offline_notice_comes_when_the_edge_breaks_unacknowledged(device, raw):
    alice, bob = device(), raw(unique("bob"), answers=False)
    alice.send(dest_id=bob.node, type=1, payload="x", id="n1")
    bob.unacknowledged(payload="x")
    bob.break_off()
    alice.wait_for(type=USER_OFFLINE, src_id=bob.node, id="n1")


@pytest.mark.parametrize("busy", [False, True])
def test_a_close_is_answered_and_the_server_ends_the_connection(device, raw, busy):
    """RFC 6455, 7.1.1: the server closes first, or the port stays with the client."""
    bob = raw(unique("bob"))
    if busy:
        device().send(dest_id=bob.node, type=1, payload="x")
        bob.wait_for(payload="x")
    bob.write(frame(CLOSE, b"\x03\xe8bye"))
    with pytest.raises(Closed) as end:
        bob.receive()
    assert end.value.code in (1000, 1005)
    assert bob.socket.recv(1) == b"", "and then there is nothing more to read"


def test_a_client_that_ends_only_its_sending_is_let_go(server, raw):
    bob = raw(unique("bob"))
    bob.socket.shutdown(socket.SHUT_WR)
    bob.closed((1000, 1005, 1006))
