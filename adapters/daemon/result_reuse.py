"""Finds results that exist already: of this job, or of another job with the same files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from wakestream.adapters.client.download import disk_errors
from wakestream.adapters.disk.atomic import copy_new, remove
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.disk.media_types import fitted
from wakestream.adapters.disk.part_file import beside, sync_rename
from wakestream.adapters.disk.result_names import place_free
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.operators.model.errors import FileChanged, FileError
from wakestream.streams.outbox.facts import JobAccepted
from wakestream.streams.outbox.state import Content, Entry, OutboxState

AT_ONCE: Final = 20
"""Jobs that go on in one turn of the event loop when a job has ended for which they waited."""


class ResultReuse:
    """Implements the port `Earlier` on the outbox and the disk."""

    def __init__(self, state: OutboxState, files: DiskFiles) -> None:
        self._state, self._files = state, files
        self._waiting: dict[str, dict[str, asyncio.Future[None]]] = {}  # for a job, those that wait for its end

    async def find(self, job: str) -> Mapping[str, Any] | None:
        """See `Earlier.find`."""
        entry = self._state.jobs[job]
        size = _brought_home(entry)
        if size is not None:
            return {"job": job, "path": entry.accepted.output, "size": size}
        if self._state.alone(entry) or not _as_accepted(entry):
            return None
        same = [twin for twin in self._state.of_same_files(entry) if twin.read_as_accepted]
        return await self._of(same, entry) or await self._of_content(entry)

    async def _of(self, twins: Sequence[Entry], entry: Entry) -> Mapping[str, Any] | None:
        """The first of `twins` that has a result or still runs."""
        for twin in twins:
            earlier = {"job": twin.accepted.job}
            if twin.ended is None:
                return earlier
            if results_of(twin).keys() != entry.accepted.outputs.keys():
                continue  # the worker still has what a list has more, and knows what was not made
            if is_intact(twin) and (taken := await _taken(twin, entry)) is not None:
                mine, notes = taken
                sizes = {name: size for name, (_, size) in results_of(twin).items()}
                files = [{"name": name, "path": mine[name], "size": size} for name, size in sizes.items()]
                more = ({"files": files} if len(files) > 1 else {}) | ({"notes": notes} if notes else {})
                return {**earlier, "path": next(iter(mine.values())), "size": twin.ended.size, **more}
        return None

    async def ended(self, job: str, by: str) -> None:
        """See `Earlier.ended`."""
        entry = self._state.jobs.get(job)
        if entry is not None and entry.ended is None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(job, {})[by] = waiting
            await waiting

    def tell(self, job: str) -> None:
        """That job has ended. Without its result, the first that waited makes it, and the others wait for that one."""
        jobs, waiting = self._state.jobs, self._waiting.pop(job, {})
        left = {by: wait for by, wait in waiting.items() if not wait.done() and by in jobs and jobs[by].ended is None}
        if not left or job not in jobs or jobs[job].state == "done":
            self._wake(iter(waiting.values()))
            return
        first = min(left, key=self._state.numbers.__getitem__)  # an earlier job never waits for a later one
        left.pop(first).set_result(None)
        self._waiting[first] = self._waiting.get(first, {}) | left

    def _wake(self, waiting: Iterator[asyncio.Future[None]]) -> None:
        """Let jobs go on, some in each turn: thousands of the same work may have waited for one."""
        some = list(islice(waiting, AT_ONCE))
        for future in some:
            if not future.done():
                future.set_result(None)
        if some:
            asyncio.get_running_loop().call_soon(self._wake, waiting)

    async def _of_content(self, entry: Entry) -> Mapping[str, Any] | None:
        """As `_of`, of earlier jobs with the same content in other files; reads only files of the same sizes."""
        mine = await self._content(entry)
        if mine is None:
            return None
        unread = self._state.of_same_sizes(entry)
        result = await self._of(self._state.of_content(entry, mine), entry)
        return result or await self._of([twin for twin in unread if await self._content(twin) == mine], entry)

    async def _content(self, entry: Entry) -> Content | None:
        """The BLAKE3 of all files as they were for that job; None if that is no longer known."""
        if entry.content is not None or not _as_accepted(entry):
            return entry.content
        try:
            paths = [Path(file.path) for _, file in sorted(entry.accepted.inputs.items())]
            return tuple([(await self._files.fingerprint(path, {"blake3"})).digests["blake3"] for path in paths])
        except FileError:
            return None


def _as_accepted(entry: Entry) -> bool:
    a = entry.accepted
    return all(_dated(Path(file.path)) == (file.size, file.mtime_ns) for file in a.inputs.values())


def _dated(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _brought_home(entry: Entry) -> int | None:
    """The size of this job's own result, if an earlier run finished it but could not journal that.

    A result is renamed to its path after it was verified, so a file of the announced size that is newer than the start
    of the download is the result.
    """
    stage = entry.stage
    if stage is None or stage.stage != "download" or stage.size is None or len(entry.accepted.outputs) > 1:
        return None
    size_and_time = _dated(Path(entry.accepted.output))
    if size_and_time is None or size_and_time[0] != stage.size or size_and_time[1] < stage.at * 1e9:
        return None
    return stage.size


def is_intact(twin: Entry) -> bool:
    """Whether the results of that job are as it made them, and not removed, changed or replaced."""
    ended = twin.ended
    if ended is None or ended.outcome != "done":
        return False
    (path, _), *others = results_of(twin).values()
    if _dated(path) != (ended.size, ended.mtime_ns):
        return False
    # The dates of the other results are not known, only that they were written before the job's end.
    dates = [(_dated(other), size) for other, size in others]
    return all(dated is not None and dated[0] == size and dated[1] <= ended.at * 1e9 for dated, size in dates)


def results_of(entry: Entry) -> dict[str, tuple[Path, int]]:
    """The path and size of each result of a job that is done, by name; the main one first."""
    ended = entry.ended
    if ended is None:
        return {}
    sizes = [int(file["size"]) for file in ended.files] or [ended.size]
    return {name: (Path(path), size) for (name, path), size in zip(entry.made.items(), sizes, strict=False)}


async def _taken(twin: Entry, entry: Entry) -> tuple[dict[str, str], list[str]] | None:
    """Copy the twin's results to this job's outputs, each completely or not at all; None if one has changed.

    Returns:
        Their paths by name, and a sentence for each whose ending is not that of its content.
    """
    made: dict[str, str] = {}
    notes: list[str] = []
    accepted = entry.accepted
    for name, (source, _) in results_of(twin).items():
        renamed = accepted.unnamed and not accepted.overwrite
        output, note = fitted(source, Path(accepted.outputs[name]), renamed=renamed)
        path = await _taken_one(twin, source, output, accepted)
        if path is None:
            return None
        made[name] = str(path)
        notes += [note] if note else []
    return made, notes


async def _taken_one(twin: Entry, source: Path, output: Path, accepted: JobAccepted) -> Path | None:
    if source == output or (output.exists() and output.samefile(source)):
        return output
    stop = threading.Event()

    def wanted() -> bool:
        return is_intact(twin) and not stop.is_set()

    made: list[Path] = []
    copying = asyncio.to_thread(lambda: made.append(_copy(source, output, accepted, wanted)))
    try:  # a thread cannot be cancelled, only asked to stop before its last step
        await finish_despite_cancel(copying, on_cancel=stop.set)
    except FileChanged:
        return None
    return made[0]


def _copy(source: Path, output: Path, accepted: JobAccepted, wanted: Callable[[], bool]) -> Path:
    """Copy a file, and return its path; `FileChanged` when the copy is no longer `wanted` at the end."""
    partial = beside(output, accepted.job)
    try:
        with disk_errors(partial):
            partial.unlink(missing_ok=True)
        try:
            opened = source.open("rb")
        except OSError:
            raise FileChanged(f"{source} no longer exists") from None
        with disk_errors(partial), opened as whole:
            if not copy_new(whole, partial, wanted):
                raise FileChanged(f"{source} changed during the copy, or the job was cancelled")
        with disk_errors(output):
            output = place_free(partial, output, overwrite=accepted.overwrite)
        sync_rename(output)
        return output
    finally:
        remove(partial)
