"""How results are served and shown."""

from pathlib import Path

import pytest

from tests.support.browser.studio import png
from wakestream.adapters.disk.media_types import TYPES, UNKNOWN, media_type


@pytest.mark.parametrize(
    "name", ["a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a.HTM", "a.glb", "a.png.html"]
)
def test_what_a_browser_might_run_is_a_download(name: str) -> None:
    assert media_type(Path(name)) == UNKNOWN


def test_no_type_is_one_that_runs() -> None:
    contents = {kind.content.partition(";")[0] for kind in TYPES.values()}
    assert not {content for content in contents if "html" in content or "svg" in content or "xml" in content}
    assert {content.partition("/")[0] for content in contents} == {"video", "audio", "image", "text", "application"}
    assert {content for content in contents if content.startswith(("text", "app"))} == {
        "text/plain", "application/json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("head", "ending"),
    [
        (png(), ".png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), ".jpg"),
        (b"RIFF\0\0\0\0WAVEfmt ", ".wav"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".webp"),
        (b"\0\0\0\x20ftypisom" + bytes(20), ".mp4"),
        (b"\0\0\0\x20ftypM4A " + bytes(20), ".m4a"),
        (b"ID3\x04" + bytes(20), ".mp3"),
        (b"<svg><script>", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_a_file_is_known_by_its_first_bytes(tmp_path: Path, head: bytes, ending: str) -> None:
    for name in ("result", "result.glb"):
        path = tmp_path / name
        path.write_bytes(head)
        assert media_type(path).ending == ending
    assert media_type(tmp_path / "missing") == UNKNOWN


@pytest.mark.parametrize(
    ("name", "head", "content"),
    [
        ("a.jpg", png(), "image/png"),
        ("a.jpeg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.opus", b"OggS", "audio/ogg"),
        ("a.mp4", b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x84webm", "video/webm"),
        ("a.webm", b"\x1aE\xdf\xa3\x01\0\0\0B\x82\x88matroska", "video/x-matroska"),
        ("a.heic", b"\0\0\0\x20ftypheic", "application/octet-stream"),
        ("a.txt", b"<html><script>", "text/plain; charset=utf-8"),
    ],
)
def test_the_content_decides_where_the_ending_differs(tmp_path: Path, name: str, head: bytes, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(head)
    assert media_type(path).content == content
