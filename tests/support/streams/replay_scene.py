"""Logs to try replays on: recorded ones, and others made of them."""

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import reactivex as rx
from reactivex import Observable

from wakestream.adapters.testing.replay_runner import run_log
from wakestream.operators.model.events import Done, Job, JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Accepted
from wakestream.operators.rx.timeout import timeout
from wakestream.operators.stages.fingerprint import EVERY_ALGORITHM, Fingerprints
from wakestream.streams.jobs.stages import guarded
from wakestream.streams.jobs.world import World
from wakestream.streams.recording.log_edit import log_as_replayed, with_rows
from wakestream.streams.recording.recording import Header, Log, Row, read_log

LOGS = Path(__file__).parents[2] / "logs"


def recorded(name: str) -> Log:
    """A log of tests/logs."""
    return read_log((LOGS / f"{name}.jsonl").read_bytes().splitlines(keepends=True))


def under(log: Log, **policy: Any) -> Log:
    """The log as if it had been recorded under another policy."""
    changed = {**log.header.config["policy"], **policy}
    return dataclasses.replace(log, header=dataclasses.replace(log.header, config={"policy": changed}))


def renamed(rows: tuple[Row, ...], job: str, new: str, later: float) -> list[Row]:
    """The rows of one job as those of another."""
    text = orjson.dumps([dataclasses.asdict(row) for row in rows if row.job == job]).decode()
    return [Row(**{**values, "t": round(values["t"] + later, 6)}) for values in orjson.loads(text.replace(job, new))]


def crowd(log: Log, job: str, names: list[str]) -> Log:
    """The log with further jobs beside its only one, each a millisecond after the other, and what is said to that."""
    others = [row for n, name in enumerate(names, 1) for row in renamed(log.rows, job, name, n / 1000)]
    many = with_rows(log, [*log.rows, *others])
    replayed = run_log(many).replayed
    assert replayed is not None
    return log_as_replayed(many, replayed.again)


def hub_log(*rows: tuple[float, str, str, dict[str, Any], str | None]) -> Log:
    """A hub's log of `(t, dir, label, data, job)`."""
    header = Header("hub", 1000.0, 0, {"policy": {}})
    return Log(header, tuple(Row(seq, t, d, label, data, job) for seq, (t, d, label, data, job) in enumerate(rows, 1)))  # type: ignore[arg-type]


def frame(fd: int, now: float, kind: str, **fields: Any) -> dict[str, Any]:
    """The data of a row for what the hub heard on one connection."""
    return {"fd": fd, "now": now, "old": False, "frame": {"type": kind, **fields}}


def deaf_while_hashing(job: Job, world: World, policy: Policy, cancel: Observable[Any] | None = None) -> Any:
    """A pipeline with a bug: it listens to the hub only once its files are read, and the grant may come before."""

    def stages(fingerprints: Fingerprints) -> Observable[JobEvent]:
        world.hub.submit(job)
        replies = fingerprints.of(EVERY_ALGORITHM).flat_map(lambda _: world.hub.replies(job))
        granted = replies.filter(lambda reply: isinstance(reply, Accepted)).map(lambda _: Done(job.output, 1))
        return granted.take(1).pipe(timeout(policy.online, "online"))

    return guarded(stages, job, world, policy, cancel)


def never_ending(job: Job, world: World, policy: Policy, cancel: Observable[Any] | None = None) -> Any:
    """A pipeline that waits without end and without a timeout."""
    return rx.never()


def breaking(job: Job, world: World, policy: Policy, cancel: Observable[Any] | None = None) -> Any:
    """A pipeline of which a callback of the loop raises: no operator sees the error."""

    def later(observer: Any, scheduler: Any) -> Any:
        return scheduler.schedule(raises)

    def raises(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    return rx.create(later)
