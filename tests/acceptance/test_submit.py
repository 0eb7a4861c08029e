"""`wakestream submit` as a process: against our own programs, and against a hub and a worker of the field."""

from pathlib import Path

from tests.support.field.house import field, go_online
from tests.support.field.worker import rendered
from tests.support.programs.client_scene import Ran, User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.our_peers import Joining, Place, held, until
from wakestream.adapters.cli.demo.processes import house
from wakestream.adapters.engines.samples import make_speech, make_video

AGAIN = ("--again", "--no-probe")
BODY = rendered(b"audio" * 500, b"video" * 1000)


def assert_whole(ran: Ran, user: User, branch: str) -> None:
    assert (ran.code, ran.last["event"]) == (0, "done"), ran
    assert [event["branch"] for event in ran.all("granted")] == [branch]
    assert user.out.read_bytes() == BODY
    assert user.left() == {"out.mp4"}


async def test_an_old_hub_whose_gpu_is_on_and_an_old_worker_give_the_result(user: User) -> None:
    async with field(user, online=True) as (hub, worker):
        ran = await user.submit()
        assert_whole(ran, user, "online")
        assert hub.faults == worker.http.faults == []
        assert worker.http.calls["upload_file"] == 2
        again = await user.submit()
        assert (again.code, worker.http.calls["upload_file"]) == (0, 2)
        assert again.all("checked")[0]["missing"] == []
        assert again.all("submitted")[0]["cached"] is True


async def test_an_old_hub_whose_gpu_is_off_is_waited_for_until_it_broadcasts_online(user: User) -> None:
    async with field(user, online=False) as (hub, worker):
        async with user.submits() as job:
            await job.event("queued")
            await go_online(hub, worker)
            assert_whole(await job.ended(), user, "offline")
        assert hub.faults == worker.http.faults == []
        assert len(hub.submits) == 1


async def test_our_hub_and_worker_give_the_result_and_release_the_gpu(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(Joining()):
        ran = await user.submit("--job-id", "job-1")
        assert (ran.code, ran.last["event"], user.left()) == (0, "done", {"out.mp4"}), ran
        assert user.out.read_bytes() == b"video" * 1000 + b"audio" * 500
        assert ran.all("granted")[0]["gpu"] == "gpu"
        await until(lambda: held(hub) == [])


async def test_all_our_programs_wake_the_gpu_for_a_job_and_find_it_on_for_the_next(user: User, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "house").mkdir()
    async with (
        house(tmp_path / "house", lambda _, line: said.append(line), boot_seconds=0.1, idle_after=60) as running,
    ):
        found = running.settings
        user.at_home(found)
        await make_video(user.video, 1, size="160x120")
        await make_speech(user.audio, 1)
        first, second = await user.submit(), await user.submit()
    assert (first.code, second.code) == (0, 0), (first, said)
    assert [ran.all("granted")[0]["branch"] for ran in (first, second)] == ["offline", "online"]
    assert (second.all("checked")[0]["missing"], second.all("submitted")[0]["cached"]) == ([], True)
    for secret in (found.key, found.api_secret):
        assert secret is not None
        assert all(secret not in text for text in (first.out, first.err, *said))


async def test_no_file_is_replaced_unless_that_is_wanted(user: User, place: Place) -> None:
    take = ("submit", "clip.mp4", "speech.wav", "--json")
    async with place.hub(), place.worker(Joining()):
        paths = [(await user.run(*take)).last["path"] for _ in range(2)]
        assert [Path(path).name for path in paths] == ["clip.synced.mp4", "clip.synced-2.mp4"]
        user.out.write_bytes(b"a holiday")
        for how in ("--foreground", "--plain"):
            (await user.run(*take[:-1], "-o", "out.mp4", how)).refuses(
                "out.mp4 exists; choose another name with -o, or give --overwrite"
            )
        assert user.out.read_bytes() == b"a holiday"
        assert (await user.run(*take, "-o", "out.mp4", "--overwrite")).code == 0
        assert user.out.read_bytes() == b"video" * 1000 + b"audio" * 500


async def test_open_jobs_of_one_clip_get_names_of_their_own_and_a_file_that_comes_later_stays(
    user: User, place: Place
) -> None:
    async with place.hub(), daemon(user) as api:
        for job in ("one", "two"):
            await user.does("submit", "clip.mp4", "speech.wav", "--detach", "--job-id", job, *AGAIN)
        planned = [Path((await api.job(job))["output"]).name for job in ("one", "two")]
        assert planned == ["clip.synced.mp4", "clip.synced-2.mp4"]
        await user.does("submit", "clip.mp4", "speech.wav", "--detach", "--job-id", "one", *AGAIN)
        (user.folder / "clip.synced.mp4").write_bytes(b"the user's")
        async with place.worker(Joining()):
            made = {(await api.outcome(job))["path"] for job in ("one", "two")}
        assert {Path(path).name for path in made} == {"clip.synced-2.mp4", "clip.synced-3.mp4"}
        assert (user.folder / "clip.synced.mp4").read_bytes() == b"the user's"
        assert {Path(path).read_bytes() for path in made} == {b"video" * 1000 + b"audio" * 500}
