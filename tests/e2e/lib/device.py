"""A device, spoken by the `websockets` library: what any foreign client does."""

import contextlib
import json
import socket
import time
import urllib.parse
import uuid

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .server import dumps

CONFIG_REQUEST, CONFIG_RESPONSE = -101, -102
NODE_UNKNOWN, USER_OFFLINE, SESSION_UNAUTHORIZED = -3, -4, -5
ACK, CONFIRMATION, ERROR, GOING_AWAY = -6, -7, -8, -9
JOINED, LEFT, REVEALED, ONLINE, OFFLINE = 100, 103, 104, 105, 106

LIMIT = 15


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def matches(frame, wanted):
    return all(key in frame and frame[key] == value for key, value in wanted.items())


class Frames:
    """Reading and writing JSON frames over `_send` and `_receive`, whatever is beneath."""

    def send(self, text=None, /, **fields):
        """A frame from fields, or a text as it stands."""
        self._send(dumps(fields) if text is None else text)
        return self

    def receive(self, within=LIMIT):
        """The next frame, whatever it is."""
        text = self._receive(within)
        assert isinstance(text, str), f"a binary frame: {text!r}"
        frame = json.loads(text)
        assert isinstance(frame, dict), text
        return frame

    def expect(self, within=LIMIT, **wanted):
        """The next frame, which must have these fields."""
        frame = self.receive(within)
        assert matches(frame, wanted), f"{self.node}: expected {wanted}, got {frame}"
        return frame

    def wait_for(self, within=LIMIT, **wanted):
        """The first frame with these fields; those before it are given up."""
        deadline = time.monotonic() + within
        seen = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                frame = self.receive(left)
            except TimeoutError:
                break
            if matches(frame, wanted):
                return frame
            seen.append(frame)
        raise AssertionError(f"{self.node}: no {wanted} within {within} s, but {seen}")

    def fence(self, within=LIMIT):
        """All frames that were on their way to this edge before now: a config request comes back behind them."""
        self.send(type=CONFIG_REQUEST, payload={})
        before = []
        while (frame := self.receive(within)).get("type") != CONFIG_RESPONSE:
            before.append(frame)
        # From other servers it comes when it comes: then quiet is the sign that all is said.
        with contextlib.suppress(TimeoutError):
            while self.server.quiet:
                before.append(self.receive(self.server.quiet))
        return before

    def nothing(self):
        """Demands that nothing is on its way."""
        before = self.fence()
        assert before == [], f"{self.node}: expected nothing, got {before}"

    def confirmed(self, within=LIMIT, **envelope):
        """Sends with a reference and gives the CONFIRMATION, which is demanded."""
        reference = envelope.setdefault("reference", unique("ref"))
        self.send(**envelope)
        return self.wait_for(within, type=CONFIRMATION, reference=reference)

    def settled(self, **envelope):
        """Sends with a reference; gives what else came until all was said about it, and the CONFIRMATION."""
        reference = envelope.setdefault("reference", unique("ref"))
        self.send(**envelope)
        frames = []
        while not matches(frame := self.receive(), {"type": CONFIRMATION, "reference": reference}):
            frames.append(frame)
        return frames + self.fence(), frame

    def refused(self, code, within=LIMIT, **wanted):
        """The next frame must be this ERROR."""
        frame = self.expect(within, type=ERROR, code=code, **wanted)
        assert frame["message"], "a refusal has words for a person"
        return frame

    def fetch(self, within=LIMIT, **payload):
        """The payload of the answer to an inbox fetch."""
        self.send(type=CONFIG_REQUEST, payload={"fetch_inbox_messages": True} | payload)
        return self.wait_for(within, type=CONFIG_RESPONSE)["payload"]


def socket_url(server, node, *, path=None, offer=None, key=None, **params):
    """Where to connect, with keys; `path` skips the offer's URL, `params` set to `...` are left away."""
    key = key or server.key(node)
    if offer is not None:
        path = offer["ws_url"]
        params = {"validation_key": offer["validation_key"]} | params
    elif path is None:
        path, needed = server.entrance(key)
        params = needed | params
    else:
        path = f"ws://{server.address_for(**params)}{path}"
    params = {"auth_key": key} | params
    query = urllib.parse.urlencode({k: v for k, v in params.items() if v is not ...})
    return f"{path}?{query}" if query else path


class Device(Frames):
    """An open connection. Pings are answered by the library, so whatever comes is acknowledged by itself."""

    def __init__(
        self, server, node, *, client=None, role=None, ttl=3600, headers=None, url=None, origin=None, **params
    ):
        self.server, self.node = server, node
        self.key = server.key(node, client=client, role=role, ttl=ttl)
        url = url or socket_url(server, node, key=self.key, **params)
        self.opened = contextlib.ExitStack()
        opening = connect(
            url,
            additional_headers=headers,
            origin=origin,
            max_size=1 << 24,
            max_queue=None,
            ping_interval=None,
            close_timeout=0.1,
            open_timeout=LIMIT,
            compression=None,
            proxy=None,
        )
        self.socket = self.opened.enter_context(opening)
        server.changed()

    def _send(self, text):
        self.socket.send(text)

    def _receive(self, within):
        return self.socket.recv(timeout=within)

    def closed(self, code=None, within=LIMIT):
        """Reads until the server closes; gives the frames before it. `code` is demanded."""
        frames = []
        deadline = time.monotonic() + within
        while True:
            try:
                frames.append(self.receive(max(0.01, deadline - time.monotonic())))
            except ConnectionClosed as end:
                got = end.rcvd.code if end.rcvd else 1006
                assert code is None or got == code, f"{self.node}: closed with {got}, not {code}; before it {frames}"
                return frames

    def close(self):
        with contextlib.suppress(Exception):
            self.opened.close()
            self.server.changed()

    def break_off(self):
        """Ends the connection without a close frame, as a lost network does."""
        with contextlib.suppress(OSError):
            self.socket.socket.shutdown(socket.SHUT_RDWR)
