"""What a small program's `main` needs: its own settings, its arguments, and an exit code."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters import run_jobs
from wakestream.adapters.config.settings import load
from wakestream.adapters.run_jobs import new_job, run_job, setting, show_line
from wakestream.operators import Done, Job


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with two files and nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in ("API_SERVER_URL", "WAKESTREAM_KEY", "SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "clip.mp4").write_bytes(b"v")
    (tmp_path / "speech.wav").write_bytes(b"a")
    return tmp_path


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_setting_comes_from_the_environment_else_from_the_env_file_else_it_is_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setting("SIZE", 5) == 5
    (folder / ".env").write_text("SIZE=6\n")
    assert setting("SIZE", 5) == 6
    monkeypatch.setenv("SIZE", "7")
    assert setting("SIZE", 5) == 7
    assert setting("SIZE", 5.0) == 7.0
    assert setting("SIZE") == "7"


@pytest.mark.parametrize(("given", "default", "kind"), [("x", 5, "a whole number"), ("x", 0.5, "a number")])
def test_a_setting_of_the_wrong_type_ends_the_program_with_a_message(
    given: str, default: float, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIZE", given)
    with pytest.raises(SystemExit) as end:
        setting("SIZE", default)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"wakestream: SIZE is 'x'; it must be {kind}\n"


@pytest.mark.parametrize("env", ["", "SIZE=\n"])
def test_a_missing_setting_ends_the_program(folder: Path, env: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".env").write_text(env)
    with pytest.raises(SystemExit) as end:
        setting("SIZE")
    assert end.value.code == 2
    assert capsys.readouterr().err == "wakestream: SIZE is not set; set it in the environment or in .env\n"


def test_jobs_that_have_ended_are_shown_before_the_wait_for_a_hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    class Gone:
        async def run(self, job: Job, show: Callable[[Done], None]) -> Done:
            show(Done(job.output, 1))
            return Done(job.output, 1)

        async def releases(self, within: float) -> None:
            said.append(within)

    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Gone]:
        yield Gone()

    monkeypatch.setattr(run_jobs, "open_client", opened)
    monkeypatch.setenv("WAKESTREAM_RELEASE_TIMEOUT", "7")
    jobs = [new_job(Path("clip.mp4"), Path("speech.wav"), Path(f"{name}.mp4")) for name in "ab"]
    assert run_jobs.run_jobs(jobs, show=lambda job, _: said.append(job.output.name)) == 0
    assert said == ["a.mp4", "b.mp4", 7.0]


# --- one job ---------------------------------------------------------------------------------------------------------


def test_a_program_for_one_job_takes_video_audio_and_result(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Job] = []

    async def run(jobs: Sequence[Job], *_: object) -> Sequence[Done]:
        seen.extend(jobs)
        return [Done(job.output, 1) for job in jobs]

    monkeypatch.setattr(run_jobs, "_run", run)
    assert run_job(arguments=["clip.mp4", "speech.wav", "out.mp4"]) == 0
    assert run_job(arguments=["clip.mp4", "speech.wav"]) == 0
    first, second = seen
    assert (*first.inputs.values(), first.output) == (Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))
    assert second.output == Path("clip.synced.mp4")
    assert first.id != second.id


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no.mp4", "speech.wav"], "no.mp4 does not exist"),
        (["clip.mp4", "speech.wav", "no/out.mp4"], "does not exist; create it first"),
        (["clip.mp4", "speech.wav", "clip.mp4"], "would replace clip.mp4"),
        (["clip.mp4", "speech.wav"], "no hub is set"),
    ],
)
def test_a_failed_start_is_on_stderr(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(arguments=arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err[:12]) == ("", "wakestream: ")
    assert said in err


def test_the_hub_that_a_message_asks_for_is_a_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Mapping[str, object]] = []

    async def run(*arguments: Any) -> Sequence[Done]:
        given.append(arguments[-1])
        return []

    assert run_job(arguments=["clip.mp4", "speech.wav"]) == 2
    assert "give --hub URL" in capsys.readouterr().err
    monkeypatch.setattr(run_jobs, "_run", run)
    assert run_job(arguments=["clip.mp4", "speech.wav", "--hub", "https://hub.example.com"]) == 0
    assert load(given[0]).hub_url == "wss://hub.example.com/dsp"


def test_its_help_begins_with_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_job(about="Renders twice.", arguments=["--help"])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "VIDEO AUDIO [RESULT] Renders twice." in said
    assert "RESULT the result's path (default VIDEO's name + .synced.mp4)" in said


def test_a_line_names_the_result_that_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    show_line(new_job(Path("a.mp4"), Path("b.wav"), Path("folder/out.mp4")), Done(Path("folder/out.mp4"), 1000))
    assert capsys.readouterr().out.startswith("out.mp4: ")
