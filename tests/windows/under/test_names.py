"""Names that are invalid on Windows or mean something else; and programs that are found by their extension."""

import os
from pathlib import Path

import pytest

from tests.support.engines.pair import lipsync, rendered
from wakestream.adapters.config.settings import load
from wakestream.adapters.daemon.console.upload_validation import file_name
from wakestream.adapters.disk import fingerprints as files
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.engines.command import Command, programs_of
from wakestream.adapters.power import CommandPower
from wakestream.operators.model.engine import Made, Work
from wakestream.operators.model.errors import FileUnusable, WrongInput

BAD = (
    "talk 12:30.mp4",
    "what?.mp4",
    "a|b.mp4",
    "nul.mp4",
    "COM1",
    "aux.final.mp4",
    "talk.mp4.",
    "talk ",
    'say "hi".mp4',
)


@pytest.mark.parametrize("name", BAD)
def test_an_output_that_can_have_no_such_name_is_refused_before_a_gpu_is_woken(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match="Windows"):
        files.check_writable(tmp_path / name)


@pytest.mark.parametrize("name", ["talk.mp4", "说话.mp4", "console.mp4", "com10.mp4", "a b (1).mp4"])
def test_other_names_are_taken(name: str, tmp_path: Path) -> None:
    files.check_writable(tmp_path / name)


def test_results_of_the_console_have_names_that_every_disk_tells_apart() -> None:
    assert file_name("ws-0123456789abcdef") == "ws-0123456789abcdef"
    assert len({file_name(job).casefold() for job in ("Night-Job-1", "night-job-1", "con", "CON", "a:b", "a")}) == 6
    assert "con" not in (file_name("con"), file_name("CON"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r'"C:\Program Files\cloud\ctl.exe" start gpu-1', (r"C:\Program Files\cloud\ctl.exe", "start", "gpu-1")),
        (r"C:\tools\ctl.cmd --name=O'Brien", (r"C:\tools\ctl.cmd", "--name=O'Brien")),
        (r'py run.py -o "{output}" --note="a b"', ("py", "run.py", "-o", "{output}", "--note=a b")),
        (r"copy \\nas\films {output}", ("copy", r"\\nas\films", "{output}")),
        ("ctl start # not a comment", ("ctl", "start", "#", "not", "a", "comment")),
        (r'["C:\\ctl.exe", "a b"]', (r"C:\ctl.exe", "a b")),
    ],
)  # fmt: skip
def test_a_command_line_keeps_its_backslashes_and_loses_its_quotation_marks(text: str, words: tuple[str, ...]) -> None:
    assert load({}, environment={"WAKESTREAM_POWER_START": text}).power_start == words


def _script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    path.chmod(0o755)


async def test_a_batch_file_as_power_command_needs_no_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _script(tmp_path, "cloudctl.cmd", "echo running")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (await CommandPower(("cloudctl",), ("cloudctl",), ("cloudctl", "state")).inspect()).state == "running"


async def test_an_engine_that_is_a_batch_file_needs_no_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _script(tmp_path, "lipsync.bat", 'cp "$1" "$3"; echo 50%')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"film")
    engine = lipsync("lipsync", limit=20)
    assert (await engine.ready()).ready
    frames = [frame.percent async for frame in rendered(engine, video, video, tmp_path / "out.mp4")]
    assert frames == [50.0]
    assert (tmp_path / "out.mp4").read_bytes() == b"film"


def test_two_names_of_one_file_there_are_one_place() -> None:
    assert path_key("C:/Out/Überblick.mp4") == path_key("c:/out/u\u0308BERBLICK.MP4")
    assert path_key("C:/out/a.mp4") != path_key("C:/out/b.mp4")


async def test_a_batch_file_gets_no_text_that_its_shell_would_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _script(tmp_path, "paint.cmd", 'printf %s "$1" > "$2"')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    manifest = tmp_path / "kinds.toml"
    manifest.write_text(
        '[kinds.paint]\ncommand = ["paint", "{param:text}", "{out:image}"]\n[kinds.paint.outputs.image]\n'
        '[kinds.paint.params.text]\ntype = "string"\nrequired = true\n',
        encoding="utf-8",
    )
    engine = Command(programs_of(manifest), limit=20)
    (made,) = [item async for item in engine.render(Work("w", "paint", {}, {"text": "a b"}, ("image",), tmp_path))]
    assert isinstance(made, Made)
    assert made.path.read_text() == "a b"
    with pytest.raises(WrongInput, match="the character '&' is not safe for a batch file"):
        await anext(engine.render(Work("w", "paint", {}, {"text": "a & calc"}, ("image",), tmp_path)))
