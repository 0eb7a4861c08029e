"""Files that are made to hold, fill or fool the ffmpeg engine, and those that only look like that."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.support.engines import pair
from wakestream.adapters.engines import ffmpeg
from wakestream.adapters.engines.ffmpeg import Ffmpeg
from wakestream.adapters.engines.run_process import Box
from wakestream.adapters.engines.samples import make_speech
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.errors import TaskFailed, WrongInput

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect/></svg>'
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"


@pytest.fixture
async def audio(tmp_path: Path) -> Path:
    await make_speech(tmp_path / "speech.wav", 2)
    return tmp_path / "speech.wav"


async def made(path: Path, *how: str) -> Path:
    argv = [found_ffmpeg(), "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10"]
    process = await asyncio.create_subprocess_exec(*argv, *how, str(path))
    assert await process.wait() == 0
    return path


async def rendered(video: Path, audio: Path, engine: Ffmpeg | None = None) -> float:
    """Seconds of the result."""
    output = video.with_name("out.mp4")
    engine = engine or Ffmpeg(limit=50)
    async with aclosing(pair.rendered(engine, video, audio, output)) as frames:
        async for _ in frames:
            pass
    return await engine.task().length(output)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.svg", SVG, "has a format that is not supported"),
        ("a.jpg", SVG, "cannot be decoded"),
        ("a.png", SVG, "cannot be decoded"),
        ("a.mp4", SVG, "is incomplete"),
        ("a.m3u8", PLAYLIST, "is damaged, or of a kind that ffmpeg does not read"),
    ],
)
async def test_what_may_lead_to_other_files_is_refused_under_any_name(
    tmp_path: Path, audio: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongInput, match=f"the video file ?{why}"):
        await rendered(tmp_path / name, audio)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
async def test_a_picture_becomes_a_video_as_long_as_the_audio(tmp_path: Path, audio: Path, name: str) -> None:
    picture = await made(tmp_path / name, "-frames:v", "1", "-update", "1")
    assert await rendered(picture, audio) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("name", ["a.h264", "a.mjpeg"])
async def test_a_video_without_a_container_is_looped_like_any_other(tmp_path: Path, audio: Path, name: str) -> None:
    video = await made(tmp_path / name, "-t", "0.5")
    assert await rendered(video, audio) == pytest.approx(2, abs=0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.mp4", "speech.wav"])


async def test_a_picture_for_which_there_is_no_memory_is_refused(tmp_path: Path, audio: Path) -> None:
    picture = await made(tmp_path / "a.png", "-frames:v", "1", "-update", "1", "-vf", "scale=3000:2000")
    with pytest.raises(WrongInput, match=r"the video file cannot be decoded: .* too large for this machine"):
        await rendered(picture, audio, Ffmpeg(limit=50, box=Box(memory=1024**3)))


async def test_all_runs_of_a_task_share_its_limit(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Over(ffmpeg.Deadline):
        def __init__(self, limit: float) -> None:
            super().__init__(limit)
            self.at = 0.0

    monkeypatch.setattr(ffmpeg, "Deadline", Over)
    with pytest.raises(TaskFailed, match="longer than the limit of 50 s"):
        await rendered(await made(tmp_path / "a.mp4", "-t", "1"), audio)
