"""`wakestream demo` as a newcomer runs it, to its end and broken off."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.support.programs.client_scene import WITHIN, Running, User
from tests.support.programs.here import Here
from wakestream.adapters.engines.samples import make_speech, make_video

DEMO = ("demo", "--boot-seconds", "0.2", "-o", "out.mp4", "--video", "clip.mp4", "--audio", "speech.wav")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are looked up in /proc")


@pytest.fixture
async def newcomer(user: User) -> User:
    """Has a short clip and a short sentence, and a mark by which the processes of this test are known."""
    await make_video(user.video, 1, size="160x120")
    await make_speech(user.audio, 1.5)
    (user.folder / "tmp").mkdir()
    user.environment |= {"A_MARK_OF_THIS_TEST": uuid.uuid4().hex, "TMPDIR": str(user.folder / "tmp")}
    return user


def processes_of(user: User) -> set[int]:
    """Every process that bears the mark."""
    mark = user.environment["A_MARK_OF_THIS_TEST"].encode()
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def program_of(demo: Running, name: str) -> int:
    """The process of one of the demo's own programs."""
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text("ascii").split()
    return next(int(pid) for pid in children if f"\0{name}\0" in Path(f"/proc/{pid}/cmdline").read_text())


async def gone(pids: set[int]) -> None:
    """Returns when all of them have ended."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, ended.set)
        try:
            async with asyncio.timeout(WITHIN):
                await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)


async def until(running: Running, words: str) -> str:
    """What it printed, up to a line with these words."""
    assert running.process.stdout is not None
    said = []
    async with asyncio.timeout(WITHIN):
        while words not in (said[-1] if said else ""):
            line = (await running.process.stdout.readline()).decode()
            assert line, said
            said.append(line)
    return "".join(said)


def decoded(file: Path, stream: str) -> float:
    """Seconds of one stream, by decoding all of it."""
    ran = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-i", str(file), "-map", stream, "-f", "null", "-"],
        capture_output=True, text=True, timeout=WITHIN, check=True,
    )  # fmt: skip
    hours, minutes, seconds = re.findall(r"time=(\d+):(\d+):(\d+\.\d+)", ran.stderr)[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def roughly(text: str) -> set[str]:
    """Its lines and the rows of its table by their words, without numbers and names of files."""
    lines = [re.sub(r"\S+\.(?:mp4|wav)|[\d.]+(?: (?:[kMG]?B|s)\b)?", "#", line) for line in text.splitlines()]
    rows = [line.split("│")[1] if "│" in line else re.sub("[─-╿]+", "", line) for line in lines]
    return {" ".join(row.split()) for row in rows}


@contextmanager
def settings_of_the_user(newcomer: User, own: Path) -> Iterator[dict[str, str]]:
    """Settings by which none of the demo's programs would work: those in the environment."""
    (own / "wakestream.toml").write_text("nonsense = 1\n", "utf-8")
    (newcomer.folder / "wakestream.toml").write_text('tls_cert = "a.pem"\ntls_key = "a.key"\n', "utf-8")
    (newcomer.folder / ".env").write_text("WAKESTREAM_LOG_FORMAT=json\nHEYGEM_SERVER_URL=http://127.0.0.1:9\n", "utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield {
            "WAKESTREAM_CONFIG": str(own),
            "WAKESTREAM_METRICS": f"127.0.0.1:{taken.getsockname()[1]}",
            "WAKESTREAM_TLS_CERT": "no.pem",
            "WAKESTREAM_RECORD": str(own / "records"),
            "API_SERVER_URL": "http://127.0.0.1:9",
        }
    assert {path.name for path in own.iterdir()} == {"wakestream.toml"}


async def test_the_demo_starts_the_gpu_renders_twice_reuses_files_and_stops_the_gpu_whatever_the_users_settings_are(
    newcomer: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with settings_of_the_user(newcomer, tmp_path_factory.mktemp("own")) as users:
        ran = await newcomer.run(*DEMO, **users)
    assert ran.code == 0, ran
    shown = re.findall(r"^```text\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[0]
    assert roughly(shown) - roughly(ran.out) == set()
    table = {
        cells[0]: cells[1:] for line in ran.out.splitlines() if (cells := re.findall(r"[^│]*[^│\s][^│]*", line))[1:]
    }
    table = {name.strip(): [cell.strip() for cell in cells] for name, cells in table.items()}
    assert table["branch"] == ["offline", "online"]
    assert table["bytes sent"][1] == table["bytes saved"][0] == "0 B"
    assert table["bytes sent"][0] == table["bytes saved"][1] != "0 B"
    assert "the GPU is off again" in ran.out
    assert "GPU off after" in table
    for name in ("out.mp4", "out-2.mp4"):
        assert f"{newcomer.folder / name}" in ran.out
        assert decoded(newcomer.folder / name, "0:v:0") == pytest.approx(1.5, abs=0.2)
        assert decoded(newcomer.folder / name, "0:a:0") == pytest.approx(1.5, abs=0.2)
    assert list((newcomer.folder / "tmp").iterdir()) == []
    if sys.platform.startswith("linux"):
        assert processes_of(newcomer) == set()


@linux
async def test_ctrl_c_in_the_middle_stops_and_cleans_everything(newcomer: User) -> None:
    async with newcomer.runs(*DEMO) as demo:
        await until(demo, "the GPU is off: job queued")
        assert len(processes_of(newcomer)) >= 3
        demo.interrupt()
        ran = await demo.ended()
    assert ran.code == 130, ran
    assert "Traceback" not in ran.err + ran.out
    assert processes_of(newcomer) == set()
    assert list((newcomer.folder / "tmp").iterdir()) == []
    assert newcomer.left() == {"tmp"}


@linux
@pytest.mark.parametrize("name", ["hub", "monitor"])
async def test_a_demo_program_that_exits_is_reported_with_its_last_lines(newcomer: User, name: str) -> None:
    async with newcomer.runs("demo", "--boot-seconds", "600", *DEMO[3:]) as demo:
        await until(demo, "the GPU is off: job queued")
        os.kill(program_of(demo, name), signal.SIGKILL)
        ran = await demo.ended()
    assert ran.code == 1, ran
    assert f"the {name} has ended (signal 9); its last lines:" in ran.err, ran
    assert "Traceback" not in ran.out + ran.err
    await gone(processes_of(newcomer))  # the worker ends with the monitor that started it


@linux
@pytest.mark.parametrize("words", ["starting hub and monitor", "rendering"])
async def test_killed_in_the_middle_it_leaves_no_program_behind(newcomer: User, words: str) -> None:
    async with newcomer.runs(*DEMO) as demo:
        await until(demo, words)
        children = processes_of(newcomer)
        demo.process.kill()
        assert await demo.process.wait() == -signal.SIGKILL
        await gone(children)
        await gone(processes_of(newcomer))
        assert processes_of(newcomer) == set()


async def test_with_open_the_console_shows_it_until_ctrl_c(newcomer: User) -> None:
    opened = newcomer.folder / "opened"
    browser = newcomer.folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    async with newcomer.runs(*DEMO, "--open", "--speed", "20", BROWSER=str(browser)) as demo:
        await until(demo, "the web console is open in your browser")
        assert opened.read_text().strip().endswith("open-console.html")
        said = await until(demo, "the web console stays open until Ctrl-C")
        demo.interrupt()
        ran = await demo.ended()
    assert ran.code == 0, ran
    assert "wakestream submit VIDEO AUDIO" in said
    assert (newcomer.folder / "out-2.mp4").exists()
    await gone(processes_of(newcomer))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--video", "missing.mp4"), "missing.mp4 does not exist"),
        (("-o", "nowhere/out.mp4"), "the folder nowhere"),
        (("--video", "clip.mp4", "-o", "clip.mp4"), "one of the inputs"),
        (("--video", "out-2.mp4", "-o", "out.mp4"), "one of the inputs"),
        (("--video", "clip"), "for example to clip.mp4"),
        (("--boot-seconds", "-1"), "'-1' is no number of seconds from 0 to 600"),
        (("--speed", "0.5"), "'0.5' is no number from 1 to 20"),
        (("--boot-seconds", "soon"), "'soon' is no number of seconds from 0 to 600"),
    ],
)
def test_wrong_usage_is_reported_before_anything_starts(
    user: User, here: Here, arguments: tuple[str, ...], words: str
) -> None:
    for name in ("out-2.mp4", "clip"):
        (user.folder / name).write_bytes(b"x")
    assert here(user, "demo", *arguments).says(words, code=2).out == ""


async def test_a_clip_that_is_not_a_video_ends_the_demo_with_the_reason(newcomer: User) -> None:
    newcomer.video.write_bytes(b"no film" * 1000)
    ran = await newcomer.run(*DEMO)
    assert ran.code == 1, ran
    assert "Invalid data found" in ran.out
    assert "Traceback" not in ran.out + ran.err
