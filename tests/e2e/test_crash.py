"""kill -9 while appending, at random moments: no confirmed envelope is lost, the order is kept, it opens again each time."""

import os
import random
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from lib.device import CONFIRMATION, Device

KILLS = int(os.environ.get("SPARKMESH_KILLS", "200"))
RECEIVERS = 4


def append(server, run, chance):
    """Writes to devices that are away until the server is killed; gives what was sent and what was confirmed."""
    sender = Device(server, f"writer-{run}", path="/connectV2")
    sent, confirmed, number = [], [], 0
    killer = threading.Timer(chance.uniform(0.0, 0.25), server.kill)
    killer.start()
    try:
        while True:
            for _ in range(16):
                to = number % RECEIVERS
                size = chance.choice([10, 100, 1000, 9000])
                sender.send(
                    dest_id=f"away-{to}",
                    type=1,
                    payload=[run, number, "x" * size],
                    id=f"{run}-{number}",
                    reference=f"{to}:{number}",
                )
                sent.append((to, number))
                number += 1
            while len(sent) - len(confirmed) > 64:
                frame = sender.receive()
                if frame["type"] == CONFIRMATION:
                    assert frame["status"] == "stored"
                    to, which = frame["reference"].split(":")
                    confirmed.append((int(to), int(which)))
    except (ConnectionClosed, OSError, TimeoutError):
        pass
    killer.join()
    try:
        while True:
            frame = sender.receive(within=1)
            if frame["type"] == CONFIRMATION:
                to, which = frame["reference"].split(":")
                confirmed.append((int(to), int(which)))
    except (ConnectionClosed, OSError, TimeoutError):
        pass
    return sent, confirmed


def drain(server, to, after):
    """All of a device's inbox behind `after`, page by page."""
    got, key = [], server.key(f"away-{to}")
    while True:
        page = server.ok("GET", "/v1/inbox", key=key, params={"after": after, "limit": 1000})
        got += page["messages"]
        if not page["more"]:
            return got, page
        after = page["to_seq"]


@pytest.mark.timeout(60 + 5 * KILLS)
@pytest.mark.one_server("kills it hundreds of times; for a mesh: mesh/test_faults_kills.py")
def test_kill_9_while_appending(make_server):
    seed = int(os.environ.get("SPARKMESH_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    server = make_server("--allow-direct", "--inbox-max-count", 1_000_000, "--inbox-max-bytes", 1 << 33)
    for to in range(RECEIVERS):
        server.offer(f"away-{to}")
    last = [0] * RECEIVERS
    epoch, total = server.inbox("away-0")["epoch"], 0
    for run in range(KILLS):
        sent, confirmed = append(server, run, chance)
        total += len(confirmed)
        server.start()
        for to in range(RECEIVERS):
            messages, page = drain(server, to, last[to])
            assert page["epoch"] == epoch, f"seed {seed}, kill {run}: the store started anew"
            numbers = [m["payload"][1] for m in messages]
            assert all(m["payload"][0] == run for m in messages), f"seed {seed}, kill {run}"
            assert numbers == sorted(set(numbers)), f"seed {seed}, kill {run}: order, and nothing twice"
            lost = {n for t, n in confirmed if t == to} - set(numbers)
            assert not lost, f"seed {seed}, kill {run}: confirmed and lost: {sorted(lost)[:10]}"
            ours = [n for t, n in sent if t == to]
            assert numbers == ours[: len(numbers)], f"seed {seed}, kill {run}: a hole"
            seqs = [m["seq"] for m in messages]
            assert seqs == list(range(last[to] + 1, last[to] + 1 + len(seqs))), f"seed {seed}, kill {run}: numbers"
            last[to] += len(seqs)
            if seqs and chance.random() < 0.5:
                server.ok("DELETE", f"/v1/inbox?to={last[to]}", key=server.key(f"away-{to}"))
    assert total > KILLS, f"only {total} confirmations in {KILLS} runs"
    print(f"{KILLS} kills, {total} confirmed envelopes, none lost (seed {seed})")


@pytest.mark.one_server("kills it; for a mesh: mesh/test_faults_kills.py")
def test_kill_9_with_messages_on_their_way(make_server):
    """What was delivered but not acknowledged when the server died was never confirmed; what was confirmed is there."""
    server = make_server("--allow-direct")
    for run in range(10):
        server.offer("reader")
        alice, reader = (
            Device(server, "alice", path="/connectV2"),
            Device(server, "reader", path="/connectV2", inbox="auto"),
        )
        for number in range(2000):
            alice.send(dest_id="reader", type=1, payload=number, id=f"{run}-{number}", reference=str(number))
        time.sleep(random.uniform(0, 0.1))
        server.kill()
        received, confirmed = [], []
        for one, into in ((reader, received), (alice, confirmed)):
            try:
                while True:
                    into.append(one.receive(within=5))
            except (ConnectionClosed, OSError, TimeoutError):
                pass
        server.start()
        stored = [m["payload"] for m in server.inbox("reader")["messages"]]
        there = {f["payload"] for f in received if f["type"] == 1} | set(stored)
        lost = {int(f["reference"]) for f in confirmed if f["type"] == CONFIRMATION} - there
        assert not lost, f"run {run}: confirmed and neither received nor stored: {sorted(lost)[:10]}"
        server.ok("DELETE", "/v1/inbox?to=999999999", key=server.key("reader"))
