"""Section 12 of the specification, item by item: a clear error, counted, and nobody else is harmed."""

import contextlib
import json
import os
import random
import socket

import pytest

from lib.device import CONFIRMATION, ERROR, Device, socket_url, unique
from lib.raw import BINARY, CONTINUATION, PING, TEXT, RawDevice, frame, open_socket
from lib.server import until

row = pytest.mark.row
pytestmark = pytest.mark.usefixtures("witness")

NESTED = "[" * 200 + "]" * 200

BAD_FRAMES = {
    "no JSON": "hello",
    "nothing": "",
    "a number": "1",
    "a list": "[]",
    "a string": '"x"',
    "null": "null",
    "cut short": '{"dest_id":"bob","type":1',
    "something behind it": '{"dest_id":"bob"} x',
    "two objects": "{}{}",
    "single quotes": "{'dest_id':'bob'}",
    "a comma too many": '{"type":1,}',
    "NaN": '{"type":1,"dest_id":"bob","payload":NaN}',
    "half a surrogate in a known field": '{"dest_id":"bob","type":1,"id":"\\ud800"}',
    "a control character": '{"type":1,"payload":"\n"}',
    "nested 200 deep in the payload": '{"dest_id":"bob","type":1,"payload":' + NESTED + "}",
    "nested 200 deep in an unknown key": '{"dest_id":"bob","type":1,"x":' + NESTED + "}",
    "nested 100 000 deep": '{"payload":' + "[" * 100_000,
    "dest_id twice": '{"dest_id":"bob","dest_id":"carol","type":1}',
    "dest_id twice, once in escapes": '{"dest_id":"bob","dest_\\u0069d":"carol","type":1}',
    "payload twice": '{"dest_id":"bob","type":1,"payload":1,"payload":2}',
    "type is text": '{"dest_id":"bob","type":"1"}',
    "type is a fraction": '{"dest_id":"bob","type":1.5}',
    "type is huge": '{"dest_id":"bob","type":1e400}',
    "type is beyond 64 bits": '{"dest_id":"bob","type":99999999999999999999}',
    "dest_id is a number": '{"dest_id":7,"type":1}',
    "dest_id is empty": '{"dest_id":"","type":1}',
    "dest_id is outside the alphabet": '{"dest_id":"b b","type":1}',
    "dest_id holds a NUL": '{"dest_id":"b\\u0000b","type":1}',
    "dest_id is a path": '{"dest_id":"../../etc/passwd","type":1}',
    "dest_id is too long": '{"dest_id":"' + "b" * 129 + '","type":1}',
    "dest_client_id is a list": '{"dest_client_id":["bob"],"type":1}',
    "dest_session_id is an object": '{"dest_session_id":{},"type":1}',
    "id is empty": '{"dest_id":"bob","type":1,"id":""}',
    "id is too long": '{"dest_id":"bob","type":1,"id":"' + "x" * 65 + '"}',
    "id is a number": '{"dest_id":"bob","type":1,"id":5}',
    "reference is too long": '{"dest_id":"bob","type":1,"reference":"' + "x" * 257 + '"}',
    "reference is a number": '{"dest_id":"bob","type":1,"reference":5}',
    "feature is unknown": '{"dest_id":"bob","type":1,"feature":"reliable"}',
    "ttl_ms is negative": '{"dest_id":"bob","type":1,"ttl_ms":-1}',
    "ttl_ms is text": '{"dest_id":"bob","type":1,"ttl_ms":"1s"}',
    "collapse_key is too long": '{"dest_id":"bob","type":1,"collapse_key":"' + "x" * 65 + '"}',
    "an ACK with nothing": '{"type":-6}',
    "an ACK with half": '{"type":-6,"src_id":"bob"}',
    "an ACK with a negative seq": '{"type":-6,"seq":-4}',
    "a join without a session": '{"type":100,"dest_id":"bob"}',
    "a join with a bad anonymous id": '{"type":100,"dest_session_id":"s","payload":{"anonymous_id":"a b"}}',
    "a type of the server's": '{"type":-9,"dest_id":"bob"}',
    "a server's answer": '{"type":-102,"payload":{}}',
}


@row("A63")
@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_bad_frame_is_told_and_leaves_the_edge_open(server, device, what):
    alice = device()
    before = server.metric("sparkmesh_refused_total", reason="bad_envelope")
    alice.send(BAD_FRAMES[what])
    told = alice.refused("bad_envelope")
    assert len(told["message"]) < 500, "an error does not echo what was sent"
    assert server.metric("sparkmesh_refused_total", reason="bad_envelope") >= before + 1
    assert alice.confirmed(dest_id=alice.node, type=1)["status"] == "delivered"


def test_nesting_up_to_128_is_fine(device):
    alice = device()
    payload = "[" * 127 + "]" * 127
    alice.send(f'{{"dest_id":"{alice.node}","type":1,"payload":{payload}}}')
    assert payload in alice._receive(15)


def test_an_error_names_the_envelope(device):
    alice = device()
    alice.send(dest_id="b b", type=1, id="e-1", reference="r-1")
    alice.refused("bad_envelope", id="e-1", reference="r-1")


def test_binary(server, device):
    alice = device()
    alice.socket.send(b"\x00\x01\x02")
    assert [f["code"] for f in alice.closed(1003)] == ["binary_frame"]
    assert server.metric("sparkmesh_refused_total", reason="binary_frame") >= 1


@pytest.mark.parametrize("text", [b"\xff", b'{"payload":"\xc3\x28"}', b"\xed\xa0\x80", b'{"x":"\xf8\x88\x80\x80\x80"}'])
def test_broken_utf8(raw, text):
    alice = raw()
    alice.write(frame(TEXT, text))
    assert [f["code"] for f in alice.closed(1007)] == ["bad_utf8"]


def test_utf8_split_between_fragments_is_fine(raw):
    alice = raw()
    text = json.dumps({"dest_id": alice.node, "type": 1, "payload": "é€😀"}, ensure_ascii=False).encode()
    for cut in range(len(text) - 12, len(text) - 1):
        alice.write(frame(TEXT, text[:cut], fin=False) + frame(CONTINUATION, text[cut:]))
        alice.expect(payload="é€😀")


def test_fragments_with_pings_between(raw):
    alice = raw()
    text = json.dumps({"dest_id": alice.node, "type": 1, "payload": "in pieces"}).encode()
    alice.write(frame(TEXT, text[:5], fin=False))
    for byte in text[5:-1]:
        alice.write(frame(PING, b"?") + frame(CONTINUATION, bytes([byte]), fin=False))
    alice.write(frame(CONTINUATION, text[-1:]))
    alice.expect(payload="in pieces")


@row("A39")
@pytest.mark.parametrize("how", ["one frame", "fragments", "a length that is announced"])
def test_a_message_that_is_too_large(server, raw, how):
    alice = raw()
    text = json.dumps({"dest_id": alice.node, "type": 1, "payload": "x" * 1_000_001}).encode()
    try:
        if how == "one frame":
            alice.write(frame(TEXT, text))
        elif how == "fragments":
            alice.write(frame(TEXT, text[:10], fin=False))
            for start in range(10, len(text), 60_000):
                alice.write(frame(CONTINUATION, text[start : start + 60_000], fin=start + 60_000 >= len(text)))
        else:
            alice.write(frame(TEXT, b"x" * 100, length=1 << 62))
    except OSError:
        pass  # the server need not read on to refuse it
    assert [f["code"] for f in alice.closed((1009, 1006))][:1] in (["too_large"], []), how


@row("A39")
def test_a_frame_is_refused_by_its_announced_length(make_server):
    """Who announces a gigabyte is not listened to until it is there, nor is it kept in memory meanwhile."""
    server = make_server()
    before = server.resident_bytes()
    alice = RawDevice(server, "alice")
    alice.write(frame(TEXT, b"", length=1 << 30))
    with contextlib.suppress(OSError):
        for _ in range(100):
            alice.write(b"x" * 1_000_000)
    assert server.resident_bytes() - before < 20_000_000
    alice.closed((1009, 1006))


@row("A39")
def test_too_large_is_told(device):
    alice = device()
    alice.send(dest_id=alice.node, type=1, payload="x" * 1_000_000)
    assert [f["code"] for f in alice.closed(1009)] == ["too_large"]


@row("A39")
def test_the_limit_is_exact(device):
    alice = device()
    shell = len(json.dumps({"dest_id": alice.node, "type": 1, "payload": ""}, separators=(",", ":")))
    alice.send(dest_id=alice.node, type=1, payload="x" * (1_000_000 - shell))
    assert len(alice.receive()["payload"]) == 1_000_000 - shell


@row("A39")
def test_max_message_bytes(make_server):
    server = make_server("--max-message-bytes", 2000)
    alice = Device(server, "alice")
    assert alice.confirmed(dest_id="alice", type=1, payload="x" * 1800)["status"] == "delivered"
    alice.send(dest_id="alice", type=1, payload="x" * 2001)
    assert [f["code"] for f in alice.closed(1009)] == ["too_large"]


BROKEN = {
    "reserved bits": frame(TEXT, b"{}", rsv=4),
    "not masked": frame(TEXT, b"{}", mask=False),
    "an unknown opcode": frame(0x5, b"{}"),
    "an unknown control opcode": frame(0xB, b"{}"),
    "a continuation of nothing": frame(CONTINUATION, b"{}"),
    "text within a fragmented text": frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"),
    "a fragmented ping": frame(PING, b"x", fin=False),
    "a ping of 126 bytes": frame(PING, b"x" * 126),
    "a close code that is none": frame(0x8, b"\x00\x05"),
    "a close of one byte": frame(0x8, b"\x03"),
    "noise": os.urandom(400),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@row("A39")
@pytest.mark.parametrize("what", BROKEN)
def test_frames_against_the_rules_end_the_connection(raw, what):
    alice = raw()
    alice.write(BROKEN[what])
    alice.closed((1000, 1002, 1003, 1005, 1006, 1007, 1009))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_flood_is_told_and_cut_off(make_server, kind):
    server = make_server("--rate", 50)
    alice, bob = Device(server, "alice"), Device(server, "bob")
    try:
        for number in range(2000):
            alice.send(dest_id="bob", type=kind, payload=number)
    except Exception:
        pass  # cut off while writing
    told = alice.closed(1008)
    assert told[-1]["code"] == "rate_limited"
    assert bob.confirmed(dest_id="bob", type=1)["status"] == "delivered"
    assert server.metric("sparkmesh_refused_total", reason="rate_limited") >= 1
    Device(server, "alice").confirmed(dest_id="alice", type=1)


def test_a_burst_within_the_rate_is_fine(make_server):
    server = make_server("--rate", 50)
    alice = Device(server, "alice")
    for number in range(80):
        alice.send(dest_id="alice", type=1, payload=number)
    assert [alice.receive()["payload"] for _ in range(80)] == list(range(80))


def test_a_flood_of_pings_and_of_nothing_is_a_flood(make_server):
    server = make_server("--rate", 50)
    for flood in (frame(PING, b"x"), frame(TEXT, b"{}"), frame(TEXT, b"junk"), frame(0xA, b"")):
        alice = RawDevice(server, "alice")
        try:
            for _ in range(400):
                alice.write(flood * 5)
        except OSError:
            pass
        alice.closed((1008, 1006))


# -- HTTP -------------------------------------------------------------------------------------------------------------


def exchange(server, request, limit=15):
    """Raw bytes out, all bytes in until the server closes or an answer is whole enough."""
    with open_socket(server.host, server.port) as plain:
        plain.settimeout(limit)
        try:
            plain.sendall(request)
            plain.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = b""
        try:
            while more := plain.recv(65536):
                answer += more
        except ConnectionError:
            pass
        return answer


HANDSHAKE = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize(
    "request_,statuses",
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, None)),
        (b"NONSENSE\r\n\r\n", (400, None)),
        (b"GET / HTTP/9.9\r\n\r\n", (400, 505, None)),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 414, 431, None)),
        (b"GET / HTTP/1.1\r\n" + b"X-Many: y\r\n" * 5000 + b"\r\n", (400, 431, None)),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"a" * 300_000, (400, 431, None)),
        (b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400, None)),
        (
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400, 401, None),
        ),
    ],
    ids=[
        "TLS",
        "nonsense",
        "a version to come",
        "an endless path",
        "endless headers",
        "an endless header",
        "a negative length",
        "smuggling",
    ],
)
def test_requests_against_the_rules(server, request_, statuses):
    answer = exchange(server, request_)
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else None
    assert status in statuses, answer[:200]


@pytest.mark.parametrize(
    "path,status",
    [
        ("/v1/connect", 400),
        ("/connectV3", 400),
        ("/v1/connect?auth_key=", 400),
        ("/v1/connect?inbox=sometimes&auth_key=KEY", 400),
        ("/v1/connect?ack=never&auth_key=KEY", 400),
    ],
)
def test_a_handshake_with_a_bad_request_is_refused_with_a_status(server, path, status):
    path = path.replace("KEY", server.key("alice"))
    answer = exchange(server, f"GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    assert int(answer.split(b" ", 2)[1]) == status
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert body["error"]["code"] == "bad_request"


def test_connect_without_an_upgrade(server):
    url = socket_url(server, "alice").replace("ws://", "http://")
    answer = server.http.get(url, timeout=15)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/v1/connect-info", "/connectV3?get_pre_connection_info=True", "/v1/inbox", "/v1/mesh", "/metrics"]
)
def test_no_key(server, path):
    server.refused("GET", path, 401, "unauthorized")


ENDLESS = {
    "an endless parameter": "?session_id=" + "s" * 20_000,
    "thousands of parameters": "?" + "&".join(f"a{i}=1" for i in range(3000)),
    "an id outside the alphabet": "?session_id=a%20b",
    "bytes that are no UTF-8": "?session_id=%ff%fe",
    "a NUL": "?session_id=%00",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_parameters(server, what):
    key = server.key("alice")
    answer = server.get(f"/join_session{ENDLESS[what]}", key=key)
    assert answer.status_code in (400, 414, 431), answer.text[:200]


BODIES = [
    b"",
    b"{",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"node_id":7}',
    b'{"node_id":"a b"}',
    b'{"anonymous_id":"' + b"x" * 200 + b'"}',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: repr(b[:20]))
def test_bodies(server, device, body):
    owner = device()
    session = server.ok("POST", "/v1/sessions", 201, key=owner.key, json={"anyone_can_join": True})["session_id"]
    answer = server.post(f"/v1/sessions/{session}/join", key=server.key("alice"), data=body)
    assert answer.status_code == (200 if body == b"" else 400), answer.text
    server.refused("POST", "/v1/messages", 400, "bad_request", key=server.app(), data=body)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_large(server, chunked):
    def endless():
        for _ in range(20):
            yield b"x" * 1_000_000

    body = endless() if chunked else b"x" * 20_000_000
    try:
        answer = server.post("/v1/messages", key=server.app(), data=body)
    except OSError:
        return  # refused before all was sent, and the connection closed
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "path", ["/v1/nodes/a%20b", "/v1/sessions/%2e%2e%2fetc", "/v1/nodes/" + "x" * 129, "/v1/sessions/%00"]
)
def test_ids_in_paths(server, path):
    answer = server.get(path, key=server.app())
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] in ("bad_request", "not_found")


# -- all at once ------------------------------------------------------------------------------------------------------


def test_noise(server):
    """Mutated frames of every kind on many sockets: whatever is said, the server goes on, and the witness talks."""
    seed = int(os.environ.get("SPARKMESH_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    texts = [t.encode(errors="surrogatepass") for t in BAD_FRAMES.values() if len(t) < 5000] + [
        b'{"dest_id":"bob","type":1,"payload":"x"}',
        b'{"type":-101,"payload":{"fetch_inbox_messages":true}}',
        b'{"dest_session_id":"s","type":100,"payload":{"anonymous_id":"x"}}',
        b'{"type":-6,"seq":1}',
    ]
    for _ in range(30):
        noisy = RawDevice(server, unique("noisy"), answers=chance.random() < 0.5)
        try:
            for _ in range(60):
                text = bytearray(chance.choice(texts))
                for _ in range(chance.randrange(4)):
                    if text:
                        text[chance.randrange(len(text))] = chance.randrange(256)
                opcode = chance.choice([TEXT] * 12 + [BINARY, PING, CONTINUATION, 0x3])
                fin = chance.random() < 0.95
                noisy.write(frame(opcode, bytes(text[:125] if opcode == PING else text), fin=fin))
        except OSError:
            pass
        noisy.close()
    assert server.process.poll() is None, f"seed {seed}"
    assert "panicked" not in server.log(), f"seed {seed}"


def test_half_open_sockets_hold_up_nobody(server, device):
    """Connections that never finish their request, while others connect and talk."""
    silent = [open_socket(server.host, server.port) for _ in range(50)]
    for number, one in enumerate(silent):
        one.sendall(b"GET /v1/connect HTTP/1.1\r\nHost: x\r\n"[: number % 30])
    alice = device()
    assert alice.confirmed(dest_id=alice.node, type=1)["status"] == "delivered"
    for one in silent:
        one.close()


def test_a_peer_that_resets(server, device):
    import struct

    alice = device()
    for _ in range(20):
        one = RawDevice(server, unique("resets"))
        alice.send(dest_id=one.node, type=1, payload="x", reference=one.node)
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        assert alice.wait_for(type=CONFIRMATION, reference=one.node)["status"] in ("stored", "delivered")
    until(lambda: server.process.poll() is None)


def test_bad_frames_make_no_log_lines_each(make_server):
    server = make_server("--log-level", "debug")
    alice = Device(server, "alice")
    lines = len(server.log().splitlines())
    for _ in range(1000):
        alice.send("{bad")
    for _ in range(1000):
        alice.expect(type=ERROR)
    assert len(server.log().splitlines()) - lines < 50
