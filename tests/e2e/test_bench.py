"""The load generator of the product: small runs of each scenario, against a server it starts and against a running one."""

import json

import pytest

from lib.server import run

SMALL = {
    "pairs": ("--connections", 4, "--messages", 2000),
    "fanout": ("--members", 20, "--messages", 50),
    "idle": ("--connections", 50, "--hold", 1),
    "inbox": ("--devices", 4, "--messages", 100, "--publishers", 2),
}


@pytest.mark.parametrize("where", ["started", "running"])
@pytest.mark.parametrize("scenario", SMALL)
def test_a_small_run(server, scenario, where):
    there = () if where == "started" else ("--url", server.url, "--secret-file", server.secret_file)
    ended = run("bench", scenario, *SMALL[scenario], *there, "--json", timeout=100)
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in ended.stdout.splitlines()]
    assert records
    for record in records:
        assert record["ended"] == "complete", record
        assert record["done"] == record["expected"] > 0
        assert record.get("lost", 0) == 0


def test_a_table_for_people():
    ended = run("bench", "pairs", *SMALL["pairs"], timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert "p99" in ended.stdout and not ended.stdout.lstrip().startswith("{")
