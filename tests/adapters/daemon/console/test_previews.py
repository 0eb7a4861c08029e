"""Previews of files for the page: kept, except of a file that could not be looked at."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from wakestream.adapters.daemon.console import storage as previews
from wakestream.adapters.daemon.console.storage import NAME, NONE, RETRY_AFTER, UNSEEN, Previews
from wakestream.adapters.engines.probe import Preview


class Looks:
    """In place of ffmpeg."""

    def __init__(self) -> None:
        self.count = 0
        self.found: Preview | None = None

    async def preview(self, _: Path) -> Preview | None:
        """What it finds now."""
        self.count += 1
        return self.found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """What stands in place of ffmpeg."""
    found = Looks()
    monkeypatch.setattr(previews, "preview", found.preview)
    return found


async def test_a_file_that_could_not_be_looked_at_is_looked_at_again_later(tmp_path: Path, looks: Looks) -> None:
    clip, now = tmp_path / "clip.mp4", [0.0]
    clip.write_bytes(b"clip")
    made = Previews(lambda: now[0])
    for _ in range(2):
        assert await made.of(clip, tmp_path) == UNSEEN
    assert (looks.count, (tmp_path / NAME).exists()) == (1, False)
    now[0] += RETRY_AFTER
    looks.found = Preview(seconds=2.0)
    for _ in range(2):
        assert (await made.of(clip, tmp_path))["seconds"] == 2.0
    assert looks.count == 2
    assert (await Previews().of(clip, tmp_path))["seconds"] == 2.0
    assert looks.count == 2


async def test_an_empty_preview_of_an_earlier_version_is_made_again(tmp_path: Path, looks: Looks) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    (tmp_path / NAME).write_bytes(orjson.dumps(NONE))
    looks.found = Preview(format=("h264",))
    assert (await Previews().of(clip, tmp_path))["format"] == ["h264"]
