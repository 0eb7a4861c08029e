"""The folder that an engine shares with us, without the engine."""

import sys
from pathlib import Path

import pytest

from wakestream.adapters.client import heygem_engine
from wakestream.adapters.client.heygem_engine import SharedFolder
from wakestream.operators.model.events import Done


async def test_a_result_may_have_the_longest_name_that_the_disk_takes(tmp_path: Path) -> None:
    folder, output = SharedFolder(tmp_path), tmp_path / f"{'语' * 83}.mp4"  # 253 of 255 bytes
    folder.result("code").write_bytes(b"film")
    steps = [step async for step in folder.fetch("code", output)]
    assert (steps[-1], output.read_bytes()) == (Done(output, 4), b"film")
    assert set(tmp_path.iterdir()) == {output, folder.result("code")}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script takes the place of ffmpeg")
def test_an_ffmpeg_that_hangs_is_ended_and_the_result_counts_as_unplayable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "ffmpeg"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(heygem_engine, "found_ffmpeg", lambda: str(hangs))
    monkeypatch.setattr(heygem_engine, "READ_WITHIN", 0.2)
    folder = SharedFolder(tmp_path)
    folder.result("code").write_bytes(b"film")
    assert not folder.has_result("code")
