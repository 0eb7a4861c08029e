"""A pipeline that breaks tells the error's type, file and line: in its run, in its log, and in the replay of it."""

import asyncio
from pathlib import Path

import pytest
import reactivex as rx
from reactivex import Observable, abc

from wakestream.adapters.cli.replay.report import ReplayOutput
from wakestream.adapters.telemetry.recordings import LogFile
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.operators import Done, Failed, JobEvent, Note, of, then
from wakestream.streams import Stages, pipeline
from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.replay.replay import replay

HERE = Path(__file__).name


def broken_at(stage: str) -> Observable[JobEvent]:
    """Fails in a function of its own."""
    raise KeyError(stage)


LINE = broken_at.__code__.co_firstlineno + 2
WHY = f"KeyError: 'upload' ({HERE}:{LINE})"


@pipeline
def broken(stages: Stages) -> Observable[JobEvent]:
    return stages.submit().pipe(then(stages.online, stages.dedupe, lambda _: broken_at("upload")))


async def recorded() -> Log:
    rehearsal = PipelineHarness()
    assert isinstance((await rehearsal.run())["job-1"], Done)
    return rehearsal.log


def ends(log: Log) -> list[Row]:
    return [row for row in log.rows if row.label == "failed"]


async def test_a_crash_names_type_file_and_line_in_run_log_and_replay() -> None:
    rehearsal = PipelineHarness()
    assert (await rehearsal.run(broken))["job-1"] == Failed(WHY, "internal")
    replayed = await replay(rehearsal.log, build=broken)
    assert [row.data["why"] for log in (rehearsal.log, replayed.again) for row in ends(log)] == [WHY, WHY]
    assert replayed.divergences == ()


async def test_a_crash_in_an_effect_replays_without_running_it() -> None:
    async def fire() -> None:
        broken_at("upload")

    @pipeline
    def fired(stages: Stages) -> Observable[JobEvent]:
        return stages.submit().pipe(then(lambda _: stages.effect("fire", {}, fire)))

    rehearsal = PipelineHarness()
    assert (await rehearsal.run(fired))["job-1"] == Failed(WHY, "internal")
    replayed = await replay(rehearsal.log, build=fired)
    assert [row.data["why"] for row in ends(replayed.again)] == [WHY]


async def test_a_crash_in_a_port_names_its_place() -> None:
    worker = FakeWorker()
    worker.failures["check"] = [ValueError("odd")]  # type: ignore[list-item]
    rehearsal = PipelineHarness(workers=FakeWorkers({GPU: worker}, GPU))
    end = (await rehearsal.run())["job-1"]
    assert isinstance(end, Failed)
    assert end.why.startswith("ValueError: odd (wakestream/adapters/testing/fakes.py:")
    assert (await replay(rehearsal.log)).divergences == ()


async def test_a_line_that_moved_is_no_divergence_and_another_error_is_one() -> None:
    rehearsal = PipelineHarness()
    await rehearsal.run(broken)

    def moved(grant: object) -> Observable[JobEvent]:
        raise KeyError("upload")

    def other(grant: object) -> Observable[JobEvent]:
        raise KeyError("download")

    for stage, diverges in ((moved, 0), (other, 1)):
        stages = pipeline(lambda s, stage=stage: s.submit().pipe(then(s.online, s.dedupe, stage)))
        assert len((await replay(rehearsal.log, build=stages)).divergences) == diverges


async def test_a_replay_that_breaks_says_so_before_what_it_did_not_do() -> None:
    replayed = await replay(await recorded(), build=broken)
    assert [each.stream for each in replayed.divergences] == ["job-1", "job-1 effects"]
    assert replayed.crashes == {"job-1": WHY}


async def test_also_where_it_did_something_else_before() -> None:
    @pipeline
    def noted(stages: Stages) -> Observable[JobEvent]:
        return stages.submit().pipe(then(lambda _: of(Note("hello")), lambda _: broken_at("upload")))

    replayed = await replay(await recorded(), build=noted)
    assert replayed.divergences[0].label == "online"
    assert replayed.crashes == {"job-1": WHY}


def test_the_command_line_prints_the_crash_first(capsys: pytest.CaptureFixture[str]) -> None:
    with asyncio.Runner() as runner:
        log = runner.run(recorded())
    ReplayOutput(as_json=False).trial(LogFile((Path("x.jsonl"),)), log, run_log(log, build=broken), {})
    printed = capsys.readouterr().out
    assert printed.index(f"job-1: its pipeline now fails: {WHY}") < printed.index("first divergence")


async def test_an_error_that_escapes_into_the_loop_ends_the_replay() -> None:
    def late(observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        assert scheduler is not None
        return scheduler.schedule_relative(1.0, lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]

    log = await recorded()
    with pytest.raises(ZeroDivisionError):
        await replay(log, build=pipeline(lambda stages: rx.create(late)))
