"""A mesh under random faults for minutes, with devices that talk all the while, and a verdict: what scripts/chaos runs.

The same harness and judge as the tests in mesh/, without a script of events: each fault is drawn from a seeded generator, so a
seed gives the same faults in the same order, though not at the same message.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lib import disk, kinds  # noqa: E402
from lib.faults import GHOST_LIMIT, bounded, faked, keep_evidence, no_ghosts, nobody_attached  # noqa: E402
from lib.mesh import Mesh  # noqa: E402
from lib.server import run, until  # noqa: E402
from lib.traffic import Traffic  # noqa: E402

# Of a disk that can be filled; twice what a store may have before it rebuilds itself.
DISK_MEGABYTES = 1024
# As many members as this has each session, and in each are so many sessions: what is said to all is for a few, as in real life.
ROOM = 12


class Chaos:
    def __init__(self, mesh, traffic, seed, shape):
        self.shape, self.added = shape, 0
        self.faults = dict(self.FAULTS)
        if not any(server.disk for server in mesh.servers):
            del self.faults[Chaos.fill_disk]
        self.mesh, self.traffic, self.chance = mesh, traffic, random.Random(seed)
        self.done = {}

    def say(self, text):
        self.traffic.history.note(text)
        print(f"{self.traffic.history.now():7.1f} s  {text}", flush=True)

    def hold(self, least, most):
        time.sleep(self.chance.uniform(least, most))

    def server(self):
        return self.chance.choice(self.mesh.servers)

    # -- the faults -----------------------------------------------------------------------------------------------

    def kill(self):
        server = self.server()
        self.say(f"kill -9 {server.name}")
        server.kill()
        self.hold(0, 8)
        server.start()

    def kill_two(self):
        """One after the other: the promise is about one crash at a time, but it may hit while the last is mended."""
        one, other = self.chance.sample(self.mesh.servers, 2)
        self.say(f"kill -9 {one.name}, and {other.name} when it is back")
        one.kill()
        self.hold(0, 3)
        one.start()
        self.hold(0, 1)
        other.kill()
        self.hold(0, 3)
        other.start()

    def restart(self):
        server = self.server()
        self.say(f"SIGTERM {server.name}")
        server.terminate()
        code = server.wait(40)
        assert code == 0, f"{server.name} ended with {code}"
        server.start()

    def pause(self):
        server, length = self.server(), self.chance.choice([1, 4, 8, 15, 30])
        self.say(f"SIGSTOP {server.name} for {length} s")
        self.traffic.avoided.add(server.name)
        server.pause()
        time.sleep(length)
        server.resume()
        self.traffic.avoided.discard(server.name)

    def cut(self):
        pair, wire = self.chance.choice(list(self.mesh.wires.items()))
        how = self.chance.choice(["silent", "reset"])
        self.say(f"cut {'-'.join(sorted(pair))} ({how})")
        wire.cut(how)
        self.hold(0, 12)
        wire.heal()

    def break_all(self):
        self.say("all links break")
        for wire in self.mesh.wires.values():
            wire.drop()

    def partition(self):
        servers = self.chance.sample(self.mesh.servers, len(self.mesh.servers))
        size = self.chance.randrange(1, len(servers))
        group, others = servers[:size], servers[size:]
        how = self.chance.choice(["silent", "reset"])
        self.say(f"partition {'+'.join(s.name for s in group)} | {'+'.join(s.name for s in others)} ({how})")
        wires = self.mesh.between(group, others)
        for wire in wires:
            wire.cut(how)
        self.hold(1, 15)
        for wire in wires:
            wire.heal()

    def worsen(self):
        pair, wire = self.chance.choice(list(self.mesh.wires.items()))
        delay, loss = self.chance.choice([(0.02, 0.0), (0.08, 0.02), (0.3, 0.1)])
        self.say(f"{'-'.join(sorted(pair))} is slow ({delay} s) and lossy ({loss})")
        wire.worsen(delay=delay, jitter=delay / 2, loss=loss, rate=self.chance.choice([None, 50_000]))
        self.hold(3, 12)
        wire.heal()

    def hang_up(self):
        """Devices lose their connections, all at once."""
        self.say("all devices lose their connections")
        for one in self.traffic.talkers:
            if one.socket:
                one.socket.transport.abort()

    def fill_disk(self):
        """Nothing can be written any more: who would be told `stored` is told `unavailable`. Once in a while it dies so."""
        server = self.chance.choice([server for server in self.mesh.servers if server.disk])
        dies = self.chance.random() < 0.3
        self.say(f"the disk of {server.name} is full" + (", and it is killed" if dies else ""))
        server.disk.fill()
        self.hold(1, 10)
        if dies:
            server.kill()
        server.disk.free()
        if dies:
            server.start()

    def replace(self):
        """A server joins, and one is forgotten while it lives: it gives away what it has, and leaves. In a line both are its end."""
        self.added += 1
        others = list(self.mesh.servers)
        new = self.mesh.add(f"x{self.added}")
        for server in others if self.shape == "full" else others[-1:]:
            self.mesh.link(new, server)
        self.say(f"{new.name} joins")
        new.start()
        self.mesh.whole()
        self.traffic.goes_on(50, within=40)
        leaves = self.chance.choice(others) if self.shape == "full" else new
        self.say(f"{leaves.name} is forgotten")
        asked = self.chance.choice([server for server in self.mesh.servers if server is not leaves])
        ended = run("mesh", asked.url, "forget", leaves.name, "--secret-file", asked.secret_file)
        assert ended.returncode == 0, ended.stderr
        until(lambda: asked.view().servers[leaves.name]["standing"] == "empty", limit=60)
        for one in self.traffic.talkers:
            one.at = None if one.at == leaves.name else one.at
        leaves.terminate()
        code = leaves.wait(60)
        self.mesh.remove(leaves)
        leaves.close()
        assert code == 0, f"{leaves.name} ended with {code}"

    FAULTS = {
        kill: 6, kill_two: 2, restart: 3, pause: 3, cut: 3, break_all: 1, partition: 3, worsen: 3, hang_up: 1, replace: 2,
        fill_disk: 3,
    }  # fmt: skip

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self.chance.choices(list(self.faults), list(self.faults.values()))[0]
            fault(self)
            self.done[fault.__name__] = self.done.get(fault.__name__, 0) + 1
            self.mesh.whole()
            self.traffic.goes_on(30, within=40)
            bounded(self.mesh)
            if panicked := self.mesh.panicked():
                raise AssertionError(f"panicked: {panicked}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None, help="of the faults; a random one is printed")
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--shape", choices=["full", "line"], default="full")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1, help="messages per second of each device")
    parser.add_argument(
        "--kinds", default=",".join(kinds.KINDS), help="of devices, some of these; half of all are plain"
    )
    parser.add_argument("--clock", default="+1h", help="how far the clock of s2 is off; empty: not at all")
    parser.add_argument("--keep", type=Path, help="where evidence goes when it fails")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
    wanted = given.kinds.split(",")
    if unknown := set(wanted) - set(kinds.KINDS):
        parser.error(f"--kinds {','.join(sorted(unknown))}: there are {','.join(kinds.KINDS)}")
    directory = Path(tempfile.mkdtemp(prefix="sparkmesh-chaos-"))
    print(f"seed {seed}, {given.servers} servers ({given.shape}), {given.devices} devices, {given.minutes} minutes")
    chance = random.Random(f"{seed} kinds")
    of_each = kinds.spread(given.devices, [kinds.KINDS[name] for name in wanted], chance)
    print("devices: " + ", ".join(f"{of_each.count(kinds.KINDS[name])} {name}" for name in wanted))

    # The clock of one server is an hour off, all the time.
    wrong = {"s2": {"env": faked(given.clock)}} if given.clock and given.servers > 1 else {}
    # Every other one has a disk that can be full; the rest have the machine's own, whose fsync takes its time.
    if why := disk.unavailable():
        print(f"no disk will be full: small disks cannot be mounted here ({why})")
    else:
        for number in range(1, given.servers + 1, 2):
            wrong.setdefault(f"s{number}", {})["disk"] = DISK_MEGABYTES
    mesh = Mesh(
        directory, given.servers, "--allow-direct", "--drain-deadline", "15s", "--inbox-max-count", 1_000_000,
        shape=given.shape, wires=True, options=wrong,
    )  # fmt: skip
    places = [None if i % 3 == 2 else f"s{i % given.servers + 1}" for i in range(given.devices)]
    trouble, verdict = None, None
    try:
        mesh.start()
        rooms = max(4, given.devices // 4)
        with Traffic(mesh, places, rate=given.rate, seed=seed, rooms=rooms, members=ROOM, kinds=of_each) as traffic:
            chaos = Chaos(mesh, traffic, seed, given.shape)
            try:
                traffic.chatter()
                chaos.run(given.minutes * 60)
            except (AssertionError, OSError) as error:
                trouble = error
            verdict = traffic.finish(within=90, bound=45.0)
            good = trouble is None and verdict.is_good()
            if good:
                try:
                    traffic.leave()
                    no_ghosts(mesh, traffic.nodes)
                    nobody_attached(mesh, GHOST_LIMIT)
                    until(lambda: not mesh.panicked(), limit=1)
                except AssertionError as error:
                    good, trouble = False, error
            if not good:
                kept = keep_evidence(traffic, mesh, given.keep or directory / "evidence")
                print(verdict.examples(20))
                print(f"trouble: {trouble}\nevidence in {kept}; again with --seed {seed}")
            faults = ", ".join(f"{name} {count}" for name, count in sorted(chaos.done.items()))
            print(f"{'GOOD' if good else 'BAD'}: {verdict}; faults: {faults or 'none'}; seed {seed}")
    finally:
        mesh.close()
    sys.stdout.flush()
    os._exit(0 if good else 1)


if __name__ == "__main__":
    main()
