"""Copies of results in the user's folder: complete, never over another file, and once, also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wakestream.adapters.daemon.console import storage as delivery
from wakestream.adapters.daemon.console.storage import Interrupted, deliver, mark_of, missing

KILLS = """
import itertools, os, sys
from pathlib import Path
from wakestream.adapters.daemon.console.storage import deliver, mark_of

place, links = Path(sys.argv[1]), sys.argv[2] == "True"
result, mine = place / "results" / "ws-1.mp4", place / "mine"

def no_links(*_):
    raise OSError("no hard links")

if not links:
    Path.hardlink_to = no_links

def copy():
    deliver(mark_of(result), {"video": (result, "clip.mp4")}, str(mine))

def killed_at(step):
    def count(event, arguments):
        nonlocal step
        if event in ("open", "os.link", "os.rename", "os.remove") and str(place) in str(arguments[0]):
            step -= 1
            if step < 0:
                os._exit(9)
    sys.addaudithook(count)
    copy()
    os._exit(0)

for step in itertools.count():
    mark_of(result).write_bytes(b"{}")
    child = os.fork()
    if child == 0:
        killed_at(step)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    copy()  # by the next run
    found = [(path.name, path.read_bytes() == result.read_bytes()) for path in mine.iterdir()]
    assert found == [("clip.mp4", True)], (step, found)
    (mine / "clip.mp4").unlink()
    if status == 0:
        break
    assert status == 9, status
print(step)
"""
"""Kills a delivery before each of its calls of the system, and delivers again after that."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a result whose copy is due, and with the user's own folder."""
    for name in ("results", "mine"):
        (tmp_path / name).mkdir()
    due(tmp_path)
    return tmp_path


def due(place: Path) -> Path:
    """A result whose copy is due."""
    result = place / "results" / "ws-1.mp4"
    result.write_bytes(b"new" * 1000)
    mark_of(result).write_bytes(b"{}")
    return result


def copied(place: Path, folder: str = "mine") -> None:
    """Copy the result."""
    result = place / "results" / "ws-1.mp4"
    deliver(mark_of(result), {"video": (result, "clip.mp4")}, str(place / folder) if folder else "")


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links."""

    def none(*_: object) -> None:
        raise OSError("no hard links")

    monkeypatch.setattr(Path, "hardlink_to", none)


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_never_replaces_a_file(place: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        without_links(monkeypatch)
    mine = place / "mine"
    (mine / "clip.mp4").write_bytes(b"old")
    copied(place)
    due(place)
    copied(place)
    assert (mine / "clip.mp4").read_bytes() == b"old"
    assert (mine / "clip-2.mp4").read_bytes() == b"new" * 1000
    assert sorted(path.name for path in mine.iterdir()) == ["clip-2.mp4", "clip-3.mp4", "clip.mp4"]


def test_a_copy_is_made_once(place: Path) -> None:
    for _ in range(2):
        copied(place)
    assert [path.name for path in (place / "mine").iterdir()] == ["clip.mp4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("links", [True, False])
def test_killed_at_any_point_it_is_copied_once_by_the_next_run(place: Path, links: bool) -> None:
    command = [sys.executable, "-c", KILLS, str(place), str(links)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 8, "it was killed in between"


def test_a_name_that_another_file_took_meanwhile_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = delivery.place_new

    def late(partial: Path, path: Path) -> None:
        if path.name == "clip.mp4":
            path.write_bytes(b"other")
        take(partial, path)

    monkeypatch.setattr(delivery, "place_new", late)
    copied(place)
    assert (place / "mine" / "clip.mp4").read_bytes() == b"other"
    assert (place / "mine" / "clip-2.mp4").read_bytes() == b"new" * 1000


def test_a_copy_that_stops_or_fails_leaves_nothing_and_is_made_later(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = place / "results" / "ws-1.mp4"
    with pytest.raises(Interrupted):
        deliver(mark_of(result), {"video": (result, "clip.mp4")}, str(place / "mine"), lambda: True)
    assert list((place / "mine").iterdir()) == []
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError("the disk is full")

        patch.setattr(delivery, "place_new", full)
        with pytest.raises(OSError, match="full"):
            copied(place)
    assert list((place / "mine").iterdir()) == []
    (place / "other").mkdir()
    copied(place, "other")  # the user has chosen another folder since
    assert [path.name for path in (place / "other").iterdir()] == ["clip.mp4"]


def both(place: Path) -> delivery.Results:
    """Two results of a job."""
    found = {name: place / "results" / f"ws-1.{name}.png" for name in ("a", "b")}
    for path in found.values():
        path.write_bytes(b"new" * 1000)
    return {name: (path, f"{name}.png") for name, path in found.items()}


@pytest.mark.parametrize("broken", ["a", "b"])
def test_if_one_result_cannot_be_copied_the_others_are_copied_once(place: Path, broken: str) -> None:
    mark, results = mark_of(place / "results" / "ws-1.mp4"), both(place)
    good = "b" if broken == "a" else "a"
    results[broken][0].unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            deliver(mark, results, str(place / "mine"))
        assert missing(mark, results) == {broken: results[broken]}
    assert [path.name for path in (place / "mine").iterdir()] == [f"{good}.png"]
    (place / "mine" / f"{good}.png").rename(place / "moved.png")  # the user may do what he likes with it
    results = both(place)
    (place / "other").mkdir()
    deliver(mark, results, str(place / "other"))
    assert [path.name for path in (place / "other").iterdir()] == [f"{broken}.png"]
    assert list((place / "mine").iterdir()) == []
    assert not mark.exists()


def test_a_name_that_is_reserved_without_links_is_free_again_after_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    replace = Path.replace

    def broken(path: Path, target: Path) -> Path:
        if target.parent.name == "mine":
            raise OSError("the disk is gone")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        with pytest.raises(OSError, match="is gone"):
            copied(place)
    assert list((place / "mine").iterdir()) == []
    copied(place)
    assert [path.name for path in (place / "mine").iterdir()] == ["clip.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode here")
def test_the_state_folder_may_have_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        (place / "results").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / "mine").mkdir()
    result = due(place)
    deliver(mark_of(result), {"video": (result, "clip.mp4")}, str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["clip.mp4"]


def test_a_copy_that_began_goes_to_the_folder_of_that_time(place: Path) -> None:
    result = place / "results" / "ws-1.mp4"
    with pytest.raises(Interrupted):
        deliver(mark_of(result), {"video": (result, "clip.mp4")}, str(place / "mine"), lambda: True)
    copied(place, "")
    assert [path.name for path in (place / "mine").iterdir()] == ["clip.mp4"]


def test_without_a_folder_nothing_is_due_later(place: Path) -> None:
    copied(place, "")
    copied(place)
    assert list((place / "mine").iterdir()) == []
