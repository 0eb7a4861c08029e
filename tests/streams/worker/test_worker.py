"""The queue of tasks as data: events in, facts and commands out, no clock but the numbers in the events."""

from __future__ import annotations

from typing import Any

import pytest

from wakestream.operators.model.engine import Frame
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w
from wakestream.streams.worker.worker import DECIDER


def ref(number: int, ext: str) -> FileRef:
    return FileRef(f"{number:032x}", ext)


At = tuple[w.Event, float]


def at(now: float, event: w.Event) -> At:
    return event, now


def ask(number: int, holder: str = "", *, now: float = 0.0) -> At:
    return of("", number, job=holder, now=now)


def name(number: int) -> str:
    return w.task_id(w.pair(ref(number, ".mp4"), ref(number, ".wav")))


class Queue:
    """Applies events one after another and remembers what was ordered."""

    def __init__(self, state: w.QueueState | None = None) -> None:
        self.state = state or w.QueueState()
        self.facts: list[w.Fact] = []
        self.commands: list[w.Command] = []

    def tell(self, *events: At) -> Queue:
        for event, now in events:
            facts, commands = DECIDER.step(self.state, event, now)
            self.facts += facts
            self.commands += commands
        return self

    def task(self, number: int) -> w.Task:
        return self.state.tasks[name(number)]

    @property
    def started(self) -> list[str]:
        return [command.task.id for command in self.commands if isinstance(command, w.Run)]


def running(*numbers: int) -> Queue:
    """A ready worker that was asked for these; the first of them runs."""
    return Queue().tell(at(0.0, w.Ready()), *(ask(number, "job") for number in numbers))


def done(number: int, *, now: float = 5.0) -> At:
    return at(now, w.Ended(name(number), 1, size=10, digest="d" * 64))


def test_a_pair_of_files_has_a_stable_and_unique_task_id() -> None:
    names = {
        w.task_id(w.pair(ref(1, ".mp4"), ref(2, ".wav"))),
        w.task_id(w.pair(ref(2, ".mp4"), ref(1, ".wav"))),
        name(1),
    }
    assert len(names) == 3
    assert name(1) == w.task_id(w.pair(FileRef(f"{1:032x}", ".mp4"), FileRef(f"{1:032x}", ".wav")))
    assert all(len(one) == 32 for one in names)


def test_one_task_runs_and_the_others_wait_in_their_order() -> None:
    queue = running(1, 2, 3)
    assert queue.started == [name(1)]
    assert [shares.position(queue.state, name(number)) for number in (1, 2, 3)] == [0, 1, 2]
    queue.tell(done(1))
    assert queue.started == [name(1), name(2)]
    assert queue.task(1).status == "done"
    assert (queue.task(1).size, queue.task(1).digest) == (10, "d" * 64)


def test_a_task_of_two_jobs_stops_only_with_the_second() -> None:
    queue = running(1).tell(ask(1, "other"), at(2.0, w.Drop(name(1), "job")))
    assert queue.task(1).status == "running"
    assert not [command for command in queue.commands if isinstance(command, w.Kill)]
    queue.tell(at(3.0, w.Drop(name(1), "other")))
    assert (queue.task(1).status, queue.task(1).finished_at) == ("cancelled", 3.0)
    assert queue.commands[-1] == w.Kill(name(1))


def test_a_clock_that_was_set_back_makes_the_newest_result_no_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2, 3).tell(done(1, now=1000.0), done(2, now=2.0), at(1001.0 + shares.PROMISED, w.Ready()))
    assert set(queue.state.tasks) == {name(2), name(3)}
    assert queue.commands[-1] == w.Erase(name(1))


def test_after_a_restart_what_had_not_finished_waits_again_in_its_order() -> None:
    before = running(2, 1).tell(ask(3, now=9.0), at(9.5, w.Drop(name(3), ""))).state
    state = DECIDER.recover((), snapshot=DECIDER.snapshot(before))
    assert (state.busy, state.ready) == ({}, False)
    assert {task.started_at for task in state.tasks.values()} == {None}
    queue = Queue(state).tell(at(10.0, w.Ready()))
    assert queue.started == [name(2)]
    assert shares.position(queue.state, name(1)) == 1
    assert queue.task(3).status == "cancelled"
    assert queue.task(2).holders == {"job"}


def of(license_: str, number: int, *, job: str = "job", kept: bool = False, now: float = 0.0) -> At:
    return at(now, w.Ask(w.pair(ref(number, ".mp4"), ref(number, ".wav")), job, kept, license_))


def shown(license_: str, *numbers: int) -> list[w.Event]:
    return [at(0.0, w.Show(ref(number, ext), license_)) for number in numbers for ext in (".mp4", ".wav")]


def test_licenses_take_turns_and_the_jobs_of_each_keep_their_order() -> None:
    queue = Queue().tell(*(of("many", number) for number in range(1, 7)), of("one", 8), ask(9), at(1.0, w.Ready()))
    order = [1, 8, 9, 2, 3, 4, 5, 6]
    assert [shares.position(queue.state, name(number)) for number in order[1:]] == list(range(1, 8))
    for number in order:
        queue.tell(done(number))
    assert queue.started == [name(number) for number in order]


def test_a_license_that_ends_its_tasks_as_soon_as_they_run_gets_no_turn_more() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), of("many", 1, now=1.0), of("many", 2), of("many", 3), of("one", 8))
    queue.tell(at(2.0, w.Drop(name(1), "job", license="many")), at(2.0, w.Ended(name(1), 1, error="killed")))
    assert queue.started == [name(1), name(8)]


def test_a_task_that_a_license_wants_too_waits_no_longer_than_that_license_would() -> None:
    queue = Queue().tell(*(of("many", number) for number in range(1, 7)), of("one", 6))
    assert shares.position(queue.state, name(6)) == 2
    assert queue.tell(at(1.0, w.Ready()), done(1)).started == [name(1), name(6)]


def test_that_no_result_of_the_last_hour_goes_is_found_without_a_look_at_their_licenses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2, 3).tell(done(1), done(2), done(3))
    monkeypatch.delattr(w.Task, "licenses")
    assert shares.surplus(queue.state, 5.0) == []


def test_jobs_of_one_license_displace_no_holder_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_HOLDERS", 2)
    queue = Queue().tell(at(0.0, w.Ready()), *shown("one", 1), *shown("many", 1), of("one", 1, job="mine"), done(1))
    queue.tell(*(of("many", 1, job=f"j{number}", kept=True) for number in range(5)))
    assert queue.state.opens(queue.task(1), "mine", "one")
    assert queue.state.opens(queue.task(1), "j4", "many")
    assert len(queue.task(1).holders) <= 1 + 2


def test_a_job_opens_a_task_only_under_its_license_and_when_that_has_both_files() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), *shown("one", 1), of("one", 1, job="A"), of("two", 1, job="A"), done(1))
    task = queue.task(1)
    assert queue.state.opens(task, "A", "one")
    assert not queue.state.opens(task, "A", "two")
    assert not queue.state.opens(task, "B", "one")
    queue.tell(at(1.0, w.Show(task.video, "two")))
    assert not queue.state.opens(task, "A", "two")
    queue.tell(at(1.0, w.Show(task.audio, "two")))
    assert queue.state.opens(task, "A", "two")
    state = DECIDER.recover((), snapshot=DECIDER.snapshot(queue.state))
    assert [state.opens(state.tasks[name(1)], "A", one) for one in ("one", "two", "three")] == [True, True, False]


# What went wrong once


def ended(number: int, *, now: float = 5.0, **how: Any) -> At:
    return at(now, w.Ended(name(number), 1, **how))


FULL = w.Halt("paused", "the disk is full", 500)
BROKEN = w.Halt("not_ready", "the engine does not answer")


def test_a_license_whose_task_has_no_room_takes_its_turns_with_its_other_tasks_and_no_more() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), *(of("large", number) for number in (1, 2, 3)))
    queue.tell(*(of("small", number) for number in (4, 5, 6)), ended(1, again=FULL, alone=True))
    for number in (4, 2, 5, 3):
        queue.tell(done(number))
    assert queue.started == [name(number) for number in (1, 4, 2, 5, 3, 6)]


def test_a_job_that_joins_a_running_task_gives_its_license_no_turn_of_before() -> None:
    queue = Queue(w.QueueState(slots=2)).tell(at(0.0, w.Ready()), of("ann", 1, now=1.0), of("bob", 2, now=2.0))
    queue.tell(of("ann", 3, now=3.0), done(2), of("ann", 5), of("bob", 6), of("eve", 1, now=6.0), done(3, now=7.0))
    assert queue.started == [name(number) for number in (1, 2, 3, 6)]


def test_no_task_begins_while_the_engine_cannot_work_though_there_is_room_on_the_disk_again() -> None:
    queue = Queue(w.QueueState(slots=2)).tell(at(0.0, w.Ready()), ask(1), ask(2), ended(1, again=FULL))
    queue.tell(ended(2, again=BROKEN), at(6.0, w.Room(1000)))
    assert queue.state.halted == BROKEN
    assert queue.tell(at(7.0, w.Ready())).started[2:] == [name(1), name(2)]
    queue.tell(ended(1, again=BROKEN), ended(2, again=FULL), at(8.0, w.Ready()))
    assert queue.state.halted == FULL
    queue.tell(at(9.0, w.Unready("it is off")), at(9.0, w.Room(1000)))
    assert (queue.state.halted, len(queue.started)) == (w.Halt("not_ready", "it is off"), 4)


def test_why_no_task_begins_is_what_the_last_look_found() -> None:
    queue = Queue().tell(at(0.0, w.Unready("fetching 1 %")), at(1.0, w.Unready("fetching 50 %")), ask(1))
    assert queue.state.halt == w.Halt("not_ready", "fetching 50 %")


def test_a_result_is_a_file_only_of_those_who_have_what_it_was_made_of() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), *shown("ann", 1), of("ann", 1), of("bob", 1), done(1))
    result = FileRef("d" * 64, ".mp4")
    assert [queue.state.has(license_, result) for license_ in ("ann", "bob")] == [True, False]


def test_tasks_keep_their_order_when_a_clock_that_was_far_ahead_is_set() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), *(ask(number, now=1e6) for number in (1, 2, 3)))
    queue.tell(at(100.0, w.ClockMoved(10.0)), ended(1, again=FULL))
    assert list(queue.state.line) == [name(number) for number in (1, 2, 3)]


def test_progress_stays_that_came_while_another_job_joined() -> None:
    queue = running(1)
    joined = DECIDER.decide(queue.state, *ask(1, "other")).facts
    for fact in (w.Advanced(name(1), 1, Frame(1, 2, 50.0)), *joined):
        DECIDER.evolve(queue.state, fact)
    assert (queue.task(1).progress.percent, queue.task(1).holders) == (50.0, {"job", "other"})
