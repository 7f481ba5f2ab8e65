"""Rows A1-A12, A50, A52: ids, keys, the offer, the handshake, and the paths of the original."""

import base64
import json
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from lib.device import USER_OFFLINE, Device, socket_url, unique
from lib.server import run, stranger, until

row = pytest.mark.row


def one_frame(url, **options):
    """What comes over a WebSocket that the server closes by itself, and the close code."""
    frames = []
    with connect(
        url, proxy=None, compression=None, ping_interval=None, additional_headers=stranger(), **options
    ) as socket:
        try:
            while True:
                frames.append(json.loads(socket.recv(timeout=15)))
        except ConnectionClosed as end:
            return frames, end.rcvd.code if end.rcvd else 1006


@row("A1")
@pytest.mark.one_server("the identity of one")
def test_a_server_keeps_its_id_over_a_crash(make_server):
    server = make_server()
    before = server.node_id
    assert server.offer("alice")["node_id"] == before
    server.restart()
    assert server.node_id == before
    other = make_server()
    assert other.node_id != before, "two servers never share an id"


@row("A3")
def test_what_is_known_of_a_device(server, device):
    bob = device(client="bob-the-user")
    record = server.ok("GET", f"/v1/nodes/{bob.node}", key=server.app())
    assert record["node_id"] == bob.node
    assert record["client_id"] == "bob-the-user"
    assert (record["online"], record["connections"], record["pending"]) == (True, 1, 0)
    assert record["push_providers"] == []
    server.refused("GET", f"/v1/nodes/{unique('nobody')}", 404, "not_found", key=server.app())


@row("A3")
def test_what_is_known_of_a_server(server, device):
    device()

    def one_is_connected():
        servers = {one["node_id"]: one for one in server.ok("GET", "/v1/mesh", key=server.admin())["servers"]}
        return sum(one["connections"] for one in servers.values()) >= 1 and servers

    me = until(one_is_connected)[server.node_id]
    assert (me["addr"], me["port"], me["draining"]) == (server.host, server.port, False)
    assert me["connections"] <= me["max_connections"]


@row("A5")
@pytest.mark.parametrize(
    "method,path", [("GET", "/nowhere"), ("GET", "/v1"), ("POST", "/v1/connect-info"), ("DELETE", "/healthz")]
)
def test_what_does_not_exist_is_404_in_json(server, method, path):
    answer = server.refused(method, path, 404, "not_found", key=server.key("alice"))
    assert answer.headers["Content-Type"].startswith("application/json")


# -- keys -------------------------------------------------------------------------------------------------------------

BAD_KEYS = {
    "signed by somebody else": lambda s: s.key("alice", secret="x" * 64),
    "expired": lambda s: s.key("alice", ttl=-60),
    "without an expiry": lambda s: s.key("alice", exp=...),
    "without a node": lambda s: s.key("alice", sub=...),
    "an id outside the alphabet": lambda s: s.key("al ice"),
    "an empty id": lambda s: s.key(""),
    "an endless id": lambda s: s.key("a" * 129),
    "an unknown role": lambda s: s.key("alice", role="root"),
    "a bad client id": lambda s: s.key("alice", client="a/b"),
    "not yet valid": lambda s: s.key("alice", nbf=int(time.time()) + 3600),
    "an unknown kid": lambda s: s.key("alice", headers={"kid": "nobody"}),
    "no signature (alg none)": lambda s: none_key("alice"),
    "a signature cut short": lambda s: s.key("alice")[:-4],
    "not a token at all": lambda s: "YWxpY2U=|1700000000|5c7ace9e4beaebdd669328fadc4341f632bacc27",
    "the original's node None": lambda s: "None",
}


def none_key(node):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'sub': node, 'exp': int(time.time()) + 600})}."


@row("A6", "A60")
@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_bad_key_opens_nothing(server, device, witness, what):
    key = BAD_KEYS[what](server)
    answer = server.refused("GET", "/v1/connect-info", 401, "unauthorized", key=key)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    server.refused("GET", "/v1/connect-info", 401, "unauthorized", params={"auth_key": key})
    validation = server.offer("alice")["validation_key"]
    url = socket_url(server, "alice", path="/v1/connect", key=key, validation_key=validation)
    frames, code = one_frame(url)
    assert code == 4401
    assert [(f["type"], f["code"]) for f in frames] == [(-8, "unauthorized")]


@row("A60")
def test_nobody_is_logged_in_as_none(server):
    server.get("/v1/connect-info", params={"auth_key": "bad"})
    server.refused("GET", "/v1/nodes/None", 404, "not_found", key=server.app())


@row("A6")
def test_a_key_is_taken_from_the_header_and_from_the_query(server):
    key = server.key("alice")
    assert server.get("/v1/connect-info", key=key).status_code == 200
    assert server.get("/v1/connect-info", params={"auth_key": key}).status_code == 200
    assert server.get("/v1/connect-info", key=key, params={"auth_key": "bad"}).status_code == 200, "the header wins"
    offer = server.offer("alice")
    url = f"{offer['ws_url']}?validation_key={offer['validation_key']}"
    with connect(url, additional_headers={"Authorization": f"Bearer {key}"}, proxy=None) as socket:
        socket.send('{"dest_id":"alice","type":1,"payload":"to myself"}')
        assert json.loads(socket.recv(timeout=15))["src_id"] == "alice"


@row("A6")
def test_leeway_is_for_clocks_and_no_more(server):
    assert server.get("/v1/connect-info", key=server.key("alice", ttl=-10)).status_code == 200
    server.refused("GET", "/v1/connect-info", 401, "unauthorized", key=server.key("alice", ttl=-45))


@row("A6")
def test_several_secrets(make_server):
    old, new, bare = "old-" * 10, "new-" * 10, "bare" * 10
    server = make_server(secrets_file=f"2026b:{new}\n2026a:{old}\n{bare}\n")
    for secret, kid, status in [
        (new, "2026b", 200),
        (old, "2026a", 200),
        (bare, "default", 200),
        (new, None, 200),
        (old, None, 200),
        (bare, None, 200),
        (new, "2026a", 401),
        ("no" * 20, None, 401),
    ]:
        key = server.key("alice", secret=secret, headers={"kid": kid} if kid else None)
        assert server.get("/v1/connect-info", key=key).status_code == status, (secret[:4], kid)
    minted = run("key", "--node", "alice", "--secret-file", server.secret_file)
    import jwt

    assert jwt.get_unverified_header(minted.stdout.strip()).get("kid") == "2026b", "the first signs"


@row("A61")
def test_no_key_of_one_kind_is_accepted_as_another(server):
    offer = server.offer("alice")
    server.refused("GET", "/v1/connect-info", 401, "unauthorized", key=offer["validation_key"])
    url = socket_url(
        server, "alice", path="/v1/connect", key=offer["validation_key"], validation_key=offer["validation_key"]
    )
    assert one_frame(url)[1] == 4401
    url = socket_url(server, "alice", path="/v1/connect", validation_key=server.key("alice"))
    assert one_frame(url)[1] == 4401, "an auth key is no validation key"


@row("A61")
def test_a_device_key_for_a_servers_id_is_refused(server):
    key = server.key(server.node_id)
    server.refused("GET", "/v1/connect-info", 403, "forbidden", key=key)
    frames, code = one_frame(socket_url(server, server.node_id, path="/v1/connect", key=key, validation_key="x"))
    assert code == 4403
    assert frames[-1]["code"] == "forbidden"


@row("A75")
def test_keys_expire_at_each_call_and_handshake_and_an_open_socket_stays(server, device):
    bob = device()
    validation = server.offer(bob.node)["validation_key"]
    expired = server.key(bob.node, ttl=-31)
    frames, code = one_frame(socket_url(server, bob.node, path="/v1/connect", key=expired, validation_key=validation))
    assert code == 4401
    assert frames[-1]["code"] == "unauthorized"
    assert bob.confirmed(dest_id=bob.node, type=1)["status"] == "delivered"


@row("A75")
def test_a_foreign_origin_opens_no_socket(server):
    url = socket_url(server, "alice")
    with pytest.raises(InvalidStatus) as refused:
        connect(url, origin="https://evil.example", proxy=None)
    assert refused.value.response.status_code == 403
    url = socket_url(server, "alice")
    with connect(url, origin="http://" + url.split("/")[2], proxy=None):
        pass


# -- the offer --------------------------------------------------------------------------------------------------------


@row("A7", "A11")
def test_the_offer(server):
    asker = unique("asker")
    offer = server.offer(asker)
    assert set(offer) >= {
        "node_id",
        "addr",
        "port",
        "proxy_80_port",
        "ws_url",
        "validation_key",
        "pending",
        "start_after_ms",
    }
    offered = server.named(offer["node_id"])
    assert (offer["addr"], offer["port"]) == (offered.host, offered.port)
    assert offer["proxy_80_port"] is None
    assert offer["ws_url"] == f"ws://{offered.host}:{offered.port}/v1/connect"
    assert (offer["pending"], offer["start_after_ms"]) == (0, 0)
    assert offer["validation_key"] != server.offer(asker)["validation_key"]


@row("A7")
@pytest.mark.parametrize("path", ["/v1/connect-info?x=1", "/connectV3?get_pre_connection_info=True"])
@pytest.mark.one_server("two questions may be answered with two servers")
def test_the_offer_by_http_and_by_websocket(server, path):
    node = unique("asks")
    key = server.key(node)
    by_http = server.ok("GET", f"{path}&auth_key={key}")
    frames, code = one_frame(f"ws://{server.host}:{server.port}{path}&auth_key={key}")
    assert code == 1000
    (by_socket,) = frames
    by_http.pop("validation_key"), by_socket.pop("validation_key")
    assert by_http == by_socket
    assert str(by_http["port"]) == str(server.port)
    assert isinstance(by_http["port"], str) == path.startswith("/connectV3"), "the original gives the port as a string"


@row("A7")
def test_the_offer_tells_what_waits(server, device):
    node = unique("away")
    sender = device()
    for number in range(3):
        sender.confirmed(dest_id=node, type=1, payload=number)
    assert server.offer(node)["pending"] == 3


@row("A8", "A23")
def test_asking_makes_a_node_known(server, device):
    sender, node = device(), unique("asked")
    server.offer(node)
    notices, _ = sender.settled(dest_id=node, type=1, payload="hi")
    assert [f["type"] for f in notices] == [USER_OFFLINE], "offline, but not unknown"


@row("A9")
@pytest.mark.parametrize("name", ["validation_key", "validation_token"])
@pytest.mark.parametrize("path", ["/v1/connect", "/connectV3"])
def test_connecting(server, path, name):
    node = unique("both-names")
    validation = server.offer(node)["validation_key"]
    one = Device(server, node, path=path, data_type="json", **{name: validation})
    assert one.confirmed(dest_id=node, type=1)["status"] == "delivered"
    one.close()


@row("A9")
@pytest.mark.parametrize("path", ["/v1/connect", "/connectV3"])
def test_connecting_takes_a_validation_key(server, path):
    frames, code = one_frame(socket_url(server, unique("keyless"), path=path))
    assert code == 4401
    assert frames[-1]["code"] == "unauthorized"


@row("A9")
@pytest.mark.one_server("on a mesh the tests let devices in directly, so that they are spread")
def test_connect_v2_is_off(server):
    frames, code = one_frame(socket_url(server, "alice", path="/connectV2"))
    assert code == 4403
    assert "--allow-direct" in frames[-1]["message"]


@row("A9", "A7")
@pytest.mark.one_server("names the one it is connected to")
def test_connect_v2_with_allow_direct(make_server):
    server = make_server("--allow-direct")
    one = Device(server, "alice", path="/connectV2")
    assert one.confirmed(dest_id="alice", type=1)["status"] == "delivered"
    one.close()
    offer = server.ok("GET", "/connectV2", params={"get_pre_connection_info": "True", "auth_key": server.key("alice")})
    assert offer["node_id"] == server.node_id
    assert "validation_key" not in offer
    assert one_frame(socket_url(server, "alice", path="/v1/connect"))[1] == 4401, "the other door is as before"


@row("A10")
def test_a_validation_key_works_once(server):
    node = unique("once")
    offer = server.offer(node)
    url = socket_url(server, node, offer=offer)
    Device(server, node, url=url).close()
    frames, code = one_frame(url)
    assert (code, frames[-1]["code"]) == (4401, "unauthorized")


@row("A10")
def test_a_validation_key_is_for_its_device(server):
    foreign = server.offer(unique("somebody"))["validation_key"]
    assert one_frame(socket_url(server, unique("else"), path="/v1/connect", validation_key=foreign))[1] == 4401


@row("A10")
@pytest.mark.one_server("two that are not linked")
def test_a_validation_key_is_for_its_server_and_its_run(make_server):
    secrets_file = "same-secret-" * 4 + "\n"
    first, second = make_server(secrets_file=secrets_file), make_server(secrets_file=secrets_file)
    first.secret = second.secret = secrets_file.strip()
    foreign = first.offer("alice")["validation_key"]
    assert one_frame(socket_url(second, "alice", path="/v1/connect", validation_key=foreign))[1] == 4401
    first.restart()
    assert one_frame(socket_url(first, "alice", path="/v1/connect", validation_key=foreign))[1] == 4401


@row("A10")
@pytest.mark.parametrize(
    "damage",
    [
        lambda k: k[:-2],
        lambda k: k + "AA",
        lambda k: "A" + k[1:] if k[0] != "A" else "B" + k[1:],
        lambda k: "",
        lambda k: "x" * 3000,
    ],
)
def test_a_damaged_validation_key(server, damage):
    key = damage(server.offer("alice")["validation_key"])
    assert one_frame(socket_url(server, "alice", path="/v1/connect", validation_key=key))[1] == 4401


@row("A11", "A52", "A74")
@pytest.mark.one_server("each has a name of its own; for a mesh: mesh/test_nginx.py")
def test_a_server_behind_a_proxy_on_port_80(make_server):
    plain, proxied = make_server(), make_server("--proxy-80-port", "a.example.org")
    key = {"key": proxied.key("alice")}
    asked = proxied.ok("GET", "/v1/connect-info?need_80_port=1", **key)
    assert (asked["proxy_80_port"], asked["ws_url"]) == ("a.example.org", "ws://a.example.org/v1/connect")
    for proto, scheme in [("https", "wss"), ("http", "ws")]:
        asked = proxied.ok("GET", "/v1/connect-info?need_80_port=1", headers={"X-Forwarded-Proto": proto}, **key)
        assert asked["ws_url"] == f"{scheme}://a.example.org/v1/connect", "a page loaded over TLS opens no ws://"
    unasked = proxied.ok("GET", "/v1/connect-info", **key)
    assert unasked["ws_url"] == f"ws://127.0.0.1:{proxied.port}/v1/connect"
    fallback = plain.ok("GET", "/v1/connect-info?need_80_port=1", key=plain.key("alice"))
    assert fallback["node_id"] == plain.node_id
    assert fallback["ws_url"] == f"ws://127.0.0.1:{plain.port}/v1/connect", (
        "no proxy: the server itself, as in the original"
    )


@row("A12")
@pytest.mark.one_server("the limit is that of each")
def test_a_full_server_refuses_and_offers_nobody(make_server):
    server = make_server("--num-max-connections", 3)
    early = socket_url(server, "late")
    open_now = [Device(server, f"d{i}") for i in range(3)]
    with pytest.raises(InvalidStatus) as refused:
        connect(early, proxy=None)
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1
    answer = server.refused("GET", "/v1/connect-info", 503, "full", key=server.key("late"))
    assert int(answer.headers["Retry-After"]) >= 1
    assert server.get("/healthz").status_code == 200, "who watches it still gets in"
    assert open_now[0].confirmed(dest_id="d1", type=1)["status"] == "delivered"
    open_now.pop().close()

    def admitted():
        try:
            return Device(server, "late")
        except (InvalidStatus, AssertionError):
            return None

    until(admitted).close()
    for _ in range(20):
        until(admitted).close()
    assert server.metric("sparkmesh_connections") <= 3, "refused and closed ones are not counted for ever"


@row("A4")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_original_paths_merge_query_and_form(server, method):
    key = server.key(unique("form"))
    params = {"auth_key": key, "anyone_can_join": "1"}
    if method == "GET":
        made = server.get("/create_session", params=params)
    else:
        made = server.post("/create_session", data=params)
    assert made.status_code == 200, made.text
    session = made.text
    assert session and not session.startswith(("{", '"')), "plain text, as in the original"
    joiner = server.key(unique("form"))
    body_wins = server.post(
        "/join_session", params={"auth_key": joiner, "session_id": "wrong"}, data={"session_id": session}
    )
    assert body_wins.status_code == 200
    first_counts = server.get(f"/get_session_info?auth_key={joiner}&session_id={session}&session_id=wrong")
    assert first_counts.status_code == 200
    blank_is_absent = server.get(f"/join_session?auth_key={joiner}&session_id={session}&anonymous_id=")
    assert blank_is_absent.json()[1] is None
    missing = server.refused("GET", "/join_session", 400, "bad_request", params={"auth_key": joiner})
    assert "session_id" in missing.json()["error"]["message"]


@row("A50", "A73")
def test_nobody_is_connected_after_a_crash(make_server):
    server = make_server()
    bob, alice = Device(server, "bob"), Device(server, "alice")
    server.kill()
    server.start()
    assert server.metric("sparkmesh_connections") == 0
    assert server.ok("GET", "/v1/nodes/bob", key=server.app())["online"] is False
    alice = Device(server, "alice")
    assert alice.confirmed(dest_id="bob", type=1)["status"] == "stored", "stored at once: no stale edge swallows it"
    alice.close(), bob.close()


@row("A77")
@pytest.mark.one_server("holds for the one that answers; the others hear of it a moment later")
def test_online_before_the_handshake_is_answered(server, device):
    sender = device()
    for _ in range(40):
        node = unique("quick")
        url = socket_url(server, node)
        with connect(url, proxy=None, compression=None, close_timeout=0.1) as socket:
            assert sender.confirmed(dest_id=node, type=1, payload="are you there?")["status"] == "delivered"
            socket.send(json.dumps({"dest_id": sender.node, "type": 1, "payload": "yes"}))
            sender.wait_for(src_id=node, payload="yes")
