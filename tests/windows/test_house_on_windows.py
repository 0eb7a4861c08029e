"""The real programs, each a process under the emulation: jobs are done, stopped, and outlive programs that are killed.

What the emulation covers, and what it does not, stands in `as_on_windows.py`; this is no run on Windows.
"""

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.programs.client_scene import QUICK, Ran, Running, User
from tests.support.windows.as_on_windows import HERE, environment
from wakestream.adapters.engines.samples import make_speech, make_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is emulated is emulated upon Linux")

CTRL_BREAK = signal.SIGUSR1


@dataclass
class House:
    """A user's folder with everything in it, and the programs that run."""

    user: User
    running: dict[str, Running] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    flags: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def hold(self) -> Path:
        """While this file is there, engines do not come to an end."""
        return self.user.folder / "hold"

    async def start(self, name: str) -> str:
        """Start a program; where it listens."""
        running = await self.stack.enter_async_context(self.user.runs(name, *self.flags[name]))
        self.running[name] = running
        try:
            return await running.address()
        except IndexError:
            raise AssertionError(f"{name} did not start: {await running.ended()}") from None

    async def kill(self, name: str) -> None:
        """As the task manager does."""
        self.running[name].process.kill()
        await self.running[name].process.wait()

    async def stop(self, name: str) -> Ran:
        """By Ctrl-Break."""
        self.running[name].process.send_signal(CTRL_BREAK)
        return await self.running[name].ended()

    async def says(self, *command: str) -> Ran:
        """A command, to its end; it went well, and complained of nothing."""
        ran = await self.user.run(*command)
        assert ran.code == 0, ran
        assert "Traceback" not in ran.err
        return ran

    async def detach(self, name: str, video: str = "clip.mp4") -> None:
        """Hand a job to the daemon."""
        ran = await self.says("submit", video, "speech.wav", "-o", f"{name}.mp4", "--job-id", name, "--detach")
        assert ran.out.strip() == name

    async def rendering(self, name: str) -> None:
        """Returns when the job's engine runs; it is known by its output, which it has open."""
        async with self.user.runs("watch", name, "--json") as watching:
            await watching.event("running", status="synthesizing")

    async def outcome(self, name: str) -> str:
        """How the job ended."""
        ran = await self.user.run("watch", name, "--json")
        return str(json.loads(ran.out.splitlines()[-1])["event"])


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Hub, worker and daemon at work, with keys of their own."""
    folder = tmp_path / "Über uns 说话"  # what people call their folders
    folder.mkdir()
    user = User(folder, **environment({}), HEYGEM_API_SECRET="swordfish-0123456789")
    house = House(user)
    program = (sys.executable, str(HERE.parent / "engines" / "engine.py"), "--hold", str(house.hold))
    engine = json.dumps([*program, "{video}", "{audio}", "{output}"])
    for role in ("client", "worker"):
        key = (await house.says("license", "issue", "--role", role, "--state", "hub")).out
        (folder / f"{role}.key").write_text(key, encoding="ascii")
    house.flags["hub"] = ("--listen", f"127.0.0.1:{free_port()}", "--state", "hub", "--record", "records")
    async with house.stack:
        hub = await house.start("hub")
        user.environment |= {"API_SERVER_URL": hub, "WAKESTREAM_KEY_FILE": "client.key"}
        house.flags["worker"] = (
            "--listen", f"127.0.0.1:{free_port()}", "--state", "worker", "--key-file", "worker.key",
            "--engine", "command", "--command", engine,
        )  # fmt: skip
        house.flags["daemon"] = (*QUICK, "--log-file", "daemon.log", "--record", "records")
        await house.start("worker")
        await house.start("daemon")
        yield house
    for name, running in house.running.items():
        assert "Traceback" not in (await running.ended()).err, name


async def test_jobs_are_done_and_stopped_by_programs_under_the_rules_of_windows(house: House) -> None:
    user = house.user
    ran = await user.submit("--job-id", "one")
    assert (ran.code, ran.last["event"]) == (0, "done"), ran
    assert user.out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()

    house.hold.touch()
    user.video.write_bytes(b"another film" * 100_000)
    await house.detach("two")
    await house.rendering("two")
    listed = [json.loads(line) for line in (await house.says("jobs", "--json")).out.splitlines()]
    assert [(job["id"], job["state"]) for job in listed] == [("two", "open")]
    shown = (await house.says("--lang", "zh", "jobs", "--all")).out
    assert "两" not in shown
    assert "正在" in shown or "合成" in shown, shown
    await house.says("cancel", "two")
    assert await house.outcome("two") == "cancelled"
    house.hold.unlink()

    assert "#link=" in (await house.says("console")).out
    assert "gpu" in (await house.says("status")).out
    assert "two" in (await house.says("logs", "daemon.log", "--job", "two")).out
    found = await user.run("doctor", "--json")
    faults = {line["check"] for line in map(json.loads, found.out.splitlines()) if line.get("level") == "fault"}
    assert faults == {"monitor"}, found  # this scene has no monitor
    assert user.left() >= {"out.mp4", "daemon.log", "records"}
    assert [name for name in user.left() if name.endswith(".part")] == []
    for name in ("daemon", "worker", "hub"):
        assert (await house.stop(name)).code == 0, name


async def test_killed_in_the_middle_of_a_job_they_go_on_and_do_it(house: House) -> None:
    user = house.user
    house.hold.touch()
    await house.detach("one")
    await house.rendering("one")
    for name in ("daemon", "worker", "hub"):
        await house.kill(name)
    parts = list((user.folder / "worker" / "partial").glob("*.part"))
    assert len(parts) == 1
    for name in ("hub", "worker", "daemon"):
        await house.start(name)
    await house.rendering("one")
    house.hold.unlink()
    assert await house.outcome("one") == "done"
    assert (user.folder / "one.mp4").read_bytes() == user.video.read_bytes() + user.audio.read_bytes()
    assert [each for each in parts if each.exists()] == []
    ran = await user.submit("--job-id", "again")
    assert (ran.code, ran.last["event"]) == (0, "done"), ran


async def test_the_demo_runs_under_the_rules_of_windows(tmp_path: Path) -> None:
    user = User(tmp_path, **environment({}))
    await make_video(user.video, 1, size="64x64", rate=10)
    await make_speech(user.audio, 1)
    given = ("--video", "clip.mp4", "--audio", "speech.wav", "--boot-seconds", "0.2")
    ran = await _patiently(user, "demo", *given, "--record", "night")
    assert ran.code == 0, ran
    assert "Traceback" not in ran.err
    assert (tmp_path / "wakestream-demo-2.mp4").stat().st_size > 0
    replayed = await user.run("replay", "night")
    assert replayed.code == 0, replayed


async def _patiently(user: User, *command: str) -> Ran:
    """As `User.run`, for what takes its time."""
    async with user.runs(*command) as running:
        assert running.process.stdout is not None
        out = await running.process.stdout.read()
        ran = await running.ended()
        return Ran(ran.code, out.decode(), ran.err)
