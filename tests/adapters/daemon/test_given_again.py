"""The fields with which a job is submitted again, when jobs before it are known no longer."""

from wakestream.adapters.daemon.api.requests import given_again
from wakestream.streams.outbox.facts import FileStat, JobAccepted

JOB = JobAccepted(
    "three", "", "", "/out/three.bin", 0, 0, 0, 0, "heygem_submit", 0, 100.0,
    inputs={"first": FileStat("/out/one.bin", 0, 0), "second": FileStat("/out/two.bin", 0, 0)},
    outputs={"whole": "/out/three.bin"}, after=("one", "two"), sources={"first": "one:whole", "second": "two:whole"},
)  # fmt: skip


def test_a_known_job_is_named_and_of_a_forgotten_one_the_file_is_used() -> None:
    given = given_again(JOB, {"two", "three"})
    assert given["inputs"] == {"first": "/out/one.bin", "second": "@two:whole"}
    assert given["after"] == ["two"]


def test_without_any_job_before_it_there_is_nothing_to_wait_for() -> None:
    assert "after" not in given_again(JOB, {"three"})
