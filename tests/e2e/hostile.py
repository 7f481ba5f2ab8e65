"""What bad company costs the others, measured on a real server of this machine: what scripts/bench-hostile runs.

The healthy ones are a thousand devices of `sparkmesh bench pairs`, each with one message under way. Windows with and without the
bad company take turns, so that what the machine does meanwhile meets both; what is told is the ratio of their medians.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lib.crowd import Crowd, room_for  # noqa: E402
from lib.device import Device, unique  # noqa: E402
from lib.raw import TEXT, frame, open_socket, split_address  # noqa: E402
from lib.server import Server, binary, clean_environment, dumps  # noqa: E402

HEALTHY = 1000
DEAF = 1000
ROOMS = 20


def healthy(server, messages):
    """Microseconds that healthy devices wait, from one window."""
    command = [binary(), "bench", "--json", "pairs", "--connections", HEALTHY, "--window", 1, "--messages", messages]
    command += ["--size", 200, "--url", server.url, "--secret-file", server.secret_file]
    ended = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=clean_environment(), timeout=300, check=False
    )
    if ended.returncode != 0:
        sys.exit(f"{command} failed:\n{ended.stdout}{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


@contextlib.contextmanager
def deaf(server):
    """A thousand who never read, their queues full, and each is sent one more message a second, which goes to its inbox."""
    crowd = Crowd([server], DEAF, prefix=unique("deaf"))
    crowd.come()
    crowd.pause_reading()
    rooms = [unique("room") for _ in range(ROOMS)]
    for at, room in enumerate(rooms):
        members = [[node] for node in crowd.nodes[at::ROOMS]]
        server.ok("POST", "/v1/sessions", 201, key=server.app(), json={"session_id": room, "members": members})
    for number in range(12 * ROOMS):
        body = {"dest_session_id": rooms[number % ROOMS], "type": 0, "payload": "x" * 100_000}
        server.send_as_app(body, wait_ms=0)
    ends = threading.Event()

    def feed():
        feeder = Device(server, unique("feeder"), role="app")
        number = 0
        while not ends.wait(1 / ROOMS):
            feeder.send(dest_session_id=rooms[number % ROOMS], type=1, payload="x" * 200)
            number += 1
        feeder.close()

    thread = threading.Thread(target=feed)
    thread.start()
    yield
    print(
        f"    queues of all: {server.metric('sparkmesh_queue_bytes') / 1e6:.0f} MB, resident {server.resident_bytes() / 1e6:.0f} MB"
    )
    ends.set()
    thread.join()
    crowd.close()


def flooding(host, port, key, dest, ends):
    """As fast as it goes; comes back at once when it is thrown out."""
    text = frame(TEXT, dumps({"dest_id": dest, "type": 0, "payload": "x" * 50}).encode()) * 200
    while not ends.is_set():
        with contextlib.suppress(OSError, AssertionError):
            plain = open_socket(host, port)
            plain.sendall(
                f"GET /connectV2?auth_key={key} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            while not ends.is_set():
                plain.sendall(text)
        plain.close()


@contextlib.contextmanager
def flood(server):
    """One device sends without end; what is more than its rate ends its connection, and it comes back."""
    host, port = split_address(server.url.removeprefix("http://"))
    context = multiprocessing.get_context("spawn")
    ends = context.Event()
    other = Device(server, unique("target"))
    args = (host, port, server.key(unique("flood")), other.node, ends)
    process = context.Process(target=flooding, args=args)
    process.start()
    begin = server.metric("sparkmesh_received_total", feature="fast")
    time.sleep(2)
    yield
    taken = server.metric("sparkmesh_received_total", feature="fast") - begin
    thrown = server.metric("sparkmesh_refused_total", reason="rate_limited")
    print(f"    {taken:,.0f} of its frames were taken, it was thrown out {thrown:.0f} times so far")
    ends.set()
    process.join(10)
    other.close()


COMPANY = {"deaf": deaf, "flood": flood}


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-hostile")
    parser.add_argument("company", nargs="*", default=list(COMPANY), help=" or ".join(COMPANY))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=150_000)
    given = parser.parse_args()
    if not room_for(HEALTHY + DEAF):
        sys.exit("this process may not open so many files: ulimit -n")
    for name in given.company:
        with tempfile.TemporaryDirectory() as directory:
            server = Server(directory, "--allow-direct", "--admission-rate", 100_000).start()
            alone, beside = [], []
            try:
                for run in range(given.runs):
                    alone.append(healthy(server, given.messages))
                    with COMPANY[name](server):
                        beside.append(healthy(server, given.messages))
                    told = [one["latency_us"]["p99"] for one in (alone[-1], beside[-1])]
                    print(f"  {name} {run + 1}: p99 {told[0]:.0f} us alone, {told[1]:.0f} us beside it", flush=True)
            finally:
                server.close()
            for what in ("p50", "p99"):
                halves = [statistics.median(one["latency_us"][what] for one in seen) for seen in (alone, beside)]
                print(
                    f"{name}: {what} {halves[0]:.0f} us alone, {halves[1]:.0f} us beside it: x {halves[1] / halves[0]:.2f}"
                )
            rates = [statistics.median(one["per_second"] for one in seen) for seen in (alone, beside)]
            print(f"{name}: {rates[0]:,.0f} messages/s alone, {rates[1]:,.0f} beside it: x {rates[1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()
