"""Several jobs of one submit: patterns, folders, and the names of their results."""

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from wakestream.adapters.cli import many_jobs
from wakestream.adapters.cli.any_kind import Given
from wakestream.adapters.cli.commands import submit as submit_command
from wakestream.adapters.cli.main import parser_of
from wakestream.adapters.cli.many_jobs import Many, expanded
from wakestream.adapters.cli.render import cost_text
from wakestream.adapters.cli.submission import JobFlags, submission_of
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.operators.model.engine import Kind, Slot
from wakestream.streams.protocol.kinds import plain_kind
from wakestream.streams.protocol.known_kinds import UNKNOWN, from_plain


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def there(*names: str) -> None:
    """Files with these names."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def submit(*arguments: str) -> Many | JobFlags:
    """What these arguments ask for."""
    args = parser_of(("submit",)).parse_args(["submit", *arguments])
    return many_jobs.many_jobs(JobFlags.of(args), args.more, args.pairs, is_chain=bool(args.then))


def several(*arguments: str) -> Many:
    asked = submit(*arguments)
    assert isinstance(asked, Many)
    return asked


def one(*arguments: str) -> JobFlags:
    asked = submit(*arguments)
    assert isinstance(asked, JobFlags)
    return asked


def jobs(*arguments: str) -> list[tuple[str, str, str]]:
    return [(job.video.name, job.audio.name, Path(job.output).as_posix()) for job in several(*arguments).jobs]


def results(*submitted: JobFlags, inputs: Sequence[str] = ("image",)) -> list[str]:
    """The names of the pictures that these jobs of a kind make."""
    kind = Kind("upscale", tuple(Slot(name, ()) for name in inputs), (Slot("image", (".png",)),), {})
    known = from_plain({"kinds": [{"kind": plain_kind(kind), "gpus": []}], "known": True})
    return [submission_of(job, Settings()).asked.job(known).outputs["image"].as_posix() for job in submitted]


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        (("one.mp4", "two.wav"), ("one.mp4", "two.wav")),
        (("*.mp4", "*.wav"), ("clip.mp4", "speech.wav")),
        (("talk.*",), ("talk.mkv", "talk.mp3")),
    ],
    ids=["two names", "patterns for one file", "a pattern for a video and its audio"],
)
def test_two_files_are_one_job(given: tuple[str, ...], pair: tuple[str, str]) -> None:
    there("clip.mp4", "speech.wav", "talk.mp3", "talk.mkv")
    job = one(*given)
    assert (job.video, job.audio) == tuple(map(Path, pair))


def test_patterns_that_the_shell_did_not_expand_are_expanded() -> None:
    there("a/clip1.mp4", "a/clip2.mp4", "a/clip10.mp4", "b/clip1.wav", "b/clip2.wav", "b/clip10.wav")
    assert [video for video, _, _ in jobs("a/*.mp4", "b/*.wav")] == ["clip1.mp4", "clip2.mp4", "clip10.mp4"]
    assert jobs("a/clip?.mp4", "b/clip1.wav", "b/clip2.wav")[1] == ("clip2.mp4", "clip2.wav", "a/clip2.synced.mp4")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    there("clip[1].mp4", "clip1.mp4")
    assert expanded(Path("clip[1].mp4")) == [Path("clip[1].mp4")]


def test_a_folder_of_pairs_names_what_has_no_partner() -> None:
    there("takes/clip1_video.mp4", "takes/clip1_audio.wav", "takes/more.wav", "takes/notes.txt", "takes/sub/x.mp4")
    found = several("--pairs", "takes")
    assert found.rows == [("clip1_video.mp4", "clip1_audio.wav", str(Path("takes/clip1_video.synced.mp4")))]
    assert found.single == ("more.wav",)


def test_no_result_replaces_a_file_or_another_result() -> None:
    there("a.mp4", "a.mov", "a.wav", "a.mp3", "b.mp4", "b.wav", "a.synced.mp4", "b.synced.mp4", "b.synced-2.mp4")
    results = [result for _, _, result in jobs("--pairs", ".")]
    assert results == ["a.synced-2.mp4", "a.synced-3.mp4", "b.synced-3.mp4"]


def test_a_video_with_many_audio_files_has_a_result_for_each() -> None:
    there("talk.mp4", "talk_en.wav", "talk_de.wav")
    assert [result for _, _, result in jobs("--pairs", ".")] == ["talk.talk_de.synced.mp4", "talk.talk_en.synced.mp4"]


def test_results_go_beside_their_videos_or_into_the_folder_that_is_named_and_made() -> None:
    there("takes/a.mp4", "takes/a.wav", "takes/b.mp4", "takes/b.wav")
    assert jobs("--pairs", "takes")[0][2] == "takes/a.synced.mp4"
    assert jobs("--pairs", "takes", "-o", "new/out")[0][2] == "new/out/a.synced.mp4"
    assert Path("new/out").is_dir()


def test_results_of_before_are_no_input() -> None:
    there("a.mp4", "a.wav", "b.mp4", "b.wav")
    before = jobs("--pairs", ".")
    there(*(result for _, _, result in before))
    assert [job[:2] for job in jobs("--pairs", ".")] == [job[:2] for job in before]


def test_a_kind_with_a_pattern_is_a_job_for_each_file() -> None:
    there("a.png", "b.png")
    found = several("--kind", "upscale", "--in", "image=*.png", "--param", "scale=2")
    assert [job.inputs for job in found.jobs] == [["image=a.png"], ["image=b.png"]]


def test_the_results_of_a_pattern_have_names_of_their_own() -> None:
    there("a.jpg", "a.png", "a.png.jpg", "b.jpg", "mask.png")
    found = several("--kind", "upscale", "--in", "mask=mask.png", "--in", "image=?*.*g")
    assert results(*found.jobs, inputs=("mask", "image")) == [
        "a.jpg.upscale.png", "a.png.upscale.png", "a.png.jpg.upscale.png", "b.upscale.png", "mask.upscale.png",
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["image=a.png", "image=*.png"])
def test_the_results_of_a_kind_go_into_the_folder_of_o_which_is_created(pattern: str) -> None:
    there("a.png", "out/b.upscale.png")
    if "*" in pattern:
        there("b.png")
    command = ("--kind", "upscale", "--in", pattern, "-o")
    submitted = several(*command, "out").jobs if "*" in pattern else [one(*command, "out")]
    assert results(*submitted) == ["out/a.upscale.png", "out/b.upscale-2.png"][: len(submitted)]
    assert {submission_of(job, Settings()).if_exists for job in submitted} == {"number"}
    with pytest.raises(SettingsError, match=r"-o is a folder; for a file give --out NAME=large\.png \(.* --help`"):
        submission_of(one("--kind", "upscale", "--in", "image=a.png", "-o", "large.png"), Settings())


@pytest.mark.parametrize(
    ("out", "if_exists"), [("image=new/", "number"), ("image=here", "number"), ("image=a.png", "fail")]
)
def test_a_result_in_a_folder_is_not_named_by_the_user_so_that_its_ending_follows_its_content(
    out: str, if_exists: str
) -> None:
    there("here/b.png")
    submission = submission_of(
        one("--kind", "unknown", "--param", "text=cat", "--out", out, "--wake-to-ask"), Settings()
    )
    assert submission.if_exists == if_exists
    assert isinstance(submission.asked, Given)
    job = submission.chosen(submission.asked.job(UNKNOWN))
    assert job.unnamed == (if_exists == "number")


def test_the_result_of_one_pair_goes_into_a_folder_that_is_created_under_a_free_name() -> None:
    there("clip.mp4", "speech.wav")
    for name in ("clip.synced.mp4", "clip.synced-2.mp4"):
        found = submission_of(one("clip.mp4", "speech.wav", "-o", "new/results/"), Settings())
        assert (found.asked.output.as_posix(), found.if_exists) == (f"new/results/{name}", "number")
        there(f"new/results/{name}")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["*.avi", "a.wav"], "no file matches '*.avi'"),
        (["--pairs", "none"], "--pairs none: "),
        (["--pairs", "empty"], "empty: no video and audio file belong together"),
        (["--pairs", ".", "a.mp4", "a.wav"], "leave the other files out"),
        (["--pairs", ".", "-o", "a.mp4"], "the results need a folder"),
        (["--pairs", ".", "--job-id", "x"], "--job-id names one job"),
        (["--pairs", ".", "--job-id", "x", "--then", "--kind", "k"], "--then needs one job before it"),
        (["--kind", "k", "--in", "a=*.mp4", "--in", "b=*.wav"], "only one --in may be a pattern"),
        (["--kind", "k", "--in", "a=*.mp4", "--out", "x=y.mp4"], "leave --out out"),
        (["--kind", "k", "--pairs", "."], "--kind describes a job without VIDEO and AUDIO"),
        (["a.mp4", "b.mp4", "c.mp4"], "no video and audio file belong together"),
        (["?.mp4"], "belong together"),
    ],
)
def test_what_does_not_fit_several_jobs_is_refused(arguments: list[str], why: str) -> None:
    there("a.mp4", "a.wav", "b.mp4", "b.wav")
    Path("empty").mkdir()
    with pytest.raises(SettingsError, match=re.escape(why)):
        submit(*arguments)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kind", "k", "--results", "x.csv"], "--results is the table of --each or --repeat"),
        (["--each", "x.csv", "--job-id", "x"], "leave VIDEO, --pairs, --job-id"),
        (["--kind", "k", "--then", "--kind", "k", "--each", "x.csv"], "after --then is one job"),
        (["--kind", "k", "--then", "--kind", "k", "--repeat", "2"], "after --then is one job"),
        (["--kind", "k", "--then", "--kind", "k", "--then", "--pairs", "."], "after --then is one job"),
        (["--kind", "k", "--then", "a.mp4", "a.wav", "b.mp4"], "after --then is one job"),
        (["--notify", "--detach"], "--notify waits for the end"),
        (["--leave", "--wait"], "--leave returns before the end"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)):
        submit_command.run(parser_of(("submit",)).parse_args(["submit", *arguments]))


def test_too_many_jobs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there("a.mp4", "a.wav", "b.mp4", "b.wav")
    monkeypatch.setattr(many_jobs, "MOST", 1)
    with pytest.raises(SettingsError, match="2 jobs are too many"):
        several("--pairs", ".")


@pytest.mark.parametrize(("typed", "agreed"), [("\n", True), ("y\n", True), ("n\n", False), ("", False)])
def test_the_end_of_the_terminal_is_no_answer(typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    there("a.mp4", "a.wav")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    many = several("--pairs", ".")
    told = {"jobs": 1, "used_s": 60.0, "cost": 0.1, "idle_s": 300.0, "all_s": 360.0, "all_cost": 0.6, "done_at": 0}
    told |= {"share_s": 30.0, "share": 0.05}
    assert many_jobs.confirmed(many, lambda: cost_text.estimate(told), yes=False) is agreed
    said = screen.getvalue()
    assert said.index("1 job: about 1 min 00 s of GPU time and 0.10.\nWith the idle time") < said.index("submit 1 job?")
    assert "Usual share of boots and idle time: 30 s and 0.05.\n" in said
