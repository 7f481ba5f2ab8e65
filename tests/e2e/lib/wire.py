"""A link's cable: a TCP proxy in this process, which can be cut, healed, delayed, made lossy or slow while it is in use.

What a packet filter would do to packets it does to chunks of the byte stream, so loss shows as what TCP makes of it: a
pause, not a hole.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time

CHUNK = 1 << 16
# Chunks of one direction that may be on their way: beyond that the sender is not read, as with a full window.
UNDERWAY = 64
# What one lost packet costs the stream: the kernel's least retransmission time.
RETRANSMISSION = 0.2


class Loop:
    """An event loop in a thread of its own, to be told things by other threads."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine, limit=30):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


class Wire:
    """From `host`:`port`, where it listens, to `target`. Each method takes effect at once, for open connections too."""

    def __init__(self, loop, host, target, *, seed=0):
        self.loop, self.host, self.target = loop, host, target
        self.chance = random.Random(seed)
        self.delay = self.jitter = self.loss = 0.0
        self.rate = None
        self.passed = 0
        self._port = 0
        self._tasks, self._ends = set(), set()
        self._listener = None
        loop.run(self._open())

    async def _open(self):
        self._passable = asyncio.Event()
        self._passable.set()
        await self._listen()

    async def _listen(self):
        self._listener = await asyncio.start_server(self._connected, self.host, self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    @property
    def address(self):
        return f"{self.host}:{self._port}"

    # -- what can happen to it ----------------------------------------------------------------------------------------

    def cut(self, how="silent"):
        """`silent`: nothing passes any more and nobody is told, as with a pulled cable. `reset`: connections break, and
        new ones are refused."""
        self.loop.run(self._cut(how))

    async def _cut(self, how):
        self._passable.clear()
        if how == "reset":
            self._listener.close()
            await self._break()

    def heal(self):
        """All as at the beginning. What was held in a silent cut arrives now, as it does over a cable put back."""
        self.loop.run(self._heal())

    async def _heal(self):
        self.delay = self.jitter = self.loss = 0.0
        self.rate = None
        if not self._listener.is_serving():
            await self._listen()
        self._passable.set()

    def drop(self):
        """Breaks what is connected; new connections are fine."""
        self.loop.run(self._break())

    async def _break(self):
        for end in list(self._ends):
            # A reset, not a farewell; one whose other side has just gone has no socket any more.
            with contextlib.suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def worsen(self, *, delay=0.0, jitter=0.0, loss=0.0, rate=None):
        """Seconds each way, a share of chunks that are sent a second time, bytes per second each way."""
        self.delay, self.jitter, self.loss, self.rate = delay, jitter, loss, rate

    def close(self):
        self.loop.run(self._cut("reset"))

    # -- passing on ---------------------------------------------------------------------------------------------------

    async def _connected(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._ends.add(writer)
        far = None
        try:
            await self._passable.wait()
            far_reader, far = await asyncio.open_connection(*self.target)
            self._ends.add(far)
            await asyncio.gather(self._pump(reader, far), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, far):
                if end is not None:
                    self._ends.discard(end)
                    end.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader, writer):
        underway = asyncio.Queue(UNDERWAY)
        writing = asyncio.ensure_future(self._write(underway, writer))
        try:
            due = 0.0
            while data := await reader.read(CHUNK):
                late = self.delay + self.chance.uniform(0, self.jitter)
                if self.chance.random() < self.loss:
                    late += RETRANSMISSION
                due = max(due, time.monotonic() + late)
                await underway.put((due, data))
            await underway.put((due, b""))
            await writing
        finally:
            writing.cancel()

    async def _write(self, underway, writer):
        while True:
            due, data = await underway.get()
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            await self._passable.wait()
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            writer.write(data)
            self.passed += len(data)
            await writer.drain()
