"""Rows A24-A28, A54, A78: what waits, how it is fetched in every form, and how it leaves."""

import json

import pytest

from lib.device import ACK, CONFIG_REQUEST, CONFIG_RESPONSE, CONFIRMATION, ERROR, Device, unique
from lib.server import dumps, until

row = pytest.mark.row


@pytest.fixture
def filled(server, device):
    """A device that is away, and what it was sent meanwhile: payloads 1 to 12."""
    node, sender = unique("away"), device()
    for number in range(1, 13):
        sender.confirmed(dest_id=node, type=1, payload=number)
    return node


def payloads(answer):
    return [message["payload"] for message in answer["messages"]]


@row("A24")
def test_nothing_comes_by_itself_and_fetching_takes_nothing_away(server, device, filled):
    one = device(filled)
    one.nothing()
    for _ in range(3):
        assert payloads(one.fetch()) == list(range(1, 13))
    assert server.offer(filled)["pending"] == 12


@row("A24")
def test_what_is_stored_while_attached_is_sent_at_once(server, device, filled, raw):
    """A device without `inbox=auto` gets what overtakes it into the inbox, with its seq, but not what was there before."""
    one = device(filled)
    device().confirmed(dest_id=filled, type=1, payload="now")
    assert [f["payload"] for f in one.fence()] == ["now"]


@row("A25")
def test_the_original_form_is_text_in_text(device, filled):
    one = device(filled)
    one.send(type=CONFIG_REQUEST, payload=dumps({"fetch_inbox_messages": True, "timestamp": 5}))
    answer = one.expect(type=CONFIG_RESPONSE, dest_id=filled)
    assert isinstance(answer["payload"], str)
    inner = json.loads(answer["payload"])
    assert all(isinstance(text, str) for text in inner["messages"])
    assert [json.loads(text)["payload"] for text in inner["messages"]] == list(range(1, 13))
    assert set(inner) >= {"messages", "from_seq", "to_seq", "more", "server_timestamp_add_diff"}


@row("A26", "A78")
def test_a_seq_is_a_messages_number(device, filled):
    answer = device(filled).fetch()
    assert [m["seq"] for m in answer["messages"]] == list(range(1, 13))
    assert (answer["from_seq"], answer["to_seq"], answer["more"]) == (1, 12, False)


FETCHES = [
    # request -> payloads, more
    ({}, range(1, 13), False),
    ({"fetch_inbox_messages_from_seq": 5}, range(5, 13), False),
    ({"fetch_inbox_messages_to_seq": 4}, range(1, 5), False),
    ({"fetch_inbox_messages_from_seq": 3, "fetch_inbox_messages_to_seq": 3}, [3], False),
    ({"fetch_inbox_messages_from_seq": -1, "fetch_inbox_messages_to_seq": -1}, range(1, 13), False),
    ({"limit": 5}, range(1, 6), True),
    ({"limit": 12}, range(1, 13), False),
    ({"limit": 999_999}, range(1, 13), False),
    ({"fetch_inbox_messages_from_seq": 6, "limit": 5}, range(6, 11), True),
    ({"newest_first": True}, range(12, 0, -1), False),
    ({"newest_first": True, "limit": 4}, [12, 11, 10, 9], True),
    ({"newest_first": True, "limit": 4, "fetch_inbox_messages_to_seq": 8}, [8, 7, 6, 5], True),
    ({"newest_first": True, "limit": 4, "fetch_inbox_messages_to_seq": 4}, [4, 3, 2, 1], False),
    # The empty range that broke the original (A78).
    ({"fetch_inbox_messages_from_seq": 9, "fetch_inbox_messages_to_seq": 2}, [], False),
    ({"fetch_inbox_messages_from_seq": 13}, [], False),
    ({"fetch_inbox_messages_to_time_stamp": 1}, [], False),
    ({"fetch_inbox_messages_from_time_stamp": 99_999_999_999_999}, [], False),
]


@row("A25", "A26", "A78")
@pytest.mark.parametrize("request_,wanted,more", FETCHES, ids=lambda v: dumps(v) if isinstance(v, dict) else None)
def test_fetching(device, filled, request_, wanted, more):
    answer = device(filled).fetch(**request_)
    wanted = list(wanted)
    assert payloads(answer) == wanted
    assert answer["more"] is more
    ends = (min(wanted), max(wanted)) if wanted else (None, None)
    assert (answer["from_seq"], answer["to_seq"]) == ends


@row("A25")
def test_time_bounds_are_exclusive(device, filled):
    one = device(filled)
    times = [m["timestamp"] for m in one.fetch()["messages"]]
    middle = times[5]
    after = one.fetch(fetch_inbox_messages_from_time_stamp=middle)
    assert payloads(after) == [n + 1 for n, t in enumerate(times) if t > middle]
    before = one.fetch(fetch_inbox_messages_to_time_stamp=middle)
    assert payloads(before) == [n + 1 for n, t in enumerate(times) if t < middle]
    only = one.fetch(fetch_inbox_messages_from_time_stamp=middle - 1, fetch_inbox_messages_to_time_stamp=middle + 1)
    assert payloads(only) == [n + 1 for n, t in enumerate(times) if t == middle]


@row("A26")
@pytest.mark.parametrize("newest_first", [False, True])
def test_paging_meets_every_message_once(device, filled, newest_first):
    one, met, bounds = device(filled), [], {}
    while True:
        page = one.fetch(limit=5, newest_first=newest_first, **bounds)
        met += payloads(page)
        if not page["more"]:
            break
        bounds = (
            {"fetch_inbox_messages_to_seq": page["from_seq"] - 1}
            if newest_first
            else {"fetch_inbox_messages_from_seq": page["to_seq"] + 1}
        )
    assert met == sorted(range(1, 13), reverse=newest_first)


@row("A25")
@pytest.mark.parametrize("field", ["limit", "fetch_inbox_messages_from_seq", "fetch_inbox_messages_to_time_stamp"])
def test_a_malformed_fetch_is_told(device, field):
    one = device()
    one.send(type=CONFIG_REQUEST, payload={"fetch_inbox_messages": True, field: "seven"})
    one.refused("bad_envelope")
    one.nothing()


@row("A27")
def test_the_clock_helper(device):
    one = device()
    now = one.fetch(timestamp=0)["server_timestamp_add_diff"]
    ahead = one.fetch(timestamp=now + 5000)["server_timestamp_add_diff"]
    assert -5000 <= ahead < 0
    assert "server_timestamp_add_diff" not in one.fetch()


def test_an_answer_ends_after_512_kilobytes(server, device):
    node, sender = unique("big"), device()
    for number in range(4):
        sender.confirmed(dest_id=node, type=1, payload=str(number) + "x" * 200_000)
    first = device(node).fetch()
    assert 1 <= len(first["messages"]) < 4
    assert first["more"] is True
    huge = unique("huge")
    sender.confirmed(dest_id=huge, type=1, payload="y" * 900_000)
    assert len(device(huge).fetch()["messages"]) == 1, "at least one, however large"


def test_acknowledging_by_seq(server, device, filled):
    one = device(filled)
    one.send(type=ACK, seq=7)
    until(lambda: server.offer(filled)["pending"] == 5)
    assert payloads(one.fetch()) == list(range(8, 13))
    one.send(type=ACK, seq=3)
    assert payloads(one.fetch()) == list(range(8, 13)), "an older one changes nothing"


def test_acknowledging_one(server, device, filled):
    one = device(filled)
    third = one.fetch()["messages"][2]
    one.send(type=ACK, src_id=third["src_id"], id=third["id"])
    until(lambda: server.offer(filled)["pending"] == 11)
    assert 3 not in payloads(one.fetch())


def test_sync_over_http(server, filled):
    page = server.inbox(filled, limit=5)
    assert payloads(page) == [1, 2, 3, 4, 5]
    assert (page["from_seq"], page["to_seq"], page["more"], page["dropped"]) == (1, 5, True, 0)
    assert isinstance(page["epoch"], int)
    key = server.key(filled)
    assert server.ok("DELETE", "/v1/inbox?to=5", key=key) == {"acknowledged": 5, "pending": 7}
    assert server.ok("DELETE", "/v1/inbox?to=5", key=key) == {"acknowledged": 0, "pending": 7}
    assert payloads(server.inbox(filled, after=9)) == [10, 11, 12]
    assert payloads(server.inbox(filled, newest_first="true", limit=2)) == [12, 11]
    empty = server.inbox(filled, after=12)
    assert (empty["messages"], empty["from_seq"], empty["to_seq"], empty["more"]) == ([], None, None, False)


def test_a_number_of_another_epoch_takes_nothing_out(server, device, filled):
    """What a device remembers of an inbox that has begun anew since says nothing of what is there now."""
    page, key = server.inbox(filled, limit=5), server.key(filled)
    for stale in (page["epoch"] - 1, page["epoch"] + 1):
        server.refused("DELETE", f"/v1/inbox?to=5&epoch={stale}", 409, "conflict", key=key)
    one = device(filled)
    one.send(type=ACK, seq=5, epoch=page["epoch"] - 1, reference="kept")
    assert one.expect(type=ERROR)["code"] == "conflict"
    assert payloads(one.fetch()) == list(range(1, 13))
    one.send(type=ACK, seq=2, epoch=page["epoch"])
    assert payloads(one.fetch()) == list(range(3, 13))
    assert server.ok("DELETE", f"/v1/inbox?to=5&epoch={page['epoch']}", key=key) == {"acknowledged": 3, "pending": 7}
    server.refused("DELETE", "/v1/inbox?to=5&epoch=new", 400, "bad_request", key=key)


@pytest.mark.parametrize(
    "method,query", [("GET", "after=x"), ("GET", "limit=0"), ("GET", "limit=-1"), ("DELETE", ""), ("DELETE", "to=all")]
)
def test_malformed_sync(server, method, query):
    server.refused(method, f"/v1/inbox?{query}", 400, "bad_request", key=server.key("alice"))


def test_numbers_go_on_after_all_is_acknowledged_and_after_a_crash(make_server):
    server = make_server()
    sender = Device(server, "alice")
    for number in range(3):
        sender.confirmed(dest_id="bob", type=1, payload=number)
    epoch = server.inbox("bob")["epoch"]
    server.ok("DELETE", "/v1/inbox?to=3", key=server.key("bob"))
    server.restart()
    sender = Device(server, "alice")
    sender.confirmed(dest_id="bob", type=1, payload="fourth")
    after = server.inbox("bob")
    assert [m["seq"] for m in after["messages"]] == [4]
    assert after["epoch"] == epoch


@row("A54")
def test_what_is_kept_survives_a_restart(make_server):
    """The store is part of the server: nothing is installed beside it, and a restart finds everything."""
    server = make_server()
    alice = Device(server, "alice")
    alice.confirmed(dest_id="bob", type=1, payload="kept")
    session = server.ok(
        "POST", "/v1/sessions", 201, key=alice.key, json={"anyone_can_join": True, "anonymous_id": "owl"}
    )["session_id"]
    server.ok("POST", f"/v1/sessions/{session}/join", key=server.key("bob"), json={"anonymous_id": "fox"})
    server.ok("PUT", "/v1/push-tokens", key=server.key("bob"), json={"provider": "fcm", "token": "t" * 40})
    server.terminate()
    assert server.wait() == 0
    server.start()
    # The join notice went to alice, who was there; bob has the message.
    assert payloads(server.inbox("bob")) == ["kept"]
    info = server.ok("GET", f"/v1/sessions/{session}", key=server.key("bob"))
    assert (info["members"], info["current_node_info"]) == (["owl", "fox"], ["bob", "fox"])
    assert server.ok("GET", "/v1/nodes/bob", key=server.app())["push_providers"] == ["fcm"]


@row("A28")
def test_push_tokens_by_frame_and_by_http(server, device):
    one = device()
    look = lambda: sorted(server.ok("GET", f"/v1/nodes/{one.node}", key=server.app())["push_providers"])  # noqa: E731
    one.send(type=CONFIG_REQUEST, payload=dumps({"update_gcm_key": "g" * 100}))
    one.expect(type=CONFIG_RESPONSE)
    assert look() == ["fcm"]
    one.send(type=CONFIG_REQUEST, payload={"push_token": {"provider": "apns", "token": "ab" * 32}})
    one.expect(type=CONFIG_RESPONSE)
    assert look() == ["apns", "fcm"]
    assert server.ok("PUT", "/v1/push-tokens", key=one.key, json={"provider": "fcm", "token": "g" * 100}) == {
        "status": "ok"
    }
    assert look() == ["apns", "fcm"], "the same token once"
    for provider, token in [("fcm", "g" * 100), ("apns", "ab" * 32), ("apns", "ab" * 32)]:
        assert server.ok("DELETE", "/v1/push-tokens", key=one.key, json={"provider": provider, "token": token}) == {
            "status": "ok"
        }
    assert look() == []


@row("A28")
@pytest.mark.parametrize(
    "body",
    [
        {"provider": "pigeon", "token": "x"},
        {"provider": "fcm"},
        {"token": "x"},
        {"provider": "fcm", "token": ""},
        {"provider": "webpush", "token": "no JSON"},
        {"provider": "webhook", "token": "gopher://x/"},
        {"provider": "apns", "token": "xyz"},
    ],
)
def test_malformed_push_tokens(server, body):
    server.refused("PUT", "/v1/push-tokens", 400, "bad_request", key=server.key("alice"), json=body)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_count_limit_drops_the_oldest_and_says_so(make_server):
    server = make_server("--inbox-max-count", 5)
    server.offer("bob")
    sender = Device(server, "alice")
    for number in range(1, 9):
        assert sender.confirmed(dest_id="bob", type=1, payload=number)["status"] == "stored"
    page = server.inbox("bob")
    assert payloads(page) == [4, 5, 6, 7, 8]
    assert [m["seq"] for m in page["messages"]] == [4, 5, 6, 7, 8], "the numbers show the gap"
    assert page["dropped"] == 3
    assert server.metric("sparkmesh_inbox_dropped_total", reason="limit") == 3
    bob = Device(server, "bob", inbox="auto")
    frames = [bob.receive() for _ in range(6)]
    (told,) = [f for f in frames if f["type"] == ERROR]
    assert told["code"] == "inbox_overflow" and "3" in told["message"]
    assert [f["payload"] for f in frames if f["type"] == 1] == [4, 5, 6, 7, 8]


def test_the_byte_limit_drops_the_oldest(make_server):
    server = make_server("--inbox-max-bytes", 100_000)
    server.offer("bob")
    sender = Device(server, "alice")
    for number in range(6):
        sender.confirmed(dest_id="bob", type=1, payload=[number, "x" * 30_000])
    page = server.inbox("bob")
    kept = [p[0] for p in payloads(page)]
    assert kept == [3, 4, 5]
    assert page["dropped"] == 3


def test_an_id_never_seen_has_a_small_inbox(server, device):
    ghost, sender = unique("ghost"), device()
    for number in range(110):
        sender.send(dest_id=ghost, type=1, payload=number, reference=str(number))
    for number in range(110):
        sender.wait_for(type=CONFIRMATION, reference=str(number))
    assert payloads(server.inbox(ghost)) == list(range(10, 110)), "100 at most, the newest"
