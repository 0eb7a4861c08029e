"""The stage `outcome` alone."""

from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable

from wakestream.operators.lifecycle.outcome import outcome, outcome_of
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.rx.sources import of

WAKING = e.Waking(1.0)


def heard(source: Observable[Any]) -> list[Any]:
    items: list[Any] = []
    source.pipe(outcome()).subscribe(items.append, on_completed=lambda: items.append("|"))
    return items


def test_an_outcome_is_the_last_event() -> None:
    assert heard(of(WAKING, e.Cancelled(), WAKING)) == [WAKING, WAKING, e.Cancelled(), "|"]


def test_a_later_stage_can_replace_the_outcome() -> None:
    assert heard(of(e.Done(Path("a"), 1), WAKING, e.Done(Path("b"), 2))) == [WAKING, e.Done(Path("b"), 2), "|"]


def test_an_error_becomes_an_outcome() -> None:
    assert heard(rx.throw(errors.BootFailed("no stock"))) == [e.Failed("no stock", "boot_failed"), "|"]


def test_an_end_without_an_outcome_is_a_failure_too() -> None:
    assert heard(of(WAKING)) == [WAKING, e.Failed("the pipeline ended without an outcome", "internal"), "|"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.StageTimeout("online", 1800.0), e.TimedOut("online", 1800.0, "online: nothing within 1800 s")),
        (errors.Stalled("transfer", 60.0), e.TimedOut("transfer", 60.0, "transfer: nothing within 60 s")),
        (errors.HubRefused("full", code="queue_full"), e.Failed("full", "queue_full")),
        (ZeroDivisionError("x"), e.Failed("ZeroDivisionError: x", "internal")),
    ],
)
def test_each_error_has_its_outcome(error: Exception, expected: object) -> None:
    assert outcome_of(error) == expected
