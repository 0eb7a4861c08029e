"""What a user can get wrong about files and settings, each with its sentence and its exit code."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.faults.small_disk import small_disk
from tests.support.field.house import KEY, field, go_online
from tests.support.programs.client_scene import QUICK, Ran, User
from tests.support.programs.here import Here
from tests.support.programs.our_peers import Place
from wakestream.adapters.disk import hashing_writer as sink
from wakestream.adapters.engines.samples import make_speech, make_video

NOBODY = "http://127.0.0.1:9"


def told(ran: Ran, code: int, *words: str) -> None:
    """It ended with `code`, one sentence that has these words (in JSON where events would be), and no event."""
    assert ran.code == code, ran
    assert ran.out == ""
    sentence = ran.err.splitlines()[-1]
    if sentence.startswith("{"):
        assert json.loads(sentence).keys() == {"error", "code"}
        sentence = json.loads(sentence)["error"]
    else:
        assert sentence.startswith("wakestream: "), ran
    assert "Traceback" not in ran.err
    for word in words:
        assert word in sentence


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def set_up(user: User) -> User:
    """A user whose settings are all there."""
    user.environment |= {"API_SERVER_URL": NOBODY, "WAKESTREAM_KEY": KEY}
    return user


@pytest.mark.parametrize(
    ("files", "flags", "words"),
    [
        (("missing.mp4", "speech.wav"), (), "missing.mp4 does not exist"),
        (("clip.mp4", "missing.wav"), (), "missing.wav does not exist"),
        (("empty.mp4", "speech.wav"), (), "empty.mp4 is empty"),
        (("clip.mp4", "."), (), "is a folder"),
        (("nameless", "speech.wav"), (), "for example to nameless.mp4"),
        (("clip.mp4", "speech.wav"), ("-o", "clip.mp4/out.mp4"), "clip.mp4 is a file, not a folder for the result"),
        (("clip.mp4", "speech.wav"), ("-o", "nowhere/out.mp4"), "the folder nowhere for the result does not exist"),
        (("clip.mp4", "speech.wav"), ("-o", "./clip.mp4"), "one of the inputs"),
        (("clip.mp4", "speech.wav"), ("-o", "speech.wav"), "one of the inputs"),
        *((("clip.mp4", "speech.wav"), ("--job-id", name), "--job-id") for name in ("", " ", "x" * 201, "a\nb")),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    set_up: User, here: Here, files: tuple[str, str], flags: tuple[str, ...], words: str
) -> None:
    (set_up.folder / "empty.mp4").touch()
    (set_up.folder / "nameless").write_bytes(b"x")
    told(here(set_up, "submit", *files, "-o", "out.mp4", *flags), 2, words)
    assert set_up.left() == {"empty.mp4", "nameless"}
    assert set_up.video.read_bytes() == b"video" * 1000


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this account may read everything")
def test_an_unreadable_file_is_reported(set_up: User, here: Here) -> None:
    set_up.video.chmod(0)
    told(here(set_up, *set_up.command()), 2, "clip.mp4", "permissions")


def test_settings_that_are_missing_or_cannot_be_read_are_reported_with_their_source(user: User, here: Here) -> None:
    told(here(user, *user.command()), 2, "no hub is set", "WAKESTREAM_HUB")
    told(here(user, *user.command(), API_SERVER_URL=NOBODY), 2, "no key is set", ".license")
    told(here(user, *user.command("--online-timeout", "soon")), 2, "--online-timeout", "is not a time")
    (user.folder / ".env").write_bytes(b"A=1\nwhat is this\n")
    told(here(user, *user.command()), 2, ".env line 2")


async def test_a_file_that_changes_while_the_gpu_wakes_is_not_sent(user: User) -> None:
    async with field(user, online=False) as (hub, worker), user.submits() as job:
        await job.event("queued")
        user.video.write_bytes(b"another film")
        await go_online(hub, worker)
        ran = await job.ended()
        assert (ran.code, ran.last["code"]) == (1, "file_changed")
        assert "clip.mp4" in ran.last["why"]
        assert f"{md5(user.video)}.mp4" not in worker.files


async def test_media_that_cannot_be_decoded_are_refused_before_the_submit(user: User) -> None:
    await make_speech(user.audio, 1)
    await make_video(user.folder / "good.mp4", 1, size="64x48")
    for video, audio, words in (
        ("clip.mp4", "speech.wav", "clip.mp4 cannot be used as the video"),
        ("speech.wav", "speech.wav", "has no picture in it"),
        ("good.mp4", "good.mp4", "has no sound in it"),
    ):
        command = ("submit", video, audio, "-o", "out.mp4", "--json")
        ran = await user.run(*command, API_SERVER_URL=NOBODY, WAKESTREAM_KEY=KEY, WAKESTREAM_PROBE="true")
        told(ran, 2, words)
    assert user.left() == {"good.mp4"}


async def test_a_job_has_the_duration_of_its_files(user: User) -> None:
    await make_speech(user.audio, 1)
    await make_video(user.video, 2, size="64x48")
    async with field(user):
        ran = await user.submit(WAKESTREAM_PROBE="true")
    first = ran.events[0]
    assert (first["event"], first["data"]) == ("note", {"video_s": pytest.approx(2), "audio_s": pytest.approx(1)})
    assert first["text"] == "clip.mp4 lasts 2.0 s, speech.wav lasts 1.0 s"
    assert ran.code == 0


async def test_a_file_that_is_not_a_video_fails_with_ffmpegs_message(user: User, place: Place) -> None:
    await make_speech(user.audio, 1)
    async with place.hub(), place.worker():
        ran = await user.submit()
    assert (ran.code, ran.last["event"], ran.last["code"]) == (1, "failed", "task_failed")
    assert "Invalid data found when processing input" in ran.last["why"]
    assert user.left() == set()


async def test_a_full_disk_at_the_worker_is_reported_and_the_job_goes_on_when_it_has_room(
    user: User, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, write = True, sink.HashingWriter.write

    def written(writer: sink.HashingWriter, block: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        write(writer, block)

    monkeypatch.setattr(sink.HashingWriter, "write", written)
    with user.video.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    async with place.hub(), place.worker(), user.submits() as job:
        assert "the worker's disk is full" in (await job.event("retrying"))["why"]
        full = False
        ran = await job.ended()
    assert (ran.last["event"], ran.last["code"]) == ("failed", "task_failed"), ran  # zeros are no video


async def test_a_full_disk_at_the_client_is_reported_and_leaves_no_file(user: User, tmp_path: Path) -> None:
    async def unannounced(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(bytes(64 * 1024))
        return response

    with small_disk(tmp_path / "disk") as disk:
        async with field(user) as (_, worker):
            worker.http.before["download"] = unannounced
            ran = await user.submit("-o", str(disk.path / "out.mp4"))
        assert (ran.code, ran.last["code"]) == (1, "no_space"), ran
        assert "no space left" in ran.last["why"]
        assert worker.http.calls["download"] == 1
        assert list(disk.path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="names there are always text")
async def test_names_that_are_no_text_in_any_encoding_are_no_obstacle(user: User) -> None:
    odd = os.fsdecode(b"caf\xe9 \xff.mp4")
    user.video.rename(user.folder / odd)
    async with field(user):
        await user.does("submit", odd, "speech.wav", "-o", "out.mp4", "--json", "--record", "log", *QUICK)
