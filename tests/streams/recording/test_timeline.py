"""The stage that a job is in, from its events."""

from wakestream.streams.recording.timeline import stage_after


def test_a_wait_for_the_gpu_is_no_step_back_while_files_go_to_the_depot() -> None:
    stages, stage = [], "submit"
    for kind in ("queued", "waking", "storing", "waking", "stored", "waking", "remote", "delivered", "queued"):
        stage = stage_after(stage, kind)
        stages.append(stage)
    assert stages == ["wake", "wake", "upload", "upload", "render", "render", "render", "download", "wake"]
