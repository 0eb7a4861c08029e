"""The programs of one run, replayed against each other: as it was, and disturbed."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable

from tests.support.streams.log_library import LOGS, NAMES, log
from tests.support.streams.system_scene import SECOND, SYSTEM, as_recorded, ended, rows_of, second_job_at, stop_window
from wakestream.operators.model.events import Job, JobEvent
from wakestream.operators.model.ports import PowerWord
from wakestream.streams.hub import hub
from wakestream.streams.hub import power as hub_power
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.monitor import transitions
from wakestream.streams.monitor.power_table import Signal
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Log, UnusableLog, row_line
from wakestream.streams.replay.network import Hop
from wakestream.streams.simulation.replay_system import SystemReplayed, replay_system

STEPS = 50
SLOW = 0.02
"""Seconds of each message in the tests of the race, so that every step falls between two of them."""

INCIDENTS = sorted({name.split("/")[0] for name in NAMES if "/hub" in name})


def together(incident: str) -> tuple[Log, ...]:
    return tuple(log(name) for name in NAMES if name.startswith(f"{incident}/"))


def differences(replayed: SystemReplayed) -> list[str]:
    return [line for _, each in replayed.divergences for line in each.lines()]


def slow(_: Hop) -> float:
    return SLOW


# --- the recorded run


@pytest.mark.parametrize("incident", INCIDENTS)
async def test_programs_recorded_together_do_the_same_against_each_other(incident: str) -> None:
    replayed = await replay_system(together(incident))
    assert differences(replayed) == []
    assert replayed.machines == ()
    for program in replayed.programs:
        assert len(program.again.rows) >= 0.9 * len(program.recorded.rows)


async def test_messages_that_are_no_longer_sent_are_not_received() -> None:
    def lazy(job: Job, *rest: Any) -> Observable[JobEvent]:
        return rx.never() if job.id == SECOND else job_pipeline(job, *rest)

    replayed = await replay_system(SYSTEM, build=lazy)
    parted = {(replayed.programs[place].recorded.header.program, each.label) for place, each in replayed.divergences}
    assert ("hub", "ack") in parted
    assert not any(row.job == SECOND for row in replayed.of("hub").again.rows)
    assert not any(row.job == SECOND for row in replayed.of("monitor").again.rows)


async def test_clocks_that_differ_by_minutes_make_no_difference() -> None:
    client, hub_log, monitor = SYSTEM
    fast = replace(client, header=replace(client.header, epoch=client.header.epoch + 240.0))
    slow_one = replace(monitor, header=replace(monitor.header, epoch=monitor.header.epoch - 90.0))
    assert differences(await replay_system((fast, hub_log, slow_one))) == []


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
async def test_a_truncated_log_is_used_to_its_end(place: int, share: float) -> None:
    logs = list(SYSTEM)
    whole = logs[place]
    logs[place] = replace(whole, rows=whole.rows[: int(share * len(whole.rows))], torn=True)
    assert differences(await replay_system(logs)) == []


async def test_where_a_clients_log_begins_late_what_it_has_is_sent_and_the_rest_is_taken_from_the_hubs() -> None:
    client, *others = SYSTEM
    for first in (10, 20, 60):
        replayed = await replay_system((replace(client, rows=client.rows[first:]), *others))
        assert differences(replayed) == [], first
        assert replayed.of("hub").again.rows[-1].label == replayed.of("hub").recorded.rows[-1].label


async def test_a_row_that_is_none_is_named() -> None:
    client, hub_log, monitor = SYSTEM
    broken = [replace(row, data={"frame": {}}) if row.label == "ack" else row for row in hub_log.rows]
    with pytest.raises(UnusableLog, match=r"hub: row \d+ \(out ack\) cannot be replayed"):
        await replay_system((client, replace(hub_log, rows=tuple(broken)), monitor))
    wishes = [replace(row, data={}) if row.label == "job.accept" else row for row in client.rows]
    with pytest.raises(UnusableLog, match=r"daemon: row \d+ \(in job.accept\) cannot be replayed"):
        await replay_system((replace(client, rows=tuple(wishes)), hub_log, monitor))


async def test_the_order_of_the_logs_is_of_no_matter() -> None:
    replayed = await replay_system(SYSTEM[::-1])
    assert differences(replayed) == []
    assert [each.recorded.header.program for each in replayed.programs] == ["monitor", "hub", "daemon"]


async def test_a_frame_sent_by_hand_is_sent_again() -> None:
    again = (await replay_system(SYSTEM)).of("daemon").again
    assert [row.dir for row in again.rows if row.job == "by-hand"] == ["out", "in"]


# --- hubs that follow each other


def of_takeover(change: Callable[[Log], Log], hub_log: str = "hub-2") -> list[Log]:
    """The logs of a takeover, one of them changed."""
    names = [name for name in NAMES if name.startswith("takeover/")]
    return [change(log(name)) if name == f"takeover/{hub_log}.jsonl" else log(name) for name in names]


def began(log: Log, **changes: Any) -> Log:
    first = replace(log.rows[0], data={**log.rows[0].data, **changes})
    return replace(log, rows=(first, *log.rows[1:]))


async def test_a_hub_that_read_otherwise_than_the_hub_before_it_wrote_diverges_in_what_differs() -> None:
    def without_a_job(log: Log) -> Log:
        state = [
            {**part, "items": part["items"][1:]} if part["field"] == "jobs" else part
            for part in log.rows[0].data["state"]
        ]
        return began(log, state=state)

    ((place, found),) = (await replay_system(of_takeover(without_a_job))).divergences
    assert (place, found.stream, found.label) == (1, "journal", "started")
    assert '+   jobs.job-2.id = "job-2"' in found.lines()


async def test_a_hub_that_now_makes_more_facts_of_the_same_leaves_the_same_to_the_next_one() -> None:
    fewer = of_takeover(lambda log: began(log, seq=log.rows[0].data["seq"] - 2))
    assert differences(await replay_system(fewer)) == []


async def test_what_a_hub_decided_and_did_not_write_before_it_was_killed_reaches_no_other_program() -> None:
    def with_another_job(log: Log) -> Log:
        submit = next(row for row in log.rows if row.label == "gpu.job.submit")
        last = log.rows[-1]
        frame = {**submit.data["frame"], "request_id": "unwritten"}
        more = replace(
            submit, seq=last.seq + 1, t=last.t + 0.001, job="unwritten", data={**submit.data, "frame": frame}
        )
        return replace(log, rows=(*log.rows, more))

    replayed = await replay_system(of_takeover(with_another_job, "hub"))
    assert differences(replayed) == []
    assert {place for place, each in enumerate(replayed.programs) if "unwritten" in str(each.again.rows)} == {2}


async def test_the_clocks_of_the_hubs_of_a_cluster_may_differ_and_the_order_of_their_logs_is_that_of_their_facts() -> (
    None
):
    for by in (-40.0, 40.0):
        changed = of_takeover(lambda log, by=by: replace(log, header=replace(log.header, epoch=log.header.epoch + by)))  # type: ignore[misc]
        replayed = await replay_system(changed)
        assert differences(replayed) == []
        assert replayed.alignment.hubs == (2, 1)
        assert replayed.alignment.skews[1] == pytest.approx(by, abs=0.5)


async def test_logs_of_hubs_with_different_journals_are_no_logs_of_one_run() -> None:
    with pytest.raises(UnusableLog, match="logs of hubs with different journals; give those of one hub or cluster"):
        await replay_system(of_takeover(lambda log: began(log, journal="another")))


# --- another world


async def test_slower_messages_make_slower_jobs() -> None:
    quick, late = await second_job_at(LAST, as_recorded), await second_job_at(LAST, lambda _: 0.5)
    waits = [
        next(row.data["waited"] for row in each.of("daemon").again.rows if row.label == "granted" and row.job == SECOND)
        for each in (quick, late)
    ]
    assert waits[1] - waits[0] >= 0.9


LAST = 2.5
"""About when the second job was asked for, in the recorded run."""


async def test_the_modelled_machine_keeps_the_recorded_times() -> None:
    replayed = await replay_system(SYSTEM, latency=as_recorded)
    for program, label in (("daemon", "done"), ("hub", "gpu.power.online"), ("monitor", "gpu.task.query")):
        then, now = (
            [row.t for row in rows.rows if row.label == label]
            for rows in (replayed.of(program).recorded, replayed.of(program).again)
        )
        assert now[0] == pytest.approx(then[0], abs=0.2), (program, label)


async def test_what_if_the_machine_were_left_on_for_longer() -> None:
    assert rows_of(await replay_system(SYSTEM, latency=as_recorded), "stop")
    assert not rows_of(await replay_system(SYSTEM, settings={"idle_after": 600.0}), "stop")


async def test_a_setting_that_no_program_has_is_named() -> None:
    with pytest.raises(ValueError, match="there is no 'idle_aftr'"):
        await replay_system(SYSTEM, settings={"idle_aftr": 1.0})
    with pytest.raises(ValueError, match="no 'bot'; it has boot, warm, "):
        await replay_system(SYSTEM, pace={"bot": 1.0})


async def test_programs_that_cannot_be_replayed_and_several_lives_of_a_hub_are_refused() -> None:
    worker = replace(SYSTEM[0], header=replace(SYSTEM[0].header, program="worker"))
    with pytest.raises(UnusableLog, match="'worker' cannot be replayed"):
        await replay_system((*SYSTEM, worker))
    with pytest.raises(UnusableLog, match="the hub was restarted"):
        await replay_system(together("hub_restart"), latency=as_recorded)


def shaken(hop: Hop, random: Random) -> float:
    return random.choice((0.0, random.uniform(0.0, 1.5)))


async def test_no_message_overtakes_another_of_its_connection() -> None:
    replayed = await second_job_at(LAST, perturb=shaken, seed=7)
    sent = [row.label for row in replayed.of("daemon").again.rows if row.dir == "out" and "event" not in row.data]
    fd = next(session.fd for session in replayed.alignment.sessions if session.log == 0)
    heard = replayed.of("hub").again.rows
    came = [row.label for row in heard if row.dir == "in" and row.data["fd"] == fd and row.label != "register"]
    assert came == sent


def fingerprint(replayed: SystemReplayed) -> str:
    rows = [row for each in replayed.programs for row in each.again.rows]
    return hashlib.sha256(b"".join(map(row_line, (*rows, *replayed.machines)))).hexdigest()


async def test_the_same_seed_is_the_same_run_and_another_another() -> None:
    seen = [fingerprint(await second_job_at(LAST, perturb=shaken, seed=seed)) for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]


OUTCOME = """
import hashlib, sys
from pathlib import Path
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.streams.recording.recording import read_log, row_line
from wakestream.streams.simulation.replay_system import replay_system
logs = [read_log(Path(name).read_bytes().splitlines(keepends=True)) for name in sys.argv[1:]]
for disturbed in ({}, {"perturb": lambda hop, random: random.uniform(0.0, 1.0), "seed": 3}):
    replayed = run_virtual(replay_system(logs, **disturbed))
    rows = [row for each in replayed.programs for row in each.again.rows]
    print(hashlib.sha256(b"".join(map(row_line, (*rows, *replayed.machines)))).hexdigest())
"""


def test_a_system_is_replayed_the_same_under_any_hash_seed() -> None:
    names = [str(LOGS / "system" / f"{program}.jsonl") for program in ("daemon", "hub", "monitor")]
    seen = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = (sys.executable, "-c", OUTCOME, *names)
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1


# --- the race between the idle stop and a submit


def steps(first: float, last: float) -> Iterator[float]:
    return (first + (last - first) * n / (STEPS - 1) for n in range(STEPS))


def fates(replayed: SystemReplayed) -> tuple[str | None, bool, tuple[str, ...]]:
    end = ended(replayed)
    return end.outcome, end.retried, end.faults


SAFE = ("done", False, ())


async def test_a_job_asked_for_at_any_instant_of_the_drain_is_done_or_wakes_the_machine_again() -> None:
    drains, stops, _ = await stop_window(slow)
    branches = set()
    for t in steps(drains - 3 * SLOW, stops + 3 * SLOW):
        replayed = await second_job_at(t, slow)
        assert fates(replayed) == SAFE, t
        (branch,) = ended(replayed).branches
        branches.add(branch)
        assert len(rows_of(replayed, "start")) == (2 if branch == "offline" else 1), t
    assert branches == {"online", "offline"}


async def test_a_job_asked_for_at_any_instant_of_the_stop_wakes_the_machine_again() -> None:
    _, stops, off = await stop_window(slow)
    for t in steps(stops, off + 3 * SLOW):
        replayed = await second_job_at(t, slow)
        assert fates(replayed) == SAFE, t
        assert ended(replayed).branches == ("offline",), t
        started = rows_of(replayed, "start")
        assert [row.data["reading"] for row in started] == ["stopped", "stopped"], t


@pytest.mark.parametrize("most", [0.1, 1.0, 4.0])
async def test_no_delay_of_any_message_loses_a_job_or_stops_the_machine_under_it(most: float) -> None:
    def late(hop: Hop, random: Random) -> float:
        return random.choice((0.0, random.uniform(0.0, most)))

    drains, _, off = await stop_window()
    for seed in range(30):
        t = Random(seed).uniform(drains - 1.0, off + 1.0 + 4 * most)
        assert fates(await second_job_at(t, perturb=late, seed=seed)) == SAFE, (most, seed)


@pytest.mark.parametrize("leave", [0.0, 1.0, 5.0, 30.0])
async def test_a_worker_connection_that_outlives_its_machine_has_no_effect(leave: float) -> None:
    drains, _, off = await stop_window(slow)
    for n in range(10):
        t = drains + (off - drains) * n / 9
        assert fates(await second_job_at(t, slow, leave=leave)) == SAFE, (leave, t)


async def test_a_monitor_that_forgot_a_wake_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = transitions._enter

    def forget(step: transitions.Step, origin: PowerWord, signal: Signal) -> None:
        step.boot.wanted = step.boot.wanted and step.machine.state != "off"
        enter(step, origin, signal)

    monkeypatch.setattr(transitions, "_enter", forget)
    monkeypatch.setattr(hub_power, "boot_for_the_queue", lambda *_: None)
    _, stops, off = await stop_window(slow)
    replayed = await second_job_at((stops + off) / 2, slow)
    assert ended(replayed).outcome == "timed_out"


async def test_a_hub_that_granted_while_draining_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(state: hub.HubState, peer: Any, message: m.TaskQuery, now: float, plan: Any) -> None:
        active = sum(len(gpu.leases) for gpu in state.gpus.values()) + len(state.queue)
        answer = m.TaskQueryResponse(request_id=message.request_id, active_count=active, has_recent_active=False)
        plan.send(peer.fd, answer)

    monkeypatch.setitem(hub._BY_ROLE["monitor"], m.TaskQuery, careless)  # type: ignore[index]
    monkeypatch.setitem(hub._BY_ROLE["monitor"], m.PowerState, lambda *_: None)  # type: ignore[index]
    drains, stops, _ = await stop_window(slow)
    found = {fates(await second_job_at(t, slow)) for t in steps(drains - 3 * SLOW, stops + 3 * SLOW)}
    assert any(faults or retried for _, retried, faults in found)
