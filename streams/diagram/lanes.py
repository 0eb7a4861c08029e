"""Make the lanes of a marble diagram from a log: messages, GPU states, connections and jobs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import cast

import orjson

from wakestream.streams.diagram.marbles import Diagram, Lane, Mark, MarkKind, Span, Weight
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.input_rows import frame_of

_STAGE_AFTER = {
    "job.accept": "wait", "retrying": "wait", "online": "upload", "uploaded": "render", "rendered": "download",
    "storing": "upload", "stored": "wait", "delivered": "download",
}  # fmt: skip
_STEADY = frozenset({
    "waking", "running", "uploading", "downloading", "ping", "pong", "tick", "report", "health", "resolve", "upload",
    "download", "connected", "gpu.task.active", "gpu.status.query", "gpu.status.response", "power.inspect",
    "power.health", "started", "storing", "remote", "put", "get", "gpu.depot.progress",
})  # fmt: skip
_MINOR = frozenset(
    {"job.accept", "register", "registered", "gpu.power.state", "fingerprint", "check", "submit", "opened", "closed"}
)
_GRAVE = frozenset({
    "gpu.power.online", "error", "kicked", "gpu.job.cancel", "job.cancel", "down", "gpu.power.boot.result",
    "revoked", "unreadable",
})  # fmt: skip


_KINDS: Mapping[str, MarkKind] = {"in": "in", "out": "out", "effect": "effect", "conn": "conn"}
_TURNS: Mapping[str, MarkKind] = {"retrying": "retry", **{kind: cast("MarkKind", kind) for kind in OUTCOME_KINDS}}


def diagram(log: Log, divergences: Sequence[Divergence] = ()) -> Diagram:
    """Make the diagram of `log`.

    Args:
        log: A log of any program.
        divergences: Differences of its replay, which are marked where they occurred.

    Returns:
        The diagram, with one lane for each job and connection.
    """
    build = _of_hub if log.header.program == "hub" else _of_program
    lanes = _whole(log, [lane for lane in build(log) if lane.marks or lane.spans])
    for divergence in divergences:
        lanes = _marked(lanes, divergence)
    times = sorted({mark.t for lane in lanes for mark in lane.marks if mark.weight > 0})
    ends = [row.t for row in (*log.rows[:1], *log.rows[-1:])]
    busy = _busy([span for lane in lanes if lane.kind == "job" for span in lane.spans if span.word != "wait"])
    return Diagram(log.header.program, log.header.epoch, tuple(lanes), (*times, *ends), busy, tuple(divergences))


def _whole(log: Log, lanes: list[Lane]) -> list[Lane]:
    """Add a lane for the program itself, with the rows that are on no other lane."""
    placed = {mark.seq for lane in lanes for mark in lane.marks}
    rest = tuple(mark_of(row) for row in log.rows if row.seq not in placed)
    if not rest:
        return lanes
    at = next((at for at, lane in enumerate(lanes) if lane.kind in ("connection", "job")), len(lanes))
    return [*lanes[:at], Lane("self", log.header.program, rest), *lanes[at:]]


def _busy(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Merge overlapping spans."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, span.end))
        else:
            merged.append(replace(span, word="busy"))
    return tuple(merged)


def mark_of(row: Row) -> Mark:
    """Make a mark of a row."""
    label = row.label.removeprefix("gpu.")
    kind = _KINDS.get(row.dir, "conn")
    weight: Weight = 0 if row.label in _STEADY else 1 if row.label in _MINOR else 3 if row.label in _GRAVE else 2
    if row.dir == "effect":
        weight = min(weight, 1)
        if "error" in row.data:
            kind, weight, label = "fault", 3, f"{label} failed"
    elif row.label in _TURNS and "event" in row.data:
        kind, weight = _TURNS[row.label], 3
    elif "event" in row.data:
        kind = "event"
    text = orjson.dumps(row.data, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    shown = text if len(text) <= 240 else text[:239] + "…"
    return Mark(row.t, label, kind, weight, row.seq, f"{row.dir} {row.label}, row {row.seq}, {row.t:.6f} s\n{shown}")


def _of_program(log: Log) -> Iterator[Lane]:
    """The lanes of a client or a monitor: the link, its frames, effects and jobs."""
    rows, jobs = log.rows, _job_rows(log.rows)
    wire = [row for row in rows if "type" in row.data]
    reported = "out" if log.header.program == "monitor" else "in"
    yield from _power((row for row in wire if row.dir == reported), log)
    link_rows = [row for row in rows if row.dir == "conn" and row.label in ("up", "down")]
    changes = [(row.t, row.label) for row in link_rows]
    yield Lane("link", "hub link", tuple(map(mark_of, link_rows)), _spans(changes, _last(rows)))
    yield Lane("frames", "messages in", tuple(mark_of(row) for row in wire if row.dir == "in"))
    yield Lane("frames", "messages out", tuple(mark_of(row) for row in wire if row.dir == "out"))
    effects = (row for row in rows if row.dir == "effect" and row.job not in jobs)
    yield Lane("effects", "provider", tuple(map(mark_of, effects)))
    for job, own in jobs.items():
        yield _job(job, own)


def _power(rows: Iterable[Row], log: Log) -> Iterator[Lane]:
    """One lane for each GPU with its reported states; or one lane from older frames, which do not name a GPU."""
    states: dict[str, list[tuple[Row, str]]] = defaultdict(list)
    hints: list[tuple[Row, str]] = []
    for row in rows:
        if row.label == "gpu.power.state":
            frame = frame_of(row)
            states[str(frame.get("gpu"))].append((row, str(frame.get("state"))))
        elif row.label in _HINTS:
            hints.append((row, _HINTS[row.label]))
    for gpu, changes in (states or {"": hints}).items():
        title = f"power {gpu}".strip()
        marks = tuple(replace(mark_of(row), label=word, weight=_SHOWN) for row, word in changes)
        yield Lane("power", title, marks, _spans([(row.t, word) for row, word in changes], _last(log.rows)))


_SHOWN: Weight = 2
_HINTS = {"gpu.power.offline": "off", "gpu.power.booted": "booted", "gpu.power.online": "online"}


def _spans(changes: Iterable[tuple[float, str]], end: float) -> tuple[Span, ...]:
    """Each state until a different one follows, the last one until `end`."""
    entered = [next(same) for _, same in groupby(changes, lambda change: change[1])]
    left = [*(t for t, _ in entered[1:]), end]
    return tuple(Span(t, until, word) for (t, word), until in zip(entered, left, strict=False))


def _last(rows: Iterable[Row]) -> float:
    return max((row.t for row in rows), default=0.0)


def _job_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each job that was accepted or had an event."""
    rows_by_job: dict[str | None, list[Row]] = {
        row.job: [] for row in rows if row.job and (row.label == "job.accept" or "event" in row.data)
    }
    for row in rows:
        if row.job in rows_by_job and "type" not in row.data:
            rows_by_job[row.job].append(row)
    return {str(job): own for job, own in rows_by_job.items()}


def _job(job: str, rows: Sequence[Row]) -> Lane:
    changes: list[tuple[float, str]] = [(rows[0].t, "wait")]
    changes += [(row.t, _STAGE_AFTER[row.label]) for row in rows if row.label in _STAGE_AFTER]
    outcome = next((row for row in rows if row.label in OUTCOME_KINDS), None)
    end = outcome.t if outcome is not None else rows[-1].t
    word = outcome.label if outcome is not None else ""
    # The marks of a job. Of the progress rows while it waits, those with a new phase have a label.
    marks: list[Mark] = []
    phase = None
    for row in rows:
        mark = mark_of(row)
        if row.label in ("waking", "queued") and row.data.get("phase") != phase:
            phase = row.data.get("phase")
            mark = replace(mark, weight=_SHOWN, label=f"{row.label}: {phase}")
        marks.append(mark)
    return Lane("job", job, tuple(marks), _spans(changes, end), (job,), word)


def _of_hub(log: Log) -> Iterator[Lane]:
    """The lanes of a hub: power, each connection by its role, and each job as the hub sees it."""
    wire = [row for row in log.rows if row.dir in ("in", "out") and "frame" in row.data]
    yield from _power((row for row in wire if row.dir == "in"), log)
    yield from _connections(log.rows)
    jobs: dict[str, list[Row]] = defaultdict(list)
    for row in wire:
        if row.job and (row.job in jobs or (row.dir, row.label) == ("in", "gpu.job.submit")):
            jobs[row.job].append(row)
    for job, own in jobs.items():
        # A job as the hub sees it: it waits, has a GPU, waits again if that GPU was lost, and ends.
        changes = [(own[0].t, "wait"), *((row.t, _HELD[row.label]) for row in own if row.label in _HELD)]
        over = next(((row.t, _OVER[row.label]) for row in own if row.label in _OVER and row.dir == "in"), None)
        end, outcome = over or (own[-1].t, "")
        yield Lane("job", job, tuple(map(mark_of, own)), _spans(changes, end), (job,), outcome)


def _connections(rows: Sequence[Row]) -> Iterator[Lane]:
    of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for fd in row.data.get("to", [row.data["fd"]] if "fd" in row.data else []):
            of[str(fd)].append(row)
    roles = {fd: next((_role(row) for row in own if row.label == "register"), "connection") for fd, own in of.items()}
    for fd in sorted(of, key=lambda fd: _ORDER.get(roles[fd], 9)):
        own = of[fd]
        end = next((row.t for row in own if row.label == "closed"), _last(rows))
        yield Lane("connection", f"{roles[fd]} {fd}", tuple(map(mark_of, own)), (Span(own[0].t, end, "up"),), (fd,))


_ORDER = {"monitor": 1, "worker": 2, "client": 3}


def _role(row: Row) -> str:
    held = row.data.get("license")
    if isinstance(held, Mapping):
        return str(held.get("role"))
    return str(frame_of(row).get("role") or "client").removeprefix("gpu_")


_HELD = {"gpu.power.offline": "wait", "ack": "hold"}
_OVER = {"gpu.job.done": "done", "gpu.job.cancel": "cancelled"}


def _marked(lanes: Sequence[Lane], divergence: Divergence) -> list[Lane]:
    """Add a mark at a difference."""
    row = divergence.row
    if row is None:
        return list(lanes)
    mark = Mark(row.t, f"≠ {expectation(divergence)}", "divergence", 4, row.seq, "\n".join(divergence.lines()))
    stream = str(divergence.stream).removesuffix(" effects")
    named = [index for index, lane in enumerate(lanes) if stream in lane.ids]
    shown = [index for index, lane in enumerate(lanes) if any(other.seq == row.seq for other in lane.marks)]
    chosen = (named or shown or [len(lanes) - 1])[0] if lanes else -1
    return [replace(lane, marks=(*lane.marks, mark)) if at == chosen else lane for at, lane in enumerate(lanes)]


def expectation(divergence: Divergence) -> str:
    """One line with the expected row and the replay's row."""
    expected, got = _short(divergence.expected), _short(divergence.got)
    return f"{expected} differs" if expected == got else f"expected {expected}, got {got}"


def _short(row: Row | None) -> str:
    return "nothing" if row is None else row.label.removeprefix("gpu.")
