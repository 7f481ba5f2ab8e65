"""Which row of the feature list is held by which test, and which is not and why. `python test_rows.py` prints the table.

A1-A54 are what the original did, A60-A81 what was wrong with it, L21 is of another system. A test names its rows with `@pytest.mark.row(...)`; this
file fails when a row has neither a test nor a reason.
"""

import ast
from pathlib import Path

ROWS = {
    "A1": "everything is a node with an id",
    "A2": "edges, several per pair",
    "A3": "node records",
    "A4": "the original's paths",
    "A5": "answers over HTTP",
    "A6": "auth keys",
    "A7": "pre-connection info",
    "A8": "asking registers",
    "A9": "connecting",
    "A10": "validation keys",
    "A11": "choice of a server",
    "A12": "load and the most connections",
    "A13": "the envelope",
    "A14": "fields the server sets",
    "A15": "falsy fields",
    "A16": "dest_id",
    "A17": "dest_client_id",
    "A18": "dest_session_id",
    "A19": "private messages in a session",
    "A20": "no destination",
    "A21": "types",
    "A22": "what is kept for whom is away",
    "A23": "who was never seen",
    "A24": "nothing by itself on reconnect",
    "A25": "inbox fetch",
    "A26": "seq",
    "A27": "clock helper",
    "A28": "push tokens",
    "A29": "push when offline",
    "A30": "push throttle",
    "A31": "push title",
    "A32": "forwarding order",
    "A33": "hop cache",
    "A34": "servers dial servers",
    "A35": "many connections of a device",
    "A36": "heartbeat",
    "A37": "idle rules",
    "A38": "retransmission",
    "A39": "limits",
    "A40": "create a session",
    "A41": "join",
    "A42": "leave",
    "A43": "reveal",
    "A44": "sessions by socket",
    "A45": "session info",
    "A46": "only the last few",
    "A47": "games",
    "A48": "apps",
    "A49": "command line",
    "A50": "reset at start",
    "A51": "SIGTERM",
    "A52": "a proxy on port 80",
    "A53": "caches",
    "A54": "stores",
    "A60": "bad signature logs in",
    "A61": "one kind of key as another",
    "A62": "forged senders",
    "A63": "keys become attributes",
    "A64": "anonymity leaks",
    "A65": "join without permission",
    "A66": "sessions cannot be created",
    "A67": "session messages lost",
    "A68": "game messages kill",
    "A69": "leave and reveal do nothing",
    "A70": "the window evicts the newest",
    "A71": "one envelope for all receivers",
    "A72": "one send lock for all",
    "A73": "stale edges",
    "A74": "need_80_port never matches",
    "A75": "keys for ever, no origin check",
    "A76": "push blocks",
    "A77": "answered before registered",
    "A78": "empty ranges crash",
    "A79": "SIGTERM tells nobody",
    "A80": "a join notice breaks a link",
    "A81": "stale caches of sessions",
    "L21": "ids that are kept where the config says",
}

NOT_HERE = {
    "A33": "the data path reads published snapshots: there is no cache to go stale, and nothing of it is to be seen from outside",
    "A53": "inside the server, without effect on the wire; that memory is bounded is held by test_operating.py and the bench",
}


def held():
    """Row -> the tests that name it."""
    found = {}
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) in ("row", "slow", "pytest.mark.row"):
                    for argument in mark.args:
                        found.setdefault(ast.literal_eval(argument), []).append(f"{path.name}::{node.name}")
    return found


def test_every_row_has_a_test_or_a_reason():
    tests = held()
    assert set(tests) <= set(ROWS), f"no such rows: {set(tests) - set(ROWS)}"
    missing = [row for row in ROWS if row not in tests and row not in NOT_HERE]
    assert missing == [], f"rows without a test or a reason: {missing}"
    both = [row for row in NOT_HERE if row in tests]
    assert both == [], f"rows said not to be held here, and yet they are: {both}"


if __name__ == "__main__":
    for row, what in ROWS.items():
        print(f"{row:4} {what}")
        for line in held().get(row) or [f"- not here: {NOT_HERE[row]}"]:
            print(f"       {line}")
