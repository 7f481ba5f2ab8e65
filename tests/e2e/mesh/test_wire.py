"""The wires do what they are told: the tests of faults rest on it."""

import socket
import threading
import time

import pytest

from lib.mesh import ADDRESSES
from lib.wire import Loop, Wire


class Echo:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(one,), daemon=True).start()

    @staticmethod
    def _echo(one):
        with one:
            try:
                while data := one.recv(65536):
                    one.sendall(data)
            except OSError:
                pass


@pytest.fixture
def wire():
    echo, loop = Echo(), Loop()
    wire = Wire(loop, next(ADDRESSES), echo.listener.getsockname())
    yield wire
    wire.close(), loop.close(), echo.listener.close()


def opened(wire, timeout=5):
    host, port = wire.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout)


def told_back(one, data=b"hello"):
    """Seconds until what is sent has come back."""
    begin = time.monotonic()
    one.sendall(data)
    got = b""
    while len(got) < len(data):
        more = one.recv(65536)
        assert more, "the connection has ended"
        got += more
    assert got == data
    return time.monotonic() - begin


def test_it_passes_on(wire):
    with opened(wire) as one:
        told_back(one)
        told_back(one, bytes(range(256)) * 20_000)
        assert wire.passed >= 2 * 256 * 20_000
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b"", "an end is passed on too"


def test_a_silent_cut_holds_everything_until_it_is_healed(wire):
    with opened(wire) as one:
        told_back(one)
        wire.cut("silent")
        one.sendall(b"held")
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(1)
        with opened(wire) as late:
            late.sendall(b"late")
            wire.heal()
            late.settimeout(5), one.settimeout(5)
            assert (one.recv(4), late.recv(4)) == (b"held", b"late")


def test_a_reset_breaks_and_refuses(wire):
    with opened(wire) as one:
        told_back(one)
        wire.cut("reset")
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        with pytest.raises(OSError):
            opened(wire)
        wire.heal()
        with opened(wire) as again:
            told_back(again)


def test_a_drop_breaks_once(wire):
    with opened(wire) as one:
        told_back(one)
        wire.drop()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        with opened(wire) as again:
            told_back(again)


def test_slow_and_lossy(wire):
    with opened(wire) as one:
        assert told_back(one) < 0.1
        wire.worsen(delay=0.1)
        assert 0.2 <= told_back(one) < 0.4
        wire.worsen(loss=1.0)
        assert 0.4 <= told_back(one) < 0.8
        wire.worsen(rate=100_000)
        assert 0.4 <= told_back(one, b"x" * 25_000) < 1.5, "each way"
        wire.heal()
        assert told_back(one) < 0.1
