"""Three jobs in a row in the daemon, by `submit --after`: killed, failed and tried again, with real programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.client_scene import Ran, User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.here import Here
from tests.support.programs.our_peers import Place, gpu_online


@pytest.fixture
def scene(tmp_path: Path, user: User) -> Scene:
    return Scene(tmp_path, Place(tmp_path, user))


@asynccontextmanager
async def running(scene: Scene, user: User, *, worker: bool = True) -> AsyncIterator[None]:
    """Hub and worker, with the settings for the user's daemon."""
    async with scene.place.hub() as hub, AsyncExitStack() as stack:
        if worker:
            await stack.enter_async_context(scene.worker())
            await gpu_online(hub)
        yield


def stage(job: str, kind: str, *inputs: str, after: Sequence[str] = ()) -> list[str]:
    named = [flag for text in inputs for flag in ("--in", text)]
    follows = [flag for before in after for flag in ("--after", before)]
    return [
        "submit", "--job-id", job, "--detach", "--json", "--wake-to-ask", "--kind", kind, *named, *follows,
        "--out", f"whole={job}.bin",
    ]  # fmt: skip


async def submit_three(user: User) -> list[Ran]:
    return [
        await user.run(*stage("one", "join", "first=clip.mp4", "second=speech.wav")),
        await user.run(*stage("two", "reverse", "first=@one:whole", after=["one"])),
        await user.run(*stage("three", "join", "first=@two", "second=@one:whole")),
    ]


def result(user: User) -> bytes:
    one = user.video.read_bytes() + user.audio.read_bytes()
    return one[::-1] + one


async def test_three_jobs_that_were_submitted_together_run_in_a_row_although_the_daemon_is_killed(
    scene: Scene, user: User
) -> None:
    async with running(scene, user):
        scene.engine.go_on.clear()
        async with daemon(user) as api:
            assert [ran.code for ran in await submit_three(user)] == [0, 0, 0]
            await scene.engine.began.wait()
            waits = await api.until("note", "three")
            assert waits["data"] == {"after": ["two", "one"]}
            await api.kill()
        scene.engine.go_on.set()
        async with daemon(user) as api:
            assert (await api.outcome("three"))["event"] == "done"
            sent = [(await api.until("uploaded", job))["sent"] for job in ("two", "three")]
        assert (user.folder / "three.bin").read_bytes() == result(user)
        assert sent == [0, 0], "what one job makes is at the worker for the next"


async def test_after_a_failure_in_the_middle_one_retry_continues_there(scene: Scene, user: User) -> None:
    async with running(scene, user), daemon(user) as api:
        scene.engine.failing = 2
        scene.engine.go_on.clear()
        await submit_three(user)
        scene.engine.go_on.set()
        failed = await api.outcome("three")
        assert (failed["code"], failed["why"]) == (
            "after_failed", "job two, whose result it needs, failed: this work fails"
        )  # fmt: skip
        (await user.run(*stage("four", "reverse", "first=@two"))).refuses("wakestream retry two")
        scene.engine.failing = 0
        again = await user.does("retry", "three", "--json")
        (new,) = again.events
        assert (await api.outcome(new["job"]))["event"] == "done"
        assert [work.kind for work in scene.engine.works] == ["join", "reverse", "reverse", "join"]
        assert (user.folder / "three.bin").read_bytes() == result(user)


async def test_a_retry_that_cannot_run_submits_none_of_the_jobs_before_it(scene: Scene, user: User) -> None:
    async with running(scene, user), daemon(user) as api:
        scene.engine.failing = 2
        scene.engine.go_on.clear()
        await submit_three(user)
        await user.run(*stage("four", "join", "first=@two", "second=speech.wav"))
        scene.engine.go_on.set()
        await api.outcome("four")
        user.audio.unlink()
        refused = await user.run("retry", "four")
        assert "speech.wav does not exist" in refused.err
        listed = await user.run("jobs", "--all", "--json")
        assert {job["id"] for job in listed.events} == {"one", "two", "three", "four"}


THEN = [
    "submit", "--job-id", "one", "--kind", "join", "--in", "first=clip.mp4", "--in", "second=speech.wav",
    "--then", "--job-id", "two", "--kind", "reverse", "--in", "first=@:whole",
    "--then", "--job-id", "three", "--kind", "join", "--in", "first=@:whole", "--in", "second=@one:whole",
]  # fmt: skip


async def test_one_submit_of_three_jobs_follows_the_last(scene: Scene, user: User) -> None:
    async with running(scene, user), daemon(user) as api:
        ran = await user.does(*THEN, "--out", "whole=three.bin", "--json")
        assert ran.events[-1]["event"] == "done"
        assert [(await api.job(job))["state"] for job in ("one", "two", "three")] == ["done"] * 3
    assert (user.folder / "three.bin").read_bytes() == result(user)


async def test_all_jobs_of_a_chain_are_checked_before_the_first_is_submitted(scene: Scene, user: User) -> None:
    async with running(scene, user), daemon(user) as api:
        for wrong, words in (
            (["--in", "second=@one:nothing"], "job one has no result 'nothing'; it has whole"),
            (["--param", "times=99", "--in", "second=@one"], "times"),
            (["--in", "third=@one"], "no input 'third'"),
        ):
            (await user.run(*THEN[:-2], *wrong, "--out", "whole=three.bin")).refuses(words)
        assert (await api.ask("GET", "/api/jobs"))[1]["jobs"] == []
    assert not scene.engine.works


async def test_a_result_that_there_will_never_be_is_refused_with_the_field(scene: Scene, user: User) -> None:
    async with running(scene, user, worker=False), daemon(user):
        await user.run(*stage("one", "join", "first=clip.mp4"))
        for given, words in (
            ("first=@nothing:whole", "inputs.first: there is no job 'nothing' here"),
            ("first=@one:log", "inputs.first: job one has no result 'log'; it has whole"),
            ("first=@", "inputs.first: there is no job '' here"),
        ):
            (await user.run(*stage("two", "reverse", given))).refuses(words)


def test_without_a_daemon_it_says_that_one_is_needed(user: User, here: Here) -> None:
    here(user, *stage("two", "reverse", "first=@one", after=["one"])).refuses("wakestream daemon")


async def test_a_result_that_is_gone_is_refused_before_the_gpu_is_woken(scene: Scene, user: User) -> None:
    async with running(scene, user), daemon(user) as api:
        await user.run(*stage("one", "join", "first=clip.mp4"))
        await api.outcome("one")
        (user.folder / "one.bin").unlink()
        refused = await user.run(*stage("two", "reverse", "first=@one"))
    assert refused.code != 0
    assert "one.bin" in refused.err
