"""The files for those who run it: the systemd unit is one, the Dockerfile's words exist, local meshes start and end."""

import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest
import requests

from lib.server import ROOT, binary, clean_environment

UNIT = ROOT / "deploy/sparkmesh.service"
DOCKERFILE = ROOT / "deploy/Dockerfile"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_the_unit_is_one_and_gives_little_away(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/sparkmesh", binary()))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exposed.returncode == 0, exposed.stdout


def test_the_units_command_is_understood(tmp_path):
    """The line that checks the configuration, with the paths that systemd would give."""
    (tmp_path / "credentials").mkdir()
    secret = tmp_path / "credentials/secret"
    secret.write_text("a-secret-of-some-length\n")
    secret.chmod(0o400)
    (tmp_path / "config.toml").write_text('host-address = "10.0.0.5"\nport = 8080\n')
    (line,) = re.findall(r"^ExecStartPre=(.*)$", UNIT.read_text(), re.M)
    places = {
        "/usr/local/bin/sparkmesh": binary(),
        "/etc/sparkmesh/config.toml": str(tmp_path / "config.toml"),
        "${CREDENTIALS_DIRECTORY}": str(tmp_path / "credentials"),
        "${STATE_DIRECTORY}": str(tmp_path / "state"),
    }
    for theirs, ours in places.items():
        assert theirs in line
        line = line.replace(theirs, ours)
    ended = subprocess.run(
        shlex.split(line), capture_output=True, text=True, timeout=30, env=clean_environment(), check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert 'host-address = "10.0.0.5"' in ended.stdout


def test_the_dockerfiles_settings_exist():
    """Docker itself is not asked: that its variables are ours, what is copied is there, and that nobody is root."""
    text = DOCKERFILE.read_text()
    named = set(re.findall(r"\b(SPARKMESH_[A-Z_]+)=", text))
    asked = subprocess.run([binary(), "serve", "--help"], capture_output=True, text=True, check=True)
    assert named and named <= set(re.findall(r"SPARKMESH_[A-Z0-9_]+", asked.stdout))
    for line in re.findall(r"^COPY ([^-].*)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            kept = (ROOT / ".dockerignore").read_text().splitlines()
            assert f"!{source.removeprefix('./')}" in kept, f"{source} is left out by .dockerignore"
    assert re.search(r"^USER (?!0|root)", text, re.M)
    (version,) = re.findall(r"^FROM rust:([0-9.]+)-", text, re.M)
    assert f'rust-version = "{version}"' in (ROOT / "Cargo.toml").read_text()


def script(name, *arguments, mesh, timeout=100):
    return subprocess.run(
        [ROOT / "scripts" / name, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean_environment(SPARKMESH_BIN=binary(), SPARKMESH_MESH_DIR=mesh),
        check=False,
    )


def test_a_local_mesh_starts_and_ends(tmp_path):
    mesh = tmp_path / "mesh"
    up = script("mesh-up", "3", mesh=mesh)
    try:
        assert up.returncode == 0, up.stderr
        urls = re.findall(r"^  s\d  (http://\S+)", up.stdout, re.M)
        assert len(urls) == 3
        for url in urls:
            assert "<title>sparkmesh chat" in requests.get(url, timeout=10).text, "each serves the demo pages"
        assert (mesh / "secret").stat().st_mode & 0o077 == 0
        assert script("mesh-up", mesh=mesh).returncode == 1, "one at a time"
        # The commands that it prints do what it says.
        (look,) = re.findall(r"^  (\S+ mesh .*)$", up.stdout, re.M)
        seen = subprocess.run(shlex.split(look), capture_output=True, text=True, timeout=30, check=False)
        assert seen.returncode == 0, seen.stderr
        assert all(f"s{number}" in seen.stdout for number in (1, 2, 3))
        os.kill(int((mesh / "s2/pid").read_text()), signal.SIGKILL)
    finally:
        down = script("mesh-down", mesh=mesh)
    assert (down.returncode, down.stdout, down.stderr) == (0, "2 servers ended\n", "")
    again = script("mesh-up", "2", "--line", mesh=mesh)
    try:
        assert again.returncode == 0, again.stderr
    finally:
        down = script("mesh-down", "--wipe", mesh=mesh)
    assert (down.returncode, down.stdout) == (0, "2 servers ended\n")
    assert not mesh.exists()
