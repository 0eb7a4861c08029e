"""What is longer than the terminal is broken at words, and goes on where it began."""

import pytest

from wakestream.adapters.cli.commands import doctor
from wakestream.adapters.cli.commands.doctor import lines
from wakestream.adapters.cli.doctor.result import fault
from wakestream.adapters.cli.render import table
from wakestream.adapters.cli.render.table import paragraphs, width

SAYS = "the GPU is on, but its worker's address is not known: every job will fail for that reason"
TODO = "start the worker with --public-url URL, or set HEYGEM_SERVER_URL here and start the daemon again"


@pytest.mark.parametrize("columns", [44, 60, 80, 100])
def test_a_doctor_result_wraps_at_words_with_an_indent(columns: int) -> None:
    (first, *says), todo = lines(fault("worker", SAYS, TODO), columns)
    more = [*says, *todo]
    assert width(first) + 8 <= columns
    assert all(width(line) <= columns for line in more)
    assert " ".join([first, *more]).split() == ["worker", *SAYS.split(), "->", *TODO.split()]
    assert {len(line) - len(line.lstrip()) for line in more} <= {19, 22}


def test_a_line_of_status_breaks_at_words_a_little_further_in() -> None:
    assert paragraphs(["GPU studio: on and ready for 2 h", "  used by 12 jobs of yours: job-1, job-2"], 24) == [
        "GPU studio: on and", "  ready for 2 h", "  used by 12 jobs of", "    yours: job-1, job-2",
    ]  # fmt: skip


def test_chinese_breaks_between_its_letters_and_fits() -> None:
    found = paragraphs(["  " + "中枢没有给出工作节点的地址" * 4], 40)
    assert len(found) > 1
    assert all(width(line) <= 40 for line in found)


def test_output_to_a_file_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    assert table.terminal_columns() is None
    doctor._say(fault("worker", SAYS, TODO))
    assert capsys.readouterr().out == f"{'fault':8} {'worker':9} {SAYS}\n{'':18} -> {TODO}\n"
