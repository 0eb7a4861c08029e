"""The ports of one job, so that the result of each call becomes a row of the log, or comes from one in a replay.

Also the JSON form of each result, in both directions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import orjson

from wakestream.operators.model import errors
from wakestream.operators.model.depot import Depot, Place
from wakestream.operators.model.events import Algorithm, Done, Downloading, FileRef, Fingerprint, Job, Note
from wakestream.operators.model.ports import (
    Effects,
    Files,
    Health,
    Output,
    Resumed,
    TaskReceipt,
    TaskReport,
    Worker,
    Workers,
)
from wakestream.operators.model.user_code import describe_error
from wakestream.operators.rx.from_async import cancel_as_error, closing
from wakestream.streams.jobs.world import World
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Tap

T = TypeVar("T")
Plain = Mapping[str, Any]

NUMBER: Final = "number"
"""The field of an effect's row with the number of the call among equal ones that ran at once, if that is not 0."""


class Form(NamedTuple):
    """The JSON form of a result: to it, and back."""

    plain: Callable[[Any], Any]
    back: Callable[[Any], Any]


class Calls(Protocol):
    """Makes the calls of one job: carries them out and records them, or answers them from a log.

    `asked` are the arguments of a call (`args`), and the address of its worker (`at`) if it has one.
    """

    def now(self, label: str, asked: Plain, effect: Callable[[], str]) -> str:
        """Make a call that takes no time."""

    async def call(self, label: str, asked: Plain, effect: Callable[[], Awaitable[T]], form: Form) -> T:
        """Make a call that has one result."""

    def items(self, label: str, asked: Plain, effect: Callable[[], AsyncIterator[T]], form: Form) -> AsyncIterator[T]:
        """Make a call that has many results."""


class EqualCalls:
    """Tells equal calls of one job apart that run at once: each gets the least number that no other of them has.

    Equal calls that run one after the other all have number 0.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, bytes], list[int]] = {}

    def number(self, label: str, asked: Plain) -> AbstractContextManager[int]:
        """The number of a call, which it keeps until the end of the block."""
        key = (label, orjson.dumps(asked, default=str, option=orjson.OPT_NON_STR_KEYS))
        return _Numbered(self._open.setdefault(key, []), self._open, key)


class _Numbered(AbstractContextManager[int]):
    """A class instead of a generator, since a job makes a call at each poll."""

    __slots__ = ("key", "number", "open", "taken")

    def __init__(self, taken: list[int], open_: dict[Any, list[int]], key: object) -> None:
        self.taken, self.open, self.key = taken, open_, key

    def __enter__(self) -> int:
        self.number = 0
        while self.number in self.taken:
            self.number += 1
        self.taken.append(self.number)
        return self.number

    def __exit__(self, *_: object) -> None:
        self.taken.remove(self.number)
        if not self.taken:
            del self.open[self.key]


def recorded(world: World, tap: Tap, job: Job) -> World:
    """Record all effects of a job.

    Example:
        >>> job_pipeline(job, recorded(world, tap, job), policy)

    Args:
        world: The world of the job.
        tap: Where the effects are recorded.
        job: The job.

    Returns:
        The same world with ports that record. In a replay, the ports that answer from the log do that.
    """
    if isinstance(world.workers, LoggedWorkers):
        return world
    calls = _Recording(tap, job.id)
    return dataclasses.replace(
        world,
        workers=LoggedWorkers(calls, world.workers),
        files=LoggedFiles(calls, world.files),
        effects=LoggedEffects(calls, world.effects),
        depot=None if world.depot is None else LoggedDepot(calls, world.depot),
    )


def call_row(asked: Plain, number: int, outcome: Plain) -> Plain:
    """The contents of a call's row."""
    return {**asked, NUMBER: number, **outcome} if number else {**asked, **outcome}


class _Recording(Calls):
    """Carries out the calls, and records their results."""

    def __init__(self, tap: Tap, job: str) -> None:
        self._tap, self._job = tap, job
        self._equal = EqualCalls()

    def _note(self, label: str, asked: Plain, number: int = 0, **outcome: Any) -> None:
        self._tap.row("effect", label, call_row(asked, number, outcome), self._job)

    def now(self, label: str, asked: Plain, effect: Callable[[], str]) -> str:
        try:
            value = effect()
        except Exception as error:
            self._note(label, asked, error=plain_error(error))
            raise
        self._note(label, asked, ok=value)
        return value

    async def call(self, label: str, asked: Plain, effect: Callable[[], Awaitable[T]], form: Form) -> T:
        with self._equal.number(label, asked) as number:
            try:
                with cancel_as_error(label):
                    value = await effect()
            except Exception as error:
                self._note(label, asked, number, error=plain_error(error))
                raise
            self._note(label, asked, number, ok=form.plain(value))
            return value

    async def items(
        self, label: str, asked: Plain, effect: Callable[[], AsyncIterator[T]], form: Form
    ) -> AsyncIterator[T]:
        with self._equal.number(label, asked) as number:
            try:
                with cancel_as_error(label):
                    async with closing(effect()) as stream:
                        async for item in stream:
                            self._note(label, asked, number, item=form.plain(item))
                            yield item
            except Exception as error:
                self._note(label, asked, number, error=plain_error(error))
                raise
            self._note(label, asked, number, end=True)


class LoggedEffects(Effects):
    """The port `Effects`, whose calls go through `calls` to `effects` (None in a replay)."""

    def __init__(self, calls: Calls, effects: Any = None) -> None:
        self._calls, self._effects = calls, effects

    async def call(self, label: str, args: Plain, effect: Callable[[], Awaitable[Any]]) -> Any:
        """See `Effects.call`."""

        async def answer() -> Any:
            return as_json(await self._effects.call(label, args, effect), f"what the effect {label!r} returns")

        asked = {"args": as_json(args, f"what the effect {label!r} is asked")}
        return await self._calls.call(own(label), asked, answer, _AS_IT_IS)


def as_json(value: Any, what: str) -> Any:
    """`value` as a log returns it, so that a run gets the same as its replay. The `TypeError` names `what`."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError as error:
        raise TypeError(f"{what} must be JSON: {error}") from None


class LoggedFiles(Files):
    """The port `Files`, whose calls go through `calls` to `files` (None in a replay)."""

    def __init__(self, calls: Calls, files: Any = None) -> None:
        self._calls, self._files = calls, files

    async def fingerprint(self, path: Path, algorithms: Collection[Algorithm]) -> Fingerprint:
        """See `Files.fingerprint`."""
        asked = {"args": {"path": plain_text(path), "algorithms": sorted(algorithms)}}
        return await self._calls.call(
            "fingerprint", asked, lambda: self._files.fingerprint(path, algorithms), FINGERPRINT
        )


class LoggedWorkers(Workers):
    """The port `Workers`, whose calls go through `calls` to `workers` (None in a replay)."""

    def __init__(self, calls: Calls, workers: Any = None) -> None:
        self._calls, self._workers = calls, workers

    def at(self, url: str | None) -> Worker:
        """See `Workers.at`."""
        return _LoggedWorker(self._calls, None if self._workers is None else self._workers.at(url), url)

    def resolve(self, url: str | None) -> str:
        """See `Workers.resolve`."""
        return self._calls.now("resolve", {"args": {"url": url}}, lambda: self._workers.resolve(url))


class _LoggedWorker(Worker):
    def __init__(self, calls: Calls, worker: Any, url: str | None) -> None:
        self._calls, self._worker, self._url = calls, worker, url

    def _asked(self, **args: Any) -> Plain:
        return {"args": args, "at": self._url}

    async def health(self) -> Health:
        return await self._calls.call("health", self._asked(), lambda: self._worker.health(), _HEALTH)

    async def check(self, files: Sequence[FileRef]) -> Mapping[str, bool]:
        asked = self._asked(hashes=[file.hash for file in files])
        return await self._calls.call("check", asked, lambda: self._worker.check(files), _CHECK)

    def upload(self, file: Fingerprint, ref: FileRef) -> AsyncIterator[int | Resumed]:
        asked = self._asked(hash=ref.hash)
        return self._calls.items("upload", asked, lambda: self._worker.upload(file, ref), _SENT)

    async def upload_small(self, files: Mapping[FileRef, Fingerprint]) -> None:
        asked = self._asked(hashes=[ref.hash for ref in files])
        await self._calls.call("upload_small", asked, lambda: self._worker.upload_small(files), _NOTHING)

    async def submit(self, job: Job, files: Mapping[str, FileRef]) -> TaskReceipt:
        hashes: dict[str, Any] = {name: file.hash for name, file in files.items()}
        if not job.old_shape:
            hashes = {"kind": job.kind, "inputs": hashes, "params": dict(job.params), "outputs": [*job.outputs]}
        asked = self._asked(**hashes, **({"again": True} if job.again else {}))
        return await self._calls.call("submit", asked, lambda: self._worker.submit(job, files), _RECEIPT)

    async def report(self, task_id: str) -> TaskReport:
        asked = self._asked(task_id=task_id)
        return await self._calls.call("report", asked, lambda: self._worker.report(task_id), _REPORT)

    def download(
        self, task_id: str, output: Path, name: str | None = None, made: Output | None = None
    ) -> AsyncIterator[Downloading | Note | Done]:
        asked = self._asked(task_id=task_id, **({} if name is None else {"name": name}))
        more = () if made is None else (made,)  # a worker of the user's own may know no lists
        return self._calls.items(
            "download", asked, lambda: self._worker.download(task_id, output, name, *more), _RECEIVED
        )

    async def cancel(self, task_id: str, job_id: str | None = None) -> None:
        asked = self._asked(task_id=task_id)
        await self._calls.call("cancel", asked, lambda: self._worker.cancel(task_id, job_id), _NOTHING)


class LoggedDepot(Depot):
    """The port `Depot`, whose calls go through `calls` to `depot` (None in a replay). Links are in no row."""

    def __init__(self, calls: Calls, depot: Any = None) -> None:
        self._calls, self._depot = calls, depot

    def put(self, file: Fingerprint, place: Place) -> AsyncIterator[int | Resumed]:
        """See `Depot.put`."""
        asked = {"args": {"hash": place.file.blake3}}
        return self._calls.items("put", asked, lambda: self._depot.put(file, place), _SENT)

    def get(self, place: Place, output: Path) -> AsyncIterator[Downloading | Note | Done]:
        """See `Depot.get`."""
        asked = {"args": {"hash": place.file.blake3, "name": place.file.name}}
        return self._calls.items("get", asked, lambda: self._depot.get(place, output), _RECEIVED)


def own(label: str) -> str:
    """The row's label of an effect of the user's own; it differs from all labels of the standard stages."""
    return f"own.{label}"


def _plain_health(health: Health) -> dict[str, Any]:
    return {"initialized": health.initialized, "features": sorted(health.features)}


def _fields(value: Any) -> dict[str, Any]:
    # msgspec takes no value of a subclass of str, which a worker of the user's own may have; `asdict` copies deeply.
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain_report(report: TaskReport) -> dict[str, Any]:
    """A report as an object; `outputs`, `waits` and `live` only where the worker named them."""
    plain = _fields(report) | {"outputs": [_fields(output) for output in report.outputs]}
    return {name: value for name, value in plain.items() if value or name not in ("outputs", "waits", "live")}


def _report_from(plain: Plain) -> TaskReport:
    return TaskReport(**{**plain, "outputs": tuple(Output(**output) for output in plain.get("outputs", ()))})


def _plain_fingerprint(file: Fingerprint) -> dict[str, Any]:
    path, digests = plain_text(file.path), dict(file.digests)
    return {"path": path, "size": file.size, "mtime_ns": file.mtime_ns, "digests": digests}


def _plain_received(item: Downloading | Note | Done) -> dict[str, Any]:
    """A step of a download as an object; only the last has a path."""
    if isinstance(item, Done):
        return {"path": plain_text(item.path), "size": item.size}
    return {"note": item.text} if isinstance(item, Note) else {"bytes": item.bytes, "of": item.of}


def _received_from(plain: Plain) -> Downloading | Note | Done:
    if "note" in plain:
        return Note(plain["note"])
    return Done(Path(plain["path"]), plain["size"]) if "path" in plain else Downloading(**plain)


_AS_IT_IS = Form(lambda value: value, lambda plain: orjson.loads(orjson.dumps(plain)))  # the log's own stays as it is
_NOTHING = Form(lambda _: None, lambda _: None)
_HEALTH = Form(_plain_health, lambda plain: Health(plain["initialized"], frozenset(plain["features"])))
_CHECK = Form(dict, dict)
_SENT = Form(
    lambda item: {"resumed": item.bytes} if isinstance(item, Resumed) else int(item),
    lambda plain: plain if isinstance(plain, int) else Resumed(plain["resumed"]),
)
_RECEIPT = Form(_fields, lambda plain: TaskReceipt(**plain))
_REPORT = Form(_plain_report, _report_from)
_RECEIVED = Form(_plain_received, _received_from)
FINGERPRINT = Form(_plain_fingerprint, lambda plain: Fingerprint(**{**plain, "path": Path(plain["path"])}))


def plain_error(error: Exception) -> dict[str, Any]:
    """An error as an object: its kind, its code and its message. An unexpected error is `internal`, as in outcomes.

    A class of the user's own is stored as its nearest base class in `errors`, with `retryable` if that differs. A
    timeout has its stage and its seconds, too.
    """
    if not isinstance(error, errors.WakestreamError):
        return {"kind": "WakestreamError", "code": "internal", "why": plain_text(describe_error(error))}
    kind = next(base for base in type(error).__mro__ if base.__module__ == errors.__name__)
    plain: dict[str, Any] = {"kind": kind.__name__, "code": error.code, "why": plain_text(str(error))}
    if isinstance(error, errors.StageTimeout):
        plain.update(stage=plain_text(error.stage), seconds=error.seconds)
    if isinstance(error, errors.WrongInput):
        plain.update(field=plain_text(error.field))
    return plain if error.retryable == getattr(kind, "retryable", False) else {**plain, "retryable": error.retryable}


def error_from(plain: Plain) -> errors.WakestreamError:
    """The reverse of `plain_error`."""
    kind = _kind(str(plain["kind"]))
    if "retryable" in plain:
        kind = type(kind.__name__, (kind,), {"retryable": bool(plain["retryable"])})
    why, code = str(plain["why"]), plain.get("code")
    if issubclass(kind, errors.WrongInput):
        return kind(str(plain.get("field", "")), why)
    if not issubclass(kind, errors.StageTimeout):
        return kind(why, code=code)
    late = kind(str(plain.get("stage", "")), float(plain.get("seconds", 0.0)), why)
    late.code = code or late.code
    return late


def _kind(name: str) -> type[errors.WakestreamError]:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.WakestreamError):
        return kind
    return errors.WakestreamError
