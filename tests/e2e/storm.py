"""A server dies with thousands of devices: how long until all are back, and what it asked of the others. What scripts/storm runs.

The devices are in processes of their own, for a process may open only so many files, and they wait, ask and come as the
protocol says; with --ignore-offers they all come at once and ask nobody.
"""

import argparse
import collections
import dataclasses
import multiprocessing
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lib.crowd import Crowd, Tally, room_for  # noqa: E402
from lib.mesh import Mesh  # noqa: E402
from lib.server import Server  # noqa: E402

LIMIT = 300


@dataclasses.dataclass
class Place:
    """What a device knows of a server; keys are minted as by the app's back end."""

    host: str
    port: int
    secret: str

    key = Server.key


def crowd(pipe, first, survivors, count, prefix, ignore):
    """One process of devices."""
    room_for(count)
    all_ = Crowd(first, count, params={"region": "here"}, prefix=prefix, seed=prefix)
    all_.come(LIMIT)
    pipe.send("there")
    pipe.recv()
    all_.again()
    all_.params, all_.servers = {}, survivors
    if ignore:
        all_.direct = survivors
    pipe.send("ready")
    pipe.recv()
    all_.all_gone()
    all_.all_there(LIMIT)
    pipe.send(all_.again())
    pipe.recv()
    all_.close()


class Queues(threading.Thread):
    """The longest that the kernel's queues of connections not yet taken were."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers, self.highest, self.ends = servers, collections.Counter(), threading.Event()

    def run(self):
        while not self.ends.wait(0.02):
            seen = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=False).stdout
            for server in self.servers:
                if found := re.search(rf"LISTEN\s+(\d+)\s+\d+\s+{re.escape(server.host)}:{server.port}\s", seen):
                    self.highest[server.name] = max(self.highest[server.name], int(found.group(1)))


def main():
    parser = argparse.ArgumentParser(prog="scripts/storm")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500, help="--admission-rate of each survivor")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--ignore-offers", action="store_true")
    given = parser.parse_args()
    if not room_for(given.devices):
        sys.exit("a server of this machine may not open so many files: ulimit -n")
    directory = tempfile.TemporaryDirectory(prefix="sparkmesh-storm-")
    names = [f"s{number + 1}" for number in range(given.servers)]
    options = {name: {"env": {"SPARKMESH_ADMISSION_RATE": given.rate}} for name in names}
    options["s1"] = {"env": {"SPARKMESH_REGION": "here", "SPARKMESH_ADMISSION_RATE": 100_000}}
    mesh = Mesh(directory.name, given.servers, "--allow-direct", options=options)
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        mesh.start()
        places = [Place(server.host, server.port, server.secret) for server in mesh.servers]
        each = given.devices // given.processes
        for number in range(given.processes):
            ours, theirs = context.Pipe()
            args = (theirs, places, places[1:], each, f"storm{number}", given.ignore_offers)
            process = context.Process(target=crowd, args=args, daemon=True)
            process.start()
            workers.append((process, ours))
        for _, pipe in workers:
            assert pipe.recv() == "there"
        survivors = mesh.servers[1:]
        mesh.settled()
        print(
            f"{each * given.processes} devices at s1, {len(survivors)} other servers that take {given.rate} a second each"
        )
        for _, pipe in workers:
            pipe.send("go")
        for _, pipe in workers:
            assert pipe.recv() == "ready"
        queues = Queues(survivors)
        queues.start()
        for _, pipe in workers:
            pipe.send("wait")
        begin = time.monotonic()
        mesh["s1"].kill()
        tally = Tally()
        for _, pipe in workers:
            tally.add(pipe.recv())
        queues.ends.set()
        refused = {f"{where} {status}": count for (where, status), count in sorted(tally.refused.items())}
        opened = sorted(at - begin for at in tally.opened)
        took = [opened[int((len(opened) - 1) * share)] for share in (0.5, 0.9, 1.0)]
        print(f"back: half after {took[0]:.1f} s, nine of ten after {took[1]:.1f} s, all after {took[2]:.1f} s")
        print(f"most in one second: {tally.busiest()} at all together")
        print(f"refused: {refused or 0}; refused who came later than told by their own fault: {tally.late}")
        if tally.told:
            print(f"told to wait: {max(tally.told):.1f} s at most; asked a server that was gone: {tally.gone}")
        if tally.retries:
            print(f"told to come back: after {min(tally.retries)} to {max(tally.retries)} s")
        for server in survivors:
            counted = server.metric("sparkmesh_admissions_refused_total")
            print(
                f"{server.name}: {server.metric('sparkmesh_connections'):.0f} devices, {counted:.0f} handshakes refused, at most "
                f"{queues.highest[server.name]} connections not yet taken, resident {server.resident_bytes() / 1e6:.0f} MB"
            )
        for _, pipe in workers:
            pipe.send("end")
    finally:
        for process, _ in workers:
            process.join(5)
            if process.is_alive():
                process.kill()
        mesh.close()
        directory.cleanup()


if __name__ == "__main__":
    main()
