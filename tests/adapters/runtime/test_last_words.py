"""What a program's failure quotes of its output: reasons, not how far it was."""

from pathlib import Path

import pytest

from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.runtime.child_processes import LastWords, last_lines
from wakestream.operators.model.errors import TaskFailed

TQDM = "Rendering:  {}%|####      | {}/100 [00:12<00:15,  3.60it/s]"
FFMPEG = "frame=  {} fps= 25 q=28.0 size=    {}KiB time=00:00:04.00 bitrate= 524.3kbits/s speed=1.02x"


def words(*lines: str) -> list[str]:
    said = LastWords()
    for line in lines:
        said.add(line)
    return said.text().split(" | ") if said.text() else []


@pytest.mark.parametrize("progress", ["{0} %", "{0}%", "[{0}%] ====>", "frame {0} of 100 ({0}.5 %)", TQDM])
def test_lines_that_tell_how_far_it_is_are_no_reasons(progress: str) -> None:
    ticks = [progress.format(part, part) for part in range(100)]
    assert words("loading the model", *ticks) == ["loading the model"]
    assert words(*ticks, "CUDA out of memory", *ticks) == ["CUDA out of memory"]
    assert words(*ticks) == []


def test_of_progress_lines_only_the_last_is_kept() -> None:
    ticks = [FFMPEG.format(part, part) for part in range(5)]
    assert words("no space left", *ticks) == ["no space left", ticks[-1]]


@pytest.mark.parametrize(
    "reason", ["GPU memory is 100 % full", "failed at 93 %: out of memory", "exit 3", "97 bad frames"]
)
def test_a_reason_with_a_number_in_it_stays(reason: str) -> None:
    assert words("12 %", "13 %", reason) == [reason]


def test_lines_have_no_control_characters() -> None:
    (line,) = words("\x1b[2Jgone\x07 \ufffd")
    assert ("gone" in line, line.isprintable()) == (True, True)


def test_no_more_lines_are_kept_than_asked_for() -> None:
    assert words(*("abcdefghijkl")) == list("efghijkl")


async def test_a_program_that_fails_in_the_middle_is_quoted_without_its_progress(tmp_path: Path) -> None:
    script = tmp_path / "engine.sh"
    script.write_text("echo model is missing\nfor i in 90 91 92 93 94 95 96 97 98 99; do echo $i %; done\nexit 183\n")
    with pytest.raises(TaskFailed, match=r"^sh ended with code 183: model is missing$"):
        async for _ in run_program(["sh", str(script)], limit=40, merge=True):
            pass


def test_the_programs_that_switch_the_power_are_quoted_in_the_same_way() -> None:
    assert last_lines(b"1 %\r2 %\rquota exceeded\r\n3 %\n") == "quota exceeded"
