"""Meshes of a test's own."""

import pytest

from lib.mesh import Mesh


@pytest.fixture
def make_mesh(tmp_path):
    """Starts meshes that end with the test; that no server has panicked is demanded of each."""
    made = []

    def make(count, *flags, start=True, **options):
        mesh = Mesh(tmp_path / f"mesh{len(made)}", count, *flags, **options)
        made.append(mesh)
        return mesh.start() if start else mesh

    yield make
    panicked = [name for mesh in made for name in mesh.panicked()]
    for mesh in made:
        mesh.close()
    assert not panicked, f"panicked: {panicked}"
