"""What a mesh costs, measured on real servers of this machine: what scripts/bench-mesh runs.

Each figure is the median of several runs. The machine is shared with the load, so compare runs, not digits.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lib.device import Device, unique  # noqa: E402
from lib.mesh import Mesh  # noqa: E402
from lib.server import binary, clean_environment, until  # noqa: E402

DIRECT = {"path": "/connectV2"}


def bench(*args, one_core=False):
    pinned = ["taskset", "-c", "0"] if one_core else []
    command = [*pinned, binary(), "bench", "--json", *map(str, args)]
    ended = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=300, check=False)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def hops(runs, messages):
    """Servers in a line, two devices at its ends, one message under way at a time: what each further server adds."""
    lengths = (1, 2, 3, 4)
    seen = {length: [] for length in lengths}
    for _ in range(runs):
        for length in lengths:
            what = ("pairs", "--connections", 2, "--window", 1, "--begins", "one", "--messages", messages, "--size", 100)
            seen[length].append(bench("--mesh", length, *what, one_core=True)["latency_us"])
    halves = {length: [one["p50"] for one in seen[length]] for length in lengths}
    for length in lengths:
        tail = statistics.median(one["p99"] for one in seen[length])
        print(f"{length} servers: p50 {statistics.median(halves[length]):.1f} us, p99 {tail:.0f} us")
    first, last = lengths[1], lengths[-1]
    added = [(b - a) / (last - first) for a, b in zip(halves[first], halves[last], strict=True)]
    print(f"each further link after the first adds to p50: {statistics.median(added):.1f} us ({min(added):.1f}-{max(added):.1f})")
    linked = [b - a for a, b in zip(halves[1], halves[2], strict=True)]
    print(f"the first link adds to p50: {statistics.median(linked):.1f} us ({min(linked):.1f}-{max(linked):.1f})")


def relay(runs, messages):
    what = ("pairs", "--connections", 100, "--window", 16, "--messages", messages)
    for length in (1, 2, 3):
        rates = [bench("--mesh", length, *what)["per_second"] for _ in range(runs)]
        print(f"{length} servers in a line: {statistics.median(rates):,.0f} messages/s ({min(rates):,.0f}-{max(rates):,.0f})")


def reroute(directory, runs):
    """A ring of four, a message each millisecond to the server opposite; the one on the way is killed, or stands still."""
    for how in ("killed", "stopped"):
        gaps = []
        for run in range(runs):
            mesh = Mesh(directory / f"{how}{run}", 4, "--allow-direct", shape=[(0, 1), (1, 2), (2, 3), (3, 0)])
            try:
                mesh.start()
                alice, bob = Device(mesh["s1"], unique("alice"), **DIRECT), Device(mesh["s3"], unique("bob"), **DIRECT)
                mesh.settled()
                way = mesh["s1"].ok("GET", "/v1/mesh?path=s1,s3", key=mesh["s1"].admin())["path"]
                between = way["servers"][1]
                between = between if isinstance(between, str) else between["node_id"]
                gaps.append(gap(mesh[between], how, alice, bob))
            finally:
                mesh.close()
        shown = ", ".join(f"{one * 1000:.0f}" for one in gaps)
        print(f"the server on the way is {how}: the longest silence was {statistics.median(gaps) * 1000:.0f} ms (of {shown})")


def gap(server, how, alice, bob):
    came, over = [], threading.Event()

    def listen():
        while not over.is_set():
            try:
                if bob.receive(within=0.5)["type"] == 1:
                    came.append(time.monotonic())
            except TimeoutError:
                pass

    listener = threading.Thread(target=listen)
    listener.start()
    end = time.monotonic() + (3 if how == "killed" else 12)
    hit = time.monotonic() + 1
    number = 0
    while time.monotonic() < end:
        if hit and time.monotonic() >= hit:
            server.kill() if how == "killed" else server.pause()
            hit = None
        alice.send(dest_id=bob.node, type=1, payload=number, id=str(number))
        number += 1
        time.sleep(0.001)
    until(lambda: len(came) >= number, limit=30)
    over.set()
    listener.join()
    return max(after - before for before, after in zip(came, came[1:], strict=False))


def attached(directory, count):
    """Devices come to one server of three: what the others learn of it, and what that takes."""
    full = {"env": {"SPARKMESH_NUM_MAX_CONNECTIONS": "1"}}
    mesh = Mesh(directory / "attached", 3, "--allow-direct", options={"s2": full, "s3": full})
    try:
        mesh.start()
        taken = lambda: mesh["s2"].metric("sparkmesh_link_bytes_total", peer="s1", direction="in")  # noqa: E731
        resident, bytes_ = mesh["s2"].resident_bytes(), taken()
        load = subprocess.Popen(
            [binary(), "bench", "--url", mesh["s1"].url, "--secret-file", mesh["s1"].secret_file, "idle"]
            + ["--connections", str(count), "--hold", "20"],
            env=clean_environment(),
        )  # fmt: skip
        known = lambda: mesh["s2"].view().servers["s1"]["attachments"]  # noqa: E731
        # One each may go to the full ones.
        until(lambda: known() >= count - 2, limit=60)
        more, sent = mesh["s2"].resident_bytes() - resident, taken() - bytes_
        load.wait(60)
        until(lambda: known() == 0, limit=30)
        gone = taken() - bytes_ - sent
        print(f"{count} devices attached at another server: {sent / count:.0f} bytes on the link and {more / count:.0f} bytes")
        print(f"of memory each at a server that only knows of them; {gone / count:.0f} bytes on the link when each has left")
    finally:
        mesh.close()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-mesh")
    parser.add_argument("what", nargs="*", default=["hops", "relay", "reroute", "attached"])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sparkmesh-bench-") as directory:
        for what in given.what:
            print(f"-- {what}", flush=True)
            if what == "hops":
                hops(given.runs, 20_000)
            elif what == "relay":
                relay(min(given.runs, 3), 200_000)
            elif what == "reroute":
                reroute(Path(directory), given.runs)
            elif what == "attached":
                attached(Path(directory), 5_000)
            else:
                parser.error(f"{what}: there are hops, relay, reroute, attached")


if __name__ == "__main__":
    main()
