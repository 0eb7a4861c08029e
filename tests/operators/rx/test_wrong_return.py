"""A function that returns what its operator cannot use, or that raises, ends the whole at once, and is named."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.lifecycle.before_outcome import before_outcome
from wakestream.operators.lifecycle.outcome import outcome
from wakestream.operators.model.events import Done, JobEvent, Note
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.concat_unless import concat_unless
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.sources import merge_errors, of
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.then import then
from wakestream.operators.rx.timeout import timeout
from wakestream.operators.rx.to_future import to_future

DONE = Done("result.mp4", 7)  # type: ignore[arg-type]


def given(*_: Any) -> Any:
    """A stage that gives its value itself."""
    return DONE


def nothing(*_: Any) -> Any:
    """A stage whose author forgot to return."""


async def later(*_: Any) -> Any:
    """A stage that is async."""


def broken(*_: Any) -> Any:
    raise ValueError("broken")


WANTS_AN_OBSERVABLE: dict[str, Callable[[Any], Observable[Any]]] = {
    "then": lambda function: of(1).pipe(then(function)),
    "switch_by_type": lambda function: rx.concat(of(1), rx.never()).pipe(switch_by_type({int: function})),
}


def line_of(function: Callable[..., Any]) -> int:
    return inspect.getsourcelines(function)[1]


async def ended(source: Observable[Any]) -> BaseException:
    future = source.pipe(to_future(LoopScheduler()))
    await asyncio.wait((future,))
    error = future.exception()
    assert error is not None
    return error


@pytest.mark.parametrize("operator", WANTS_AN_OBSERVABLE)
async def test_a_return_value_that_is_no_observable_is_an_error_with_the_functions_name(operator: str) -> None:
    error = await ended(WANTS_AN_OBSERVABLE[operator](given))
    assert str(error) == (
        f"{operator}: given() returned a Done, which is no observable. Return an observable, such as of(value)"
    )
    assert getattr(error, "location", None) == f"test_wrong_return.py:{line_of(given)}"


@pytest.mark.parametrize("operator", WANTS_AN_OBSERVABLE)
async def test_an_async_stage_is_refused_with_advice_and_its_coroutine_closed(operator: str) -> None:
    assert str(await ended(WANTS_AN_OBSERVABLE[operator](later))) == (
        f"{operator}: later() returned a coroutine, which is no observable. "
        "Await it in an effect: stages.effect(label, args, do), or from_async(do)"
    )


async def test_a_long_value_is_cut() -> None:
    error = await ended(of("x" * 1000).pipe(then(lambda item: item)))
    assert len(str(error)) < 200


TAKES_FUNCTIONS: dict[str, Callable[[], Callable[[Observable[Any]], Observable[Any]]]] = {
    "timeout": lambda: timeout(5.0, "place", reset=broken),
    "concat_unless": lambda: concat_unless(broken, rx.never()),
}


@pytest.mark.parametrize("operator", TAKES_FUNCTIONS)
def test_an_exception_of_a_function_is_the_end_for_any_source(operator: str) -> None:
    hot: Subject[int] = Subject()
    heard: list[Any] = []
    hot.pipe(TAKES_FUNCTIONS[operator]()).subscribe(
        heard.append, lambda error: heard.append(str(error)), scheduler=rx.scheduler.VirtualTimeScheduler()
    )
    hot.on_next(1)
    hot.on_next(2)
    hot.on_completed()
    assert heard == ["broken"]


async def test_one_whose_waiting_note_raises_has_left_the_queue() -> None:
    turns, scheduler = Limiter(1), LoopScheduler()
    first: Subject[int] = Subject()
    running = first.pipe(turns.limit()).pipe(to_future(scheduler))
    assert str(await ended(of(1).pipe(turns.limit(on_wait=broken)))) == "broken"
    assert turns.waiting == 0
    first.on_next(1)
    first.on_completed()
    await running
    assert turns.running == 0


@pytest.mark.parametrize("wrong", [nothing, DONE, None])
def test_arguments_that_must_be_observables_are_checked_when_the_pipeline_is_made(wrong: Any) -> None:
    for make in (
        lambda: first_success(rx.never(), wrong),
        lambda: merge_errors(wrong),
        lambda: concat_unless(bool, wrong),
    ):
        with pytest.raises(TypeError, match=r"no observable"):
            make()


@pytest.mark.parametrize("operator", [all_done, first_success])
def test_without_a_source_there_is_an_error_when_the_pipeline_is_made(operator: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="at least one source"):
        operator()


def test_a_stage_that_is_no_function_is_refused_when_the_pipeline_is_made() -> None:
    with pytest.raises(TypeError, match=r"then: stage 2 is .*, which is no function"):
        then(of, of(1))  # type: ignore[arg-type]


async def test_an_effect_that_cannot_be_awaited_is_named() -> None:
    error = await ended(from_async(given, "publish"))
    assert str(error) == (
        "publish: given() returned a Done, which cannot be awaited. "
        "Make it an async function, or return what can be awaited"
    )


async def test_an_invalid_last_stage_is_noted_and_changes_no_outcome() -> None:
    heard: list[JobEvent] = []
    whole: Observable[JobEvent] = of(DONE)
    await whole.pipe(before_outcome(given)).do_action(heard.append).pipe(to_future(LoopScheduler()))
    told, end = heard
    assert isinstance(told, Note)
    assert told.text.startswith("WrongReturn: before_outcome: given() returned a Done")
    assert end == DONE


async def test_an_error_in_a_cleanup_does_not_stop_the_end_of_the_job() -> None:
    source: Observable[JobEvent] = of(DONE)
    end = await source.pipe(outcome(broken)).pipe(to_future(LoopScheduler()))
    assert (end.code, "ValueError: broken" in end.why) == ("internal", True)
