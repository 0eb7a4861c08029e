"""A job in a log is the job that was submitted, whatever was chosen for it."""

from dataclasses import fields, replace
from pathlib import Path

from wakestream.operators.model.events import Job
from wakestream.streams.recording.event_json import job_from, plain_job

IMAGE = Path("a.png")
PLAIN = Job("job-1", {"image": IMAGE}, {"image": IMAGE}, "upscale")
CHOSEN = replace(
    PLAIN, params={"scale": 2}, again=True, gpus=("attic",), overwrite=True, unnamed=True, requires=("memory>=24",),
    priority=-1,
)  # fmt: skip
LIPSYNC = replace(Job.lipsync("job-1", IMAGE, IMAGE, IMAGE, "talk"), priority=2)


def test_each_field_of_a_job_is_read_from_its_log_as_it_was_written() -> None:
    chosen = {each.name for job in (CHOSEN, LIPSYNC) for each in fields(Job) if getattr(job, each.name)}
    assert chosen == {each.name for each in fields(Job)}, "give the new field a value in one of the jobs"
    assert [job_from("job-1", plain_job(job)) for job in (PLAIN, CHOSEN, LIPSYNC)] == [PLAIN, CHOSEN, LIPSYNC]


def test_what_was_not_chosen_is_not_in_the_log() -> None:
    assert plain_job(PLAIN).keys() == {"kind", "inputs", "params", "outputs"}
