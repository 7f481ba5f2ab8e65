"""The store under attack, seen from outside: what the server finds, what a device is told, what an operator sees."""

import filecmp
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lib import disk
from lib.device import CONFIRMATION, ERROR, Device, unique
from lib.server import until

pytestmark = pytest.mark.one_server("damages its files; each server of a mesh has a store of its own")

FAULTS = Path(__file__).parent / "lib" / "disk_faults.c"


@pytest.fixture(scope="module")
def preload(tmp_path_factory):
    """The library that stands between a server and its disk."""
    library = tmp_path_factory.mktemp("preload") / "disk_faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, FAULTS, "-ldl"], check=True, timeout=60)
    return library


def fill(server, node, numbers):
    """Confirmed envelopes for somebody who is away."""
    server.offer(node)
    sender = Device(server, unique("sender"))
    for number in numbers:
        payload = [number, "x" * (6000 if number % 5 == 0 else 200)]
        assert sender.confirmed(dest_id=node, type=1, payload=payload)["status"] == "stored"
    sender.close()


def there(server, node):
    return [message["payload"][0] for message in server.inbox(node)["messages"]]


def data_file(server):
    """`sled`'s own: the largest by far."""
    return max((server.data / "store").rglob("db"), key=lambda path: path.stat().st_size)


# -- files that are not what they were ---------------------------------------------------------------------------------


def truncated(path):
    """The end is missing, confirmed envelopes with it."""
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 3)


def flipped(path):
    """One bit in every page that holds anything."""
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 4096):
        page = content[at : at + 4096]
        if any(page):
            content[at + next(i for i, byte in enumerate(page) if byte)] ^= 0x10
    path.write_bytes(content)


def removed(path):
    path.unlink()


def overwritten(path):
    """As a disk gives back what was never written: zeros in the middle."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 4)
        file.write(bytes(size // 3))


@pytest.mark.parametrize("damage", [truncated, flipped, removed, overwritten])
def test_damage_is_found_and_everybody_is_told(make_server, damage):
    """The device by a new epoch, the operator by the log and a metric; and the server works again, at once."""
    server = make_server()
    node = unique("away")
    fill(server, node, range(40))
    epoch = server.inbox(node)["epoch"]
    server.kill()
    damage(data_file(server))
    server.start()
    assert server.inbox(node)["epoch"] != epoch, "numbers begin anew, and the device can tell"
    found = re.findall(r"ERROR.*(?:is damaged|new epoch|lost).*", server.log())
    assert found, f"the log does not say so:\n{server.log()}"
    assert server.metric("sparkmesh_store_moved_aside_total") == 1, "an operator's alarm"
    assert server.get("/readyz").status_code == 200
    # What can still be read is whole, and new mail has its place behind it.
    kept = there(server, node)
    assert kept == sorted(set(kept)) and set(kept) <= set(range(40))
    fill(server, node, [100])
    assert there(server, node)[-1] == 100
    device = Device(server, node, inbox="auto")
    met = [device.receive()["payload"][0] for _ in range(len(kept) + 1)]
    assert met == [*kept, 100]
    device.close()


def test_a_torn_end_that_was_never_confirmed_is_no_damage(make_server):
    """What a machine was writing when it lost its power: noise behind all that was confirmed."""
    server = make_server()
    node = unique("away")
    fill(server, node, range(20))
    epoch = server.inbox(node)["epoch"]
    server.kill()
    with open(data_file(server), "ab") as file:
        file.write(random.Random(1).randbytes(3000))
    server.start()
    assert (server.inbox(node)["epoch"], there(server, node)) == (epoch, list(range(20)))
    assert server.metric("sparkmesh_store_moved_aside_total") == 0


def test_while_the_recipient_is_there_nothing_is_written(make_server):
    server = make_server()
    one, other = Device(server, unique("one")), Device(server, unique("other"))
    # Both are new: that has been written.
    assert one.confirmed(dest_id=other.node, type=1, payload="first")["status"] == "delivered"
    other.wait_for(payload="first")
    commits = server.metric("sparkmesh_commit_seconds_count")
    for number in range(300):
        assert one.confirmed(dest_id=other.node, type=1, payload=number)["status"] == "delivered"
        other.expect(payload=number)
    assert server.metric("sparkmesh_commit_seconds_count") == commits
    one.close(), other.close()


# -- power that fails --------------------------------------------------------------------------------------------------


def test_what_was_not_synced_is_lost_and_nothing_that_was_confirmed(make_server, preload, tmp_path):
    """Killed in the middle of its work, again and again, and started on what a disk without power would have kept: only what
    was written before the last fsync."""
    kept = tmp_path / "kept"
    server = make_server(start=False)
    server.data.mkdir()
    chance = random.Random(3)
    away, epoch, confirmed, slow = unique("away"), None, {}, tmp_path / "slow"

    def is_unsynced():
        return not filecmp.cmp(data_file(server), kept / data_file(server).relative_to(server.data), False)

    def prove():
        for node, numbers in confirmed.items():
            inbox = server.inbox(node)
            got = [message["payload"] for message in inbox["messages"]]
            assert inbox["epoch"] == epoch, "the store started anew"
            assert got == list(range(len(got))), f"{node}: a hole, or another order"
            assert set(numbers) <= set(got), f"{node}: confirmed and lost"

    for run in range(8):
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(server.data, kept)
        slow.unlink(missing_ok=True)
        server.env = {
            "LD_PRELOAD": preload,
            "DISK_FAULTS_OF": server.data,
            "DISK_FAULTS_KEPT": kept,
            "DISK_FAULTS_SLOW": slow,
            "DISK_FAULTS_DELAY_MS": 1000,
        }
        server.start()
        prove()
        node = f"{away}-{run}"
        server.offer(node)
        epoch = server.inbox(node)["epoch"]
        sender = Device(server, unique("sender"))
        for number in range(200):
            sender.send(dest_id=node, type=1, payload=number, reference=str(number))
        some = range(chance.randrange(20, 150))
        confirmed[node] = [int(sender.wait_for(type=CONFIRMATION)["reference"]) for _ in some]
        # What is written now waits a second to be synced: the kill hits it.
        slow.touch()
        for number in range(200, 220):
            sender.send(dest_id=node, type=1, payload=number)
        until(is_unsynced)
        server.kill()
        sender.close()
        assert is_unsynced(), "nothing was lost: this proves nothing"
        shutil.rmtree(server.data)
        shutil.copytree(kept, server.data)
    server.env = {}
    server.start()
    prove()


# -- a slow disk, a full one -------------------------------------------------------------------------------------------


def test_a_slow_disk_delays_what_is_stored_and_nothing_else(make_server, preload, tmp_path):
    """Each sync takes two seconds: what is stored meanwhile is confirmed afterwards, in one group, and who is there goes on."""
    slow = tmp_path / "slow"
    server = make_server(start=False)
    server.data.mkdir()
    server.env = {
        "LD_PRELOAD": preload,
        "DISK_FAULTS_OF": server.data,
        "DISK_FAULTS_KEPT": tmp_path / "kept",
        "DISK_FAULTS_SLOW": slow,
        "DISK_FAULTS_DELAY_MS": 2000,
    }
    (tmp_path / "kept").mkdir()
    server.start()
    node = unique("away")
    server.offer(node)
    sender, there_ = Device(server, unique("sender")), Device(server, unique("there"))
    commits = server.metric("sparkmesh_commit_seconds_count")
    slow.touch()
    for number in range(50):
        sender.send(dest_id=node, type=1, payload=number, reference=f"stored {number}")
    for number in range(50):
        sender.send(dest_id=there_.node, type=1, payload=number, reference=f"delivered {number}")
    told = [sender.wait_for(within=30, type=CONFIRMATION)["reference"] for _ in range(100)]
    assert told[:50] == [f"delivered {number}" for number in range(50)], "who is there does not wait for the disk"
    assert sorted(told[50:]) == sorted(f"stored {number}" for number in range(50))
    assert server.metric("sparkmesh_commit_seconds_count") - commits <= 4, "what waited is written in one go"
    assert server.metric("sparkmesh_commit_seconds_sum") >= 2, "an operator sees how long it takes"
    assert server.get("/readyz").status_code == 200, "slow is not broken"
    slow.unlink()
    sender.close(), there_.close()


@pytest.mark.skipif(disk.unavailable() is not None, reason=f"no small disk can be mounted: {disk.unavailable()}")
def test_a_disk_that_is_full_and_has_room_again(make_server):
    """Not simulated: 48 MB, and not a byte left. Nothing is promised, readyz says why, the log says what to do; who is there is
    served; it can even be killed and started meanwhile; and with room it goes on by itself, with all that was confirmed."""
    server = make_server(disk=48)
    node = unique("away")
    fill(server, node, range(10))
    epoch = server.inbox(node)["epoch"]
    sender, there_ = Device(server, unique("sender")), Device(server, unique("there"))
    server.disk.fill()

    def refused():
        sender.send(dest_id=node, type=1, payload=["x" * 100_000], id=unique("e"), reference="r")
        return sender.receive(within=30)

    until(lambda: (frame := refused())["type"] == ERROR and frame["code"] == "unavailable")
    assert "store" in server.get("/readyz").text and server.get("/readyz").status_code == 503
    assert re.search(r"ERROR.*takes no writes.*is the disk full", server.log()), server.log()
    assert sender.confirmed(dest_id=there_.node, type=1, payload="who is there")["status"] == "delivered"
    there_.expect(payload="who is there")
    assert server.metric("sparkmesh_store_failures_total") > 0
    sender.close(), there_.close()
    server.kill()
    server.disk.free()
    server.start()
    inbox = server.inbox(node)
    assert inbox["epoch"] == epoch and [m["payload"][0] for m in inbox["messages"]][:10] == list(range(10))
    until(lambda: server.get("/readyz").status_code == 200)
    fill(server, node, [99])
    assert there(server, node)[-1] == 99


@pytest.mark.skipif(disk.unavailable() is not None, reason=f"no small disk can be mounted: {disk.unavailable()}")
def test_it_does_not_start_on_a_full_disk_and_says_so(make_server):
    """It counts its starts on that disk: without that it could not tell its lives apart."""
    server = make_server(disk=48)
    node = unique("away")
    fill(server, node, range(10))
    epoch = server.inbox(node)["epoch"]
    server.kill()
    server.disk.fill()
    server.launch()
    assert server.wait(30) not in (0, None)
    time.sleep(0.2)
    assert re.search(r"No space left|disk", server.log()), server.log()
    server.disk.free()
    server.start()
    assert (server.inbox(node)["epoch"], there(server, node)) == (epoch, list(range(10)))
