"""The console's folder: uploads and results, and the removal of those that are no longer needed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import uploads
from wakestream.adapters.daemon.console.preferences import legal
from wakestream.adapters.daemon.console.upload_validation import result_key
from wakestream.adapters.daemon.console.uploads import Look, UploadedFile, Uploads, unlooked
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.disk.atomic import copy_new, place_new, remove, write_atomic
from wakestream.adapters.disk.result_names import numbered
from wakestream.adapters.engines.probe import preview
from wakestream.adapters.runtime.recent import Recent
from wakestream.streams.outbox.state import Entry
from wakestream.streams.recording.event_json import OUTCOME_KINDS

# Previews of files for the page: made one at a time when the page shows a file, and kept.

KEPT: Final = 200
"""Previews in memory."""

RETRY_AFTER: Final = 60.0
"""Seconds after which a file is looked at again that could not be."""

WAITING: Final = 40
"""Requests that may wait; further ones get no preview."""

NAME: Final = "preview.json"

Plain = dict[str, Any]
NONE: Final[Plain] = {"image": None, "seconds": None, "format": []}
UNSEEN: Final[Plain] = {**NONE, "unseen": True}
"""Of a file that could not be looked at: without ffmpeg, or in time."""


class Previews:
    """`of` gives the preview of a file."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: Recent[tuple[str, int, int], Plain] = Recent(KEPT)
        self._failed: Recent[tuple[str, int, int], float] = Recent(KEPT)
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def of(self, path: Path, beside: Path | None = None) -> Plain:
        """The preview of a file; all values are empty if it is missing or cannot be read.

        Args:
            path: The file.
            beside: A folder in which the preview is kept too.

        Returns:
            `image` is a data URL, `seconds` the length, `format` a list of words.
        """
        try:
            stat = path.stat()
        except OSError:
            return NONE
        if not S_ISREG(stat.st_mode):
            return NONE
        key = str(path), stat.st_mtime_ns, stat.st_size
        plain = self._known.get(key) or (await asyncio.to_thread(_kept, beside) if beside else None)
        if plain is None:
            if self._waiting >= WAITING or self._failed.get(key, float("-inf")) > self._now() - RETRY_AFTER:
                return UNSEEN
            plain = await self._made(path, key)
            if plain is None:
                self._failed[key] = self._now()
                return UNSEEN
            if beside is not None:
                with contextlib.suppress(OSError):  # the folder is gone with its file
                    await asyncio.to_thread((beside / NAME).write_bytes, orjson.dumps(plain))
        self._known[key] = plain
        return plain

    async def _made(self, path: Path, key: tuple[str, int, int]) -> Plain | None:
        """The preview; None if the file could not be looked at."""
        self._waiting += 1
        try:
            async with self._turn:
                if key in self._known:
                    return self._known[key]
                made = await preview(path)
        finally:
            self._waiting -= 1
        if made is None:
            return None
        image = f"data:image/jpeg;base64,{base64.b64encode(made.jpeg).decode()}" if made.jpeg else None
        return {"image": image, "seconds": made.seconds, "format": [*made.format]}


def _kept(folder: Path) -> Plain | None:
    with contextlib.suppress(OSError, ValueError):
        plain = msgspec.json.decode((folder / NAME).read_bytes(), type=dict[str, Any])
        return plain if plain.keys() == NONE.keys() and plain != NONE else None
    return None


# Copies results into the folder that the user chose. A file that is there is never replaced.
#
# A small file beside the results of a job, its mark, says that their copies are due. It keeps the folder, and the name
# that each copy is about to get, so that a run that was killed at any point leaves neither a half copy nor a second
# one.

ENDING: Final = ".due"
KEPT_HERE: Final = ".here"
"""Ends the name of the mark of results without a folder for copies, until the user has downloaded them."""

Results = Mapping[str, tuple[Path, str]]
"""The file of each result by its name, and the name that its copy is to get."""


class Interrupted(Exception):
    """The daemon stops; the copy is made at its next start."""


class _Plan(msgspec.Struct):
    """What a mark contains. `folder` is empty until the first copy begins; `names` are stored before they are taken.

    `made` are the results that were copied when another one failed, which may go to another folder later.
    """

    folder: str = ""
    names: dict[str, str] = {}
    made: list[str] = []


def mark_of(output: Path) -> Path:
    """The mark of the job that makes this result."""
    return output.with_name(f"{result_key(output)}.{ENDING}")  # no result is called that


def deliver(mark: Path, results: Results, folder: str, stops: Callable[[], bool] = lambda: False) -> None:
    """Copy the results of a job, if that is due, and remove its mark. It blocks, so call it in a thread.

    Args:
        mark: The job's mark. Without it there is nothing to do.
        results: The results that exist.
        folder: The folder for copies that did not begin earlier; empty: the results stay here until they are fetched.
        stops: Asked between blocks; True ends the copy.

    Raises:
        OSError: A result cannot be copied; the others are. The mark stays, and the next call copies those that are
            missing, perhaps to another folder.
        Interrupted: `stops()` is true; the mark stays.
    """
    if not mark.is_file():
        return
    plan = _read(mark)
    if folder and not plan.folder:
        plan.folder = folder
        write_atomic(mark, msgspec.json.encode(plan))
    due = _without(results, plan.made) if plan.folder else {}
    errors = []
    for name, (result, wanted) in due.items():
        try:
            _copy(mark, plan, name, result, wanted, stops)
            plan.made.append(name)
        except OSError as error:
            errors.append(error)
    if errors:
        with suppress(OSError):  # then the names of the copies are in the mark already
            write_atomic(mark, msgspec.json.encode(_Plan(made=plan.made)))
        raise errors[0]
    if plan.folder:
        mark.unlink(missing_ok=True)
    else:
        mark.replace(mark.with_suffix(KEPT_HERE))


def missing(mark: Path, results: Results) -> Results:
    """Return those of the results that an earlier call, which failed, did not copy."""
    return _without(results, _read(mark).made)


def _without(results: Results, made: Collection[str]) -> Results:
    return {name: result for name, result in results.items() if name not in made}


def _read(mark: Path) -> _Plan:
    try:
        return msgspec.json.decode(mark.read_bytes(), type=_Plan)
    except (ValueError, FileNotFoundError):
        return _Plan()


def _copy(mark: Path, plan: _Plan, name: str, result: Path, wanted: str, stops: Callable[[], bool]) -> None:
    """Copy one result under the first free name, unless an earlier run did. The part has the same name in each run."""
    partial = Path(plan.folder) / f".wakestream-{hashlib.sha256(os.fsencode(f'{mark}/{name}')).hexdigest()[:24]}.part"
    try:
        if name in plan.names and _is_made(partial, Path(plan.folder) / plan.names[name], result):
            return None
        remove(partial)
        with result.open("rb") as source:
            if not copy_new(source, partial, lambda: not stops()):
                raise Interrupted
        ending = Path(wanted).suffix
        free = f"{legal(wanted.removesuffix(ending))}{legal(ending[1:]) and ending}"
        for copy in (path for path in numbered(Path(plan.folder, free)) if not path.exists()):
            plan.names[name] = copy.name
            write_atomic(mark, msgspec.json.encode(plan))
            with suppress(FileExistsError):
                return place_new(partial, copy)
    finally:
        remove(partial)


def _is_made(partial: Path, copy: Path, result: Path) -> bool:
    """Whether an earlier run gave the copy its name. An empty file with which it reserved the name is removed."""
    if not copy.is_file():
        return False
    if partial.exists() and not copy.samefile(partial):
        if copy.stat().st_size == 0:
            copy.unlink()
        return False
    return copy.stat().st_size == result.stat().st_size


UNUSED_FOR: Final = 24 * 3600.0
"""Seconds after which an unused upload is removed."""

COMPARED: Final = 12
"""Done jobs whose inputs stay, to be shown beside the result. The uploads remove them earlier to make space."""


class Storage:
    """`uploads` are the uploaded files, `results` is the folder of the results. For `look` see `Uploads`."""

    def __init__(self, folder: Path, outbox: Outbox, quota: int, look: Look = unlooked) -> None:
        self.results = folder / "results"
        self.results.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._outbox = outbox
        self.unfetched = outbox.state.unfetched = set[str]()
        self.previews = Previews()
        self.on_done: Callable[[Entry], Awaitable[None]] = lambda _: asyncio.sleep(0)
        self._done: asyncio.Queue[Entry] = asyncio.Queue()
        self.beginning: set[str] = set()  # the keys of results of jobs that are being submitted
        self.waiting: Callable[[], set[str]] = set  # the files of jobs that wait for them
        self.uploads = Uploads(folder / "uploads", self.needed, self._results_size, quota, look=look)

    def needed(self) -> set[str]:
        """The files that unfinished jobs read."""
        return self.waiting() | self._outbox.state.needed.keys()

    def referred(self) -> set[str]:
        """The files of all jobs."""
        return self.waiting() | self._outbox.state.inputs.keys()

    def plain(self) -> dict[str, Any]:
        """The unused uploads, and the used space and its limit, for the page."""
        idle = [upload.plain() for upload in self.uploads.idle(self.referred()) if not upload.more]
        return {"uploads": idle, "used": self.uploads.used, "quota": self.uploads.quota}

    def note(self, entry: Entry, *, fetched: bool = False) -> None:
        """Note of a job that is done whether the user has its results. Until then it is not removed with them."""
        mark = mark_of(Path(entry.accepted.output))
        if fetched:
            mark.with_suffix(KEPT_HERE).unlink(missing_ok=True)
        ours = mark.parent == self.results and entry.accepted.caller is None and not fetched
        waits = ours and (mark.exists() or mark.with_suffix(KEPT_HERE).exists())
        (self.unfetched.add if waits else self.unfetched.discard)(entry.accepted.job)

    def _results_size(self) -> int:
        with contextlib.suppress(OSError), os.scandir(self.results) as files:
            return sum(file.stat().st_size for file in files)
        return 0

    async def react(self) -> None:
        """Call `on_done` for each job that is done, for some twice. It may take long, and `clean` would lose events."""
        while True:
            entry = await self._done.get()
            try:
                await self.on_done(entry)
            except Exception as error:  # whatever it is: the next job is not to blame
                logger.opt(exception=error).error("what follows the end of job {} is broken", entry.accepted.job)

    async def catch_up(self) -> None:
        """Call `on_done` later for jobs that are done and whose results were not copied, as after a stop."""
        ours = await asyncio.to_thread(_results_in, self.results)
        marks = {path for path in ours if path.suffix in (ENDING, KEPT_HERE)}
        for entry in self._outbox.state.jobs.values() if marks else ():
            if entry.state == "done":
                self.note(entry)
                if mark_of(Path(entry.accepted.output)) in marks:
                    self._done.put_nowait(entry)

    async def expect_copies(self) -> None:
        """Write the missing marks of unfinished jobs, as after a power cut: their copies are due when they are done."""
        outputs = (Path(self._outbox.state.jobs[job].accepted.output) for job in self._outbox.state.queue)
        marks = {mark_of(output) for output in outputs if output.parent == self.results}
        if missing := marks - set(await asyncio.to_thread(_results_in, self.results)):
            await asyncio.to_thread(_write_marks, missing)

    async def clean(self, changed: Callable[[], None]) -> None:
        """Remove files that are no longer needed when jobs start and end; calls `changed` after that.

        The inputs of a job are removed when `COMPARED` later ones are done. If it failed, they stay for a retry.
        """
        cut = asyncio.Event()
        while True:
            with self._outbox.feed.follow(None, cut.set) as happened:
                if cut.is_set():  # too many events at once, so some were lost: check all files instead
                    cut.clear()
                    await self.tidy()
                    await self.catch_up()
                    changed()
                while (item := await happened.next()) is not None:
                    entry = self._outbox.state.jobs.get(item.job)
                    state = self._outbox.state
                    old = len(state.ended) - len(self.unfetched)
                    if item.kind == "accepted" and old + 1 >= state.ended_most:
                        await self._remove_results()  # the outbox has forgotten an old job for the new one
                    elif item.kind in OUTCOME_KINDS and entry is not None and entry.state == "done":
                        self.note(entry)
                        self._done.put_nowait(entry)
                        await self._remove_old_inputs()
                        changed()
            if not cut.is_set():
                return

    async def drop(self, upload: UploadedFile) -> None:
        """Remove an upload that no job uses; `ApiError` if one does. A program may remove those of ended jobs too."""
        if str(upload.path) in (self.needed() if upload.owner else self.referred()):
            raise ApiError(409, "in_use", "a job uses this file")
        await self.uploads.discard(upload)

    async def arriving(self, upload: UploadedFile, chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
        """A program's file of at most so many bytes. It gets space as they arrive, since the sender may break off.

        Space is made for an eighth more than arrived, since each time all files are counted.
        """
        arrived = 0
        async for chunk in chunks:
            arrived += len(chunk)
            if arrived > upload.size:
                size = max(arrived, min(arrived + arrived // 8, most))
                await self.free(size - upload.size)
                self.uploads.measure(upload, upload.name, size, self.referred())
            yield chunk
        upload.size = arrived

    async def free(self, size: int = 0) -> None:
        """Remove results of programs that are a day old, and the oldest ones while there is no space for a file."""
        state, since, needed = self._outbox.state, time.time() - UNUSED_FOR, self.needed()
        unread = [state.jobs[job] for job in state.ended if job not in state.after]  # by a job that follows it
        for entry in [entry for entry in unread if entry.accepted.caller is not None]:
            made = [path for path, _ in results_of(entry).values() if path.is_file() and str(path) not in needed]
            if not made or entry.ended is None:
                continue
            if entry.ended.at >= since and self.uploads.used + size <= self.uploads.quota:
                return
            for path in made:
                await asyncio.to_thread(remove, path)

    async def tidy(self) -> None:
        """Remove files of earlier runs: results of forgotten jobs, inputs of done jobs, and unused uploads."""
        await self._remove_results()
        await self.free()
        await self._remove_old_inputs()
        for upload in self.uploads.idle(self.referred()):
            if upload.at < time.time() - UNUSED_FOR:
                await self.uploads.discard(upload)

    async def _remove_old_inputs(self) -> None:
        """Remove the inputs of done jobs but the last ones, unless another job still needs them."""
        state = self._outbox.state
        done = [entry for job in reversed(state.ended) if (entry := state.jobs[job]).state == "done"]
        since = time.time() - UNUSED_FOR
        kept = self.needed() | _inputs(entry for entry in done[:COMPARED] if entry.ended and entry.ended.at > since)
        for path in _inputs(done) - kept:
            upload = self.uploads.of_path(path)
            if upload is not None:
                await self.uploads.discard(upload)

    async def _remove_results(self) -> None:
        paths = await asyncio.to_thread(_results_in, self.results)
        if not paths:
            return
        # Computed after the folder was read, so that it contains jobs that started in the meantime.
        jobs, wanted, folder = list(self._outbox.state.jobs.values()), set(self.beginning), f"{self.results}{os.sep}"
        wanted |= await asyncio.to_thread(_keys_in, folder, jobs)
        wanted |= {result_key(Path(path)) for path in self.needed() if path.startswith(folder)}
        for path in paths:
            if result_key(path) not in wanted:
                await asyncio.to_thread(remove, path)


def _inputs(entries: Iterable[Entry]) -> set[str]:
    return {path for entry in entries for path in (file.path for file in entry.accepted.inputs.values())}


def _write_marks(marks: Iterable[Path]) -> None:
    for mark in marks:
        try:
            uploads.keep_file(mark, b"{}")
        except ApiError as error:
            logger.warning("the results of a job will not be copied, since {} cannot be written: {}", mark, error)


def _keys_in(folder: str, jobs: Sequence[Entry]) -> set[str]:
    """The keys of the results of jobs that are in the folder."""
    paths = (path for job in jobs for path in job.accepted.outputs.values())
    return {path[len(folder) :].partition(".")[0] for path in paths if path.startswith(folder)}


def _results_in(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [*folder.iterdir()]
    return []
