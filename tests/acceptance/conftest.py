"""Who uses the programs in these tests."""

from pathlib import Path

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.here import Here, of_users
from tests.support.programs.hub_keeper import Keeper
from tests.support.programs.our_peers import Place


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user in a folder with two files and no settings."""
    folder = tmp_path / "user"
    folder.mkdir()
    return User(folder)


@pytest.fixture
def place(tmp_path: Path, user: User) -> Place:
    """Keys for our hub, its client and its worker. The user is at that hub once it runs."""
    return Place(tmp_path / "place", user)


@pytest.fixture
def keeper(user: User, tmp_path: Path) -> Keeper:
    """A hub of that user, with a key of each role."""
    return Keeper(user, tmp_path / "hub")


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test and the programs that it starts run in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs a command of a user in this process: for what it refuses before anything starts."""
    return of_users(monkeypatch)
