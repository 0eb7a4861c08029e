"""Jobs that wait for their files, on the disk: their records go for good, and unused files are not expected."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from wakestream.adapters.daemon.api.auth import bad_request
from wakestream.adapters.daemon.api.requests import SubmittedJob, submitted_job
from wakestream.adapters.daemon.console import waiting
from wakestream.adapters.daemon.console.upload_validation import Announced
from wakestream.adapters.daemon.console.uploads import UploadedFile, Uploads
from wakestream.adapters.daemon.console.waiting import Started, Waiting, WaitingJobs


async def unused(_: Waiting) -> None:
    """No job is submitted here."""


def ask(started: Started, files: Mapping[str, UploadedFile]) -> SubmittedJob:
    """A job; one with the id `refused` cannot be one."""
    if started.id == "refused":
        raise bad_request("a rule that is newer than the record")
    inputs = {name: str(upload.path) for name, upload in files.items()}
    made = {name: f"/results/{started.id}{ending}" for name, ending in started.outputs.items()}
    return submitted_job({"id": started.id, "kind": started.kind, "inputs": inputs, "outputs": made})


class Place:
    """The waiting jobs of one run after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: WaitingJobs
        self.begin()

    def begin(self, submitted: Container[str] = ()) -> None:
        """Begin the next run."""
        uploads = Uploads(self.folder / "uploads", lambda: self.jobs.paths(), lambda: 0)
        self.jobs = WaitingJobs(self.folder / "waiting", uploads, unused, lambda *_: None)
        self.jobs.load(ask, submitted)

    async def add(self, job: str, *, file: UploadedFile | None = None) -> UploadedFile:
        """Let a job wait for a file that the daemon copies."""
        announced = Announced("file", "a.glb", 5, (), "mesh.file")
        upload = file or self.jobs.uploads.announce(announced, (), "https://x.invalid/a.glb")
        files = {"one": upload, "two": upload}
        started = Started(id=job, kind="turn", outputs={"o": ".png"})
        asked = ask(replace(started, id="any-job"), files)
        await self.jobs.add(Waiting(started, asked, files, 1.0))
        return upload

    @property
    def records(self) -> list[str]:
        """The names of the records on the disk."""
        return sorted(path.name for path in (self.folder / "waiting").iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder."""
    return Place(tmp_path)


async def test_a_dropped_job_whose_record_is_in_use_does_not_come_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.add("job-1")
    await place.add("job-2")
    unlink, left = Path.unlink, [1, 1]

    def in_use(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json" and left:
            left.pop()
            raise PermissionError("a scanner reads it")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", in_use)
    assert await place.jobs.drop("job-1") is not None
    assert len(place.records) == 2
    assert await place.jobs.drop("job-2") is not None
    assert left == []
    await place.add("job-3")
    place.begin()
    assert list(place.jobs.jobs) == ["job-3"]


async def test_the_record_of_a_dropped_job_is_removed_patiently_and_for_good(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []

    def patiently(call: Callable[[], object]) -> None:
        happened.append("retry")
        call()

    monkeypatch.setattr(waiting, "retry_in_use", patiently)
    monkeypatch.setattr(waiting, "sync_folder", happened.append)
    await place.add("job-1")
    await place.jobs.drop("job-1")
    assert (place.records, happened) == ([], ["retry", place.folder / "waiting"])


async def test_a_job_that_takes_the_id_of_a_dropped_one_keeps_its_record(place: Place) -> None:
    upload = await place.add("job-1")
    await place.jobs.drop("job-1")
    await place.add("job-1", file=upload)
    await place.jobs.clear()
    assert place.records == ["job-1.json"]


async def test_the_record_of_a_submitted_job_goes(place: Place) -> None:
    await place.add("job-1")
    place.begin(submitted={"job-1"})
    await place.jobs.go_on(lambda _: None)
    assert (place.records, place.jobs.jobs, place.jobs.uploads.used) == ([], {}, 0)


@pytest.mark.parametrize("job", ["refused", "submitted"])
async def test_a_file_that_no_job_waits_for_takes_no_space(place: Place, job: str) -> None:
    await place.add(job)
    place.begin(submitted={"submitted"})
    assert (place.jobs.jobs, place.jobs.uploads.used) == ({}, 0)


async def test_a_file_of_several_jobs_is_expected_if_one_of_them_waits(place: Place) -> None:
    upload = await place.add("refused")
    await place.add("job-1", file=upload)
    place.begin()
    (job,) = place.jobs.jobs.values()
    assert place.jobs.uploads.used == 5
    assert all(place.jobs.uploads.knows(one) for one in job.files.values())
