"""What a job is on the wire of deployed systems."""

from pathlib import Path

from wakestream.operators.model.events import Job


def test_the_order_of_the_files_does_not_matter_for_a_lipsync_job() -> None:
    job = Job("a", {"audio": Path("a.wav"), "video": Path("a.mp4")}, {"video": Path("out.mp4")})
    assert job.old_shape
    assert [*job.inputs] == ["video", "audio"]


def test_another_kind_keeps_the_order_of_its_files() -> None:
    job = Job("a", {"audio": Path("a.wav"), "video": Path("a.mp4")}, {"video": Path("out.mp4")}, "mux")
    assert not job.old_shape
    assert [*job.inputs] == ["audio", "video"]
