"""The runner of all deciders, in virtual time, on a journal that is slow and may be full or broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.runtime import decider_runner
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.errors import Fenced, JournalError, NoSpace, WakestreamError
from wakestream.streams.decider import Decider, Decision

pytestmark = pytest.mark.virtual


@dataclass(frozen=True)
class Added:
    number: int


@dataclass(frozen=True)
class Removed:
    number: int


Fact = Added | Removed
Numbers = DeciderRunner[list[int], Any, Fact, str]


def add(state: list[int], number: int, now: float, decision: Decision[Fact, str]) -> None:
    if number < 0:
        raise ValueError("a negative number")
    if number not in state:
        decision.fact(Added(number))
    decision.command(f"said {number}")


def ask(state: list[int], question: str, now: float, decision: Decision[Fact, str]) -> None:
    decision.command(f"{question} {len(state)} at {now:g}")


CHANGES: Mapping[type, Callable[[list[int], Any], None]] = {
    Added: lambda state, fact: state.append(fact.number),
    Removed: lambda state, fact: state.remove(fact.number),
}
NUMBERS: Decider[list[int], Any, Fact, str] = Decider(list, {int: add, str: ask}, CHANGES)


class Slow(FakeJournal[Fact]):
    """Each commit takes a second. `fault` is what it raises instead of writing."""

    takes = 1.0
    fault: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []

    async def append(self, facts: Sequence[Fact]) -> None:
        await asyncio.sleep(self.takes)
        if self.fault is not None:
            raise self.fault
        self.commits.append(len(facts))
        await super().append(facts)


class Bench:
    def __init__(
        self, journal: Slow | None = None, decider: Decider[Any, Any, Fact, str] = NUMBERS, **options: Any
    ) -> None:
        self.journal, self.said = journal or Slow(), list[str]()
        options = {"execute": self.said.append, "clock": self.now, **options}
        self.runner: Numbers = DeciderRunner("the bench", decider, [], self.journal, **options)

    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def test_commands_follow_when_their_facts_are_written_and_in_order() -> None:
    bench = Bench()
    bench.runner.happen(1)
    bench.runner.happen("how many")  # no fact of its own, but its answer depends on one
    assert (bench.runner.state, bench.said, bench.journal.read()) == ([1], [], ())
    await asyncio.sleep(1.5)
    assert (bench.said, bench.journal.read()) == (["said 1", "how many 1 at 0"], (Added(1),))
    await bench.runner.close()


async def test_commands_that_depend_on_no_fact_are_executed_at_once() -> None:
    bench = Bench()
    bench.runner.happen("how many")
    assert bench.said == ["how many 0 at 0"]


async def test_where_another_program_may_take_the_journal_no_command_follows_before_it_is_sure_that_none_has() -> None:
    journal, taken = Slow(), False

    async def confirm() -> None:
        await asyncio.sleep(1)
        if taken:
            raise Fenced("another program writes it")

    journal.confirm = confirm
    bench = Bench(journal)
    bench.runner.happen("how many?")
    bench.runner.happen("and now?")
    assert bench.said == []
    await asyncio.sleep(1.5)
    assert bench.said == ["how many? 0 at 0", "and now? 0 at 0"]
    taken = True
    bench.runner.happen("still?")
    with pytest.raises(Fenced):
        await bench.runner.ended()
    assert len(bench.said) == 2


async def test_all_that_happens_during_a_commit_is_written_by_the_next() -> None:
    bench = Bench()
    for number in range(100):
        bench.runner.happen(number)
        if number == 0:
            await asyncio.sleep(0.5)
    await asyncio.sleep(2.0)
    assert bench.journal.commits == [1, 99]
    assert bench.said == [f"said {number}" for number in range(100)]


async def test_all_commands_of_a_commit_are_flushed_together() -> None:
    bench = Bench(flush=lambda: bench.said.append("flush"))
    for number in (1, 2):
        bench.runner.happen(number)
    await asyncio.sleep(1.5)
    assert bench.said == ["said 1", "said 2", "flush"]


async def test_what_happens_while_a_command_is_executed_comes_after_it() -> None:
    order: list[str] = []

    def execute(command: str) -> None:
        order.append(f"begin {command}")
        if command == "first 0 at 0":
            bench.runner.happen("second")
            bench.runner.happen(7)
            bench.runner.happen("third")
        order.append(f"end {command}")

    bench = Bench(execute=execute, clock=lambda: 0.0)
    bench.runner.happen("first")
    assert order == ["begin first 0 at 0", "end first 0 at 0"]
    await asyncio.sleep(3.0)
    said = ("first 0 at 0", "second 0 at 0", "said 7", "third 1 at 0")
    assert order == [f"{when} {command}" for command in said for when in ("begin", "end")]


async def test_while_the_disk_is_full_all_waits_and_the_log_says_so_once_a_minute() -> None:
    with logged("INFO", "{level} {message}") as lines:
        bench = Bench()
        bench.journal.fault = NoSpace("no space left")
        bench.runner.happen(1)
        await asyncio.sleep(90.0)
        bench.runner.happen("how many")
        assert (bench.said, bench.journal.read()) == ([], ())
        bench.journal.fault = None
        await asyncio.sleep(5.0)
    assert (bench.said, bench.journal.read()) == (["said 1", "how many 1 at 90"], (Added(1),))
    assert lines == ["ERROR no space left"] * 2 + ["INFO there is room on the disk again; the bench continues"]


@pytest.mark.parametrize("options", [{}, {"when_full": lambda event, rest, error: None}])
async def test_on_a_full_disk_one_fact_is_tried_at_each_attempt_however_many_wait(options: dict[str, Any]) -> None:
    tried: list[int] = []

    class Full(Slow):
        takes = 0.0
        fault = NoSpace("no space left")

        async def append(self, facts: Sequence[Fact]) -> None:
            tried.append(len(facts))
            await super().append(facts)

    bench = Bench(Full(), **options)
    for number in range(1000):
        bench.runner.happen(number)
        await asyncio.sleep(0.01)
    assert len(tried) <= 10.0 / decider_runner.RETRY_AFTER + 1
    assert set(tried) == {1}
    bench.journal.fault = None
    await asyncio.sleep(1.0)
    assert bench.said == [f"said {number}" for number in range(1000)]
    assert bench.journal.read() == tuple(map(Added, range(1000)))


async def test_too_many_that_wait_make_their_senders_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "MAX_PENDING", 3)
    bench = Bench()
    bench.journal.fault = NoSpace("no space left")
    for number in range(3):
        assert not bench.runner.crowded
        bench.runner.happen(number)
        await asyncio.sleep(0.1)
    assert bench.runner.crowded
    waiting = asyncio.create_task(bench.runner.room())
    await asyncio.sleep(30.0)
    assert not waiting.done()
    bench.journal.fault = None
    await waiting
    assert len(bench.said) == 3


async def test_those_who_wait_for_room_do_not_wait_for_a_program_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "MAX_PENDING", 1)
    bench = Bench()
    bench.runner.happen(1)
    waiting = asyncio.create_task(bench.runner.room())
    await asyncio.sleep(0)
    await bench.runner.close()
    await waiting
    assert (bench.said, bench.journal.read()) == ([], ()), "a slow disk holds no stop up"


def going_on(event: Any, rest: Decision[Any, str], error: WakestreamError) -> Decision[Any, str] | None:
    """Numbers above 100 wait, those below are said at once."""
    return rest if event < 100 else None


async def test_a_program_can_go_on_without_the_disk_and_writes_the_facts_when_there_is_room() -> None:
    bench = Bench(when_full=going_on)
    bench.journal.fault = NoSpace("no space left")
    bench.runner.happen(200)
    bench.runner.happen(1)
    await asyncio.sleep(1.5)
    assert bench.said == ["said 1"]
    bench.runner.happen(2)  # is tried at once
    await asyncio.sleep(1.1)
    assert bench.said == ["said 1", "said 2"]
    bench.journal.fault = None
    await asyncio.sleep(5.0)
    assert bench.said == ["said 1", "said 2", "said 200"]
    assert bench.journal.read() == (Added(200), Added(1), Added(2))


async def test_a_program_can_take_back_what_found_no_space() -> None:
    def take_back(event: Any, rest: Decision[Any, str], error: WakestreamError) -> Decision[Any, str]:
        bench.runner.apply(Removed(event))
        return Decision([], [f"{error}: {event}"])

    bench = Bench(when_full=take_back)
    bench.journal.fault = NoSpace("full")
    bench.runner.happen(1)
    await asyncio.sleep(1.5)
    assert (bench.said, bench.runner.state) == (["full: 1"], [])
    bench.journal.fault = None
    bench.runner.happen(2)
    await asyncio.sleep(1.5)
    assert (bench.said, bench.journal.read()) == (["full: 1", "said 2"], (Added(2),))


def refusing(event: Any, rest: Decision[Any, str], error: WakestreamError) -> Decision[Any, str]:
    """Numbers are refused."""
    raise error


async def test_with_the_journal_first_the_state_changes_after_the_commit() -> None:
    facts: list[Fact] = []
    bench = Bench(journal_first=True, when_full=refusing, on_fact=facts.append)
    first = asyncio.create_task(bench.runner.perform(1))
    again = asyncio.create_task(bench.runner.perform(1))
    await asyncio.sleep(0.5)
    assert (bench.runner.state, facts, bench.said) == ([], [], [])
    await asyncio.gather(first, again)
    assert (bench.runner.state, facts, bench.said) == ([1], [Added(1)], ["said 1", "said 1"])
    assert bench.journal.commits == [1]


async def test_what_is_refused_leaves_nothing_behind_and_the_next_is_performed() -> None:
    bench = Bench(journal_first=True, when_full=refusing)
    bench.journal.fault = NoSpace("full")
    with pytest.raises(NoSpace, match="full"):
        await bench.runner.perform(1)
    assert (bench.runner.state, bench.said) == ([], [])
    with pytest.raises(ValueError, match="negative"):
        await bench.runner.perform(-1)
    bench.journal.fault = None
    await bench.runner.perform(2)
    assert (bench.runner.state, bench.journal.read()) == ([2], (Added(2),))


async def test_a_request_is_not_refused_since_the_disk_was_full_a_moment_ago() -> None:
    def refusing_numbers(event: Any, rest: Decision[Any, str], error: WakestreamError) -> Decision[Any, str]:
        if event == 1:
            return rest
        raise error

    bench = Bench(journal_first=True, when_full=refusing_numbers)
    bench.journal.fault = NoSpace("full")
    await bench.runner.perform(1)  # its fact waits for the next attempt
    bench.journal.fault = None
    await bench.runner.perform(2)
    assert bench.journal.read() == (Added(1), Added(2))


async def test_a_caller_that_is_cancelled_leaves_journal_and_state_the_same() -> None:
    bench = Bench(journal_first=True)
    asking = asyncio.create_task(bench.runner.perform(1))
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.wait((asking,))
    await bench.runner.perform(2)
    assert bench.runner.state == [1, 2]
    assert NUMBERS.recover(bench.journal.read()) == [1, 2]


@pytest.mark.parametrize(
    ("fault", "expected"), [(JournalError("broken"), "broken"), (OSError("lost"), "the bench cannot .*OSError: lost")]
)
async def test_a_broken_journal_ends_the_program_and_no_command_follows(fault: Exception, expected: str) -> None:
    for options in ({}, {"journal_first": True}):
        bench = Bench(**options)
        bench.journal.fault = fault
        bench.runner.happen(1)
        with pytest.raises(JournalError, match=expected):
            await bench.runner.ended()
        bench.runner.happen("how many")
        with pytest.raises(JournalError, match=expected):
            await bench.runner.perform(2)
        assert bench.said == []


async def test_a_program_that_does_not_need_its_journal_goes_on_when_it_breaks() -> None:
    bench = Bench(when_full=lambda event, rest, error: Decision([], rest.commands), needs_journal=False)
    bench.journal.fault = JournalError("broken")
    for number in (1, 2):
        bench.runner.happen(number)
        await asyncio.sleep(2.0)
    assert bench.said == ["said 1", "said 2"]
    assert not bench.runner.failed.done()


@pytest.mark.parametrize(
    ("tell", "ends"),
    [(DeciderRunner[Any, Any, Any, Any].happen, False), (DeciderRunner[Any, Any, Any, Any].report, True)],
)
async def test_an_error_of_the_decider_is_the_callers_or_ends_the_program(
    tell: Callable[[Numbers, int], None], ends: bool
) -> None:
    bench = Bench()
    try:
        tell(bench.runner, -1)
    except ValueError:
        assert not ends
    assert bench.runner.failed.done() is ends


async def test_facts_that_a_failed_decision_has_applied_are_written_without_its_commands() -> None:
    def half(state: list[int], event: float, now: float, decision: Decision[Fact, str]) -> None:
        decision.fact(Added(1))
        decision.command("said 1")
        raise ValueError("the other half")

    bench = Bench(decider=Decider(list, {float: half}, CHANGES))
    with pytest.raises(ValueError, match="the other half"):
        bench.runner.happen(1.0)
    await asyncio.sleep(1.5)
    assert (bench.runner.state, bench.journal.read(), bench.said) == ([1], (Added(1),), [])


async def test_callers_who_wait_when_it_is_stopped_get_an_error() -> None:
    bench = Bench(journal_first=True)
    waiting = asyncio.create_task(bench.runner.perform(1))
    await asyncio.sleep(0.5)
    await bench.runner.close()
    with pytest.raises(JournalError, match="the bench is stopping"):
        await waiting
    assert bench.said == []


async def test_a_stop_writes_the_facts_that_wait_and_executes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_runner, "STOP_WITHIN", 2.0)
    bench = Bench()
    bench.runner.happen(1)
    await asyncio.sleep(0.5)
    bench.runner.happen(2)
    await bench.runner.close()
    assert set(bench.journal.read()) == {Added(1), Added(2)}
    assert bench.said == []


async def test_without_a_journal_commands_follow_at_once() -> None:
    said: list[str] = []
    runner: Numbers = DeciderRunner(
        "the bench", NUMBERS, [], None, said.append, clock=lambda: 0.0, durable=lambda _: []
    )
    runner.happen(1)
    assert (said, runner.state) == (["said 1"], [1])
