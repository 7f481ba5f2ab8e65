"""Fixtures: servers, devices that are closed at the end, and a witness that nobody else was harmed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lib.device import Device, unique  # noqa: E402
from lib.raw import RawDevice  # noqa: E402
from lib.spread import served, wanted  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if wanted() and (mark := item.get_closest_marker("one_server")):
            item.add_marker(pytest.mark.skip(reason=f"about one server: {mark.args[0]}"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A server with default settings for all tests that need nothing special; each uses ids of its own."""
    server = served(tmp_path_factory.mktemp("shared")).start()
    yield server
    server.kill()


@pytest.fixture
def server(shared):
    assert shared.process.poll() is None, f"the shared server has ended:\n{shared.log()[-4000:]}"
    return shared.turn()


@pytest.fixture
def make_server(tmp_path):
    """Starts servers of this test's own."""
    made = []

    def make(*flags, start=True, **options):
        server = served(tmp_path / f"server{len(made)}", *flags, **options)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def device(server):
    """Opens devices on the shared server, or on the one given."""
    opened = []

    def connect(node=None, *, on=None, **options):
        opened.append(Device(on or server, node or unique("device"), **options))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


@pytest.fixture
def raw(server):
    """Opens devices that speak by hand."""
    opened = []

    def connect(node=None, *, on=None, **options):
        opened.append(RawDevice(on or server, node or unique("raw"), **options))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


@pytest.fixture
def witness(server, device):
    """Two devices that talk before and after the test: whatever happened to others, nothing happened to them."""
    left, right = device(unique("witness")), device(unique("witness"))

    def talk():
        for one, other in ((left, right), (right, left)):
            confirmation = one.confirmed(dest_id=other.node, type=1, payload="still here?")
            assert confirmation["status"] == "delivered"
            other.expect(src_id=one.node, payload="still here?")

    talk()
    yield
    talk()
