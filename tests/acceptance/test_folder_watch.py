"""`daemon --watch DIR`, as a program."""

from __future__ import annotations

import shutil

from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.our_peers import Joining, Place, until

RESULT = b"video" * 1000 + b"audio" * 500


async def test_a_pair_in_the_folder_is_done_once_also_after_a_kill(user: User, place: Place) -> None:
    folder = user.folder / "incoming"
    folder.mkdir()
    async with place.hub(), place.worker(Joining()):
        async with daemon(user, "--watch", str(folder), "--no-probe") as api:
            shutil.copy(user.video, folder / "clip.mp4")
            shutil.copy(user.audio, folder / "Clip_audio.wav")
            (folder / "notes.txt").write_text("not for a GPU")
            result = folder / "results" / "clip - Clip_audio.mp4"
            await until(result.exists)
            (job,) = (await api.ask("GET", "/api/jobs"))[1]["jobs"]
            assert (await api.outcome(job["id"]))["event"] == "done"
            assert result.read_bytes() == RESULT
            await api.kill()
        async with daemon(user, "--watch", str(folder), "--no-probe") as api:
            shutil.copy(user.video, folder / "two.mp4")
            shutil.copy(user.audio, folder / "two.wav")
            await until((folder / "results" / "two.mp4").exists)  # so it has looked at the first pair again
            jobs = (await api.ask("GET", "/api/jobs"))[1]["jobs"]
            assert [one["id"] for one in jobs][1:] == [job["id"]]
            assert len(jobs) == 2


async def test_a_folder_that_is_not_there_yet_is_named_and_watched_when_it_comes(user: User, place: Place) -> None:
    folder = user.folder / "later"
    async with place.hub(), place.worker(Joining()), daemon(user, "--watch", str(folder), "--no-probe") as api:
        assert (await api.ask("GET", "/api/jobs"))[1]["jobs"] == []
        folder.mkdir()
        shutil.copy(user.video, folder / "a.mp4")
        shutil.copy(user.audio, folder / "a.wav")
        await until((folder / "results" / "a.mp4").exists)
        assert (folder / "results" / "a.mp4").read_bytes() == RESULT
