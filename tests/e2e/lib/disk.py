"""A small disk of a server's own, which a test fills and frees: a tmpfs in a mount namespace, so that nothing is mounted on
the machine itself, and nothing is left when the tests end, however they end.

A process that does nothing holds the namespace; the server is started inside it, and killed and started again on the same
disk; who holds it ends with us, since it waits for a pipe of ours to be closed.
"""

import contextlib
import errno
import functools
import os
import subprocess
from pathlib import Path

# Fills a disk in a few writes, and its last bytes too.
PIECES = (1 << 20, 1 << 12, 1)


def _unshare():
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def _nsenter(pid):
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", f"--target={pid}", *user, "--mount", "--"]


@functools.cache
def unavailable():
    """Why there can be no such disk here; `None` where there can."""
    try:
        script = "mount -t tmpfs -o size=64k none /mnt && umount /mnt"
        tried = subprocess.run(
            [*_unshare(), "sh", "-c", script], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if tried.returncode == 0 else tried.stderr.strip() or "unshare failed"


class Disk:
    """`path` must be there; as the server sees it, it is this disk, with a directory `data`."""

    def __init__(self, path, megabytes):
        self.path, self.megabytes = Path(path).resolve(), megabytes
        script = (
            'mount -t tmpfs -o size="$1"m none "$2" && mkdir -m 700 "$2/data" && echo mounted && exec cat >/dev/null'
        )
        self._holder = subprocess.Popen(
            [*_unshare(), "sh", "-c", script, "sh", str(megabytes), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout.readline() == "mounted\n", "the disk could not be mounted"
        # What is in it, seen from here.
        self.inside = Path(f"/proc/{self._holder.pid}/root{self.path}")
        self._ballast = self.inside / "ballast"

    def wrap(self, command):
        """The command, to run where the disk is; it keeps the process id."""
        return [*_nsenter(self._holder.pid), *command]

    def fill(self):
        """Not a byte is left."""
        with open(self._ballast, "ab", buffering=0) as out:
            for piece in PIECES:
                block = bytes(piece)
                try:
                    # A short write is followed by the one that fails.
                    while out.write(block):
                        pass
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error

    def free(self):
        self._ballast.unlink(missing_ok=True)

    def used(self):
        """Bytes, the ballast included."""
        of = os.statvfs(self.inside)
        return (of.f_blocks - of.f_bfree) * of.f_frsize

    def close(self):
        self._holder.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(5)
        self._holder.stdout.close()
