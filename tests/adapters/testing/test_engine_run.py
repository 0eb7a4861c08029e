"""What `run_engine` tells the author of an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from tests.support.engines.pair import QuietEngine
from wakestream.adapters.testing.engine_run import EngineRun, run_engine
from wakestream.operators.model.engine import Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WrongInput

COPY = Kind(
    "copy",
    (Slot("file", (".txt",)),),
    (Slot("file", (".txt",)), Slot("log", (".txt",), required=False)),
    {"properties": {"times": {"type": "integer", "default": 2}}},
)


class Copying(QuietEngine):
    """Writes the input `times` times, or does what `mistake` says."""

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake

    async def describe(self) -> Sequence[Kind]:
        return [Kind("Copy")] if self.mistake == "bad kind" else [COPY]

    async def ready(self) -> Readiness:
        return Readiness(self.mistake != "not ready", "no GPU")

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        yield Frame(1, 1, 100.0)
        yield Line("copied")
        folder = work.folder.parent if self.mistake == "outside" else work.folder
        for name in work.outputs:
            text = work.inputs["file"].read_text() * work.params["times"]
            (folder / f"{name}.txt").write_text("" if self.mistake == "empty" else text)
            if self.mistake != "missing":
                yield Made(name, folder / f"{name}.txt")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "in.txt").write_text("ab")
    return tmp_path / "in.txt"


async def test_a_run_has_the_files_that_were_wanted_the_progress_and_the_log(given: Path) -> None:
    folder = given.parent / "work"
    run = await run_engine(Copying(), "copy", {"file": given}, folder=folder)
    assert run == EngineRun({"file": folder / "file.txt"}, [Frame(1, 1, 100.0)], ["copied"])
    assert run.files["file"].read_text() == "abab"
    run = await run_engine(Copying(), "copy", {"file": given}, {"times": 1}, folder=folder, outputs=("file", "log"))
    assert run.files["log"].read_text() == "ab"


@pytest.mark.parametrize(
    ("mistake", "error", "words"),
    [
        ("not ready", EngineUnreachable, "no GPU"),
        ("bad kind", ValueError, "'Copy' must have 1 to 32 lower-case"),
        ("missing", TaskFailed, "wrote no output 'file'"),
        ("empty", TaskFailed, "output 'file' is empty"),
        ("outside", TaskFailed, "output 'file' is not a file in the folder"),
    ],
)
async def test_a_mistake_of_an_engine_is_found(given: Path, mistake: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        await run_engine(Copying(mistake), "copy", {"file": given}, folder=given.parent / "work")


async def test_a_job_that_does_not_fit_is_refused_as_by_a_worker(given: Path) -> None:
    with pytest.raises(WrongInput, match="parameter times: 'x' has the wrong type"):
        await run_engine(Copying(), "copy", {"file": given}, {"times": "x"}, folder=given.parent / "work")
    with pytest.raises(WrongInput, match="the engine has no kind 'move'; it has copy"):
        await run_engine(Copying(), "move", {"file": given}, folder=given.parent / "work")
