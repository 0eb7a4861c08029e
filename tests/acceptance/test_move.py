"""The user changes the order of the jobs that wait, by the API and the command line, over restarts and at the GPU."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.our_peers import Joining, Place
from wakestream.operators.model.engine import Frame

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")


class Ordered(Joining):
    """Notes which video it got."""

    def __init__(self) -> None:
        super().__init__()
        self.videos: list[int] = []

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        self.videos.append(video.read_bytes()[0])
        async for frame in super().joined(video, audio, output):
            yield frame


async def submitted(api: RunningDaemon, user: User, *numbers: int) -> None:
    """Submit jobs of different videos, whose first byte is their number."""
    for n in numbers:
        video = user.folder / f"{n}.mp4"
        video.write_bytes(bytes([n]) * 3000)
        fields = {"video": str(video), "output": str(user.folder / f"{n}.out.mp4")}
        assert (await api.submit(user, f"job-{n}", **fields))[0] == 201


async def turns(api: RunningDaemon) -> list[str]:
    """The jobs in the order of their turns."""
    _, found = await api.ask("GET", "/api/jobs?state=open")
    return [job["id"] for job in sorted(found["jobs"], key=lambda job: job["place"])]


@pytest.mark.parametrize("limit", ["1", "200"])
async def test_the_gpu_does_the_jobs_in_the_order_of_the_user_also_after_a_kill(
    user: User, place: Place, limit: str
) -> None:
    async with place.hub():
        async with daemon(user, "--max-running", limit) as api:
            await submitted(api, user, 1, 2, 3, 4, 5)
            await api.until("queued", "job-1")
            for path, body in (
                ("job-5", {"first": True}), ("job-2", {"before": None}), ("job-4", {"before": "job-1"}),
            ):  # fmt: skip
                status, plain = await api.ask("POST", f"/api/jobs/{path}/move", body)
                assert (status, plain["id"]) == (200, path)
            assert await turns(api) == ["job-5", "job-4", "job-1", "job-3", "job-2"]
            await api.until("queued", "job-5")
            await api.kill()
        async with daemon(user, "--max-running", limit) as api:
            assert await turns(api) == ["job-5", "job-4", "job-1", "job-3", "job-2"]
            await api.ask("POST", "/api/jobs/job-3/move", {"first": True})
            await api.until("queued", "job-3")
            if limit == "200":
                await asyncio.gather(*(api.until("queued", f"job-{n}") for n in (1, 2, 4, 5)))
            async with place.worker(engine := Ordered()):
                for n in (1, 2, 3, 4, 5):
                    assert (await api.outcome(f"job-{n}"))["event"] == "done"
            assert engine.videos == [3, 5, 4, 1, 2]


async def test_a_wrong_move_gets_a_sentence_and_changes_nothing(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    async with daemon(user) as api:
        await submitted(api, user, 1, 2, 3)
        for body, wrong in (
            ({}, 400), ({"first": 1}, 400), ({"first": True, "before": None}, 400), ({"before": 7}, 400),
            ({"before": "two words"}, 400), ([], 400), ({"before": "job-9"}, 404), ({"before": "job-1"}, 200),
            ({"after": None}, 400), ({"after": "job-2", "before": "job-3"}, 400), ({"after": "job-9"}, 404),
            ({"first": True, "after": "job-2"}, 400), ({"after": "job-1"}, 200),
        ):  # fmt: skip
            status, plain = await api.ask("POST", "/api/jobs/job-1/move", body)
            assert status == wrong, plain
            assert status == 200 or plain["error"]
        status, plain = await api.ask("POST", "/api/jobs/job-9/move", {"first": True})
        assert (status, plain["code"]) == (404, "unknown_job")
        wrong_token = {"Authorization": "Bearer no"}
        assert (await api.ask("POST", "/api/jobs/job-3/move", {"first": True}, wrong_token))[0] == 401
        assert (await api.ask("POST", "/console/jobs/job-3/move", {"first": True}, wrong_token))[0] == 401
        assert await turns(api) == ["job-1", "job-2", "job-3"]
        await api.ask("POST", "/api/jobs/job-2/cancel")
        await api.outcome("job-2")
        status, plain = await api.ask("POST", "/api/jobs/job-2/move", {"first": True})
        assert (status, plain["error"]) == (
            409, "job job-2 has ended (cancelled); only a job that waits can be moved",
        )  # fmt: skip
        assert (await api.ask("POST", "/api/jobs/job-3/move", {"before": "job-2"}))[0] == 200
        assert await turns(api) == ["job-3", "job-1"]


async def test_the_command_line_moves_jobs(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    async with daemon(user) as api:
        await submitted(api, user, 1, 2, 3)
        ran = await user.run("move", "job-3", "--first")
        assert (ran.code, ran.out) == (0, "job-3: the next one\n"), ran
        ran = await user.run("move", "job-2", "--before", "job-1", "--json")
        assert (ran.code, ran.events) == (0, [{"job": "job-2", "priority": 0}]), ran
        assert await turns(api) == ["job-3", "job-2", "job-1"]
        ran = await user.run("--lang", "zh", "move", "job-3", "--last")
        assert (ran.code, ran.out) == (0, "job-3\uff1a排在最后面\n"), ran
        assert await turns(api) == ["job-2", "job-1", "job-3"]
        ran = await user.run("move", "job-2", "--after", "job-1")
        assert (ran.code, ran.out) == (0, "job-2: behind job-1\n"), ran
        assert await turns(api) == ["job-1", "job-2", "job-3"]
        (await user.run("move", "job-9", "--last")).says("there is no job 'job-9' here", code=1)
        assert (await user.run("move", "job-1")).code == 2
        assert (await user.run("move", "job-1", "--first", "--last")).code == 2
