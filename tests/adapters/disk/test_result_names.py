"""Names for results, and results of the same name."""

import sys
from pathlib import Path

import pytest

from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.result_names import free_name, is_numbered, next_free, place_free, same_path


def test_a_result_is_named_after_the_input_and_the_kind(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    assert free_name(photo, "upscale", ".png") == tmp_path / "photo.upscale.png"
    (tmp_path / "photo.upscale.png").touch()
    (tmp_path / "photo.upscale-2.png").mkdir()
    assert free_name(photo, "upscale", ".png") == tmp_path / "photo.upscale-3.png"
    assert free_name(None, "paint", ".png") == Path("paint.png")


def test_two_results_of_one_job_get_two_names(tmp_path: Path) -> None:
    first = free_name(tmp_path / "a.png", "k", ".png")
    assert free_name(tmp_path / "a.png", "k", ".png", [first]) == tmp_path / "a.k-2.png"


@pytest.mark.parametrize(
    ("system", "same"), [("linux", None), ("win32", ("large", "small")), ("darwin", ("large", "small"))]
)
def test_paths_that_differ_in_case_only_are_one_file_on_some_systems(
    system: str, same: tuple[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert same_path({"large": tmp_path / "A.png", "small": tmp_path / "a.png"}) == same


def test_two_ways_to_write_a_path_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = {"one": tmp_path / "a.png", "two": tmp_path / "b" / ".." / "a.png", "six": tmp_path / "c.png"}
    assert same_path(paths) == ("one", "two")


def test_a_result_takes_the_next_number_and_an_own_one_of_the_same_content_is_kept(tmp_path: Path) -> None:
    def put(content: bytes, own: str = "") -> str:
        (tmp_path / "part").write_bytes(content)
        found = place_free(tmp_path / "part", tmp_path / "clip-2.mp4", tmp_path / own if own else None)
        assert not (tmp_path / "part").exists()
        assert found.read_bytes() == content
        return found.name

    assert [put(b"one"), put(b"two"), put(b"one"), put(b"two", "clip-3.mp4"), put(b"six", "clip-3.mp4")] == [
        "clip-2.mp4", "clip-3.mp4", "clip-4.mp4", "clip-3.mp4", "clip-5.mp4",
    ]  # fmt: skip
    assert next_free(tmp_path / "a.png", {path_key(str(tmp_path / "a.png"))}) == tmp_path / "a-2.png"


def test_a_numbered_name_is_known_as_that_of_the_name_that_was_asked_for() -> None:
    assert is_numbered(Path("/a/out.mp4"), Path("/a/out.mp4"))
    assert is_numbered(Path("/a/out-3.mp4"), Path("/a/out.mp4"))
    assert is_numbered(Path("/a/out-3.mp4"), Path("/a/out-2.mp4"))
    for other in ("/a/other.mp4", "/a/out-2.mov", "/b/out-2.mp4", "/a/out.mp4"):
        assert not is_numbered(Path(other), Path("/a/out-2.mp4" if other == "/a/out.mp4" else "/a/out.mp4"))
