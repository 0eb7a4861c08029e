"""The preview of a media file: a small picture, the length and the format."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from wakestream.adapters.engines import probe as previews
from wakestream.adapters.engines.probe import Preview, preview
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.errors import TaskFailed


async def test_a_video_has_a_picture_its_length_and_its_format(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    await make_video(clip, 1.5)
    found = await preview(clip)
    assert found is not None
    assert found.jpeg.startswith(b"\xff\xd8\xff")
    assert len(found.jpeg) < 50_000
    assert found.seconds == pytest.approx(1.5, abs=0.1)
    assert found.format[:3] == ("640x360", "h264", "25 fps")


async def test_a_sound_has_a_length_and_a_format_but_no_picture(tmp_path: Path) -> None:
    voice = tmp_path / "voice.wav"
    await make_speech(voice, 1.0)
    found = await preview(voice)
    assert found is not None
    assert (found.jpeg, found.format) == (b"", ("pcm_s16le", "16 kHz"))
    assert found.seconds == pytest.approx(1.0, abs=0.1)


async def test_a_faulty_file_has_an_empty_preview(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 50)
    assert await preview(broken) == Preview()
    assert await preview(tmp_path / "none.mp4") == Preview()


@pytest.mark.parametrize("name", ["voice.mp3", "voice.wav"])
async def test_of_a_sound_no_picture_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    commands: list[Sequence[str]] = []
    limited = previews.limited
    monkeypatch.setattr(previews, "limited", lambda command: commands.append(command) or limited(command))
    (tmp_path / name).write_bytes(b"ID3" + bytes(500))
    await preview(tmp_path / name)
    assert [("-vf" in command, "0:a:0" in command) for command in commands] == [(False, True)]


async def test_without_ffmpeg_it_cannot_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise TaskFailed("ffmpeg is missing")

    monkeypatch.setattr(previews, "found_ffmpeg", missing)
    assert await preview(tmp_path / "clip.mp4") is None


async def test_a_preview_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    await make_video(clip, 1.5)
    monkeypatch.setattr(previews, "WITHIN", 0.0)
    assert await preview(clip) is None


@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.webp"])
async def test_a_picture_has_no_frame_rate(tmp_path: Path, name: str) -> None:
    still = tmp_path / name
    await _draw(still)
    found = await preview(still)
    assert found is not None
    assert found.format[0] == "64x48"
    assert not any("fps" in word for word in found.format)


async def _draw(still: Path) -> None:
    """Make a picture with ffmpeg."""
    ffmpeg = found_ffmpeg()
    source = ("-f", "lavfi", "-i", "color=red:s=64x48", "-frames:v", "1", str(still))
    program = await asyncio.create_subprocess_exec(ffmpeg, "-loglevel", "error", *source)
    assert await program.wait() == 0
