"""Thousands of devices in one thread: what each costs is a socket and a few objects, and what they do is connect, stay, and come
back. Those that follow the protocol ask where to connect and wait as the answer says; the others do what they like.
"""

import asyncio
import base64
import collections
import dataclasses
import json
import os
import random
import resource
import struct
import time
import urllib.parse

from .raw import CLOSE, PING, PONG, TEXT, frame
from .wire import Loop

HANDSHAKE_LIMIT = 60
# Questions under way at a time: beyond that this process is too busy to hear the answers when they come, and its devices would set
# out late, as no real ones do.
ASK_AT_ONCE = 32


def room_for(sockets):
    """Whether this process, and what it starts, may have so many; it takes all that it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard >= sockets + 500


class Refused(Exception):
    def __init__(self, status, after):
        super().__init__(status)
        self.status, self.after = status, after


@dataclasses.dataclass
class Tally:
    """`refused`: by where and status, who came when told; `late`: who came later than told by its own fault, and was refused."""

    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    late: int = 0
    # The waits that refusals and offers said, in seconds.
    retries: list = dataclasses.field(default_factory=list)
    told: list = dataclasses.field(default_factory=list)
    # Servers that were offered or asked, and were gone.
    gone: int = 0
    opened: list = dataclasses.field(default_factory=list)

    def busiest(self):
        """Most that came within one second."""
        most, first = 0, 0
        opened = sorted(self.opened)
        for last, at in enumerate(opened):
            while opened[first] < at - 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    def add(self, other):
        self.refused += other.refused
        self.late, self.gone = self.late + other.late, self.gone + other.gone
        for name in ("retries", "told", "opened"):
            getattr(self, name).extend(getattr(other, name))


class Socket(asyncio.Protocol):
    """A WebSocket by hand, as far as a device needs one that waits."""

    def __init__(self, host, target, on_text=None):
        self.host, self.target, self.on_text = host, target, on_text
        self.buffer = bytearray()
        loop = asyncio.get_running_loop()
        self.opened, self.lost = loop.create_future(), loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self.target} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data):
        self.buffer += data
        if not self.opened.done():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            status, after = answer_of(bytes(self.buffer[:end]))
            del self.buffer[: end + 4]
            if status != 101:
                self.opened.set_exception(Refused(status, after))
                self.transport.abort()
                return
            self.opened.set_result(True)
        while self._frame():
            pass

    def _frame(self):
        if len(self.buffer) < 2:
            return False
        size, at = self.buffer[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(self.buffer) < 2 + wide:
                return False
            size, at = int.from_bytes(self.buffer[2 : 2 + wide], "big"), 2 + wide
        if len(self.buffer) < at + size:
            return False
        kind, payload = self.buffer[0] & 0x0F, bytes(self.buffer[at : at + size])
        del self.buffer[: at + size]
        if kind == PING:
            self.transport.write(frame(PONG, payload))
        elif kind == CLOSE:
            self.transport.write(frame(CLOSE, struct.pack("!H", 1000)))
            self.transport.close()
        elif kind == TEXT and self.on_text:
            self.on_text(payload)
        return True

    def send(self, text):
        self.transport.write(frame(TEXT, text.encode()))

    def connection_lost(self, _):
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before it was open"))
        # Nobody may be waiting any more.
        self.opened.exception()
        if not self.lost.done():
            self.lost.set_result(True)


def answer_of(head):
    """Status and Retry-After of an HTTP head."""
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    after = headers.get("retry-after")
    return int(lines[0].split(" ", 2)[1]), int(after) if after else None


class Crowd:
    """`servers` are asked at random; `params`: more of the question. `direct`: nobody is asked, and nobody waits: it
    is one of these."""

    def __init__(self, servers, count, *, params=None, direct=None, prefix="crowd", seed=0):
        self.servers, self.params, self.direct = list(servers), params or {}, direct
        self.nodes = [f"{prefix}-{number}" for number in range(count)]
        self.tally = Tally()
        self.chance = random.Random(seed)
        self.open, self.lost = {}, 0
        self.wanted = True
        self.loop = Loop()
        self.asking = None
        self._tasks = []

    # -- told by other threads ----------------------------------------------------------------------------------------

    def come(self, within=60):
        """All at once, until all are there."""
        return self.set_out().all_there(within)

    def set_out(self):
        keys = [self.servers[0].key(node, ttl=3600) for node in self.nodes]

        async def start():
            self.asking = asyncio.Semaphore(ASK_AT_ONCE)
            self._tasks = [asyncio.ensure_future(self.live(*one)) for one in zip(self.nodes, keys, strict=True)]

        self.loop.run(start())
        return self

    def all_there(self, within=60):
        deadline = time.monotonic() + within
        while len(self.open) < len(self.nodes):
            assert time.monotonic() < deadline, (
                f"{len(self.open)} of {len(self.nodes)} after {within} s: {self.tally.refused}"
            )
            time.sleep(0.02)
        return self

    def all_gone(self, within=60):
        """Until everybody has lost a connection since the last tally began."""
        deadline = time.monotonic() + within
        while self.lost < len(self.nodes):
            assert time.monotonic() < deadline, f"{self.lost} of {len(self.nodes)} have lost their connections"
            time.sleep(0.02)

    def pause_reading(self):
        """Nobody reads any more, or answers."""

        async def pause():
            for socket in self.open.values():
                socket.transport.pause_reading()

        self.loop.run(pause())

    def again(self):
        """A new tally, from here on."""
        old, self.tally, self.lost = self.tally, Tally(), 0
        return old

    def close(self):
        self.wanted = False

        async def end():
            for task in self._tasks:
                task.cancel()
            for socket in list(self.open.values()):
                socket.transport.abort()
            await asyncio.sleep(0)

        self.loop.run(end())
        self.loop.close()

    # -- each device --------------------------------------------------------------------------------------------------

    async def live(self, node, key):
        while self.wanted:
            due = time.monotonic()
            try:
                host, port, target, due = await self.where(key)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                _, socket = await asyncio.wait_for(
                    asyncio.get_running_loop().create_connection(
                        lambda h=f"{host}:{port}", t=target: Socket(h, t), host, port
                    ),
                    HANDSHAKE_LIMIT,
                )
                await asyncio.wait_for(socket.opened, HANDSHAKE_LIMIT)
            except Refused as refusal:
                await self.refused("socket", refusal, late=time.monotonic() - due > 0.4)
                continue
            except (OSError, asyncio.TimeoutError):
                self.tally.gone += 1
                await asyncio.sleep(self.chance.uniform(0.02, 0.2))
                continue
            self.tally.opened.append(time.monotonic())
            self.open[node] = socket
            await socket.lost
            self.open.pop(node, None)
            self.lost += 1

    async def refused(self, where, refusal, *, late=False):
        # 408: it was connected, and did not get round to asking for ten seconds.
        if (late and not self.direct) or refusal.status == 408:
            self.tally.late += 1
        else:
            self.tally.refused[where, refusal.status] += 1
        if refusal.after is not None:
            self.tally.retries.append(refusal.after)
        await asyncio.sleep((refusal.after or 1) + self.chance.uniform(0, 0.2))

    async def where(self, key):
        """Host, port, target, and when."""
        query = {"auth_key": key}
        if self.direct:
            server = self.chance.choice(self.direct)
            return server.host, server.port, f"/connectV2?{urllib.parse.urlencode(query)}", time.monotonic()
        while True:
            server = self.chance.choice(self.servers)
            try:
                async with self.asking:
                    offer = await asyncio.wait_for(self.ask(server, key), HANDSHAKE_LIMIT)
                break
            except Refused as refusal:
                await self.refused("offer", refusal)
            except (OSError, asyncio.TimeoutError):
                self.tally.gone += 1
                await asyncio.sleep(self.chance.uniform(0.02, 0.2))
        wait = offer["start_after_ms"] / 1000
        self.tally.told.append(wait)
        query["validation_key"] = offer["validation_key"]
        path = urllib.parse.urlsplit(offer["ws_url"]).path
        return offer["addr"], offer["port"], f"{path}?{urllib.parse.urlencode(query)}", time.monotonic() + wait

    async def ask(self, server, key):
        query = urllib.parse.urlencode(self.params)
        loop = asyncio.get_running_loop()
        _, question = await loop.create_connection(
            lambda: Question(f"/v1/connect-info?{query}", server.host, key), server.host, server.port
        )
        head, _, body = (await question.answer).partition(b"\r\n\r\n")
        if not head:
            raise ConnectionError("no answer")
        status, after = answer_of(head)
        if status != 200:
            raise Refused(status, after)
        return json.loads(body)


class Question(asyncio.Protocol):
    """One HTTP request; `answer` is all that came."""

    def __init__(self, path, host, key):
        self.text = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        self.came, self.answer = bytearray(), asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.write(self.text.encode())

    def data_received(self, data):
        self.came += data

    def connection_lost(self, _):
        if not self.answer.done():
            self.answer.set_result(bytes(self.came))
