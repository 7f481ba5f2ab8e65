"""Rows A28-A31, A64, A76: waking devices, against stand-ins for the providers on loopback."""

import base64
import hashlib
import hmac
import json
import time
import urllib.parse

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lib.device import Device
from lib.server import until
from lib.standin import StandIn

row = pytest.mark.row
HOOK_SECRET = "a-webhook-secret-of-some-length"


@pytest.fixture
def provider():
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def pushing(make_server, tmp_path):
    """Starts a server with webhooks, and whatever else `push` says, as TOML."""
    (tmp_path / "hook").write_text(HOOK_SECRET + "\n")

    def start(push="", *flags, allow=True):
        config = f'[push]\nretry-seconds = 1\n{push}\n[push.webhook]\nsecret-file = "{tmp_path}/hook"\n'
        return make_server(*(["--allow-private-push"] if allow else []), *flags, config=config)

    return start


def register(server, node, provider, token):
    server.ok("PUT", "/v1/push-tokens", key=server.key(node), json={"provider": provider, "token": token})


def notified(provider, limit=15):
    """The body of the next webhook, whose signature is verified."""
    _, headers, body, when = provider.next(limit)
    fields = dict(part.split("=", 1) for part in headers["sparkmesh-signature"].split(","))
    wanted = hmac.new(HOOK_SECRET.encode(), f"{fields['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(fields["v1"], wanted)
    assert abs(when - int(fields["t"])) < 60
    assert headers["content-type"] == "application/json"
    return json.loads(body)


def sent(server, outcome, provider="webhook"):
    return server.metric("sparkmesh_pushes_total", provider=provider, outcome=outcome)


@row("A29", "A76")
def test_a_device_that_is_away_is_woken(pushing, provider):
    server = pushing()
    register(server, "bob", "webhook", provider.url + "/bob")
    alice = Device(server, "alice")
    alice.confirmed(dest_id="bob", type=1, payload="SECRET WORDS")
    body = notified(provider)
    assert (body["node_id"], body["pending"], body["payload1"], body["notification_type"]) == ("bob", 1, "alice", "101")
    assert "SECRET" not in json.dumps(body) and "message" not in body, "contents are told only where allowed"
    until(lambda: sent(server, "sent") == 1)


@row("A30")
def test_once_in_a_while_until_the_device_connects(pushing, provider):
    server = pushing()
    register(server, "bob", "webhook", provider.url)
    alice = Device(server, "alice")
    for number in range(5):
        alice.confirmed(dest_id="bob", type=1, payload=number)
    assert notified(provider)["pending"] >= 1
    until(lambda: sent(server, "sent") == 1)
    bob = Device(server, "bob", inbox="auto")
    for number in range(5):
        bob.expect(payload=number)
    alice.confirmed(dest_id="bob", type=1, payload="while there")
    bob.close()
    until(lambda: not server.ok("GET", "/v1/nodes/bob", key=server.app())["online"])
    alice.confirmed(dest_id="bob", type=1, payload="gone again")
    assert notified(provider)["pending"] == 1, "connecting has reset the throttle, and being there made no push"
    assert provider.requests.empty()


@row("A31")
@pytest.mark.parametrize(
    "kind,payload,message",
    [
        (1, "lunch?", "lunch?"),
        (1, {"a": 1}, "You have pending messages"),
        (2, "x", "Sent you"),
        (3, "x", "You have pending messages"),
    ],
)
def test_the_words_where_content_is_allowed(pushing, provider, kind, payload, message):
    server = pushing("content = true")
    register(server, "bob", "webhook", provider.url)
    Device(server, "alice").confirmed(dest_id="bob", type=kind, payload=payload)
    assert notified(provider)["message"] == message


@row("A64")
def test_a_push_betrays_no_anonymous_member(pushing, provider):
    server = pushing("content = true")
    register(server, "owner", "webhook", provider.url)
    fox = Device(server, "the-real-fox", client="the-real-user")
    room = server.ok("POST", "/v1/sessions", 201, key=server.key("owner"), json={"anyone_can_join": True})["session_id"]
    server.ok("POST", f"/v1/sessions/{room}/join", key=fox.key, json={"anonymous_id": "the-fox"})
    fox.confirmed(dest_session_id=room, type=1, payload="boo")
    body = notified(provider)
    assert (body["payload1"], body["session_id"]) == ("the-fox", room)
    assert "the-real" not in json.dumps(body)


def test_nobody_is_woken_for_what_is_delivered_or_dropped(pushing, provider):
    server = pushing()
    for node in ("bob", "carol"):
        register(server, node, "webhook", f"{provider.url}/{node}")
    alice, bob = Device(server, "alice"), Device(server, "bob")
    alice.confirmed(dest_id="bob", type=1), alice.confirmed(dest_id="carol", type=0)
    alice.confirmed(dest_id="carol", type=1)
    path, *_ = provider.next()
    assert path == "/carol"
    bob.expect(type=1)
    assert provider.requests.empty()


@row("A76")
def test_a_provider_that_hangs_holds_up_nobody(pushing, provider):
    server = pushing("timeout-seconds = 120")
    provider.hold.clear()
    alice, bob = Device(server, "alice"), Device(server, "bob")
    for number in range(30):
        register(server, f"away-{number}", "webhook", f"{provider.url}/{number}")
        alice.confirmed(dest_id=f"away-{number}", type=1)
    provider.next()
    for number in range(200):
        assert alice.confirmed(dest_id="bob", type=1, payload=number)["status"] == "delivered"
        bob.expect(payload=number)


@pytest.mark.parametrize("answer", [(503, {"Retry-After": "2"}, b""), (429, {"Retry-After": "2"}, b""), (500, {}, b"")])
def test_a_provider_in_trouble_is_asked_again_later(pushing, provider, answer):
    server = pushing()
    provider.answers = [answer, answer]
    register(server, "bob", "webhook", provider.url)
    Device(server, "alice").confirmed(dest_id="bob", type=1)
    times = [provider.next(30)[3] for _ in range(3)]
    if "Retry-After" in answer[1]:
        assert all(later - earlier >= 1.5 for earlier, later in zip(times, times[1:], strict=False))
    until(lambda: (sent(server, "retried"), sent(server, "sent")) == (2, 1))


def test_a_dead_token_is_forgotten(pushing, provider):
    server = pushing("throttle-seconds = 0")
    provider.answers = [(410, {}, b"")]
    register(server, "bob", "webhook", provider.url)
    alice = Device(server, "alice")
    alice.confirmed(dest_id="bob", type=1)
    until(lambda: sent(server, "dead_token") == 1)
    until(lambda: server.ok("GET", "/v1/nodes/bob", key=server.app())["push_providers"] == [])
    provider.next()
    alice.confirmed(dest_id="bob", type=1)
    register(server, "fence", "webhook", provider.url + "/fence")
    alice.confirmed(dest_id="fence", type=1)
    assert provider.next()[0] == "/fence"


def test_what_waits_to_be_pushed_survives_a_crash(pushing, provider):
    server = pushing()
    provider.answers = [(503, {"Retry-After": "3"}, b"")]
    register(server, "bob", "webhook", provider.url)
    Device(server, "alice").confirmed(dest_id="bob", type=1)
    provider.next()
    time.sleep(1.5)  # what waits is written within a second
    server.restart()
    assert notified(provider, 30)["node_id"] == "bob"


def test_private_addresses_are_refused(pushing, provider):
    server = pushing(allow=False)
    alice = Device(server, "alice")
    port = provider.url.rsplit(":", 1)[1]
    urls = [
        provider.url,
        f"https://127.0.0.1:{port}/",
        f"https://localhost:{port}/",
        f"https://[::1]:{port}/",
        "https://10.0.0.1/",
        f"https://2130706433:{port}/",
        f"https://[::ffff:127.0.0.1]:{port}/",
        "https://169.254.169.254/latest/meta-data",
    ]
    refused = 0
    for number, url in enumerate(urls):
        answer = server.request(
            "PUT", "/v1/push-tokens", key=server.key(f"b{number}"), json={"provider": "webhook", "token": url}
        )
        if answer.status_code == 400:
            refused += 1
        else:
            alice.confirmed(dest_id=f"b{number}", type=1)
    until(lambda: sent(server, "refused") + sent(server, "gave_up") + sent(server, "retried") + refused >= len(urls))
    assert provider.requests.empty()


# -- Web Push, decrypted by somebody else's code ----------------------------------------------------------------------


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_web_push_is_what_a_browser_can_read(pushing, provider, tmp_path):
    # One key for all servers of a mesh, which none of them has made yet.
    key_file = tmp_path / "vapid.pem"
    webpush = f'[push.webpush]\nsubject = "mailto:ops@example.org"\nkey-file = "{key_file}"'
    server = pushing(f"content = true\n{webpush}")
    browser, auth = ec.generate_private_key(ec.SECP256R1()), b"0123456789abcdef"
    public = browser.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    subscription = {
        "endpoint": provider.url + "/push/abc",
        "expirationTime": None,
        "keys": {"p256dh": b64(public), "auth": b64(auth)},
    }
    register(server, "browser", "webpush", json.dumps(subscription))
    Device(server, "alice").confirmed(dest_id="browser", type=1, payload="grüße")
    path, headers, body, _ = provider.next()
    assert path == "/push/abc"
    assert headers["content-encoding"] == "aes128gcm" and int(headers["ttl"]) > 0
    told = json.loads(http_ece.decrypt(body, private_key=browser, auth_secret=auth, version="aes128gcm"))
    assert (told["payload1"], told["pending"], told["message"]) == ("alice", 1, "grüße")
    # VAPID (RFC 8292): signed with the key that the server shows to browsers.
    scheme, rest = headers["authorization"].split(" ", 1)
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert scheme == "vapid"
    shown = server.ok("GET", "/v1/push-tokens", key=server.key("browser"))["vapid_public_key"]
    assert fields["k"] == shown
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(shown))
    claims = jwt.decode(fields["t"], key, algorithms=["ES256"], audience=provider.url)
    assert claims["sub"] == "mailto:ops@example.org"
    assert time.time() < claims["exp"] <= time.time() + 86_400


# -- FCM HTTP v1 ------------------------------------------------------------------------------------------------------


class Google(StandIn):
    """The token endpoint and messages:send, as Google documents them."""

    def __init__(self):
        super().__init__()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def answer_for(self, path):
        if path == "/token":
            return (
                200,
                {},
                json.dumps({"access_token": "the-access-token", "expires_in": 3600, "token_type": "Bearer"}).encode(),
            )
        return None

    def service_account(self):
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "my-app",
                "private_key_id": "k1",
                "private_key": pem.decode(),
                "client_email": "push@my-app.example",
                "token_uri": self.url + "/token",
            }
        )


def test_fcm(pushing, tmp_path):
    google = Google()
    (tmp_path / "fcm.json").write_text(google.service_account())
    unregistered = {
        "error": {
            "code": 404,
            "status": "NOT_FOUND",
            "details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}],
        }
    }
    try:
        server = pushing(
            f'throttle-seconds = 0\n[push.fcm]\nservice-account-file = "{tmp_path}/fcm.json"\nendpoint = "{google.url}"'
        )
        register(server, "phone", "fcm", "registration-token")
        alice = Device(server, "alice")
        alice.confirmed(dest_id="phone", type=1, payload="SECRET")
        path, _, body, _ = google.next()
        assert path == "/token"
        form = dict(urllib.parse.parse_qsl(body.decode()))
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = jwt.decode(
            form["assertion"], google.key.public_key(), algorithms=["RS256"], audience=google.url + "/token"
        )
        assert claims["iss"] == "push@my-app.example"
        path, headers, body, _ = google.next()
        assert path == "/v1/projects/my-app/messages:send"
        assert headers["authorization"] == "Bearer the-access-token"
        message = json.loads(body)["message"]
        assert message["token"] == "registration-token"
        assert message["data"]["payload1"] == "alice" and message["data"]["notification_type"] == "101"
        assert all(isinstance(value, str) for value in message["data"].values()), "FCM takes text only"
        assert b"SECRET" not in body
        until(lambda: sent(server, "sent", "fcm") == 1)
        google.answers = [(404, {}, json.dumps(unregistered).encode())]
        alice.confirmed(dest_id="phone", type=1)
        assert google.next()[0].endswith("messages:send"), "the access token is used again"
        until(lambda: sent(server, "dead_token", "fcm") == 1)
        until(lambda: server.ok("GET", "/v1/nodes/phone", key=server.app())["push_providers"] == [])
    finally:
        google.close()
