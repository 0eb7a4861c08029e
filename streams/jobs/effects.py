"""Records effects: the ports of one job, wrapped so that the result of each call becomes a row of the log.

Also the JSON form of each result, in both directions, so that a replay can give the same answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import orjson

from wakestream.operators.model import errors
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.faults import describe_error
from wakestream.operators.model.ports import Effects, Files, Health, Resumed, TaskReceipt, TaskReport, Worker, Workers
from wakestream.operators.rx.cancel_as_error import cancel_as_error
from wakestream.operators.rx.from_async import closing
from wakestream.streams.jobs.job import World
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Tap

T = TypeVar("T")
Plain = Mapping[str, Any]


def recorded(world: World, tap: Tap, job: Job) -> World:
    """Return the world of a job with all its effects recorded.

    Args:
        world: The world.
        tap: Where the effects are recorded.
        job: The job.
    """
    log = _Effects(tap, job.id)
    return World(
        world.hub,
        _TappedWorkers(world.workers, log),
        _TappedFiles(world.files, log),
        world.random,
        _TappedEffects(world.effects, log),
        world.retry_now,
    )


class _Effects:
    """Records the results of calls for one job, `at` one worker."""

    def __init__(self, tap: Tap, job: str, at: Plain | None = None) -> None:
        self._tap = tap
        self._job = job
        self._at = at or {}

    def at(self, url: str | None) -> _Effects:
        """The same for the calls to one worker."""
        return _Effects(self._tap, self._job, {"at": url})

    def note(self, label: str, args: Plain, **outcome: Any) -> None:
        self._tap.row("effect", label, {"args": args, **self._at, **outcome}, self._job)

    async def call(self, label: str, args: Plain, effect: Awaitable[T], plain: Callable[[T], Any]) -> T:
        try:
            with cancel_as_error(label):
                value = await effect
        except Exception as error:
            self.note(label, args, error=plain_error(error))
            raise
        self.note(label, args, ok=plain(value))
        return value

    async def items(
        self, label: str, args: Plain, effect: AsyncIterator[T], plain: Callable[[T], Any]
    ) -> AsyncIterator[T]:
        try:
            with cancel_as_error(label):
                async with closing(effect):
                    async for item in effect:
                        self.note(label, args, item=plain(item))
                        yield item
        except Exception as error:
            self.note(label, args, error=plain_error(error))
            raise
        self.note(label, args, end=True)


class _TappedEffects(Effects):
    def __init__(self, effects: Effects, log: _Effects) -> None:
        self._effects, self._log = effects, log

    async def call(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        plain_args = as_json(args, f"what the effect {label!r} is asked")
        return await self._log.call(own(label), plain_args, self._answer(label, args, effect), lambda value: value)

    async def _answer(self, label: str, args: Mapping[str, Any], effect: Callable[[], Awaitable[Any]]) -> Any:
        return as_json(await self._effects.call(label, args, effect), f"what the effect {label!r} returns")


def as_json(value: Any, what: str) -> Any:
    """`value` as a log returns it, so that a run gets the same as its replay. The `TypeError` names `what`."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError as error:
        raise TypeError(f"{what} must be JSON: {error}") from None


class _TappedFiles(Files):
    def __init__(self, files: Files, log: _Effects) -> None:
        self._files, self._log = files, log

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        args = fingerprint_args(path, algorithms)
        return await self._log.call("fingerprint", args, self._files.fingerprint(path, algorithms), plain_fingerprint)


class _TappedWorkers(Workers):
    def __init__(self, workers: Workers, log: _Effects) -> None:
        self._workers, self._log = workers, log

    def at(self, url: str | None) -> Worker:
        return _TappedWorker(self._workers.at(url), self._log.at(url))

    def resolve(self, url: str | None) -> str:
        try:
            found = self._workers.resolve(url)
        except Exception as error:
            self._log.note("resolve", {"url": url}, error=plain_error(error))
            raise
        self._log.note("resolve", {"url": url}, ok=found)
        return found


class _TappedWorker(Worker):
    def __init__(self, worker: Worker, log: _Effects) -> None:
        self._worker, self._log = worker, log

    async def health(self) -> Health:
        return await self._log.call("health", {}, self._worker.health(), plain_health)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        return await self._log.call("check", check_args(files), self._worker.check(files), dict)

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        return self._log.items("upload", upload_args(ref), self._worker.upload(file, ref), plain_sent)

    async def submit(self, job: Job, video: FileRef, audio: FileRef) -> TaskReceipt:
        args = submit_args(video, audio)
        return await self._log.call("submit", args, self._worker.submit(job, video, audio), plain_record)

    async def report(self, task_id: str) -> TaskReport:
        args = task_args(task_id)
        return await self._log.call("report", args, self._worker.report(task_id), plain_record)

    def download(self, task_id: str, output: Path) -> AsyncIterator[Downloading | Done]:
        args = task_args(task_id)
        return self._log.items("download", args, self._worker.download(task_id, output), plain_transfer)

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        args = task_args(task_id)
        await self._log.call("cancel", args, self._worker.cancel(task_id, job_id), lambda _: None)


def own(label: str) -> str:
    """The row's label of an effect of the user's own; it differs from all labels of the standard stages."""
    return f"own.{label}"


def fingerprint_args(path: Path, algorithms: Collection[Algorithm]) -> Plain:
    """The arguments of a fingerprint."""
    return {"path": plain_text(path), "algorithms": sorted(algorithms)}


def check_args(files: Sequence[FileRef]) -> Plain:
    """The arguments of a check."""
    return {"hashes": [file.hash for file in files]}


def upload_args(ref: FileRef) -> Plain:
    """The arguments of an upload."""
    return {"hash": ref.hash}


def plain_sent(item: int | Resumed) -> int | dict[str, int]:
    """A step of an upload: a number, or an object if the upload is resumed."""
    return {"resumed": item.bytes} if isinstance(item, Resumed) else int(item)


def sent_from(plain: int | Plain) -> int | Resumed:
    """The reverse of `plain_sent`."""
    return plain if isinstance(plain, int) else Resumed(plain["resumed"])


def submit_args(video: FileRef, audio: FileRef) -> Plain:
    """The arguments of a submit."""
    return {"video": video.hash, "audio": audio.hash}


def task_args(task_id: str) -> Plain:
    """The arguments of a report, a download or a cancel."""
    return {"task_id": task_id}


def plain_record(value: Any) -> dict[str, Any]:
    """A flat dataclass as an object."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def plain_health(health: Health) -> dict[str, Any]:
    """A worker's health as an object."""
    return {"initialized": health.initialized, "features": sorted(health.features)}


def health_from(plain: Plain) -> Health:
    """The reverse of `plain_health`."""
    return Health(plain["initialized"], frozenset(plain["features"]))


def plain_fingerprint(file: Fingerprint) -> dict[str, Any]:
    """A fingerprint as an object."""
    return {"path": plain_text(file.path), "size": file.size, "mtime_ns": file.mtime_ns, "digests": dict(file.digests)}


def fingerprint_from(plain: Plain) -> Fingerprint:
    """The reverse of `plain_fingerprint`."""
    return Fingerprint(Path(plain["path"]), plain["size"], plain["mtime_ns"], plain["digests"])


def plain_transfer(item: Downloading | Done) -> dict[str, Any]:
    """A step of a download as an object; only the last has a path."""
    if isinstance(item, Done):
        return {"path": plain_text(item.path), "size": item.size}
    return {"bytes": item.bytes, "of": item.of}


def transfer_from(plain: Plain) -> Downloading | Done:
    """The reverse of `plain_transfer`."""
    if "path" in plain:
        return Done(Path(plain["path"]), plain["size"])
    return Downloading(plain["bytes"], plain["of"])


def plain_error(error: Exception) -> dict[str, Any]:
    """An error as an object: its kind, its code and its message. An unexpected error is `internal`, as in outcomes.

    A class of the user's own is stored as its nearest base class in `errors`, with `retryable` if that differs. A
    timeout has its stage and its seconds, too.
    """
    if not isinstance(error, errors.WakestreamError):
        return {"kind": "WakestreamError", "code": "internal", "why": plain_text(describe_error(error))}
    kind = next(each for each in type(error).__mro__ if each.__module__ == errors.__name__)
    plain: dict[str, Any] = {"kind": kind.__name__, "code": error.code, "why": plain_text(str(error))}
    if isinstance(error, errors.StageTimeout):
        plain.update(stage=plain_text(error.stage), seconds=error.seconds)
    return plain if error.retryable == getattr(kind, "retryable", False) else {**plain, "retryable": error.retryable}


def error_from(plain: Plain) -> errors.WakestreamError:
    """The reverse of `plain_error`."""
    kind = _kind(str(plain["kind"]))
    if "retryable" in plain:
        kind = type(kind.__name__, (kind,), {"retryable": bool(plain["retryable"])})
    why, code = str(plain["why"]), plain.get("code")
    if not issubclass(kind, errors.StageTimeout):
        return kind(why, code=code)
    late = kind(str(plain.get("stage", "")), float(plain.get("seconds", 0.0)), why)
    late.code = code or late.code
    return late


def _kind(name: str) -> type[errors.WakestreamError]:
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, errors.WakestreamError):
        return found
    return errors.WakestreamError
