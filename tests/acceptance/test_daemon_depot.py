"""Jobs by way of our own depot, with a real hub and worker: the PC is off, and its programs are killed, meanwhile."""

import sys
from pathlib import Path

import pytest

from tests.acceptance.test_daemon import RESULT, Counting
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.depot_scene import depot_of
from tests.support.programs.leaving_client import client
from tests.support.programs.our_peers import Place, until
from wakestream.streams.hub import depot_files
from wakestream.streams.protocol import depot_messages as d

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")

SUBMIT = ("clip.mp4", "speech.wav", "-o", "out.mp4", "--plain", "--leave")


async def test_a_stored_job_is_done_while_its_pc_is_off_and_the_daemon_fetches_the_result_once(
    user: User, place: Place
) -> None:
    async with place.hub() as hub, depot_of(place, hub):
        async with daemon(user) as api:
            await api.submit(user)
            assert (await api.until("stored"))["until"] > 0
            await api.kill()
        async with place.worker(engine := Counting()):
            await until(lambda: "job-1" in hub.state.delivered)
        async with daemon(user) as api:
            assert (await api.outcome())["event"] == "done"
            events = [event["event"] async for _, event in api.events()]
            assert user.out.read_bytes() == RESULT
            await until(lambda: not hub.state.delivered)
        assert "storing" not in events
        assert engine.runs == 1
        assert user.left() == {"out.mp4"}


async def test_leave_returns_when_the_files_are_in_the_depot_and_the_same_job_fetches_the_result(
    user: User, place: Place
) -> None:
    async with place.hub() as hub, depot_of(place, hub):
        said = await user.run("submit", *SUBMIT, "--job-id", "job-1")
        assert said.code == 0, said
        assert "The files are in the depot. Leave this PC on: the hub runs on it." in said.out
        assert "--job-id job-1" in said.out
        async with place.worker(engine := Counting()):
            await until(lambda: "job-1" in hub.state.delivered)
        again = await user.run("submit", *SUBMIT[:-1], "--job-id", "job-1")
        assert again.code == 0, again
        assert user.out.read_bytes() == RESULT
        assert engine.runs == 1


async def test_leave_with_a_daemon_returns_too_and_without_a_depot_it_says_that_the_pc_must_stay_on(
    user: User, place: Place
) -> None:
    async with place.hub() as hub:
        async with depot_of(place, hub), daemon(user) as api:
            said = await user.run("submit", *SUBMIT, "--job-id", "job-1")
            assert (said.code, "Leave this PC on: the hub runs on it" in said.out) == (0, True)
            async with place.worker(Counting()):
                assert (await api.outcome())["event"] == "done"
        async with daemon(user), place.worker(Counting()):
            said = await user.run("submit", *SUBMIT, "--job-id", "job-2", "--overwrite", "--again")
            assert (said.code, "this PC must stay on until the job is done" in said.out) == (0, True)


@pytest.mark.parametrize("kept", [True, False], ids=["files kept", "files gone"])
async def test_a_pc_that_is_back_after_the_results_were_kept_has_the_job_done_again_or_says_why_not(
    user: User, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(depot_files, "EVERY", 0.1)
    async with place.hub(depot_keep=5.0) as hub, depot_of(place, hub):
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("stored")
            await api.kill()
        async with place.worker(Counting()):
            await until(lambda: "job-1" in hub.state.delivered)
        async with client(place, tmp_path) as other:  # the owner's connection
            assert (await other.first(d.DepotExpiring)).jobs == ("job-1",)
        await until(lambda: not hub.state.delivered and not any(hub.state.in_depot.values()))
        if not kept:
            user.video.unlink()
        async with daemon(user) as api, place.worker(Counting()):
            outcome = await api.outcome()
            assert outcome.get("code", outcome["event"]) == ("done" if kept else "file_unusable"), outcome
