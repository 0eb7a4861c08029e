"""Files that are announced: what their paths may be, and which of an earlier run are expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.upload_validation import Announced, checked, likely_ending
from wakestream.adapters.daemon.console.uploads import Uploads

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
