"""The queue of tasks as data: events in, facts and commands out, no clock but the numbers in the events."""

from __future__ import annotations

import pytest

from wakestream.operators.model.engine import Frame, Waits
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import shares
from wakestream.streams.worker import state as w
from wakestream.streams.worker import state as worker_state
from wakestream.streams.worker.worker import DECIDER


def ref(number: int, ext: str) -> FileRef:
    return FileRef(f"{number:032x}", ext)


At = tuple[w.Event, float]


def at(now: float, event: w.Event) -> At:
    return event, now


def ask(number: int, holder: str = "", *, kept: bool = False, now: float = 0.0) -> At:
    return at(now, w.Ask(w.pair(ref(number, ".mp4"), ref(number, ".wav")), holder, kept))


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


def done(number: int, *, attempt: int = 1, now: float = 5.0) -> At:
    return at(now, w.Ended(name(number), attempt, size=10, digest="d" * 64))


def test_a_pair_of_files_has_a_stable_and_unique_task_id() -> None:
    names = {
        w.task_id(w.pair(ref(1, ".mp4"), ref(2, ".wav"))),
        w.task_id(w.pair(ref(2, ".mp4"), ref(1, ".wav"))),
        name(1),
    }
    assert len(names) == 3
    assert name(1) == w.task_id(w.pair(FileRef(f"{1:032x}", ".mp4"), FileRef(f"{1:032x}", ".wav")))
    assert all(len(one) == 32 for one in names)


def test_nothing_starts_before_the_engine_is_ready() -> None:
    queue = Queue().tell(ask(1), ask(2))
    assert queue.started == []
    assert [shares.position(queue.state, name(number)) for number in (1, 2)] == [1, 2]
    assert queue.tell(at(1.0, w.Ready())).started == [name(1)]
    assert queue.task(1).started_at == 1.0


def test_one_task_runs_and_the_others_wait_in_their_order() -> None:
    queue = running(1, 2, 3)
    assert queue.started == [name(1)]
    assert [shares.position(queue.state, name(number)) for number in (1, 2, 3)] == [0, 1, 2]
    queue.tell(done(1))
    assert queue.started == [name(1), name(2)]
    assert queue.task(1).status == "done"
    assert (queue.task(1).size, queue.task(1).digest) == (10, "d" * 64)


def test_a_running_pair_asked_for_again_is_the_same_task_with_one_more_holder() -> None:
    queue = running(1).tell(ask(1, "other"))
    assert queue.started == [name(1)]
    assert queue.task(1).holders == {"job", "other"}


def test_the_same_holder_asking_again_changes_nothing() -> None:
    queue = running(1)
    assert DECIDER.decide(queue.state, *ask(1, "job")) == ([], [])


def test_a_finished_pair_is_not_made_again_while_its_result_is_there() -> None:
    queue = running(1).tell(done(1))
    facts, commands = DECIDER.decide(queue.state, *ask(1, "later", kept=True))
    shared, used = facts
    assert used == w.Used(name(1), 0.0)
    assert isinstance(shared, w.Changed)
    assert (shared.task.status, shared.task.holders, commands) == ("done", frozenset({"job", "later"}), [])
    assert DECIDER.decide(queue.state, *ask(1, "job", kept=True)) == ([w.Used(name(1), 0.0)], [])


def test_a_finished_task_without_its_result_runs_again() -> None:
    queue = running(1).tell(done(1), ask(1, "later", kept=False))
    assert queue.started == [name(1), name(1)]
    assert queue.task(1).attempt == 2


def test_a_failed_pair_asked_for_again_is_a_new_attempt_without_the_old_error() -> None:
    queue = running(1).tell(at(5.0, w.Ended(name(1), 1, error="no sound")))
    assert (queue.task(1).status, queue.task(1).error) == ("failed", "no sound")
    queue.tell(ask(1, "again", now=6.0))
    assert (queue.task(1).status, queue.task(1).attempt, queue.task(1).error) == ("running", 2, None)
    assert queue.task(1).holders == {"again"}


def test_a_task_of_two_jobs_stops_only_with_the_second() -> None:
    queue = running(1).tell(ask(1, "other"), at(2.0, w.Drop(name(1), "job")))
    assert queue.task(1).status == "running"
    assert not [command for command in queue.commands if isinstance(command, w.Kill)]
    queue.tell(at(3.0, w.Drop(name(1), "other")))
    assert (queue.task(1).status, queue.task(1).finished_at) == ("cancelled", 3.0)
    assert queue.commands[-1] == w.Kill(name(1))


def test_a_job_that_does_not_hold_the_task_cannot_stop_it() -> None:
    assert DECIDER.decide(running(1).state, *at(2.0, w.Drop(name(1), "stranger"))) == ([], [])


def test_a_waiting_task_that_is_cancelled_leaves_the_line_without_a_kill() -> None:
    queue = running(1, 2, 3).tell(at(2.0, w.Drop(name(2), "job")))
    assert queue.task(2).status == "cancelled"
    assert shares.position(queue.state, name(3)) == 1
    assert not [command for command in queue.commands if isinstance(command, w.Kill)]


def test_after_a_kill_the_next_task_waits_until_the_engine_has_really_ended() -> None:
    queue = running(1, 2).tell(at(2.0, w.Drop(name(1), "job")))
    assert queue.started == [name(1)]
    queue.tell(at(3.0, w.Ended(name(1), 1, error="killed")))
    assert queue.started == [name(1), name(2)]
    assert queue.task(1).error == w.CANCELLED


def test_a_cancelled_pair_asked_for_again_before_its_engine_ended_starts_after_that_end() -> None:
    queue = running(1).tell(at(2.0, w.Drop(name(1), "job")), ask(1, "again", now=2.5))
    assert (queue.task(1).status, queue.task(1).attempt) == ("queued", 2)
    queue.tell(at(3.0, w.Ended(name(1), 1, error="killed")))
    assert (queue.task(1).status, queue.task(1).attempt, queue.task(1).error) == ("running", 2, None)


def test_a_result_that_comes_after_the_cancellation_does_not_bring_the_task_back() -> None:
    queue = running(1).tell(at(2.0, w.Drop(name(1), "job")))
    ended = queue.task(1)
    DECIDER.evolve(queue.state, w.Advanced(name(1), 1, Frame(2, 2, 99.0)))
    assert queue.task(1) == ended
    queue.tell(done(1))
    assert (queue.task(1).status, queue.task(1).digest) == ("cancelled", None)


def test_an_end_of_another_attempt_is_ignored() -> None:
    assert DECIDER.decide(running(1).state, *done(1, attempt=7)) == ([], [])
    assert DECIDER.decide(running(1).state, *done(9)) == ([], [])


def test_progress_counts_only_for_the_attempt_that_runs() -> None:
    state = running(1).state
    (before,) = state.tasks.values()
    for late in (w.Advanced(name(1), 2, Frame(5, 10, 50.0)), w.Advanced(name(9), 1, Frame(5, 10, 50.0))):
        DECIDER.evolve(state, late)
        assert list(state.tasks.values()) == [before]
    DECIDER.evolve(state, w.Advanced(name(1), 1, Frame(5, 10, 50.0)))
    assert state.tasks[name(1)].progress.percent == 50.0


def test_an_unknown_task_cannot_be_cancelled() -> None:
    with pytest.raises(WorkerRefused, match="no task") as refused:
        DECIDER.decide(w.QueueState(), *at(1.0, w.Drop("0" * 32, "job")))
    assert refused.value.code == "not_found"


def test_a_full_queue_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_UNFINISHED", 2)
    queue = running(1, 2)
    with pytest.raises(WorkerRefused, match="queue is full") as refused:
        queue.tell(ask(3))
    assert refused.value.code == "queue_full"
    queue.tell(done(1), ask(3))
    assert shares.position(queue.state, name(3)) == 1


def test_a_task_has_a_bounded_number_of_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_HOLDERS", 1)
    with pytest.raises(WorkerRefused, match="try again later"):
        running(1).tell(ask(1, "other"))


def test_the_oldest_finished_task_is_forgotten_with_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2).tell(done(1, now=1.0), done(2, now=2.0 + shares.PROMISED))
    assert set(queue.state.tasks) == {name(2)}
    assert queue.commands[-1] == w.Erase(name(1))


def test_a_clock_that_was_set_back_makes_the_newest_result_no_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2, 3).tell(done(1, now=1000.0), done(2, now=2.0), at(1001.0 + shares.PROMISED, w.Ready()))
    assert set(queue.state.tasks) == {name(2), name(3)}
    assert queue.commands[-1] == w.Erase(name(1))


def test_after_a_restart_what_had_not_finished_waits_again_in_its_order() -> None:
    before = running(2, 1).tell(ask(3, now=9.0), at(9.5, w.Drop(name(3), ""))).state
    state = DECIDER.recover((), snapshot=DECIDER.snapshot(before))
    assert (state.busy, state.ready) == ({}, False)
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


def test_a_license_with_too_many_tasks_is_refused_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_UNFINISHED", 2)
    queue = Queue().tell(of("many", 1), of("many", 2))
    with pytest.raises(WorkerRefused, match="queue is full"):
        queue.tell(of("many", 3))
    queue.tell(of("one", 3), ask(4))
    monkeypatch.setattr(shares, "MAX_UNFINISHED_IN_ALL", 4)
    with pytest.raises(WorkerRefused, match="queue is full"):
        queue.tell(of("another", 5))


def test_what_a_license_ended_displaces_its_own_alone_and_tasks_without_a_result_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 2)
    queue = Queue().tell(at(0.0, w.Ready()), of("one", 1), done(1), of("many", 2), done(2), ask(3), done(3))
    later = 5.0 + 2 * shares.PROMISED
    for number in range(4, 9):  # failed, then never ran
        queue.tell(of("many", number, now=later), at(later, w.Ended(name(number), 1, error="no sound")))
    queue.tell(of("many", 20))
    for number in range(9, 14):
        queue.tell(of("many", number, now=later), at(later, w.Drop(name(number), "job", license="many")))
    assert {name(1), name(2), name(3)} <= set(queue.state.tasks)
    assert not any(
        isinstance(command, w.Erase) and command.task_id in map(name, (1, 2, 3)) for command in queue.commands
    )
    queue.tell(done(20, now=later), of("many", 21), done(21, now=later))
    assert name(2) not in queue.state.tasks
    assert {name(1), name(3)} <= set(queue.state.tasks)
    assert len(queue.state.tasks) == 2 + 2 + 2 + 2  # results of two, results, failures and what was cancelled of many


def test_that_no_result_of_the_last_hour_goes_is_found_without_a_look_at_their_licenses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2, 3).tell(done(1), done(2), done(3))
    monkeypatch.delattr(w.Task, "licenses")
    assert shares.surplus(queue.state, 5.0) == []


def test_a_result_that_was_used_within_the_hour_stays_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_FINISHED", 1)
    queue = running(1, 2, 3).tell(done(1), done(2), done(3))
    assert len(queue.state.tasks) == 3
    DECIDER.evolve(queue.state, w.Used(name(1), 5.0 + shares.PROMISED))
    queue.tell(at(6.0 + shares.PROMISED, w.Ready()))
    assert set(queue.state.tasks) == {name(1)}
    monkeypatch.setattr(shares, "MAX_FRESH", 1)
    with pytest.raises(WorkerRefused, match="last hour"):
        queue.tell(ask(4, "job", now=7.0 + shares.PROMISED))


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


def test_the_files_of_a_license_are_bounded_and_another_s_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_state, "MAX_FILES", 2)
    queue = Queue().tell(*shown("one", 1), *shown("many", 1, 2, 3))
    assert queue.state.has("one", ref(1, ".mp4"), ref(1, ".wav"))
    assert not queue.state.has("many", ref(2, ".mp4"))
    assert queue.state.has("many", ref(3, ".mp4"), ref(3, ".wav"))
    assert DECIDER.decide(queue.state, *at(1.0, w.Show(ref(3, ".mp4"), "many"))) == ([], [])


def test_two_jobs_of_the_same_id_are_two_holders_by_their_licenses() -> None:
    queue = Queue().tell(at(0.0, w.Ready()), of("one", 1), of("two", 1), at(1.0, w.Drop(name(1), "job", license="two")))
    assert (queue.task(1).status, queue.task(1).owners) == ("running", {("job", "one")})
    queue.tell(at(1.0, w.Drop(name(1), "job", license="another")))
    assert queue.task(1).status == "running"
    assert queue.tell(at(1.0, w.Drop(name(1), "job", license="one"))).task(1).status == "cancelled"
    queue.tell(of("one", 2), of("two", 2), at(3.0, w.Drop(name(2), "job")))  # who knows the secret may do it for all
    assert queue.task(2).status == "cancelled"


# Several tasks at one time


def two_at_once(*numbers: int) -> Queue:
    return Queue(w.QueueState(slots=2)).tell(at(0.0, w.Ready()), *(ask(number, f"job-{number}") for number in numbers))


def test_so_many_tasks_run_at_one_time_as_the_worker_has_slots() -> None:
    queue = two_at_once(1, 2, 3)
    assert queue.started == [name(1), name(2)]
    assert [shares.position(queue.state, name(number)) for number in (1, 2, 3)] == [0, 0, 1]
    queue.tell(done(2))
    assert queue.started == [name(1), name(2), name(3)]
    assert [queue.task(number).status for number in (1, 2, 3)] == ["running", "done", "running"]


def test_the_cancel_of_one_leaves_the_other_at_work() -> None:
    queue = two_at_once(1, 2, 3).tell(at(1.0, w.Drop(name(1), "job-1")))
    assert [command for command in queue.commands if isinstance(command, w.Kill)] == [w.Kill(name(1))]
    assert (queue.task(2).status, queue.task(3).status) == ("running", "queued")  # the engine still has the first
    queue.tell(at(2.0, w.Ended(name(1), 1)))
    assert queue.started[2:] == [name(3)]


def test_a_task_that_is_asked_for_again_waits_until_its_first_attempt_has_stopped() -> None:
    queue = two_at_once(1).tell(at(1.0, w.Drop(name(1), "job-1")), ask(1, "job-1", now=2.0), ask(2, now=3.0))
    assert queue.started == [name(1), name(2)]
    queue.tell(at(4.0, w.Ended(name(1), 1)))
    assert queue.started == [name(1), name(2), name(1)]


def test_after_a_restart_all_that_ran_wait_again_in_their_order() -> None:
    queue = two_at_once(1, 2, 3)
    kept = [fact for fact in queue.facts if isinstance(fact, w.Changed)]
    state = DECIDER.recover(kept)
    assert (list(state.line), state.busy) == ([name(1), name(2), name(3)], {})


def test_each_running_task_waits_in_the_engines_queue_by_itself() -> None:
    queue = two_at_once(1, 2)
    for number, said in (1, Waits("behind others", 2)), (2, Frame(1, 2, 50.0)), (2, Waits("behind one", 1)):
        DECIDER.evolve(queue.state, w.Advanced(name(number), 1, said))
    queue.tell(done(2))
    assert queue.state.waits == {name(1): Waits("behind others", 2)}
