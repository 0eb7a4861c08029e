"""The little language of `shrink --fails-if`."""

import re

import pytest

from wakestream.adapters.cli.commands.shrink import LANGUAGE
from wakestream.streams.replay.report import JobEnd, JobReport
from wakestream.streams.triage.failure_predicate import BadCondition, parse


def job(
    outcome: JobEnd, seconds: float = 5.0, kinds: tuple[str, ...] = ("queued", "done"), id_: str = "a"
) -> JobReport:
    return JobReport(id_, 0.0, seconds, {"wake": 3.0}, outcome, kinds)


LOST = job(JobEnd("failed", "gpu_lost"))
LATE = job(JobEnd("timed_out", "online"), seconds=60.0, id_="b")


@pytest.mark.parametrize(
    ("text", "of_lost", "of_late"),
    [
        ("outcome=failed", True, False),
        ("outcome=failed:gpu_lost", True, False),
        ("outcome=failed:boot_failed", False, False),
        ("outcome=timed_out:online", False, True),
        ("code=gpu_lost", True, False),
        ("code=online", False, False),
        ("event=queued", True, True),
        ("event=retrying", False, False),
        ("events>1", True, True),
        ("events>2", False, False),
        ("events=2", True, True),
        ("seconds<10", True, False),
        ("wake>2.5 , seconds > 10", False, True),
        ("upload<1", True, True),
        ("job=b", False, True),
    ],
)
def test_a_condition_of_a_job(text: str, of_lost: bool, of_late: bool) -> None:
    assert parse(text).holds([LOST]) is of_lost
    assert parse(text).holds([LATE]) is of_late


def test_conditions_of_a_job_hold_for_one_and_the_same_job() -> None:
    both = parse("outcome=failed,seconds>10")
    assert not both.holds([LOST, LATE])


def test_conditions_on_the_whole_log_are_separate() -> None:
    assert parse("diverged, outcome=done").of_log == {"diverged"}
    assert parse("deadlock").of_job == ()
    assert parse("outcome=done").of_end
    assert not parse("event=retrying, job=a").of_end


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a condition"),
        ("outcome", "needs a value"),
        ("outcome=failed,", "is not a condition"),
        ("outcom=failed", "unknown condition 'outcom'; use one of outcome, code, "),
        ("broken", "unknown condition 'broken'"),
        ("outcome>failed", "can only be compared with ="),
        ("outcome=done:x", "only failed and timed_out have one"),
        ("outcome=__import__('os')", "is not an outcome"),
        ("events>many", "needs a number"),
        ("events>nan", "needs a number"),
        ("crashed,outcome=done", "cannot be combined"),
        ("().__class__", "is not a condition"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(BadCondition, match=re.escape(why)):
        parse(text)


def test_every_condition_that_the_help_names_is_understood() -> None:
    examples = {"KIND:DETAIL": "failed:gpu_lost", "KIND": "failed", "WORD": "gpu_lost", "ID": "a", "N": "3"}
    named = re.findall(r"^  (\S+)  ", LANGUAGE, re.MULTILINE)
    assert len(named) == 11
    for name in named:
        text = name.replace("STAGE", "wake")
        for placeholder, example in examples.items():
            text = re.sub(rf"{placeholder}$", example, text)
        parse(text)
