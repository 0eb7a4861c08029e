"""Who uses the programs in these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_scene import User
from our_peers import Place


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user in a folder with two files and no settings."""
    folder = tmp_path / "user"
    folder.mkdir()
    return User(folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Keys for a hub of ours, its client and its worker."""
    return Place(tmp_path / "place")
