"""What is known of a video and an audio before anything is woken for them: real files, ffmpeg itself, and its lack."""

import asyncio
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]
import pytest

from tests.support.browser.studio import png
from tests.support.log_lines import logged
from wakestream.adapters.engines import probe
from wakestream.adapters.engines.probe import MediaUnusable, Which, all_probed, probed
from wakestream.adapters.engines.samples import make_speech, make_video

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{}\n#EXT-X-ENDLIST\n"
SCRIPT = "ffconcat version 1.0\nfile {}\n"


@pytest.fixture
async def media(tmp_path: Path) -> tuple[Path, Path]:
    """A video of two seconds, a voice of three."""
    video, audio = tmp_path / "clip.mp4", tmp_path / "speech.wav"
    await make_video(video, 2, size="64x48")
    await make_speech(audio, 3)
    return video, audio


async def refusal(path: Path, which: Which) -> MediaUnusable:
    """Why that file is no use."""
    with pytest.raises(MediaUnusable) as caught:
        await probed(path, which)
    assert path.name in str(caught.value)
    return caught.value


async def test_a_usable_file_has_a_duration(media: tuple[Path, Path]) -> None:
    assert await probed(media[0], "video") == pytest.approx(2, abs=0.1)
    assert await probed(media[1], "audio") == pytest.approx(3, abs=0.1)


async def test_a_file_of_the_other_kind_is_refused(media: tuple[Path, Path]) -> None:
    assert (await refusal(media[1], "video")).fault == "no_stream"
    assert (await refusal(media[0], "audio")).fault == "no_stream"


async def test_files_that_are_not_media_or_truncated_are_refused(media: tuple[Path, Path], tmp_path: Path) -> None:
    rubbish, cut, silent = tmp_path / "rubbish.mkv", tmp_path / "cut.mp4", tmp_path / "silent.wav"
    rubbish.write_bytes(b"no video" * 100)
    cut.write_bytes(media[0].read_bytes()[:2000])
    silent.write_bytes(media[1].read_bytes()[:44])
    assert (await refusal(rubbish, "video")).fault == "damaged"
    assert (await refusal(cut, "video")).fault == "incomplete"
    assert (await refusal(silent, "audio")).fault == "damaged"


@pytest.mark.parametrize(("name", "side"), [("large.png", 6300), ("other.jpg", 64)])
async def test_a_large_picture_and_one_of_another_ending_are_usable(tmp_path: Path, name: str, side: int) -> None:
    picture = tmp_path / name
    picture.write_bytes(png(side, side))
    await all_probed({"image": (picture, "image")})


async def test_a_sound_without_a_single_sample_is_refused(tmp_path: Path, media: tuple[Path, Path]) -> None:
    head = bytearray(media[1].read_bytes())
    at = head.index(b"data")
    empty = tmp_path / "empty.wav"
    empty.write_bytes(bytes(head[: at + 4]) + bytes(4))
    assert (await refusal(empty, "audio")).fault == "empty"


async def test_a_playlist_of_a_good_video_is_refused(media: tuple[Path, Path], tmp_path: Path) -> None:
    for name, text in (("list.m3u8", PLAYLIST), ("list.ffconcat", SCRIPT), ("list.mp4", SCRIPT)):
        playlist = tmp_path / name
        playlist.write_text(text.format(media[0]))
        await refusal(playlist, "video")


async def test_names_that_look_like_addresses_or_flags_are_files(media: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("http:clip.mp4", "-y.mp4", "clip %d [x].mp4"):
        named = tmp_path / name
        named.write_bytes(media[0].read_bytes())
        assert await probed(named, "video") == pytest.approx(2, abs=0.1)


async def test_without_ffmpeg_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"x")
    with logged("TRACE", "{level} {message}") as said:
        assert await probed(rubbish, "video") is None
    assert [line.split()[0] for line in said] == ["DEBUG"]
    assert "no ffmpeg" in said[0]


async def test_a_slow_probe_does_not_refuse_a_file(media: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stuck(*_: object) -> list[str]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    monkeypatch.setattr(probe, "_decode_one", stuck)
    monkeypatch.setattr(probe, "time_limit", lambda _: 0.01)
    assert await probed(media[0], "video") is None
    assert begun.is_set()
    assert ended.is_set()


def test_a_large_file_is_looked_at_for_no_longer_than_a_second() -> None:
    assert probe.time_limit(2 * 1000**3) == 1.0
    assert probe.time_limit(1000) > 1.0


async def test_the_memory_of_a_probe_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not probe.LIMITED:
        pytest.skip("this system has no such limit")
    monkeypatch.setattr(probe, "MEMORY", 1000)
    some = tmp_path / "clip.mp4"
    some.write_bytes(b"no video" * 100)
    assert await probed(some, "video") is None  # it cannot even begin, which says nothing about the file
