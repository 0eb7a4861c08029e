"""Recorded logs of real runs drive the same pipeline again, in virtual time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from tests.support.streams.replay_scene import recorded
from wakestream.operators.model.policy import Policy
from wakestream.streams.hub.state import Limits, Prices
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.recording.config_json import changed, config_from, plain_config
from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.replay import replay


def moved(log: Log, seconds: float, later: Callable[[Row], bool]) -> Log:
    """The log with all rows from the first that is `later` on moved by so many seconds."""
    first = next(row.seq for row in log.rows if later(row))
    rows = (replace(row, t=row.t + seconds) if row.seq >= first else row for row in log.rows)
    return replace(log, rows=tuple(rows))


def outcome(log: Log) -> tuple[str, object]:
    """The last event of the log's one job."""
    return [(row.label, row.data) for row in log.rows if "event" in row.data][-1]


async def test_events_of_a_kind_that_the_recorded_program_did_not_know_are_no_difference() -> None:
    log = recorded("online")
    older = replace(log, rows=tuple(row for row in log.rows if row.label != "rendered"))
    assert [each.got and each.got.label for each in (await replay(older)).divergences] == ["rendered"]
    header = replace(older.header, events=tuple(kind for kind in older.header.events if kind != "rendered"))
    replayed = await replay(replace(older, header=header))
    assert replayed.divergences == ()
    assert (await replay(replayed.again)).divergences == ()


async def test_a_wait_of_29_minutes_is_replayed_without_waiting_and_ends_alike() -> None:
    log = recorded("offline")
    late = moved(log, 1740.0, lambda row: row.label == "gpu.power.online")
    again = (await replay(late)).again
    assert outcome(again) == outcome((await replay(log)).again)
    assert sum(row.label == "waking" for row in again.rows) >= 170
    assert asyncio.get_running_loop().time() > 1740


async def test_what_if_replays_the_log_with_another_policy() -> None:
    log = moved(recorded("offline"), 600.0, lambda row: row.label == "gpu.power.online")
    replayed = await replay(log, settings={"online_timeout": 60.0})
    label, data = outcome(replayed.again)
    assert (label, data) == ("timed_out", {"event": "timed_out", "stage": "online", "seconds": 60.0, "why": WHY})
    assert replayed.divergences[0].stream == "job-offline"


WHY = "online: nothing within 60 s"


async def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no 'onlin'; there are again.factor, .*, online, "):
        await replay(recorded("online"), settings={"onlin": 1.0})


async def test_a_log_without_jobs_replays_to_nothing() -> None:
    again = (await replay(replace(recorded("online"), rows=()))).again
    assert again.rows == ()


async def test_a_log_that_was_tampered_with_diverges_at_that_very_row() -> None:
    log = recorded("online")
    row = next(row for row in log.rows if row.label == "submitted")
    other = replace(row, data={**row.data, "task_id": "another"})
    (found,) = (await replay(replace(log, rows=tuple(other if r is row else r for r in log.rows)))).divergences
    assert (found.seq, found.label) == (row.seq, "submitted")
    assert found.lines()[1] == '-   task_id = "another"'


def test_a_difference_in_an_effect_that_was_given_no_names_is_shown_as_well() -> None:
    then, now = (Row(1, 0.1, "effect", "own.note", {"args": text, "ok": None}, job="job-1") for text in ("a", "b"))
    assert Divergence("job-1", then, now).lines() == [
        "- effect own.note", '-   args = "a"', "+ effect own.note", '+   args = "b"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [
        changed(replace(Policy(), online=7.0, hub=3.0), "again.max_retries", 2),
        changed(Limits(open_roles=frozenset({"client"}), prices=Prices({"gpu-1": 1.5})), "place.ahead", 0),
        PowerPolicy("gpu-1", more=("gpu-2",), start_within=40.0),
    ],
)
def test_a_policy_survives_its_way_through_a_header(policy: Policy | Limits | PowerPolicy) -> None:
    today = PowerPolicy("") if isinstance(policy, PowerPolicy) else type(policy)()
    assert config_from(today, msgspec.json.decode(msgspec.json.encode(plain_config(policy)))) == policy


def test_a_renamed_limit_keeps_its_name_in_logs_and_settings() -> None:
    limits = Limits(unregistered=5.0)
    assert changed(Limits(), "unmet", 5.0) == config_from(Limits(), {"unmet": 5.0}) == limits
    assert plain_config(limits)["unmet"] == 5.0
