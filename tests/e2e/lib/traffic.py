"""Devices that talk to each other while things break, as well-behaved clients: they ask any server where to connect, come
back when an edge breaks, and send again what nothing was said about. All they do and see goes into a history.
"""

import asyncio
import collections
import contextlib
import json
import random
import time
import urllib.parse

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.protocol import State

from .device import ACK, CONFIRMATION, ERROR, GOING_AWAY, SESSION_UNAUTHORIZED, unique
from .history import History, check, content
from .kinds import PLAIN
from .server import dumps, stranger
from .wire import Loop

# What a device has sent and not heard about: more waits.
WINDOW = 32
# How long it waits for a connection before it tries another server.
PATIENCE = 4


async def get_json(server, path, key):
    """What a server answers, or an `OSError`: a request of its own connection, without a thread."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        lines = [f"GET {path} HTTP/1.1", f"Host: {server.host}", f"Authorization: Bearer {key}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in stranger().items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    status = head.split(b" ", 2)
    if len(status) < 2 or status[1] != b"200":
        raise ConnectionError(f"{path}: {head[:40]!r}")
    return json.loads(body)


class Talker:
    """One device. `at`: the server where it comes in while that lives; else where the offer says. A kind that roams leaves
    that place with its first connection."""

    def __init__(self, traffic, node, at=None, kind=PLAIN):
        self.traffic, self.node, self.at, self.kind = traffic, node, at, kind
        self.key = traffic.mesh[0].key(node, ttl=6 * 3600)
        self.history, self.chance = traffic.history, random.Random(f"{traffic.seed} {node}")
        self.waiting = collections.OrderedDict()
        self.count, self.edge, self.socket = 0, None, None
        self.server = self.last = None
        self.rests_until = 0.0
        self.wanted = True
        self.offer = self.pause = None
        # What is noted as sent first is sent first.
        self.order = asyncio.Lock()

    # -- its connection -----------------------------------------------------------------------------------------------

    async def live(self):
        """Connected, again and again, until it is not wanted any more."""
        while self.wanted:
            try:
                url, server = await self.where()
                is_slow = self.kind.takes is not None
                opening = connect(
                    url,
                    proxy=None,
                    compression=None,
                    max_size=1 << 22,
                    # Who is slow has what it has not read yet in the socket, where it counts as not received.
                    max_queue=2 if is_slow else None,
                    open_timeout=60,
                    ping_interval=None if is_slow else 2,
                    ping_timeout=4,
                    close_timeout=0.2,
                )
                if socket := await self.opened(opening, server):
                    try:
                        await self.talk(socket, server)
                    finally:
                        await socket.close()
            except (OSError, WebSocketException, TimeoutError, asyncio.TimeoutError, ValueError):
                pass
            except Exception as error:  # noqa: BLE001 (a device that ends of a fault of ours looks like mail that is lost)
                self.history.note(f"{self.node} stumbled: {error!r}")
            if self.wanted:
                away = PLAIN.away if self.traffic.calm else self.kind.away
                await asyncio.sleep(self.pause or self.chance.uniform(*away))
                self.pause = None

    async def opened(self, opening, server):
        """The socket, or `None` if that takes too long: then it is closed when it is there after all."""
        task = asyncio.ensure_future(opening)
        if (await asyncio.wait({task}, timeout=PATIENCE))[0]:
            return task.result()
        self.traffic.aside(self.too_late(task, server))
        return None

    async def too_late(self, task, server):
        """What came with it was acknowledged by the stack, and so has been received."""
        with contextlib.suppress(OSError, WebSocketException, TimeoutError, asyncio.TimeoutError, ValueError):
            socket = await task
            edge = self.history.edge(self.node, server)
            closing = asyncio.ensure_future(socket.close())
            try:
                async for text in socket:
                    frame = json.loads(text)
                    if frame.get("type") == 1 and "src_id" in frame and not self.kind.forgets:
                        self.history.got(edge, self.node, frame)
            finally:
                self.history.ended(edge)
                await closing

    async def where(self):
        mesh, given, self.offer = self.traffic.mesh, self.offer, None
        if given:
            return await self.through(given)
        own = self.at and mesh[self.at]
        if self.kind.roams:
            others = [one for one in mesh.live() if one.name not in self.traffic.avoided | {self.last}]
            own = self.chance.choice(others) if others else None
        if own and own.is_alive() and own.name not in self.traffic.avoided:
            return f"ws://{own.host}:{own.port}/connectV2?{self.query()}", own.name
        return await self.through(await self.traffic.ask(self))

    async def through(self, offer):
        await asyncio.sleep(offer["start_after_ms"] / 1000)
        return f"{offer['ws_url']}?{self.query(validation_key=offer['validation_key'])}", offer["node_id"]

    def query(self, **more):
        return urllib.parse.urlencode({"auth_key": self.key, "inbox": "auto"} | self.kind.query | more)

    async def talk(self, socket, server):
        edge = self.history.edge(self.node, server, is_slow=self.kind.takes is not None)
        self.socket, self.edge, self.server = socket, edge, server
        self.last = server
        staying = asyncio.ensure_future(self.stay(socket))
        try:
            for id_ in list(self.waiting):
                await self.put(id_)
            async for text in socket:
                await self.take_time()
                if self.kind.forgets and socket.state is not State.OPEN:
                    break
                await self.hear(edge, json.loads(text))
        finally:
            staying.cancel()
            self.history.ended(edge)
            if self.edge == edge:
                self.socket = self.edge = self.server = None

    async def stay(self, socket):
        """Breaks the connection when the kind does that: with a farewell, or without one."""
        while self.kind.stays:
            await asyncio.sleep(self.chance.uniform(*self.kind.stays))
            if self.traffic.calm:
                continue
            if self.chance.random() < 0.5:
                socket.transport.abort()
            else:
                await socket.close()
            return

    async def take_time(self):
        if self.kind.takes is None or self.traffic.calm:
            return
        stalls = self.chance.random() < self.kind.stall_share and time.monotonic() > self.rests_until
        await asyncio.sleep(self.chance.uniform(*(self.kind.stalls if stalls else self.kind.takes)))
        if stalls:
            self.rests_until = time.monotonic() + self.kind.rests

    async def hear(self, edge, frame):
        kind = frame.get("type")
        if kind == CONFIRMATION:
            self.word(frame["id"], frame["status"])
        elif kind == ERROR and "id" in frame:
            self.word(frame["id"], frame["code"])
        elif kind == GOING_AWAY:
            self.offer = frame.get("offer")
            self.pause = frame["reconnect_after_ms"] / 1000
            await self.socket.close()
        elif kind == SESSION_UNAUTHORIZED:
            self.word(frame["id"], "unauthorized")
        elif kind == 1 and "src_id" in frame:
            self.history.got(edge, self.node, frame)
            if self.kind.forgets:
                # By its id: by its number it would speak for lower ones that have not come yet.
                with contextlib.suppress(WebSocketException, OSError):
                    await self.socket.send(dumps({"type": ACK, "src_id": frame["src_id"], "id": frame["id"]}))

    def word(self, id_, status):
        self.history.told(self.node, id_, status)
        if status in ("unavailable", "rate_limited"):
            asyncio.get_running_loop().call_later(0.5, lambda: asyncio.ensure_future(self.put(id_)))
        else:
            self.waiting.pop(id_, None)

    async def leave(self):
        """Goes away for good."""
        self.wanted = False
        if self.socket:
            await self.socket.close()

    # -- what it says -------------------------------------------------------------------------------------------------

    async def put(self, id_):
        """Sends what waits, the first time or again."""
        async with self.order:
            if self.socket is None or id_ not in self.waiting:
                return
            addressing, to = self.waiting[id_]
            envelope = {"type": 1, "id": id_, "reference": id_, "payload": content(self.node, id_)}
            self.history.sent(self.edge, self.node, id_, to, addressing.get("dest_session_id"))
            with contextlib.suppress(WebSocketException, OSError):
                await self.socket.send(dumps(addressing | envelope))

    async def say(self, addressing, to):
        self.count += 1
        id_ = f"{self.node}-{self.count}"
        self.waiting[id_] = addressing, to
        await self.put(id_)

    async def chat(self, rate):
        """Writes to others, one at a time or to the session, `rate` times a second while it is connected."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) / rate)
            if self.socket is None or len(self.waiting) >= WINDOW:
                continue
            rooms = self.traffic.rooms_of(self.node)
            if rooms and self.chance.random() < self.traffic.share:
                room = self.chance.choice(rooms)
                await self.say({"dest_session_id": room}, self.traffic.others_in(room, self.node))
            else:
                other = self.chance.choice(self.traffic.nodes)
                if other != self.node:
                    await self.say({"dest_id": other}, (other,))


class Traffic:
    """`places`: for each talker the name of its server, or `None` for wherever the offer says; `kinds`: what each is, all
    plain if there are none. Each of the `rooms` has that many members, or all, and these get that share of what is said."""

    def __init__(self, mesh, places, *, rate=10, seed=0, rooms=2, members=None, share=0.25, kinds=None):
        self.mesh, self.rate, self.seed = mesh, rate, seed
        self.history = History()
        self.avoided = set()
        # No kind does what makes it one any more: what was sent is to arrive.
        self.calm = False
        self.loop = Loop()
        self.chance = random.Random(seed)
        kinds = kinds or [PLAIN] * len(places)
        self.talkers = [
            Talker(self, unique(f"t{i}"), at, kind) for i, (at, kind) in enumerate(zip(places, kinds, strict=True))
        ]
        self.nodes = [one.node for one in self.talkers]
        self.share = share
        self.rooms = {
            unique("room"): self.chance.sample(self.nodes, min(members or len(self.nodes), len(self.nodes)))
            for _ in range(rooms)
        }
        self._others = {
            (room, node): tuple(one for one in nodes if one != node)
            for room, nodes in self.rooms.items()
            for node in nodes
        }
        self._rooms_of = {node: [room for room, nodes in self.rooms.items() if node in nodes] for node in self.nodes}
        self._tasks, self._chats, self._aside = [], [], set()

    def aside(self, coroutine):
        """Runs it beside all else; for the loop's own thread."""
        task = asyncio.ensure_future(coroutine)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def rooms_of(self, node):
        return self._rooms_of[node]

    def others_in(self, room, node):
        return self._others[room, node]

    def __enter__(self):
        first = self.mesh.live()[0]
        for room, nodes in self.rooms.items():
            body = {"session_id": room, "members": [[node] for node in nodes]}
            first.ok("POST", "/v1/sessions", 201, key=first.app(), json=body)
        for one in self.talkers:
            self._tasks.append(asyncio.run_coroutine_threadsafe(one.live(), self.loop.loop))
        self.connected()
        return self

    def connected(self, within=30):
        self.wait(lambda: all(one.socket for one in self.talkers if one.wanted), "all are connected", within)

    def __exit__(self, *_):
        self.hush()
        with contextlib.suppress(Exception):
            self.leave()
        for task in self._tasks:
            task.cancel()
        self.loop.close()

    def leave(self, within=20):
        """All go away for good."""

        async def all_():
            await asyncio.gather(*(one.leave() for one in self.talkers), return_exceptions=True)

        self.loop.run(all_(), within)

    async def ask(self, talker):
        """An offer from whatever server answers."""
        return await asyncio.wait_for(
            get_json(self.chance.choice(self.mesh.servers), "/v1/connect-info", talker.key), timeout=3
        )

    # -- what a test does with it -------------------------------------------------------------------------------------

    def chatter(self):
        """All begin to write."""
        self._chats = [
            asyncio.run_coroutine_threadsafe(one.chat(self.rate), self.loop.loop) for one in self.talkers if one.wanted
        ]

    def hush(self):
        for chat in self._chats:
            chat.cancel()
        self._chats = []

    def broken(self):
        """How many edges have ended so far."""
        with self.history.lock:
            return sum(edge.closed != float("inf") for edge in self.history.edges)

    def confirmed(self):
        return self.history.confirmed

    def goes_on(self, more=50, within=25):
        """Waits until that many more have been confirmed."""
        begin = self.confirmed()
        self.wait(lambda: self.confirmed() >= begin + more, f"{more} more are confirmed", within)

    def wait(self, check_, what, within=30):
        deadline = time.monotonic() + within
        while not check_():
            assert time.monotonic() < deadline, f"not within {within} s: {what}\n{self.state()}"
            time.sleep(0.05)

    def state(self):
        lines = [f"{one.node} at {one.server}, {len(one.waiting)} wait" for one in self.talkers]
        return "\n".join(lines + [f"{at:.1f} {text}" for at, text in self.history.notes])

    def finish(self, within=45, bound=25.0):
        """Nobody writes any more; all that was sent is told, and all that was confirmed arrives. Gives the verdict."""
        self.hush()
        self.calm = True
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if not any(one.waiting for one in self.talkers) and not self.history.unreceived():
                break
            time.sleep(0.1)
        # Duplicates that are still under way are part of it.
        time.sleep(0.5)
        verdict = check(self.history, bound)
        verdict.untold += [f"{id_} of {one.node} at the end" for one in self.talkers for id_ in one.waiting]
        return verdict
