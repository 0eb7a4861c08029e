"""Jobs of programs as predictions of Replicate: their status, output, log and metrics."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson
from msgspec.structs import replace

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.app import Console
from wakestream.adapters.daemon.console.storage import mark_of
from wakestream.adapters.daemon.console.waiting import Waiting
from wakestream.adapters.daemon.event_feed import STEADY, Item
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.replicate.models import OWNER
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.media_types import media_type
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import files_of
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.state import Entry
from wakestream.streams.recording.event_json import event_from

INLINE: Final = 8 * 1000 * 1000
"""Bytes of all outputs of a prediction that it holds itself, as data URLs; the others are addresses."""

GONE_KEPT: Final = 500
"""Predictions of a program that ended before their job began, and that are still shown."""

STATUSES: Final = {"done": "succeeded", "failed": "failed", "timed_out": "failed", "cancelled": "canceled"}
_BAR: Final = 20


class Predictions:
    """What programs see of their jobs.

    Args:
        outbox: The jobs.
        console: The files of jobs, and what waits for them.
        text: The line of an event, for people.
    """

    def __init__(self, outbox: Outbox, console: Console, text: Callable[[e.JobEvent], str]) -> None:
        self._outbox, self._console, self._text = outbox, console, text
        self._earlier = {job: [*self._on_disk(job)] for job in outbox.state.queue}  # the events of earlier runs
        outbox.feed.on_event = self._keep
        self._gone = defaultdict[str, Recent[str, Entry]](lambda: Recent(GONE_KEPT))

    def items(self, job: str, after: int = 0) -> list[Item]:
        """The stored events of a job after that number, also those of earlier runs of the daemon."""
        if after or self._outbox.feed.last(job) is not None:
            return [*(() if after else self._earlier.get(job, ())), *self._outbox.feed.of_job(job, after)]
        return [*self._on_disk(job)]

    def _keep(self, item: Item) -> None:
        """Store the events of a job, without the newest progress: its log outlives the daemon."""
        entry = self._outbox.state.jobs.get(item.job)
        if entry is not None and entry.accepted.caller is not None and item.kind not in STEADY:
            with suppress(OSError):  # then the log is shorter after a restart
                lines = b"".join(event.data + b"\n" for event in self.items(item.job))
                write_atomic(_events_file(entry), lines, sync=False)

    def _on_disk(self, job: str) -> Iterator[Item]:
        with suppress(OSError, ValueError, KeyError):
            for line in _events_file(self._outbox.state.jobs[job]).read_bytes().splitlines():
                yield Item(0, job, orjson.loads(line)["event"], line)

    def find(self, job: str) -> Entry | None:
        """The prediction with this id."""
        gone = (of[job] for of in self._gone.values() if job in of)
        if (entry := self._outbox.state.jobs.get(job) or next(gone, None)) is not None:
            return entry if entry.accepted.caller is not None else None
        waiting = self._console.calls.waiting.jobs.get(job)
        return None if waiting is None or waiting.started.caller is None else _entry_of(waiting)

    def of(self, token: str) -> list[Entry]:
        """The predictions of a program, the newest first."""
        waiting = map(_entry_of, self._console.calls.waiting.jobs.values())
        gone = self._gone[token].values()
        every = {entry.accepted.job: entry for entry in (*waiting, *gone, *self._outbox.state.jobs.values())}
        mine = (entry for entry in every.values() if entry.accepted.caller and entry.accepted.caller.token == token)
        return sorted(mine, key=_place)

    def end(self, job: Waiting, outcome: str, why: str, code: str = "") -> Entry:
        """Keep a prediction that ended before its job began, and publish its end."""
        at = time.time()
        ended = f.JobEnded(job.id, outcome, at, why=why, code=code)
        entry = replace(_entry_of(job), ended=ended)
        self._gone[caller_of(entry).token][job.id] = entry
        self._outbox.feed.publish(job.id, {"event": outcome, "at": at, "why": why, "code": code})
        return entry

    async def plain(self, entry: Entry, *, inline: bool = True, starting: bool = False) -> dict[str, Any]:
        """A prediction as JSON.

        Args:
            entry: The job.
            inline: Whether small outputs are in it, and not only their addresses.
            starting: Give this status to one that has not ended: clients take any other one as its end after a
                `Prefer: wait`.
        """
        a, ended, caller = entry.accepted, entry.ended, caller_of(entry)
        items = self.items(a.job)
        began, made = _work_times(items)
        status = STATUSES[ended.outcome] if ended else "starting" if starting or not began else "processing"
        output = await asyncio.to_thread(self.output, entry, inline=inline) if status == "succeeded" else None
        at = f"{caller.url}/v1/predictions/{a.job}"
        return {
            "id": a.job, "model": f"{OWNER}/{a.kind}", "version": caller.version, "input": caller.input,
            "output": output, "logs": ignored(caller) + self.log(items),
            "error": _error(ended), "status": status, "source": "api",
            "data_removed": status == "succeeded" and output is None,
            "created_at": iso(a.at), "started_at": iso(began), "completed_at": iso(ended.at if ended else None),
            "metrics": self._metrics(entry, began, made),
            "urls": {"get": at, "cancel": f"{at}/cancel", "stream": self._stream(a.job, caller)},
        }  # fmt: skip

    def _stream(self, job: str, caller: f.Caller) -> str:
        """The address of the event stream. Clients make files of its outputs if its path is that of a file."""
        where = f"stream/{job}" if "text" in caller.shape.values() else f"files/{job}/stream"
        return f"{caller.url}/v1/{where}?ticket={self._console.sessions.ticket(f'{job} stream')}"

    def log(self, items: Iterable[Item]) -> str:
        """The lines of events. That of a result has paths of this machine, so it is left out."""
        events = [event for _, event in _read(items) if not isinstance(event, e.Done)]
        return "".join(f"{self._text_of(event)}\n" for event in events)

    def _text_of(self, event: e.JobEvent) -> str:
        """The text of an event. Clients read progress from the form that tqdm gives it."""
        if not isinstance(event, e.Running) or event.status == "queued":
            return self._text(event)
        done, of = (event.frame, event.frames) if event.frame is not None and event.frames else (event.percent, 100)
        bar = "#" * int(event.percent * _BAR / 100)
        return f"{event.percent:.0f}%|{bar:<{_BAR}}| {done:.0f}/{of}"

    def _metrics(self, entry: Entry, began: float, made: float) -> dict[str, Any]:
        if (ended := entry.ended) is None:
            return {}
        spent = self._console.costs.of(ended.job)
        work = (made or ended.at) - began if began else 0.0 if ended.reused else None
        return {
            **({} if work is None else {"predict_time": round(work, 3)}),
            "total_time": round(ended.at - entry.accepted.at, 3),
            **{name: spent[name] for name in ("cost", "currency") if name in spent},
        }

    def output(self, entry: Entry, *, inline: bool = True) -> Any:
        """The output of a prediction that has succeeded; None if it was removed. It reads files."""
        made, shape = results_of(entry), caller_of(entry).shape
        left, outputs = INLINE if inline else 0, dict[str, Any]()
        for name, form in shape.items():
            values: list[Any] = []
            for file in files_of(name, made):
                path, size = made[file]
                if path.is_file():
                    fits = size <= left
                    left -= size if fits else 0
                    values.append(_content(path, form) if fits else self._address(entry, file))
            outputs[name] = values if form == "files" and values else next(iter(values), None)
        return outputs if len(outputs) > 1 and any(outputs.values()) else next(iter(outputs.values()), None)

    def _address(self, entry: Entry, name: str) -> str:
        job = entry.accepted.job
        ticket = self._console.sessions.ticket(f"{job} output {name}")
        return f"{caller_of(entry).url}/v1/outputs/{quote(job)}/{name}?ticket={ticket}"


def _events_file(entry: Entry) -> Path:
    """The file with the events of a job. It is removed with the results."""
    return mark_of(Path(entry.accepted.output)).with_suffix(".events")


def caller_of(entry: Entry) -> f.Caller:
    """The program that asked for a job; each prediction has one."""
    assert entry.accepted.caller is not None  # noqa: S101 - see `Predictions.find`
    return entry.accepted.caller


def ignored(caller: f.Caller) -> str:
    """The first line of the log, if the input has names that the kind does not know."""
    names = ", ".join(map(repr, caller.ignored))
    return f"ignored, since the model has no such input: {names}\n" if names else ""


def _place(entry: Entry) -> tuple[float, str]:
    return -entry.accepted.at, entry.accepted.job


def cursor(entries: Sequence[Entry], first: int) -> str:
    """The query for the page of a list that begins with this one: it names the one before."""
    return f"?cursor={entries[first - 1].accepted.at!r}_{entries[first - 1].accepted.job}" if first > 0 else ""


def place_after(entries: Sequence[Entry], named: str) -> int:
    """Where in a list the page of a cursor begins, also if the prediction that it names is gone."""
    since, _, job = named.partition("_")
    try:
        return bisect_right(entries, (-float(since), job), key=_place) if named else 0
    except ValueError:
        raise ApiError(422, "bad_request", "cursor must be that of a page of this list") from None


def iso(at: float | None) -> str | None:
    """A time in UNIX seconds as JSON has it; None for none."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z") if at else None


def _entry_of(job: Waiting) -> Entry:
    """A job that waits for its files."""
    return Entry(replace(f.JobAccepted.of(job.asked.job, {}, caller=job.started.caller), at=job.at))


def _error(ended: f.JobEnded | None) -> str | None:
    if ended is None or ended.outcome in ("done", "cancelled"):
        return None
    return ended.why or f"{ended.stage}: nothing within {ended.seconds:g} s"


def _read(items: Iterable[Item]) -> Iterator[tuple[float, e.JobEvent]]:
    """The events with their times."""
    for item in items:
        plain = orjson.loads(item.data)
        with suppress(ValueError):  # an event that lacks fields cannot be shown
            if (event := event_from(plain)) is not None:
                yield float(plain.get("at", 0.0)), event


def _work_times(items: Iterable[Item]) -> tuple[float, float]:
    """When the work of a job began and ended at the GPU; 0 if it did not."""
    began = made = 0.0
    for at, event in _read(items):
        works = isinstance(event, e.Running) and event.status != "queued"
        works |= isinstance(event, e.Remote) and event.step in ("render", "deliver")
        ended = isinstance(event, e.Rendered | e.Delivered | e.Downloading)
        began = began or (at if works or ended else 0.0)
        made = made or (at if ended else 0.0)
    return began, made


def _content(path: Path, form: str) -> Any:
    data = path.read_bytes()
    if form == "text":
        return data.decode(errors="replace")
    if form == "json":
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
            orjson.dumps(value := orjson.loads(data))  # it reads a deeper value than it writes
            return value
    content = mimetypes.guess_type(path.name)[0] or media_type(path).content.replace(" ", "")
    return f"data:{content};base64,{base64.b64encode(data).decode()}"
