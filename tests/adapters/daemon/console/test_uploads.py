"""Files that are announced: what their paths may be, and which of an earlier run are expected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import uploads
from wakestream.adapters.daemon.console.upload_validation import Announced, checked, likely_ending
from wakestream.adapters.daemon.console.uploads import UploadedFile, Uploads

OUTSIDE = "/../../../../../Documents/x"


def asked(name: str, *accepts: str) -> Announced:
    """A file for a job."""
    return Announced("file", name, 0, accepts, "mesh.file")


@pytest.mark.parametrize(
    ("name", "accepts", "ending"),
    [
        ("a.png", ("image",), ".png"),
        ("a", ("image",), ".bmp"),
        ("a", (".glb",), ".glb"),
        ("a", ("3d", ".glb"), ".glb"),
        ("a", (OUTSIDE,), ""),
        ("a", (OUTSIDE, ".glb"), ".glb"),
        ("a", (), ""),
        ("a.b c", (), ""),
        ("a.GLB", (), ".glb"),
    ],
)
def test_a_likely_ending_is_always_an_ending(name: str, accepts: tuple[str, ...], ending: str) -> None:
    assert likely_ending(asked(name, *accepts)) == ending


def test_a_file_from_a_url_stays_in_its_own_folder(tmp_path: Path) -> None:
    found = Uploads(tmp_path / "uploads", lambda: (), lambda: 0)
    upload = found.announce(asked("a", OUTSIDE), (), "https://x.invalid/a")
    assert upload.path.parent == tmp_path / "uploads" / upload.id


@pytest.mark.parametrize("accepts", [OUTSIDE, "3d", ".tar.gz", ".PNG", ""])
def test_what_no_file_can_be_is_refused(accepts: str) -> None:
    with pytest.raises(ApiError, match="may contain video, audio, image, text, and file endings") as refused:
        checked({"kind": "file", "name": "a.glb", "size": 1, "accepts": [".glb", accepts]})
    assert refused.value.status == 400


async def test_fields_of_a_later_version_do_not_remove_a_file(tmp_path: Path) -> None:
    upload = await sent(Uploads(tmp_path, lambda: (), lambda: 0))
    about = upload.path.with_name("about.json")
    about.write_bytes(orjson.dumps({**orjson.loads(about.read_bytes()), "v": 1, "later": "x"}))
    assert Uploads(tmp_path, lambda: (), lambda: 0).get(upload.id).name == "a.bin"


async def test_the_files_of_a_program_leave_space_and_places_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Uploads(tmp_path, lambda: (), lambda: 0, quota=10_000)
    await sent(found, 7000, "shop")
    with pytest.raises(ApiError, match=r"7\.5 .* of 10\.0") as refused:
        await sent(found, 1000, "shop")
    assert refused.value.status == 413
    await sent(found, 1000, "other")
    monkeypatch.setattr(uploads, "FILES_MOST", 4)
    await sent(found, 1, "other")
    await sent(found, 1, "other")
    with pytest.raises(ApiError, match="3 files"):
        await sent(found, 1, "other")


async def sent(found: Uploads, size: int = 1, token: str = "") -> UploadedFile:
    """A file that has arrived."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a" * size

    announced = Announced("file", "a.bin", size, (), "")
    upload = found.announce(announced, (), more={"token": token} if token else None)
    return await found.receive(upload.id, chunks())
