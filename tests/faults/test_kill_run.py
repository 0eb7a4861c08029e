"""The accounts of the kill run: each can fail. The run itself is `make kills`."""

import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from tests.faults.kill_run import Accounts
from tests.support.faults.kill_jobs import JobMaker, KillJob
from tests.support.faults.kill_programs import ENGINE
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import state as w


class Books:
    """A job that went well, and what the engine noted of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts = folder, folder / "counts.txt"
        self.job = JobMaker(folder / "pc", Random(1)).new()
        self.files = [self._sent(path) for path in (self.job.video, self.job.audio)]
        self.task = w.task_id(w.pair(*(FileRef(path.stem, path.suffix) for path in self.files)))
        (folder / "worker" / "results").mkdir()
        self.render()
        self.job.output.rename(folder / "worker" / "results" / f"{self.task}.mp4")
        self.job.output.write_bytes(self.job.expected)
        self.job.acknowledged, self.job.ends = True, ["done"]

    def _sent(self, path: Path) -> Path:
        there = self.folder / "worker" / "files" / f"{blake3(path.read_bytes()).hexdigest()}{path.suffix}"
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
        return there

    def render(self) -> None:
        """Let the engine make the result."""
        subprocess.run([sys.executable, "-S", "-E", ENGINE, self.counts, *self.files, self.job.output], check=True)

    def faults(self) -> dict[str, list[str]]:
        """The accounts that are not empty."""
        books = Accounts(seed=0)
        books.count_jobs([self.job])
        books.count_renders(self.counts.read_text().splitlines(), [self.job])
        named = ("lost", "ended_twice", "wrong", "doubled", "unseen")
        found = {name: getattr(books, name) for name in named if getattr(books, name)}
        assert [*chain(*found.values())] == books.faults
        return found


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def test_a_job_that_went_well_is_no_fault(books: Books) -> None:
    assert books.faults() == {}


def test_a_render_whose_result_stands_already_is_doubled(books: Books) -> None:
    books.render()
    assert [*books.faults()] == ["doubled"]


def test_a_render_whose_first_result_is_gone_is_not_doubled(books: Books) -> None:
    (books.folder / "worker" / "results" / f"{books.task}.mp4").unlink()
    books.render()
    assert books.faults() == {}


def test_renders_of_which_the_account_knows_nothing_make_it_fail(books: Books) -> None:
    books.counts.write_text("start video 1 first\nend video 1\n")
    assert [*books.faults()] == ["unseen"]


def test_a_run_with_a_depot_that_no_job_used_fails() -> None:
    accounts = Accounts(seed=0)
    accounts.count_stored({"a"})
    assert (accounts.stored, accounts.faults) == (1, [])
    accounts.count_stored(())
    assert accounts.faults == ["no job went through the depot"]


def lose(job: KillJob) -> None:
    job.ends = ["failed"]


def forget(job: KillJob) -> None:
    job.ends = []


def end_again(job: KillJob) -> None:
    job.ends = ["done", "done"]


def damage(job: KillJob) -> None:
    job.output.write_bytes(job.expected[:-1])


@pytest.mark.parametrize(
    ("harm", "account"), [(lose, "lost"), (forget, "lost"), (end_again, "ended_twice"), (damage, "wrong")]
)
def test_a_job_that_did_not_end_well_is_a_fault(books: Books, harm: Callable[[KillJob], None], account: str) -> None:
    harm(books.job)
    assert [*books.faults()] == [account]
