"""The outbox's state: its jobs, and indexes that find jobs of the same work. Only `CHANGES` writes here."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from wakestream.operators.model import events as e
from wakestream.operators.model.engine import files_of, list_of, numbered
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox.turn_queue import TurnQueue
from wakestream.streams.protocol.structs import Frozen
from wakestream.streams.recording.event_json import plain_event
from wakestream.streams.webhooks import WebhookOwed

OPEN_MOST = 10_000
ENDED_MOST = 1_000

Sizes = tuple[Any, ...]
"""What two jobs of the same work have in common without a look into their files."""

Content = tuple[str, ...]
"""The BLAKE3 of all files of a job, by their names."""

Index = dict[Any, list[str]]
"""Jobs by what they have in common, each list in the order of their acceptance."""

TWINS = 8
"""The most jobs of the same work that are looked at for one job, of each kind: there may be thousands."""


class Entry(Frozen, frozen=True):
    """One job, as its facts tell."""

    accepted: f.JobAccepted
    stage: f.JobStage | None = None
    read: f.JobRead | None = None
    cancelling: f.JobCancelling | None = None
    moved: f.JobMoved | None = None
    ended: f.JobEnded | None = None
    released: f.ReleaseConfirmed | None = None

    @property
    def state(self) -> str:
        """`open`, `cancelling`, or how it ended: `done`, `failed`, `timed_out`, `cancelled`."""
        if self.ended is not None:
            return self.ended.outcome
        return "cancelling" if self.cancelling else "open"

    @property
    def priority(self) -> int:
        """The priority; a job that was moved has that of its new place."""
        return self.moved.priority if self.moved else self.accepted.priority

    @property
    def movable(self) -> bool:
        """Whether it has not been handed to the GPU."""
        return self.state == "open" and (self.stage is None or not self.stage.task)

    @property
    def work(self) -> tuple[str, bytes, tuple[str, ...], str]:
        """What the job does with the files: its kind with its version, its parameters, the names of its results."""
        accepted = self.accepted
        # Not by orjson: each of its results takes 4 KB as long as it is kept.
        params = msgspec.json.encode(accepted.params, order="deterministic")
        return accepted.task_type, params, tuple(sorted(accepted.outputs)), accepted.version

    @property
    def files(self) -> tuple[Any, ...]:
        """What tells that two jobs are the same work, without a look into the files."""
        if self._alone:
            return (self.accepted.job,)
        return (self.work, *((name, file.path, file.size, file.mtime_ns) for name, file in self._sorted))

    @property
    def read_as_accepted(self) -> bool:
        """False when the files were written to between the acceptance and the reading."""
        dates = {name: file.mtime_ns for name, file in self.accepted.inputs.items()}
        return self.read is None or self.read.mtimes_ns == dates

    @property
    def made(self) -> dict[str, str]:
        """The paths of the results of a job that is done, by name; the main one first."""
        if self.ended is None or self.ended.outcome != "done":
            return {}
        main = {next(iter(self.accepted.outputs)): self.ended.path}
        return {str(file["name"]): str(file["path"]) for file in self.ended.files} or main

    @property
    def content(self) -> Content | None:
        """The BLAKE3 of all files, once they were read."""
        if self.read is None or any("blake3" not in digests for digests in self.read.inputs.values()):
            return None
        return tuple(digests["blake3"] for _, digests in sorted(self.read.inputs.items()))

    @property
    def paths(self) -> list[str]:
        """The paths of its inputs."""
        return [file.path for file in self.accepted.inputs.values()]

    @property
    def sizes(self) -> Sizes:
        """What tells that two jobs may be the same work."""
        if self._alone:
            return (self.accepted.job,)
        return (self.work, *((name, file.size, Path(file.path).suffix.lower()) for name, file in self._sorted))

    @property
    def _sorted(self) -> list[tuple[str, f.FileStat]]:
        return sorted(self.accepted.inputs.items())

    @property
    def _alone(self) -> bool:
        """Whether it has inputs that other jobs have yet to make, or wants a result of its own."""
        return self.accepted.again or any(not file.size for file in self.accepted.inputs.values())


@dataclass(slots=True, kw_only=True)
class Durable:
    """What outlives the program.

    `jobs` are all known jobs, in the order of their acceptance, `queue` those that have not ended, in the order of
    their turns within a priority, `ended` those that have ended, the earliest first. `forgotten` counts, by the batches
    of known jobs, the jobs that are known no more and were not tried again, and those of them that were done. `pending`
    are the webhooks by delivery, the oldest first. No order depends on the times in the facts: the clock may be set.
    """

    jobs: dict[str, Entry] = field(default_factory=dict)
    queue: list[str] = field(default_factory=list)
    ended: dict[str, None] = field(default_factory=dict)
    forgotten: dict[str, tuple[int, int]] = field(default_factory=dict)
    pending: dict[str, WebhookOwed] = field(default_factory=dict)


_MADE = re.compile(r"ws-[0-9a-f]{16}")


def _shortens(text: str, job: str) -> bool:
    return job.startswith(text) and _MADE.fullmatch(job) is not None


LAST = "last"
"""Means the job that was submitted last, where the id of a job is asked for."""


@dataclass(slots=True, kw_only=True)
class OutboxState(Durable):
    """The whole state: also indexes and settings. Only the functions in `CHANGES` write here."""

    queue: TurnQueue = field(default_factory=TurnQueue)  # type: ignore[assignment] # a list in a snapshot
    outputs: dict[str, str] = field(default_factory=dict)  # of open jobs: who writes where, by `place`
    by_files: Index = field(default_factory=dict)  # as the next three, of jobs that have not ended or are done
    by_sizes: Index = field(default_factory=dict)
    by_content: Index = field(default_factory=dict)
    unread: Index = field(default_factory=dict)  # by sizes, those whose content is not known
    numbers: dict[str, int] = field(default_factory=dict, compare=False)  # grow with each job that is accepted
    inputs: dict[str, int] = field(default_factory=dict)  # for the path of an input, how many jobs have it
    needed: dict[str, int] = field(default_factory=dict)  # the same of jobs that have not ended
    batches: dict[str, int] = field(default_factory=dict)  # how many jobs of each are known
    again: dict[str, int] = field(default_factory=dict)  # for a job, how many known ones are a repetition of it
    after: dict[str, dict[str, None]] = field(default_factory=dict)  # for a job, those after it that have not ended
    open_most: int = OPEN_MOST
    ended_most: int = ENDED_MOST
    unfetched: Set[str] = frozenset()  # the ended jobs whose results the user has yet to fetch: they stay
    webhook: bool = False
    place: Callable[[str], str] = str  # one word for one file, where a disk takes several names for it

    def in_turn(self) -> list[str]:
        """The unfinished jobs in the order of their turns."""
        return sorted(self.queue, key=lambda job: -self.jobs[job].priority)

    def named(self, text: str) -> list[str]:
        """The ids of the jobs that a text may mean: that of this id, the last job, or those that begin with it.

        Only ids that we made may be shortened: of a program's own ids, one is often the beginning of another.
        """
        if text in self.jobs:
            return [text]
        jobs = [*self.jobs]  # also in another thread, while jobs are accepted
        return jobs[-1:] if text == LAST else [job for job in jobs if text and _shortens(text, job)]

    def of_same_files(self, entry: Entry) -> list[Entry]:
        """Earlier jobs of the same files that may have, or get, a result for this one."""
        return self._before(entry, self.by_files.get(entry.files, ()))

    def of_content(self, entry: Entry, content: Content) -> list[Entry]:
        """Earlier jobs of that content, whatever their files are called."""
        mine = entry.sizes
        return [twin for twin in self._before(entry, self.by_content.get(content, ())) if twin.sizes == mine]

    def of_same_sizes(self, entry: Entry) -> list[Entry]:
        """Earlier jobs under other names that may turn out to be the same work: their files have not been read yet."""
        mine = entry.files
        return [twin for twin in self._before(entry, self.unread.get(entry.sizes, ())) if twin.files != mine]

    def alone(self, entry: Entry) -> bool:
        """Whether no other job can be the same work."""
        return len(self.by_sizes.get(entry.sizes, ())) < 2

    def _before(self, entry: Entry, twins: Sequence[str]) -> list[Entry]:
        """In the same order for all jobs, so that no two jobs wait for each other."""
        mine = self.numbers[entry.accepted.job]
        earlier = twins[: min(bisect_left(twins, mine, key=self.numbers.__getitem__), TWINS)]
        return [twin for job in earlier if (twin := self.jobs[job]).cancelling is None or twin.ended is not None]


def job_of(entry: Entry, jobs: Mapping[str, Entry] | None = None) -> e.Job:
    """The job that the pipeline runs. Results of other `jobs` that are its inputs are where they were put."""
    accepted = entry.accepted
    outputs = {name: Path(path) for name, path in accepted.outputs.items()}
    alias = accepted.task_type if accepted.kind == e.LIPSYNC else ""
    inputs = _moved_inputs(accepted, jobs or {})
    more = alias, accepted.again, accepted.gpus, accepted.overwrite, accepted.unnamed, accepted.requires, entry.priority
    return e.Job(accepted.job, inputs, outputs, accepted.kind, accepted.params, *more)


def _moved_inputs(a: f.JobAccepted, jobs: Mapping[str, Entry]) -> dict[str, Path]:
    """The paths of the inputs: a result that got another name, since a file was there, is used under that name.

    A result of several files is several files of the input's list.
    """
    inputs: dict[str, Path] = {}
    for name, file in a.inputs.items():
        job, _, result = a.sources.get(name, "").partition(":")
        paths = handed_on(jobs[job], result) if job in jobs else []
        of_list = list_of(name, a.inputs) or name
        for path in paths or [file.path]:
            free = (numbered(of_list, number) for number in count(1))
            inputs[next(each for each in (name, *islice(free, len(inputs) + 1)) if each not in inputs)] = Path(path)
    return inputs


def handed_on(entry: Entry, result: str) -> list[str]:
    """The paths of a result for a job after this one: all of the list `images`, or the second file for `images[1]`."""
    name, _, index = result.rstrip("]").partition("[")
    name = name or next(iter(entry.made), "")
    more = (each for each in files_of(name, entry.made) if each == name or each not in entry.accepted.outputs)
    names = [numbered(name, int(index) + 1)] if index.isdecimal() else more
    return [entry.made[each] for each in names if each in entry.made]


def outcome_of(ended: f.JobEnded) -> e.Outcome:
    """The job's last event again."""
    if ended.outcome == "done":
        files = tuple(e.ResultFile(file["name"], Path(file["path"]), file["size"]) for file in ended.files)
        return e.Done(Path(ended.path), ended.size, files, ended.absent)
    kind = {"timed_out": e.TimedOut, "cancelled": e.Cancelled}.get(ended.outcome, e.Failed)
    outcome: e.Outcome = kind(**{field.name: getattr(ended, field.name) for field in fields(kind)})
    return outcome


def plain_outcome(ended: f.JobEnded) -> dict[str, Any]:
    """The job's last event as an object, with `reused` where its result was there before."""
    more = {"reused": ended.reused} if ended.reused else {}
    return {**plain_event(outcome_of(ended)), **more}


def _accepted(state: OutboxState, fact: f.JobAccepted) -> None:
    if fact.job not in state.jobs:
        entry = state.jobs[fact.job] = Entry(fact)
        state.queue.put(fact.job)
        _index(state, entry)


def _index(state: OutboxState, entry: Entry) -> None:
    job = entry.accepted.job
    state.numbers[job] = next(reversed(state.numbers.values()), 0) + 1
    if entry.ended is None:
        state.outputs |= {state.place(path): job for path in entry.accepted.outputs.values()}
        _count(state.needed, entry.paths, 1)
        for before in entry.accepted.after:
            state.after.setdefault(before, {})[job] = None
    _count_known(state, entry, 1)
    _add_twin(state, entry)


def _count_known(state: OutboxState, entry: Entry, by: int) -> None:
    _count(state.inputs, entry.paths, by)
    _count(state.batches, [entry.accepted.batch], by)
    _count(state.again, [entry.accepted.retry_of], by)


def _count(counts: dict[str, int], names: Iterable[str], by: int) -> None:
    for name in names:
        counts[name] = counts.get(name, 0) + by
        if not counts[name]:
            del counts[name]


def _add_twin(state: OutboxState, entry: Entry) -> None:
    for index, key in _places(state, entry):
        insort(index.setdefault(key, []), entry.accepted.job, key=state.numbers.__getitem__)


def _drop_twin(state: OutboxState, entry: Entry) -> None:
    for index, key in _places(state, entry):
        jobs, number = index[key], state.numbers[entry.accepted.job]
        del jobs[bisect_left(jobs, number, key=state.numbers.__getitem__)]
        if not jobs:
            del index[key]


def _places(state: OutboxState, entry: Entry) -> list[tuple[Index, Any]]:
    """Where other jobs find this one, as long as its result may be of use to them."""
    if entry.ended is not None and entry.ended.outcome != "done":
        return []
    sizes, content = entry.sizes, entry.content
    read = (state.unread, sizes) if content is None else (state.by_content, content)
    return [(state.by_sizes, sizes), (state.by_files, entry.files), read]


_KEPT: Mapping[type, str] = {f.JobStage: "stage", f.JobRead: "read", f.JobCancelling: "cancelling", f.JobEnded: "ended"}
"""For each type of fact about an open job, the field of `Entry` that holds the last one."""


def _of_open_job(state: OutboxState, fact: Any) -> None:
    """Keep a fact of a job that has not ended; later ones are ignored, since no fact changes an end."""
    entry = state.jobs.get(fact.job)
    if entry is None or entry.ended is not None:
        return
    found_otherwise = isinstance(fact, f.JobRead | f.JobEnded)
    if found_otherwise:
        _drop_twin(state, entry)
    entry = state.jobs[fact.job] = replace(entry, **{_KEPT[type(fact)]: fact})
    if found_otherwise:
        _add_twin(state, entry)
    if isinstance(fact, f.JobEnded):
        state.jobs[fact.job] = replace(entry, moved=None)
        state.ended[fact.job] = None
        _close(state, entry)


def _close(state: OutboxState, entry: Entry) -> None:
    """Remove a job from the indexes of those that have not ended."""
    accepted = entry.accepted
    state.queue.remove(accepted.job)
    _count(state.needed, entry.paths, -1)
    for path in accepted.outputs.values():
        place = state.place(path)
        if state.outputs.get(place) == accepted.job:
            del state.outputs[place]
    for before in dict.fromkeys(accepted.after):  # facts of earlier versions may have one twice
        del state.after[before][accepted.job]
        if not state.after[before]:
            del state.after[before]


def _moved(state: OutboxState, fact: f.JobMoved) -> None:
    if fact.job in state.queue:
        state.jobs[fact.job] = replace(state.jobs[fact.job], moved=replace(fact, before=""))
        state.queue.put(fact.job, fact.before)


def _released(state: OutboxState, fact: f.ReleaseConfirmed) -> None:
    if (entry := state.jobs.get(fact.job)) is not None:
        state.jobs[fact.job] = replace(entry, released=fact)


def _forgotten(state: OutboxState, fact: f.JobForgotten) -> None:
    if (entry := state.jobs.pop(fact.job, None)) is not None:
        _drop_twin(state, entry)
        if entry.ended is None:
            _close(state, entry)
        state.ended.pop(fact.job, None)
        del state.numbers[fact.job]
        _count_known(state, entry, -1)
        if (batch := entry.accepted.batch) and entry.ended is not None:
            jobs, done = state.forgotten.pop(batch, (0, 0))
            if batch in state.batches:
                state.forgotten[batch] = jobs + (fact.job not in state.again), done + (entry.state == "done")


CHANGES: Mapping[type, Callable[[OutboxState, Any], object]] = {
    f.JobAccepted: _accepted,
    **dict.fromkeys(_KEPT, _of_open_job),
    f.JobMoved: _moved,
    f.ReleaseConfirmed: _released,
    f.JobForgotten: _forgotten,
    WebhookOwed: lambda state, fact: state.pending.update({fact.delivery: fact}),
    f.WebhookDelivered: lambda state, fact: state.pending.pop(fact.delivery, None),
    f.WebhookGivenUp: lambda state, fact: state.pending.pop(fact.delivery, None),
}
"""For each type of fact, how it changes the state. A fact about an unknown job changes nothing."""


def reindex(state: OutboxState) -> None:
    """Make the indexes of what a snapshot has restored."""
    jobs, state.queue = [*state.queue], TurnQueue()
    for job in jobs:
        state.queue.put(job)
    for entry in state.jobs.values():
        _index(state, entry)
    if not state.ended:  # a snapshot of 0.1.0
        ended = sorted((entry.ended.at, job) for job, entry in state.jobs.items() if entry.ended is not None)
        state.ended = {job: None for _, job in ended}
