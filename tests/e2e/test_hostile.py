"""Peers that mean no good, many at once: what they cost is bounded, and nobody else notices."""

import contextlib
import time

import pytest

from lib.crowd import Crowd, room_for
from lib.device import Device, unique
from lib.raw import TEXT, Closed, RawDevice, frame
from lib.server import dumps

pytestmark = pytest.mark.one_server("counts the bytes of one process")

MANY = 1000
OUTBOX = 64 * 1024
# What a connection may take beside its queue: its buffers, its actor, its lane, with what the allocator keeps of it.
BESIDE = 64 * 1024


@pytest.mark.skipif(not room_for(2 * MANY), reason="this process may not open so many files")
@pytest.mark.timeout(120)
def test_a_thousand_who_never_read(make_server):
    """Each is sent twenty times what its queue holds; they have their bounds and no more, and the mail is in their inboxes."""
    server = make_server("--outbox-max-bytes", OUTBOX, "--admission-rate", 10_000)
    crowd = Crowd([server], MANY, prefix=unique("deaf"))
    try:
        crowd.come()
        crowd.pause_reading()
        rooms = [unique("room") for _ in range(4)]
        for at, room in enumerate(rooms):
            members = [[node] for node in crowd.nodes[at :: len(rooms)]]
            server.ok("POST", "/v1/sessions", 201, key=server.app(), json={"session_id": room, "members": members})
        one, other = Device(server, unique("healthy")), Device(server, unique("healthy"))
        before, size = server.resident_bytes(), 16 * 1024
        highest = 0
        for number in range(80):
            body = {"dest_session_id": rooms[number % len(rooms)], "type": 0, "payload": [number, "x" * size]}
            server.send_as_app(body, wait_ms=0)
            assert one.confirmed(dest_id=other.node, type=1, payload=number)["status"] == "delivered"
            other.wait_for(payload=number)
            highest = max(highest, server.metric("sparkmesh_queue_bytes"))
        for room in rooms:
            server.send_as_app({"dest_session_id": room, "type": 1, "payload": "kept" + "x" * size}, wait_ms=0)
        highest = max(highest, server.metric("sparkmesh_queue_bytes"))
        # Messages are shared by all queues they are in, so what they take is far less than the sum; but that is the bound.
        assert highest <= MANY * (OUTBOX + size + 1024), "an empty queue takes one message of any size"
        grown = server.resident_bytes() - before
        assert grown <= MANY * (OUTBOX + BESIDE), f"{grown} bytes for {MANY} who read nothing"
        assert server.metric("sparkmesh_envelopes_total", feature="fast", outcome="dropped") > 0
        assert one.confirmed(dest_id=other.node, type=1, payload="at the end")["status"] == "delivered"
        one.close(), other.close()
    finally:
        crowd.close()


def test_a_flood_from_one_device_is_cut_off_and_nobody_else_notices(make_server):
    """It comes back at once, again and again: that gains it nothing, it goes on with what it had left."""
    server = make_server("--rate", 200)
    one, other, node = Device(server, unique("healthy")), Device(server, unique("healthy")), unique("flood")
    text = frame(TEXT, dumps({"dest_id": other.node, "type": 0, "payload": "!"}).encode())
    begin = time.monotonic()
    for again in range(6):
        flood = RawDevice(server, node)
        with pytest.raises((Closed, OSError)):
            while True:
                flood.write(text * 500)
                with contextlib.suppress(TimeoutError):
                    flood.next(within=0.001)
        flood.close()
        assert one.confirmed(dest_id=other.node, type=1, payload=["through", again])["status"] == "delivered"
        other.wait_for(payload=["through", again])
    taken, lasted = server.metric("sparkmesh_received_total", feature="fast"), time.monotonic() - begin
    assert taken <= 200 * (2 + lasted) + 10, (
        f"{taken} frames in {lasted:.1f} s: two seconds' worth at once, then the rate"
    )
    assert server.metric("sparkmesh_refused_total", reason="rate_limited") >= 6
    one.close(), other.close()
