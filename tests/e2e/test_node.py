"""The second foreign client: Node with `ws` (tests/e2e/node), against the same server."""

import re
import subprocess
from pathlib import Path

import pytest

from lib.server import clean_environment

NODE = Path(__file__).parent / "node"


@pytest.mark.timeout(180)
def test_the_main_conversation_in_node(server):
    assert (NODE / "node_modules/ws").is_dir(), "run `npm ci` in tests/e2e/node, or scripts/test, which does"
    ended = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "conversation.test.mjs"],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=170,
        env=clean_environment(SPARKMESH_URL=server.url, SPARKMESH_SECRET=server.secret),
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed = int(re.search(r"^# pass (\d+)", ended.stdout, re.M).group(1))
    assert passed >= 8, ended.stdout
