"""How the families are built, and what the taps count."""

from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.daemon.metrics import JobWatch
from wakestream.adapters.monitor.program import PowerWatch
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.testing.harness import PipelineHarness, asleep
from wakestream.operators import Done
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Tap


def test_of_a_label_with_many_values_the_rest_is_summed_up_as_one() -> None:
    many = {f"gpu-{number:03}": 1.0 for number in range(ff.MANY + 7)}
    samples = ff.gauges("x", "x", ("gpu",), many).samples
    assert len(samples) == ff.MANY + 1
    assert (samples[-1].labels, samples[-1].value) == ({"gpu": ff.OTHERS}, 7.0)


def test_of_two_labels_the_first_is_bounded_and_the_second_kept() -> None:
    pairs = {(f"gpu-{number:03}", phase): 1.0 for number in range(ff.MANY + 2) for phase in ("on", "off")}
    samples = ff.counters("x_total", "x", ("gpu", "phase"), pairs).samples
    others = [(sample.labels["phase"], sample.value) for sample in samples if sample.labels["gpu"] == ff.OTHERS]
    assert others == [("on", 2.0), ("off", 2.0)]


def test_an_unknown_state_is_counted_as_other() -> None:
    assert ff.one_of(("a", "b"), "b") == {"a": 0.0, "b": 1.0, "other": 0.0}
    assert ff.one_of(("a", "b"), "from a stranger") == {"a": 0.0, "b": 0.0, "other": 1.0}


def test_a_missing_disk_has_no_sample(tmp_path: Path) -> None:
    assert [metric.name for metric in ff.disk("hub", tmp_path)] == ["wakestream_hub_disk_free_bytes"]
    assert list(ff.disk("hub", tmp_path / "gone")) == []


def replayed(rehearsal: PipelineHarness, tap: Tap, clock: dict[str, float] | None = None) -> None:
    for row in rehearsal.log.rows:
        if clock is not None:
            clock["now"] = row.t
        tap.row(row.dir, row.label, row.data, row.job)


def stage_sums(watch: JobWatch) -> dict[str, float]:
    (family,) = ff.observed(watch.stages)
    return {sample.labels["stage"]: sample.value for sample in family.samples if sample.name.endswith("_sum")}


@pytest.mark.virtual
async def test_stages_of_a_job_are_timed_and_its_bytes_counted() -> None:
    rehearsal = PipelineHarness(asleep)
    rehearsal.at(90, rehearsal.wake)
    (outcome,) = (await rehearsal.run()).values()
    clock = {"now": 0.0}
    watch = JobWatch(lambda: clock["now"])
    replayed(rehearsal, watch, clock)
    sums = stage_sums(watch)
    assert set(sums) == {"wake", "check", "upload", "render", "download"}
    assert sums["wake"] == pytest.approx(90.0, abs=0.1)
    assert sum(sums.values()) == pytest.approx(rehearsal.log.rows[-1].t, abs=0.1)
    assert dict(watch.outcomes) == {"done": 1}
    sent = sum(row.data["sent"] for row in rehearsal.log.rows if row.dir == "out" and row.label == "uploaded")
    assert isinstance(outcome, Done)
    assert watch.sums == {"sent": sent, "saved": 0, "result": outcome.size}
    assert sent > 0
    assert (watch.link.connected, watch._since, watch._stage) == (True, {}, {})


def test_events_without_a_started_job_are_not_counted() -> None:
    watch = JobWatch()
    watch.row("out", "done", {"event": "done", "size": 5}, "ghost")
    watch.frame("out", m.Ping())
    assert (dict(watch.sums), dict(watch.outcomes)) == ({}, {})


def test_retries_are_counted() -> None:
    watch = JobWatch()
    watch.row("in", "job.accept", {}, "a")
    watch.row("out", "retrying", {"event": "retrying", "attempt": 1, "delay": 1.0, "why": "x"}, "a")
    assert watch.sums["retries"] == 1


def test_a_link_that_came_up_thrice_was_reconnected_twice() -> None:
    watch = LinkWatch()
    for label in ("up", "down", "up", "down", "down", "up"):
        watch.row("conn", label, {})
    watch.row("conn", "tick", {})
    values = {metric.name: metric.samples[0].value for metric in watch.families("worker")}
    assert values == {"wakestream_worker_hub_connected": 1.0, "wakestream_worker_hub_reconnects": 2.0}


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ({"number": 1}, "ok"),
        ({"number": 1, "why": "no", "no_capacity": False}, "failed"),
        ({"number": 1, "why": "none left", "no_capacity": True}, "no_capacity"),
    ],
)
def test_provider_answers_are_counted_by_result(data: dict[str, Any], result: str) -> None:
    watch = PowerWatch()
    watch.row("effect", "power.start", data)
    watch.row("conn", "up", {})
    assert dict(watch.calls) == {("start", result): 1}
    assert watch.connected
