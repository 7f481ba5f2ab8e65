"""What every test of a fault demands in the end, and the evidence it keeps where that is not so."""

import contextlib
import json
import os
import time
from pathlib import Path

import requests

from .server import until

GHOST_LIMIT = 10
# The chaos test and who has the time: pauses as long as in real life.
LONG = os.environ.get("SPARKMESH_LONG") == "1"
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def online(server, node):
    answer = server.get(f"/v1/nodes/{node}", key=server.app())
    return answer.status_code == 200 and answer.json()["online"]


def no_ghosts(mesh, nodes, limit=GHOST_LIMIT):
    """Nobody of these, who are gone, is online at any server that lives; and no list of attachments has them."""
    deadline = time.monotonic() + limit
    for server in mesh.live():
        for node in nodes:
            until(lambda s=server, n=node: not online(s, n), limit=max(0.1, deadline - time.monotonic()))


def nobody_attached(mesh, limit=GHOST_LIMIT):
    """No server that lives knows of any attachment."""
    until(lambda: not any(server.view().attachments() for server in mesh.live()), limit=limit)


def bounded(mesh, bytes_=400_000_000):
    """No queue of any server has grown without bound."""
    for server in mesh.live():
        assert server.resident_bytes() < bytes_, f"{server.name} has {server.resident_bytes()} bytes"
        assert server.metric("sparkmesh_queue_bytes") < 64_000_000


def keep_evidence(traffic, mesh, directory):
    """History, logs and views, for who looks for the reason."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    traffic.history.write(directory / "history.jsonl")
    for server in mesh.servers:
        if server.process:
            (directory / f"{server.name}.log").write_text(server.past + server.log())
        with contextlib.suppress(requests.RequestException, AssertionError):
            (directory / f"{server.name}.mesh.json").write_text(json.dumps(server.view().answer, indent=1))
            (directory / f"{server.name}.metrics").write_text(
                "".join(f"{name} {value}\n" for name, value in server.metrics().items())
            )
    return directory


def judge(traffic, mesh, directory, *, late=None, bound=25.0):
    """Ends the traffic and demands that the promise held; `late`: most envelopes that may have come late as held mail."""
    verdict = traffic.finish(bound=bound)
    good = verdict.is_good() and (late is None or verdict.late <= late) and not mesh.panicked()
    if not good:
        kept = keep_evidence(traffic, mesh, directory)
        raise AssertionError(
            f"{verdict}; panicked {mesh.panicked()}; evidence in {kept}\n{verdict.examples()}\n{traffic.state()}"
        )
    print(verdict)
    bounded(mesh)
    traffic.leave()
    no_ghosts(mesh, traffic.nodes)
    nobody_attached(mesh)
    return verdict


def faked(off):
    """The environment of a server whose clock is `off`, as "+1h"."""
    assert FAKETIME, "libfaketime is not installed: scripts/test does that"
    return {"LD_PRELOAD": FAKETIME, "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
