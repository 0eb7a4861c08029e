"""Every row of the power table, reached by what happens in the world."""

from collections.abc import Callable

import pytest

from tests.support.streams.monitor_desk import Desk
from wakestream.operators.model.ports import PowerState, PowerWord
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import TABLE, Signal
from wakestream.streams.protocol import messages as m

Happening = Callable[[Desk], object]
S = Signal


def reads(*readings: PowerState) -> Happening:
    def happen(desk: Desk) -> None:
        for reading in readings:
            desk.reads(reading)

    return happen


def loses_sight(desk: Desk) -> None:
    for _ in range(desk.policy.misses):
        desk.fails("no answer")


def loses_sight_and_worker(desk: Desk) -> None:
    desk.happens(p.HealthAnswer(False))
    loses_sight(desk)


def wakes_and_reads(*readings: PowerState) -> Happening:
    def happen(desk: Desk) -> None:
        desk.happens(p.Wake("job-2"))
        reads(*readings)(desk)

    return happen


def misses(desk: Desk) -> None:
    for _ in range(desk.policy.misses):
        desk.happens(p.HealthAnswer(False, "refused"))


def boot_time_passes(desk: Desk) -> None:
    desk.passes(desk.policy.boot_timeout)


def stop_is_refused_and_a_job_comes(desk: Desk) -> None:
    desk.happens(p.Wake("job-2"))
    desk.reads("running")
    desk.passes(desk.policy.stop_again)


def is_called_back_and_reads(*readings: PowerState) -> Happening:
    def happen(desk: Desk) -> None:
        desk.happens(m.Release(gpu="gpu-1"))
        reads(*readings)(desk)
        desk.answers(0)

    return happen


def loses_a_start_and_is_called_back(desk: Desk) -> None:
    desk.machine.boot.again_at = desk.now
    desk.happens(m.Release(gpu="gpu-1"))
    desk.reads("stopped")
    desk.reads("stopped")


def comes_late_and_is_called_back(desk: Desk) -> None:
    desk.machine.boot.late = True
    is_called_back_and_reads("starting")(desk)


TERMINABLE: tuple[PowerWord, ...] = (
    "unknown", "off", "starting", "no_capacity", "booted", "online", "draining", "stopping",
)  # fmt: skip

ROWS: dict[tuple[PowerWord, Signal], Happening] = {
    ("unknown", S.GO): wakes_and_reads("stopped"),
    ("unknown", S.STARTING): reads("starting"),
    ("unknown", S.RUNNING): reads("running"),
    ("unknown", S.STOPPING): reads("stopping"),
    ("unknown", S.STOPPED): reads("stopped"),
    ("unknown", S.FAILED): reads("failed"),
    ("off", S.GO): lambda desk: desk.happens(p.Wake("job-1")),
    ("off", S.STARTING): reads("starting"),
    ("off", S.RUNNING): reads("running"),
    ("off", S.STOPPING): reads("stopping"),
    ("off", S.LOST): loses_sight,
    ("starting", S.RUNNING): reads("running"),
    ("starting", S.NO_CAPACITY): reads("no_capacity"),
    ("starting", S.FAILED): reads("failed"),
    ("starting", S.TIMEOUT): boot_time_passes,
    ("starting", S.UNWANTED): loses_a_start_and_is_called_back,
    ("starting", S.UNUSABLE): is_called_back_and_reads("starting"),
    ("no_capacity", S.RETRY): lambda desk: desk.passes(desk.machine.boot.retry_at - desk.now),
    ("no_capacity", S.STARTING): reads("starting"),
    ("no_capacity", S.UNWANTED): lambda desk: desk.happens(m.Release(gpu="gpu-1")),
    ("no_capacity", S.UNUSABLE): comes_late_and_is_called_back,
    ("no_capacity", S.RUNNING): reads("running"),
    ("no_capacity", S.FAILED): reads("failed"),
    ("no_capacity", S.TIMEOUT): boot_time_passes,
    ("booted", S.READY): lambda desk: desk.happens(p.HealthAnswer(True)),
    ("booted", S.STOPPING): reads("stopping"),
    ("booted", S.STOPPED): reads("stopped"),
    ("booted", S.FAILED): reads("failed"),
    ("booted", S.TIMEOUT): boot_time_passes,
    ("booted", S.GONE): reads("stopped"),
    ("booted", S.GOING): reads("stopping"),
    ("booted", S.UNUSABLE): lambda desk: desk.answers(0),
    ("online", S.UNREADY): misses,
    ("online", S.IDLE): lambda desk: desk.drains(),
    ("online", S.OVERDUE): lambda desk: desk.passes(100_000.0),
    ("online", S.STOPPING): reads("stopping"),
    ("online", S.STOPPED): reads("stopped"),
    ("online", S.FAILED): reads("failed"),
    ("online", S.LOST): loses_sight_and_worker,
    ("draining", S.FREE): lambda desk: desk.answers(0),
    ("draining", S.KEPT): lambda desk: desk.answers(2),
    ("draining", S.STOPPING): reads("stopping"),
    ("draining", S.STOPPED): reads("stopped"),
    ("draining", S.FAILED): reads("failed"),
    ("draining", S.LOST): loses_sight,
    ("stopping", S.STOPPED): reads("stopped"),
    ("stopping", S.FAILED): reads("failed"),
    ("stopping", S.RUNS_ON): stop_is_refused_and_a_job_comes,
    ("stopping", S.LOST): loses_sight,
    ("failed", S.WAKE): lambda desk: desk.happens(p.Wake("job-2")),
    ("failed", S.RUNNING): reads("running"),
    ("failed", S.UNUSABLE): boot_time_passes,
    **{(state, S.TERMINATED): reads("terminated") for state in TERMINABLE},
    **{(state, S.ENDED): lambda desk: desk.happens(p.Ended()) for state in TABLE if state != "off"},
}


FOUND_RUNNING = (("booted", S.GONE), ("booted", S.GOING), ("booted", S.UNUSABLE))


def test_the_rows_below_are_the_rows_of_the_table() -> None:
    assert set(ROWS) == {(state, signal) for state, row in TABLE.items() for signal in row}


@pytest.mark.parametrize(("state", "signal"), list(ROWS), ids=lambda word: getattr(word, "name", word))
def test_each_row_of_the_table_is_taken(state: PowerWord, signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    overdue = signal is Signal.OVERDUE
    orphans = "stop" if (state, signal) == ("booted", S.UNUSABLE) else "adopt"
    idle_after = 1_000_000.0 if overdue else 1800.0
    desk = Desk(max_uptime=50_000.0 if overdue else None, idle_after=idle_after, orphans=orphans)
    if (state, signal) in FOUND_RUNNING:
        desk.off().reads("running")
    else:  # a machine that did not come online passes through `failed` on its way to being switched off
        getattr(desk, "booted" if (state, signal) == ("failed", S.UNUSABLE) else state)()
    before = len(desk.commands)
    ROWS[state, signal](desk)
    moves = [
        note.text.split(":")[0] for note in desk.commands[before:] if isinstance(note, p.LogNote) and "->" in note.text
    ]
    assert f"{state} -> {TABLE[state][signal]}" in moves
