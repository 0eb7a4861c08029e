"""What the worker keeps in mind of jobs that are over, under floods too."""

import pytest

from wakestream.adapters.net import capability_keys as ended_jobs
from wakestream.adapters.net.capability_keys import EndedJobs
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import LEEWAY

NOW = 1000.0


@pytest.fixture
def jobs() -> EndedJobs:
    return EndedJobs(lambda: NOW)


def test_a_job_that_the_hub_ended_is_over_for_its_license_alone_until_it_has_a_gpu_again(jobs: EndedJobs) -> None:
    again = [
        m.Submit(request_id="j1", license="lic"),
        m.DispatchBatch(ts=1, batch_id="b", jobs=({}, {"request_id": 7}, {"request_id": "j1", "license": "lic"})),
    ]
    ends = [m.JobDone(request_id="j1", license="lic"), m.Cancel(request_id="j1", license="lic")]
    for end, begin in zip(ends, again, strict=True):
        jobs.feed(end)
        assert jobs.has("j1", "lic", NOW)
        assert not jobs.has("j2", "lic", NOW)
        assert not jobs.has("j1", "another", NOW)
        jobs.feed(begin)
        assert not jobs.has("j1", "lic", NOW)


def test_a_message_without_a_license_ends_no_job(jobs: EndedJobs) -> None:
    for word in (m.Cancel(request_id="j1"), m.JobDone(request_id="j1"), m.Submit(request_id="j1")):
        jobs.feed(word)
    assert not jobs.has("j1", "", NOW)


def test_a_flood_of_ended_jobs_affects_only_its_own_license(jobs: EndedJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_jobs, "REMEMBERED", 3)
    for number in range(9):
        jobs.feed(m.JobDone(request_id=f"j{number}", license="many"))
    assert all(jobs.has(f"j{number}", "many", NOW) for number in range(9))
    assert not jobs.has("j1", "one", NOW)
    assert not jobs.has("fresh", "many", NOW + LEEWAY + 1)
    assert len(jobs._ended["many"]) == 3
