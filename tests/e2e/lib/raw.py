"""A WebSocket by hand, for what no good client does: answer no ping, read nothing, send broken frames."""

import base64
import json
import os
import queue
import socket
import struct
import threading
import time

from .device import LIMIT, Frames, socket_url

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Closed(Exception):
    """The server ended the connection; `code` is 1006 when it sent no close frame."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=True, length=None):
    """One frame as bytes; `length` may lie."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if mask else 0
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    pattern = key * (len(payload) // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pattern[: len(payload)], "big")
    return head + key + masked.to_bytes(len(payload), "big")


def split_address(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def open_socket(host, port, receive_buffer=None):
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.settimeout(LIMIT)
    plain.connect((host, port))
    return plain


class RawDevice(Frames):
    """Pings are answered only while `answers` is true; the unanswered ones are kept in `pings`."""

    def __init__(self, server, node, *, answers=True, receive_buffer=None, url=None, **params):
        self.server, self.node, self.answers = server, node, answers
        self.pings = []
        self.read_on = None
        self.buffer = b""
        self.partial = b""
        url = url or socket_url(server, node, **params)
        host, target = url.removeprefix("ws://").split("/", 1)
        self.socket = open_socket(*split_address(host), receive_buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /{target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(65536)
            assert more, f"the connection ended during the handshake: {head!r}"
            head += more
        head, self.buffer = head.split(b"\r\n\r\n", 1)
        self.status = int(head.split(b" ", 2)[1])
        assert self.status == 101, head.decode()
        server.changed()

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, data):
        self.socket.settimeout(LIMIT)
        self.socket.sendall(data)

    def _send(self, text):
        self.write(frame(TEXT, text.encode()))

    # -- reading ------------------------------------------------------------------------------------------------------

    def _take(self, size, deadline):
        while len(self.buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed(1006)
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def read_frame(self, deadline):
        first, second = self._take(2, deadline)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._take(2, deadline))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._take(8, deadline))[0]
        assert not second & 0x80, "a server never masks"
        return first & 0x0F, bool(first & 0x80), self._take(size, deadline)

    def next(self, within=LIMIT):
        """The next message or ping as (opcode, bytes); answers pings if it does that."""
        deadline = time.monotonic() + within
        while True:
            opcode, fin, payload = self.read_frame(deadline)
            if opcode == PING:
                if self.answers:
                    self.write(frame(PONG, payload))
                else:
                    self.pings.append(payload)
                return opcode, payload
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                raise Closed(code)
            if opcode in (TEXT, BINARY, CONTINUATION):
                self.partial += payload
                if fin:
                    whole, self.partial = self.partial, b""
                    return TEXT if opcode == CONTINUATION else opcode, whole

    def _receive(self, within):
        if self.read_on:
            try:
                return self.read_on.get(timeout=within)
            except queue.Empty:
                raise TimeoutError from None
        deadline = time.monotonic() + within
        while True:
            opcode, payload = self.next(max(0.001, deadline - time.monotonic()))
            if opcode == TEXT:
                return payload.decode()

    def unacknowledged(self, **wanted):
        """Reads the message with these fields and the ping that asks for its acknowledgement, and answers neither."""
        found = self.wait_for(**wanted)
        while not self.pings:
            self.next()
        return found

    def recover(self):
        """Answers the pings that were kept back, and from now on reads and answers like any client."""
        self.answers = True
        self.write(frame(PONG, self.pings[-1]))
        self.read_on = queue.Queue()
        threading.Thread(target=self._read_on, daemon=True).start()

    def _read_on(self):
        try:
            while True:
                opcode, payload = self.next(within=600)
                if opcode == TEXT:
                    self.read_on.put(payload.decode())
        except (Closed, OSError, TimeoutError):
            pass

    def closed(self, code=None, within=LIMIT):
        """Reads until the server ends the connection; gives the JSON frames before it. `code` may be several."""
        frames = []
        deadline = time.monotonic() + within
        while True:
            try:
                opcode, payload = self.next(max(0.01, deadline - time.monotonic()))
                if opcode == TEXT:
                    frames.append(json.loads(payload))
            except Closed as end:
                wanted = (code,) if isinstance(code, int) else code
                assert wanted is None or end.code in wanted, f"closed with {end.code}, not {code}; before it {frames}"
                return frames

    def close(self):
        self.socket.close()

    break_off = close
