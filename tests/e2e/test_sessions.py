"""Rows A18, A19, A40-A48, A64-A70, A81: sessions by HTTP and by socket, through the same rules."""

import json

import pytest

from lib.device import (
    CONFIRMATION,
    ERROR,
    JOINED,
    LEFT,
    NODE_UNKNOWN,
    OFFLINE,
    ONLINE,
    REVEALED,
    SESSION_UNAUTHORIZED,
    USER_OFFLINE,
    Device,
    unique,
)
from lib.server import until

row = pytest.mark.row


class Room:
    """A session and a way to change it: by HTTP, by the socket, or by the original's paths."""

    def __init__(self, server, way):
        self.server, self.way = server, way

    def create(self, owner, **options):
        if self.way == "original":
            answer = self.server.post(
                "/create_session", data={"auth_key": owner.key} | {k: v for k, v in options.items()}
            )
            assert answer.status_code == 200, answer.text
            self.id = answer.text
        else:
            self.id = self.server.ok("POST", "/v1/sessions", 201, key=owner.key, json=options)["session_id"]
        return self

    def join(self, who, **options):
        """(node id, anonymous id) of who has joined, or the refusal's code."""
        if self.way == "socket":
            who.send(type=JOINED, dest_session_id=self.id, payload=options, reference="join")
            return self._answer(who, lambda f: (f["payload"]["node_id"], f["payload"]["anonymous_id"]))
        if self.way == "original":
            answer = self.server.get("/join_session", params={"auth_key": who.key, "session_id": self.id} | options)
            return tuple(answer.json()) if answer.ok else answer.json()["error"]["code"]
        answer = self.server.post(f"/v1/sessions/{self.id}/join", key=who.key, json=options)
        return (
            (answer.json()["node_id"], answer.json()["anonymous_id"]) if answer.ok else answer.json()["error"]["code"]
        )

    def leave(self, who):
        return self._change(who, LEFT, "leave", "/unjoin_session")

    def reveal(self, who):
        return self._change(who, REVEALED, "reveal", "/reveal_anonymity")

    def _change(self, who, kind, word, original):
        if self.way == "socket":
            who.send(type=kind, dest_session_id=self.id, reference=word)
            return self._answer(who, lambda _: "ok")
        if self.way == "original":
            answer = self.server.post(original, data={"auth_key": who.key, "session_id": self.id})
            return answer.text if answer.ok else answer.json()["error"]["code"]
        answer = self.server.post(f"/v1/sessions/{self.id}/{word}", key=who.key)
        return answer.json()["status"] if answer.ok else answer.json()["error"]["code"]

    @staticmethod
    def _answer(who, read):
        while True:
            frame = who.receive()
            if frame["type"] == CONFIRMATION:
                return read(frame)
            if frame["type"] == SESSION_UNAUTHORIZED:
                return "forbidden"
            if frame["type"] == ERROR:
                return frame["code"]

    def info(self, who):
        return self.server.ok("GET", f"/v1/sessions/{self.id}", key=who.key)


@pytest.fixture(params=["http", "socket", "original"])
def room(request, server):
    return Room(server, request.param)


@pytest.fixture
def by_http(server):
    return Room(server, "http")


def refused(answer):
    return answer in ("forbidden", "not_found", "conflict", "bad_request", "bad_envelope")


# -- life of a session ------------------------------------------------------------------------------------------------


@row("A40", "A66")
def test_creating(server, device):
    owner = device()
    made = server.ok("POST", "/v1/sessions", 201, key=owner.key)
    assert made["node_id"] == owner.node
    assert made["members"] == [owner.node]
    assert made["current_node_info"] == [owner.node, None]
    assert (made["session_type"], made["anyone_can_join"], made["presence"]) == (0, False, False)
    assert made["notify_only_last_few_users"] == -1
    assert made["created_at"] > 1_700_000_000_000
    again = server.ok("GET", f"/v1/sessions/{made['session_id']}", key=owner.key)
    assert again == made
    chosen = unique("chosen")
    server.ok("POST", "/v1/sessions", 201, key=server.app(), json={"session_id": chosen})
    server.refused("POST", "/v1/sessions", 409, "conflict", key=server.app(), json={"session_id": chosen})
    server.ok("POST", "/v1/sessions", 201, key=owner.key, json={"session_id": unique("own")})
    server.refused("POST", "/v1/sessions", 409, "conflict", key=owner.key, json={"session_id": chosen})


@row("A40", "A45")
def test_creating_and_looking_in_the_original_form(server, device):
    owner = device()
    made = server.post(
        "/create_session",
        data={
            "auth_key": owner.key,
            "is_anonymous": "1",
            "anyone_can_join": "True",
            "session_type": "1",
            "notify_only_last_few_users": "300",
        },
    )
    assert made.headers["Content-Type"].startswith("text/plain")
    info = server.ok("GET", "/get_session_info", params={"auth_key": owner.key, "session_id": made.text})
    me, mask = info["current_node_info"]
    assert me == owner.node and mask.startswith("anonymous_")
    assert info["node_id"] == mask, "the owner is shown by its anonymous id"
    assert info["node_ids"] == [mask]
    assert (info["session_id"], info["session_type"], info["anyone_can_join"]) == (made.text, 1, True)
    assert info["notify_only_last_few_users"] == 300
    server.refused(
        "GET", "/get_session_info", 403, "forbidden", params={"auth_key": device().key, "session_id": made.text}
    )


@row("A40")
@pytest.mark.parametrize(
    "body",
    [
        {"session_type": "party"},
        {"session_id": "a b"},
        {"anonymous_id": ""},
        {"notify_only_last_few_users": 0},
        {"anyone_can_join": "perhaps"},
        [],
        "x",
    ],
)
def test_creating_wrongly(server, body):
    server.refused("POST", "/v1/sessions", 400, "bad_request", key=server.key("alice"), json=body)


@row("A41", "A44", "A66", "A69")
def test_joining(room, server, device):
    owner, bob = device(), device()
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    assert room.join(bob) == (bob.node, None)
    notice = owner.expect(type=JOINED, src_id=bob.node, dest_session_id=room.id)
    assert "payload" not in notice
    assert room.info(owner)["members"] == [owner.node, bob.node]
    assert room.join(bob) == (bob.node, None), "again: what it is"
    owner.nothing(), bob.nothing()


@row("A41")
def test_who_is_away_finds_the_notice_in_the_inbox(room, server, device):
    owner, bob, away = device(), device(), unique("away")
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    server.ok("POST", f"/v1/sessions/{room.id}/join", key=server.key(away))
    owner.wait_for(type=JOINED)
    room.join(bob)
    waiting = until(lambda: server.inbox(away)["messages"])
    assert [(m["type"], m["src_id"], m["dest_session_id"]) for m in waiting] == [(JOINED, bob.node, room.id)]


@row("A41")
@pytest.mark.parametrize("options", [{"anonymous_id": "the-fox"}, {"is_anonymous": True}])
def test_joining_anonymously(room, server, device, options):
    owner, bob = device(), device(client=unique("user"))
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    node, mask = room.join(bob, **options)
    assert node == bob.node
    assert mask == "the-fox" if "anonymous_id" in options else mask.startswith("anonymous_")
    notice = owner.expect(type=JOINED, src_id=mask)
    assert bob.node not in json.dumps(notice) and "src_client_id" not in notice
    assert room.info(owner)["members"] == [owner.node, mask]
    assert room.info(bob)["current_node_info"] == [bob.node, mask]


@row("A41", "A65")
def test_a_closed_session_is_the_owners_to_open(room, server, device):
    owner, bob, carol = device(), device(), device()
    room.create(owner)
    assert refused(room.join(bob)), "not by itself"
    owner.nothing()
    assert room.info(owner)["members"] == [owner.node]
    assert room.join(owner, node_id=bob.node) == (bob.node, None)
    bob.wait_for(type=JOINED, src_id=bob.node, dest_session_id=room.id)
    assert refused(room.join(bob, node_id=carol.node)), "a member is no owner"
    assert room.info(owner)["members"] == [owner.node, bob.node]
    carol.nothing()


@row("A41")
def test_an_anonymous_id_must_be_free(room, server, device):
    owner, bob, carol = device(), device(), device()
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    room.join(bob, anonymous_id="the-fox")
    assert room.join(carol, anonymous_id="the-fox") == "conflict"
    assert room.join(carol, anonymous_id=owner.node) == "conflict", "a member's real id"
    assert refused(room.join(carol, anonymous_id="not an id"))
    assert room.info(owner)["members"] == [owner.node, "the-fox"]


@row("A41")
def test_there_is_no_such_session(room, server, device):
    room.id = unique("nowhere")
    bob = device()
    for answer in (room.join(bob), room.leave(bob), room.reveal(bob)):
        assert answer in ("not_found", "forbidden"), answer


@row("A42", "A69")
def test_leaving(room, server, device):
    owner, bob, carol = device(), device(), device()
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    room.join(bob, anonymous_id="the-fox"), room.join(carol)
    assert room.leave(bob) == "ok"
    for other in (owner, carol):
        assert bob.node not in json.dumps(other.wait_for(type=LEFT, src_id="the-fox", dest_session_id=room.id))
    assert room.info(owner)["members"] == [owner.node, carol.node]
    assert refused(room.leave(bob)), "who is no member cannot leave"
    bob.fence()
    bob.send(dest_session_id=room.id, type=1)
    bob.expect(type=SESSION_UNAUTHORIZED)
    owner.confirmed(dest_session_id=room.id, type=1, payload="without bob")
    bob.nothing()
    carol.wait_for(payload="without bob")


@row("A43", "A69", "A81")
def test_revealing(room, server, device):
    owner, bob = device(), device()
    room.create(owner, anyone_can_join=1 if room.way == "original" else True)
    room.join(bob, anonymous_id="the-fox")
    owner.wait_for(type=JOINED)
    assert room.reveal(bob) == "ok"
    owner.expect(type=REVEALED, src_id="the-fox", payload=bob.node, dest_session_id=room.id)
    assert room.info(owner)["members"] == [owner.node, bob.node]
    bob.fence()
    bob.confirmed(dest_session_id=room.id, type=1, payload="it is me")
    owner.expect(src_id=bob.node, payload="it is me")
    assert refused(room.reveal(bob)), "once"
    assert refused(room.reveal(device())), "who is no member has nothing to reveal"


@row("A45")
def test_info_is_for_members_and_apps(by_http, server, device):
    owner, stranger = device(), device()
    by_http.create(owner)
    server.refused("GET", f"/v1/sessions/{by_http.id}", 403, "forbidden", key=stranger.key)
    server.refused("GET", f"/v1/sessions/{by_http.id}/presence", 403, "forbidden", key=stranger.key)
    server.refused("GET", f"/v1/sessions/{unique('no')}", 404, "not_found", key=owner.key)
    assert server.ok("GET", f"/v1/sessions/{by_http.id}", key=server.app())["members"] == [owner.node]


# -- sending ----------------------------------------------------------------------------------------------------------


@row("A18", "A67")
def test_a_message_to_all_members_but_the_sender(by_http, server, device):
    owner, bob, carol, stranger = (device() for _ in range(4))
    by_http.create(owner, anyone_can_join=True)
    by_http.join(bob), by_http.join(carol)
    owner.fence(), bob.fence()
    done = bob.confirmed(dest_session_id=by_http.id, type=1, payload="hello all")
    assert (done["status"], done["delivered"], done["stored"], done["dropped"]) == ("delivered", 2, 0, 0)
    copies = [
        member.expect(payload="hello all", src_id=bob.node, dest_session_id=by_http.id) for member in (owner, carol)
    ]
    assert copies[0] == copies[1], "encoded once: the same bytes for all"
    assert "dest_id" not in copies[0]
    bob.nothing(), stranger.nothing()


@row("A18", "A67", "A22")
def test_a_member_who_is_away_finds_it_in_the_inbox(by_http, server, device):
    owner, bob, away = device(), device(), unique("away")
    server.offer(away)
    by_http.create(owner, anyone_can_join=True)
    by_http.join(bob)
    server.ok("POST", f"/v1/sessions/{by_http.id}/join", key=server.key(away))
    owner.fence(), bob.fence()
    (notice,), done = owner.settled(dest_session_id=by_http.id, type=1, payload="for later", id="s-1")
    assert (notice["type"], notice["src_id"], notice["dest_session_id"], notice["id"]) == (
        USER_OFFLINE,
        away,
        by_http.id,
        "s-1",
    )
    assert (done["status"], done["delivered"], done["stored"]) == ("stored", 1, 1)
    (kept,) = server.inbox(away)["messages"]
    assert (kept["payload"], kept["dest_session_id"], kept["src_id"]) == ("for later", by_http.id, owner.node)
    assert "dest_id" not in kept


@row("A18")
def test_who_is_no_member_cannot_send(by_http, server, device):
    owner, stranger = device(), device()
    by_http.create(owner, anyone_can_join=True)
    stranger.send(dest_session_id=by_http.id, type=1, payload="let me in", id="x1")
    (notice,) = stranger.fence()
    assert (notice["type"], notice["dest_id"], notice["dest_session_id"]) == (
        SESSION_UNAUTHORIZED,
        stranger.node,
        by_http.id,
    )
    owner.nothing()


@row("A22")
def test_at_most_32_offline_notices_per_envelope(server, device):
    members = [[unique("m")] for _ in range(40)]
    for (member,) in members:
        server.offer(member)
    owner = device()
    room = unique("crowd")
    server.ok(
        "POST", "/v1/sessions", 201, key=server.app(), json={"session_id": room, "members": [[owner.node], *members]}
    )
    owner.fence()
    notices, done = owner.settled(dest_session_id=room, type=1)
    assert [f["type"] for f in notices] == [USER_OFFLINE] * 32
    assert (done["stored"], done["delivered"], done["dropped"]) == (40, 0, 0)


@row("A18")
def test_all_members_receive_in_the_same_order(by_http, server, device):
    writers = [device() for _ in range(4)]
    by_http.create(writers[0], anyone_can_join=True)
    for one in writers[1:]:
        by_http.join(one)
    for one in writers:
        one.fence()
    for number in range(50):
        for index, one in enumerate(writers):
            one.send(
                dest_session_id=by_http.id, type=1, payload=[index, number], reference="r" if number == 49 else None
            )
    orders = []
    for one in writers:
        got = []
        while len(got) < 150:
            frame = one.receive()
            if frame["type"] == 1:
                got.append((frame["session_epoch"], frame["session_seq"], tuple(frame["payload"])))
        assert [g[:2] for g in got] == sorted(g[:2] for g in got), "numbers rise"
        orders.append({g[1]: g[2] for g in got})
    whole = {}
    for order in orders:
        for number, payload in order.items():
            assert whole.setdefault(number, payload) == payload, "the same number, the same message"
    assert len(whole) == 200


@row("A18")
def test_what_is_sent_again_keeps_its_place(by_http, server, device):
    """Who has not had it yet gets it with the number that the others know it by."""
    owner, early, late = device(), device(), device()
    by_http.create(owner, anyone_can_join=True)
    by_http.join(early)
    owner.fence(), early.fence()
    owner.confirmed(dest_session_id=by_http.id, type=1, payload="once", id="the-same")
    first = early.wait_for(payload="once")
    by_http.join(late)
    owner.fence(), early.fence()
    owner.confirmed(dest_session_id=by_http.id, type=1, payload="once", id="the-same")
    again = late.wait_for(payload="once")
    assert (again["session_epoch"], again["session_seq"]) == (first["session_epoch"], first["session_seq"])
    owner.confirmed(dest_session_id=by_http.id, type=1, payload="next", id="another")
    assert early.expect(payload="next")["session_seq"] > first["session_seq"], "and it came once"


# -- anonymity --------------------------------------------------------------------------------------------------------


@row("A19")
def test_private_messages_in_a_session(by_http, server, device):
    owner, fox, bob = device(), device(client=unique("user")), device()
    by_http.create(owner, anyone_can_join=True)
    by_http.join(fox, anonymous_id="the-fox"), by_http.join(bob)
    owner.fence(), fox.fence()
    owner.confirmed(dest_session_id=by_http.id, dest_id="the-fox", type=1, payload="psst")
    got = fox.expect(payload="psst", src_id=owner.node, dest_session_id=by_http.id, dest_id="the-fox")
    assert "session_seq" not in got
    fox.confirmed(dest_session_id=by_http.id, dest_id=bob.node, type=1, payload="to a named member")
    got = bob.expect(payload="to a named member", src_id="the-fox")
    assert fox.node not in json.dumps(got) and "src_client_id" not in got
    owner.nothing()


@row("A19", "A64")
def test_a_real_id_of_an_anonymous_member_does_not_exist(by_http, server, device):
    owner, fox = device(), device()
    by_http.create(owner, anyone_can_join=True)
    by_http.join(fox, anonymous_id="the-fox")
    owner.fence()
    answers = []
    for target in (fox.node, unique("nobody")):
        owner.send(dest_session_id=by_http.id, dest_id=target, type=1, payload="is it you?", id="asked", reference="r")
        told, confirmed = owner.fence()
        assert (told["type"], told["src_id"], told["id"]) == (NODE_UNKNOWN, target, "asked")
        assert (confirmed["type"], confirmed["status"]) == (CONFIRMATION, "dropped")
        answers.append([{**told, "src_id": "TARGET", "timestamp": 0}, confirmed])
    assert answers[0] == answers[1], "a member's real id and an id that is nobody's are answered alike"
    fox.nothing()
    assert server.inbox(fox.node)["messages"] == []


@row("A65")
def test_a_stranger_cannot_write_to_an_anonymous_id(by_http, server, device):
    owner, fox, stranger = device(), device(), device()
    by_http.create(owner, anyone_can_join=True)
    by_http.join(fox, anonymous_id="the-fox")
    for target in ("the-fox", owner.node):
        stranger.send(dest_session_id=by_http.id, dest_id=target, type=1, payload="hello")
        stranger.expect(type=SESSION_UNAUTHORIZED)
    fox.nothing()


@row("A64")
def test_nothing_betrays_an_anonymous_member(by_http, server, device):
    """Every frame and answer that the others ever see is searched for the real ids."""
    user = unique("user")
    owner, fox = device(), Device(server, unique("fox"), client=user)
    by_http.create(owner, anyone_can_join=True, presence=True)
    by_http.join(fox, anonymous_id="the-fox")
    seen = []
    fox.confirmed(dest_session_id=by_http.id, type=1, payload="hi")
    fox.confirmed(dest_session_id=by_http.id, dest_id=owner.node, type=1, payload="hi")
    fox.send(dest_session_id=by_http.id, type=0, payload="hi")
    fox.fence()
    fox.close()
    seen += [owner.wait_for(type=OFFLINE)]
    frames = owner.settled(dest_session_id=by_http.id, type=1, payload="still there?")[0]
    frames += owner.settled(dest_session_id=by_http.id, dest_id="the-fox", type=1, payload="still there?")[0]
    assert [f["src_id"] for f in frames if f["type"] == USER_OFFLINE] == ["the-fox", "the-fox"]
    seen += frames
    seen.append(by_http.info(owner))
    seen.append(server.ok("GET", f"/v1/sessions/{by_http.id}/presence", key=owner.key))
    seen.append(server.get("/get_session_info", params={"auth_key": owner.key, "session_id": by_http.id}).text)
    seen.append(server.post(f"/v1/sessions/{by_http.id}/join", key=device().key, json={"anonymous_id": "the-fox"}).text)
    server.ok("POST", f"/v1/sessions/{by_http.id}/leave", key=server.key(fox.node))
    seen.append(owner.wait_for(type=LEFT))
    assert fox.node not in json.dumps(seen)
    assert user not in json.dumps(seen)


@row("A64")
def test_an_anonymous_sender_is_anonymous_in_the_inbox_too(server, device):
    owner, fox = unique("owner"), device(client=unique("user"))
    made = server.ok("POST", "/v1/sessions", 201, key=server.key(owner), json={"anyone_can_join": True})
    room = made["session_id"]
    server.ok("POST", f"/v1/sessions/{room}/join", key=fox.key, json={"anonymous_id": "the-fox"})
    fox.confirmed(dest_session_id=room, type=1, payload="kept")
    messages = server.inbox(owner)["messages"]
    assert [m["src_id"] for m in messages] == ["the-fox", "the-fox"]
    assert fox.node not in json.dumps(messages) and "src_client_id" not in json.dumps(messages)


# -- games, windows, presence -----------------------------------------------------------------------------------------


@row("A47", "A68")
@pytest.mark.parametrize("master", ["owner", "named"])
def test_a_game(by_http, server, device, master):
    owner, one, two, judge = device(), device(), device(), device()
    by_http.create(
        owner,
        anyone_can_join=True,
        session_type="game",
        **({"session_game_master_node_id": judge.node} if master == "named" else {}),
    )
    for player in (one, two, judge):
        by_http.join(player)
    for each in (owner, one, two, judge):
        each.fence()
    boss, crowd = (judge, (owner, one, two)) if master == "named" else (owner, (one, two, judge))
    one.confirmed(dest_session_id=by_http.id, type=1, payload="my move")
    boss.expect(payload="my move", src_id=one.node)
    boss.confirmed(dest_session_id=by_http.id, type=1, payload="next round")
    for player in crowd:
        player.expect(payload="next round", src_id=boss.node)
    for each in (owner, one, two, judge):
        each.nothing()


@row("A46", "A70")
def test_only_the_last_few_are_told_and_all_may_speak(by_http, server, device):
    owner, *others = [device() for _ in range(4)]
    by_http.create(owner, anyone_can_join=True, notify_only_last_few_users=2)
    for one in others:
        by_http.join(one)
    for each in (owner, *others):
        each.fence()
    owner.confirmed(dest_session_id=by_http.id, type=1, payload="from the oldest")
    for told in others[1:]:
        told.expect(payload="from the oldest")
    others[0].nothing()
    by_http.leave(others[2])
    for each in (owner, *others):
        each.fence()
    owner.confirmed(dest_session_id=by_http.id, type=1, payload="the window moves")
    others[0].expect(payload="the window moves"), others[1].expect(payload="the window moves")
    everybody = Room(server, "http").create(owner, anyone_can_join=True, notify_only_last_few_users=-1)
    everybody.join(others[0])
    others[0].confirmed(dest_session_id=everybody.id, type=1, payload="-1 is all")
    owner.wait_for(payload="-1 is all")


def test_presence(by_http, server, device):
    owner, bob = device(), device()
    by_http.create(owner, anyone_can_join=True, presence=True)
    by_http.join(bob, anonymous_id="the-fox")
    snapshot = bob.wait_for(type=ONLINE, dest_session_id=by_http.id)
    assert snapshot["payload"] == {"online": [owner.node]}
    owner.wait_for(type=JOINED)
    second = device(bob.node)
    bob.close()
    assert [f for f in owner.fence() if f["type"] == OFFLINE] == [], "one of two edges has gone: still there"
    second.close()
    owner.wait_for(type=OFFLINE, src_id="the-fox", dest_session_id=by_http.id)
    shown = lambda: server.ok("GET", f"/v1/sessions/{by_http.id}/presence", key=owner.key)["members"]  # noqa: E731
    assert shown() == [{"node_id": owner.node, "online": True}, {"node_id": "the-fox", "online": False}]
    back = device(bob.node)
    owner.wait_for(type=ONLINE, src_id="the-fox")
    assert back.wait_for(type=ONLINE)["payload"] == {"online": [owner.node]}, "who comes back learns who is there"
    assert shown()[1]["online"] is True
    assert server.inbox(bob.node)["messages"] == [], "presence is never stored"


def test_no_presence_unless_asked_for(by_http, server, device):
    owner, bob = device(), device()
    by_http.create(owner, anyone_can_join=True)
    by_http.join(bob)
    bob.nothing()
    bob.close()
    assert {f["type"] for f in owner.fence()} <= {JOINED}


# -- apps -------------------------------------------------------------------------------------------------------------


@row("A48", "A66")
def test_an_app_creates_a_session_with_its_members(server, device):
    alice, bob = device(), device()
    room = unique("room")
    server.ok(
        "POST",
        "/v1/sessions",
        201,
        key=server.app(),
        json={"session_id": room, "members": [[alice.node, "the-owl"], [bob.node]]},
    )
    alice.confirmed(dest_session_id=room, type=1, payload="hoo")
    bob.expect(src_id="the-owl", payload="hoo", dest_session_id=room)
    alice.nothing()


@row("A48")
def test_an_app_creates_a_session_in_the_original_form(server, device):
    alice, bob = device(), device()
    room = unique("room")
    info = json.dumps([room, [[alice.node, "the-owl"], [bob.node]]])
    made = server.post("/create_session", data={"auth_key": server.app(), "_session_info_": info})
    assert (made.status_code, made.text) == (200, room)
    bob.confirmed(dest_session_id=room, dest_id="the-owl", type=1, payload="hi owl")
    alice.expect(payload="hi owl", src_id=bob.node)


@row("A48")
@pytest.mark.parametrize("members", [[["a", "x"], ["b", "x"]], [["a", "b"], ["b"]], [["a"], ["a", "y"]]])
def test_bulk_members_must_agree(server, members):
    server.refused("POST", "/v1/sessions", 409, "conflict", key=server.app(), json={"members": members})


@row("A48")
def test_what_apps_may_devices_may_not(server, device):
    alice = device()
    server.refused("POST", "/v1/sessions", 403, "forbidden", key=alice.key, json={"members": [["bob"]]})
    server.refused("POST", "/v1/messages", 403, "forbidden", key=alice.key, json={"messages": []})
    server.refused(
        "POST",
        "/push_message",
        403,
        "forbidden",
        data={"auth_key": alice.key, "to_nodes": '["bob"]', "payload": '{"type":1}'},
    )
    server.refused("GET", f"/v1/nodes/{alice.node}", 403, "forbidden", key=alice.key)
    server.refused("POST", f"/v1/nodes/{alice.node}/disconnect", 403, "forbidden", key=alice.key)
    for method, path in [("GET", "/v1/mesh"), ("POST", "/v1/drain"), ("GET", "/metrics")]:
        server.refused(method, path, 403, "forbidden", key=alice.key)
        server.refused(method, path, 403, "forbidden", key=server.app())
        server.refused(method, path, 401, "unauthorized")


@row("A48")
def test_an_app_writes_in_any_name(server, device):
    bob, away = device(), unique("away")
    server.offer(away)
    results = server.send_as_app(
        {"dest_id": bob.node, "type": 1, "payload": "ready", "src_id": "shop", "id": "order-7"},
        {"dest_id": away, "type": 1, "payload": "ready"},
        {"dest_id": away, "type": 0, "payload": "gone"},
        {"dest_id": bob.node, "type": "x", "id": "bad-1"},
        {"dest_id": "not an id", "type": 1},
        {"dest_session_id": unique("nowhere"), "type": 1},
    )
    assert results[0] == {"id": "order-7", "status": "delivered"}
    assert [r.get("status") for r in results[1:3]] == ["stored", "dropped"]
    assert [r["error"]["code"] for r in results[3:]] == ["bad_envelope", "bad_envelope", "not_found"]
    assert results[3]["id"] == "bad-1"
    bob.expect(src_id="shop", payload="ready", id="order-7")
    assert server.inbox(away)["messages"][0]["src_id"] == "the-app"
    assert (
        server.send_as_app({"dest_id": bob.node, "type": 1, "src_id": "shop", "id": "order-7"})[0]["status"]
        == "delivered"
    )
    bob.nothing()


@row("A48")
def test_an_app_does_not_wait_for_ever(server, raw):
    bob = raw(unique("mute"), answers=False)
    (result,) = server.send_as_app({"dest_id": bob.node, "type": 1, "payload": "x", "id": "w1"}, wait_ms=0)
    assert result == {"id": "w1", "status": "accepted"}
    bob.unacknowledged(payload="x")
    bob.recover()
    assert server.send_as_app({"dest_id": bob.node, "type": 1, "payload": "x", "id": "w1"})[0]["status"] == "delivered"


@row("A48")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": {}},
        {"messages": "x"},
        {"messages": [], "wait_ms": "soon"},
        [],
        {"messages": [{"type": 1, "dest_id": "a"}] * 1001},
    ],
)
def test_messages_wrongly(server, body):
    server.refused("POST", "/v1/messages", 400, "bad_request", key=server.app(), json=body)


@row("A48")
@pytest.mark.parametrize("how", ["form", "query", "raw body"])
def test_push_message_in_the_original_form(server, device, how):
    bob, carol = device(), device()
    params = {"auth_key": server.app(), "to_nodes": json.dumps([bob.node, carol.node])}
    envelope = json.dumps({"type": 5, "payload": "news", "src_id": "desk"})
    if how == "form":
        answer = server.post("/push_message", data=params | {"payload": envelope})
    elif how == "query":
        answer = server.get("/push_message", params=params | {"payload": envelope})
    else:
        answer = server.post("/push_message", params=params, data=envelope)
    assert (answer.status_code, answer.text) == (200, "ok")
    for one in (bob, carol):
        one.expect(type=5, payload="news", src_id="desk", dest_id=one.node)


@row("A48")
def test_an_app_in_a_session(by_http, server, device):
    owner, fox, bob = device(), device(), device()
    by_http.create(owner)
    app = server.app()
    server.ok("POST", f"/v1/sessions/{by_http.id}/join", key=app, json={"node_id": fox.node, "anonymous_id": "the-fox"})
    server.ok("POST", f"/v1/sessions/{by_http.id}/join", key=app, json={"node_id": bob.node})
    for each in (owner, fox, bob):
        each.fence()
    server.send_as_app({"dest_session_id": by_http.id, "type": 1, "payload": "as the fox", "src_id": fox.node})
    for each in (owner, bob):
        assert fox.node not in json.dumps(each.expect(payload="as the fox", src_id="the-fox"))
    server.ok("POST", f"/v1/sessions/{by_http.id}/leave", key=app, json={"node_id": bob.node})
    owner.wait_for(type=LEFT, src_id=bob.node)


@row("A48")
def test_an_app_disconnects_a_device(server, device):
    bob = device()
    also = device(bob.node)
    answer = server.ok("POST", f"/v1/nodes/{bob.node}/disconnect", key=server.app())
    assert answer == {"disconnected": 2}
    bob.closed(4410), also.closed(4410)
    until(lambda: not server.ok("GET", f"/v1/nodes/{bob.node}", key=server.app())["online"])
