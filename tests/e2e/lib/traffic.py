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
from concurrent.futures import ThreadPoolExecutor

import requests
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from .device import CONFIRMATION, ERROR, GOING_AWAY, SESSION_UNAUTHORIZED, unique
from .history import History, check, content
from .server import dumps, stranger
from .wire import Loop

# What a device has sent and not heard about: more waits.
WINDOW = 32


class Talker:
    """One device. `at`: the server where it comes in while that lives; else where the offer says."""

    def __init__(self, traffic, node, at=None):
        self.traffic, self.node, self.at = traffic, node, at
        self.key = traffic.mesh[0].key(node, ttl=6 * 3600)
        self.history, self.chance = traffic.history, random.Random(f"{traffic.seed} {node}")
        self.waiting = collections.OrderedDict()
        self.count, self.edge, self.socket = 0, None, None
        self.server = None
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
                opening = connect(
                    url,
                    proxy=None,
                    compression=None,
                    max_size=1 << 22,
                    max_queue=None,
                    open_timeout=4,
                    ping_interval=2,
                    ping_timeout=4,
                    close_timeout=0.2,
                )
                async with opening as socket:
                    await self.talk(socket, server)
            except (OSError, WebSocketException, TimeoutError, requests.RequestException, asyncio.TimeoutError):
                pass
            if self.wanted:
                await asyncio.sleep(self.pause or self.chance.uniform(0.05, 0.4))
                self.pause = None

    async def where(self):
        mesh, given, self.offer = self.traffic.mesh, self.offer, None
        if given:
            return self.through(given)
        own = self.at and mesh[self.at]
        if own and own.is_alive() and own.name not in self.traffic.avoided:
            query = {"auth_key": self.key, "inbox": "auto"}
            return f"ws://{own.host}:{own.port}/connectV2?{urllib.parse.urlencode(query)}", own.name
        return self.through(await self.traffic.ask(self))

    def through(self, offer):
        query = {"auth_key": self.key, "validation_key": offer["validation_key"], "inbox": "auto"}
        return f"{offer['ws_url']}?{urllib.parse.urlencode(query)}", offer["node_id"]

    async def talk(self, socket, server):
        edge = self.history.edge(self.node, server)
        self.socket, self.edge, self.server = socket, edge, server
        try:
            for id_ in list(self.waiting):
                await self.put(id_)
            async for text in socket:
                await self.hear(edge, json.loads(text))
        finally:
            self.history.ended(edge)
            if self.edge == edge:
                self.socket = self.edge = self.server = None

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
            rooms = self.traffic.rooms
            if rooms and self.chance.random() < self.traffic.share:
                room = self.chance.choice(rooms)
                await self.say({"dest_session_id": room}, [n for n in self.traffic.nodes if n != self.node])
            else:
                other = self.chance.choice([n for n in self.traffic.nodes if n != self.node])
                await self.say({"dest_id": other}, [other])


class Traffic:
    """`places`: for each talker the name of its server, or `None` for wherever the offer says. All are members of all
    `rooms`, which get that share of what is said."""

    def __init__(self, mesh, places, *, rate=10, seed=0, rooms=2, share=0.25):
        self.mesh, self.rate, self.seed = mesh, rate, seed
        self.history = History()
        self.avoided = set()
        self.loop = Loop()
        self.pool = ThreadPoolExecutor(max_workers=8)
        self.chance = random.Random(seed)
        self.talkers = [Talker(self, unique(f"t{i}"), at) for i, at in enumerate(places)]
        self.nodes = [one.node for one in self.talkers]
        self.rooms, self.share = [unique("room") for _ in range(rooms)], share
        self._tasks, self._chats = [], []

    def __enter__(self):
        first = self.mesh.live()[0]
        for room in self.rooms:
            body = {"session_id": room, "members": [[node] for node in self.nodes]}
            first.ok("POST", "/v1/sessions", 201, key=first.app(), json=body)
        for one in self.talkers:
            self._tasks.append(asyncio.run_coroutine_threadsafe(one.live(), self.loop.loop))
        self.connected()
        return self

    def connected(self, within=30):
        self.wait(lambda: all(one.socket for one in self.talkers if one.wanted), "all are connected", within)

    def __exit__(self, *_):
        self.hush()
        for one in self.talkers:
            with contextlib.suppress(Exception):
                self.loop.run(one.leave(), 5)
        for task in self._tasks:
            task.cancel()
        self.loop.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, talker):
        """An offer from whatever server answers."""
        server = self.chance.choice(self.mesh.servers)

        def get():
            headers = stranger() | {"Authorization": f"Bearer {talker.key}"}
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(f"{server.url}/v1/connect-info", headers=headers, timeout=3)
                answer.raise_for_status()
                return answer.json()

        return await asyncio.get_running_loop().run_in_executor(self.pool, get)

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
        with self.history.lock:
            return sum(one.confirmed for one in self.history.envelopes.values())

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
