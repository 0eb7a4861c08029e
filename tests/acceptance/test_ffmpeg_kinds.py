"""The kinds of the engine `ffmpeg`, with the real ffmpeg: results, progress, and inputs that do not fit."""

import asyncio
import re
import shutil
from asyncio.subprocess import Process
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs.our_peers import Place, gpu_online
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config import settings
from wakestream.adapters.engines import run_process
from wakestream.adapters.engines.ffmpeg import Ffmpeg
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES
from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.worker.preview_file import is_complete
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import PREVIEW_FILE, Frame, Made, Work
from wakestream.operators.model.errors import TaskFailed, WrongInput
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol.kinds import fitting


async def ffmpeg(*arguments: str) -> str:
    async with aclosing(
        run_program([found_ffmpeg(), "-hide_banner", "-nostdin", *arguments], limit=50, merge=True)
    ) as lines:
        return "\n".join([line async for line in lines])


async def look(path: Path) -> str:
    """What ffmpeg says of a file, all of which it decodes."""
    return await ffmpeg("-i", str(path), "-f", "null", "-")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clip.mp4` (2 s, 320x240, with sound), `mute.mp4`, `long.wav` (3 s), `odd.wmv`, `broken.mp4`, `text.mp4`."""
    folder = tmp_path_factory.mktemp("media")
    asyncio.run(_make(folder))
    return folder


async def _make(folder: Path) -> None:
    await make_video(folder / "mute.mp4", 2, size="320x240")
    await make_speech(folder / "long.wav", 3)
    await make_speech(folder / "short.wav", 1)
    both = ("-i", str(folder / "mute.mp4"), "-i", str(folder / "long.wav"))
    await ffmpeg(*both, "-t", "2", "-c:v", "copy", "-c:a", "aac", str(folder / "clip.mp4"))
    await ffmpeg("-i", str(folder / "mute.mp4"), "-c:v", "wmv2", str(folder / "odd.wmv"))
    (folder / "broken.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:5000])
    (folder / "text.mp4").write_text("not a video")


async def done(
    folder: Path, kind: str, inputs: dict[str, Path], engine: Ffmpeg | None = None, **params: Any
) -> tuple[Path, list[Frame]]:
    """The output and the progress of one work, whose parameters are checked as a worker does."""
    known = RECIPES[kind].kind
    outputs = (known.outputs[0].name,)
    filled = fitting(known, {name: path.suffix for name, path in inputs.items()}, params, outputs)
    place = folder / "work"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    work = Work("w", kind, inputs, filled, outputs, place)
    async with aclosing((engine or Ffmpeg(limit=50)).render(work)) as items:
        found = [item async for item in items]
    made = found[-1]
    assert isinstance(made, Made)
    return made.path, [item for item in found if isinstance(item, Frame)]


@pytest.mark.parametrize(
    ("params", "name", "says"),
    [
        ({}, "video.mp4", ("Video: h264", "320x240", "Audio: aac")),
        ({"codec": "hevc", "crf": 35, "sound": False}, "video.mp4", ("Video: hevc", "320x240")),
        ({"codec": "vp9", "crf": 45, "size": "360p"}, "video.webm", ("Video: vp9", "320x240", "Audio: opus")),
    ],
)
async def test_a_video_is_transcoded(
    tmp_path: Path, media: Path, params: dict[str, Any], name: str, says: tuple[str, ...]
) -> None:
    path, frames = await done(tmp_path, "transcode", {"video": media / "clip.mp4"}, **params)
    said = await look(path)
    assert path.name == name
    assert [words for words in says if words not in said] == []
    assert ("Audio:" in said) is params.get("sound", True)
    assert frames[-1].frames == 50
    assert frames[-1].percent > 90
    assert is_complete((tmp_path / "work" / PREVIEW_FILE).read_bytes())


@pytest.mark.parametrize("size", ["4096x2", "16x2048", "2x2"])
@pytest.mark.parametrize("kind", ["transcode", "lipsync"])
async def test_no_shape_of_a_video_fails_for_its_preview(tmp_path: Path, media: Path, size: str, kind: str) -> None:
    await make_video(tmp_path / "odd.mp4", 1, size=size)
    more = {"audio": media / "short.wav"} if kind == "lipsync" else {}
    await done(tmp_path, kind, {"video": tmp_path / "odd.mp4", **more})
    assert is_complete((tmp_path / "work" / PREVIEW_FILE).read_bytes())


async def test_a_smaller_quality_and_size_make_a_smaller_file(tmp_path: Path, media: Path) -> None:
    await make_video(tmp_path / "large.mp4", 1, size="1280x720")
    sizes = []
    for params in ({"crf": 18}, {"crf": 40}, {"crf": 40, "size": "480p"}):
        path, _ = await done(tmp_path, "transcode", {"video": tmp_path / "large.mp4"}, **params)
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert "854x480" in await look(path)


@pytest.mark.parametrize(
    ("params", "name", "says", "seconds"),
    [
        ({}, "video.mp4", "Audio: aac", 2),
        ({"container": "mkv", "shortest": False}, "video.mkv", "Audio: pcm_s16le", 3),
    ],
)
async def test_audio_is_put_under_a_video_whose_pictures_are_copied(
    tmp_path: Path, media: Path, params: dict[str, Any], name: str, says: str, seconds: float
) -> None:
    path, _ = await done(tmp_path, "mux", {"video": media / "mute.mp4", "audio": media / "long.wav"}, **params)
    said = await look(path)
    assert path.name == name
    assert says in said
    assert "Video: h264" in said
    assert _seconds(said) == pytest.approx(seconds, abs=0.15)


async def test_mux_ends_with_the_audio_if_it_is_shorter(tmp_path: Path, media: Path) -> None:
    path, _ = await done(tmp_path, "mux", {"video": media / "clip.mp4", "audio": media / "short.wav"})
    assert _seconds(await look(path)) == pytest.approx(1, abs=0.15)


async def test_a_video_without_timestamps_gets_some(tmp_path: Path, media: Path) -> None:
    await ffmpeg("-i", str(media / "mute.mp4"), "-c:v", "copy", "-f", "h264", str(tmp_path / "raw.ts"))
    path, frames = await done(tmp_path, "mux", {"video": tmp_path / "raw.ts", "audio": media / "short.wav"})
    assert _seconds(await look(path)) == pytest.approx(1, abs=0.15)
    assert frames[-1].frames == 25


def _seconds(said: str) -> float:
    found = re.search(r"Duration: 00:00:([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


async def test_a_video_that_mp4_cannot_hold_names_the_remedy_and_mkv_takes_it(tmp_path: Path, media: Path) -> None:
    inputs = {"video": media / "odd.wmv", "audio": media / "short.wav"}
    with pytest.raises(WrongInput, match="the video file has a format that the new container cannot hold") as refused:
        await done(tmp_path, "mux", inputs)
    assert refused.value.field == "inputs.video"
    path, _ = await done(tmp_path, "mux", inputs, container="mkv")
    assert "Video: wmv2" in await look(path)


@pytest.mark.parametrize(
    ("params", "name", "says"),
    [
        ({}, "image.jpg", "Video: mjpeg"),
        ({"time": 1.5, "width": 160, "format": "png"}, "image.png", "160x120"),
        ({"width": 33}, "image.jpg", "33x"),
    ],
)
async def test_a_picture_is_taken(tmp_path: Path, media: Path, params: dict[str, Any], name: str, says: str) -> None:
    path, _ = await done(tmp_path, "thumbnail", {"video": media / "clip.mp4"}, **params)
    assert path.name == name
    assert says in await look(path)


async def test_pictures_of_two_times_differ(tmp_path: Path, media: Path) -> None:
    pictures = []
    for time in (0, 1.9):
        path, _ = await done(tmp_path, "thumbnail", {"video": media / "clip.mp4"}, time=time, format="png")
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]


async def test_a_time_after_the_end_names_its_field_and_the_length(tmp_path: Path, media: Path) -> None:
    with pytest.raises(WrongInput, match=r"has no picture at 7 s; it is 2 s long") as refused:
        await done(tmp_path, "thumbnail", {"video": media / "clip.mp4"}, time=7)
    assert refused.value.field == "params.time"


@pytest.mark.parametrize(
    ("params", "name", "says"),
    [
        ({}, "audio.wav", "Audio: pcm_s16le"),
        ({"format": "mp3"}, "audio.mp3", "Audio: mp3"),
        ({"format": "m4a", "rate": 48000}, "audio.m4a", "48000 Hz"),
        ({"format": "flac", "rate": 16000, "channels": 2}, "audio.flac", "16000 Hz, stereo"),
    ],
)
async def test_the_sound_of_a_video_is_extracted(
    tmp_path: Path, media: Path, params: dict[str, Any], name: str, says: str
) -> None:
    path, frames = await done(tmp_path, "extract_audio", {"media": media / "clip.mp4"}, **params)
    said = await look(path)
    assert path.name == name
    assert says in said
    assert "Video:" not in said
    assert frames[-1].percent == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    ("kind", "inputs", "field", "words"),
    [
        ("extract_audio", {"media": "mute.mp4"}, "media", "the media file has no sound in it"),
        ("extract_audio", {"media": "text.mp4"}, "media", "the media file is incomplete"),
        ("transcode", {"video": "broken.mp4"}, "video", "the video file is"),
        ("thumbnail", {"video": "text.mp4"}, "video", "the video file is incomplete"),
        ("mux", {"video": "long.wav", "audio": "long.wav"}, "video", "the video file has no picture in it"),
        ("mux", {"video": "clip.mp4", "audio": "mute.mp4"}, "audio", "the audio file has no sound in it"),
        ("lipsync", {"video": "clip.mp4", "audio": "mute.mp4"}, "audio", "the audio file has no sound in it"),
        ("lipsync", {"video": "text.mp4", "audio": "long.wav"}, "video", "the video file is incomplete"),
    ],
)
async def test_a_file_that_does_not_fit_names_its_input(
    tmp_path: Path, media: Path, kind: str, inputs: dict[str, str], field: str, words: str
) -> None:
    given = {}
    for name, file in inputs.items():  # a sound file under a video's name reaches the engine
        given[name] = tmp_path / f"{name}.mp4"
        shutil.copy(media / file, given[name])
    with pytest.raises(WrongInput) as refused:
        await done(tmp_path, kind, given)
    assert str(refused.value).startswith(words)
    assert refused.value.field == f"inputs.{field}"


@pytest.mark.parametrize(
    ("kind", "params", "field"),
    [
        ("transcode", {"crf": 52}, "params.crf"),
        ("transcode", {"codec": "av2"}, "params.codec"),
        ("transcode", {"size": "720"}, "params.size"),
        ("thumbnail", {"time": -1}, "params.time"),
        ("thumbnail", {"width": 10**9}, "params.width"),
        ("extract_audio", {"format": "../../etc/passwd"}, "params.format"),
        ("extract_audio", {"rate": 44000}, "params.rate"),
    ],
)
async def test_a_parameter_that_does_not_fit_names_its_field(
    tmp_path: Path, media: Path, kind: str, params: dict[str, Any], field: str
) -> None:
    name = RECIPES[kind].kind.inputs[0].name
    with pytest.raises(WrongInput) as refused:
        await done(tmp_path, kind, {name: media / "clip.mp4"}, **params)
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["-y.mp4", "http:x.mp4", "a b 'c' \"d\".mp4", "说话 %03d é.mp4", "line\nbreak.mp4"])
async def test_any_file_name_is_only_a_file(tmp_path: Path, media: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(media / "clip.mp4", folder / name)
    path, _ = await done(folder, "thumbnail", {"video": folder / name})
    assert path.stat().st_size > 100


async def test_ffmpeg_that_does_not_start_is_the_reason_why_the_engine_is_not_ready(tmp_path: Path) -> None:
    ready = await Ffmpeg(binary=str(tmp_path / "no ffmpeg")).ready()
    assert not ready.ready
    assert "no ffmpeg" in ready.reason
    with pytest.raises(TaskFailed, match="cannot start"):
        await done(tmp_path, "thumbnail", {"video": tmp_path / "a.mp4"}, Ffmpeg(binary=str(tmp_path / "no ffmpeg")))


async def test_a_work_that_is_no_longer_wanted_stops_ffmpeg(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, start = list[Process](), run_process.start

    async def noted(*words: Any, **options: Any) -> Process:
        started.append(await start(*words, **options))
        return started[-1]

    monkeypatch.setattr(run_process, "start", noted)
    await make_video(tmp_path / "long.mp4", 30, size="320x240")
    work = Work("w", "transcode", {"video": tmp_path / "long.mp4"},
                {"codec": "vp9", "crf": 20, "size": "source", "sound": True}, ("video",), tmp_path)  # fmt: skip
    async with aclosing(Ffmpeg(limit=50).render(work)) as items:
        first = await anext(items)
    assert isinstance(first, Frame)
    assert first.frames == 750
    assert [process.pid for process in started if process.returncode is None] == []


async def test_jobs_of_several_kinds_go_through_hub_and_worker(tmp_path: Path, media: Path) -> None:
    place = Place(tmp_path)
    clip = media / "clip.mp4"
    jobs = [
        e.Job("picture", {"video": clip}, {"image": tmp_path / "a.png"}, "thumbnail", {"format": "png", "time": 1}),
        e.Job("sound", {"media": clip}, {"audio": tmp_path / "a.mp3"}, "extract_audio", {"format": "mp3"}),
        e.Job("small", {"video": clip}, {"video": tmp_path / "a.webm"}, "transcode", {"codec": "vp9", "crf": 50}),
    ]
    events: list[e.JobEvent] = []
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(place.hub())
        await stack.enter_async_context(place.worker())
        found = settings.load({}, environment=place.client_settings(), folder=tmp_path)
        client = await stack.enter_async_context(open_client(found, Policy(hub=10.0)))
        await gpu_online(hub)
        ended = [await client.run(job, events.append) for job in jobs]
        assert all(isinstance(one, e.Done) for one in ended), ended
        wrong = e.Job("none", {"media": media / "mute.mp4"}, {"audio": tmp_path / "b.mp3"}, "extract_audio")
        failed = await client.run(wrong, events.append)
    assert isinstance(failed, e.Failed)
    assert "the media file has no sound in it" in failed.why
    assert "Audio: mp3" in await look(tmp_path / "a.mp3")
