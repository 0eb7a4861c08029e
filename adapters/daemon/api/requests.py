"""Checks what callers of the local API send. Each refusal says what to send instead."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

from aiohttp import web
from msgspec import Meta, Struct

from wakestream.adapters.client.hub_query import ANSWERS, Query
from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError, bad_request
from wakestream.adapters.daemon.api_client import LIST_MOST
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.disk.result_names import next_free, same_path
from wakestream.adapters.net import http_server
from wakestream.operators.model.engine import list_of
from wakestream.operators.model.errors import FileError, WrongInput
from wakestream.operators.model.events import MAX_PRIORITY, Job
from wakestream.streams.outbox.facts import Caller, FileStat, JobAccepted, Submitting
from wakestream.streams.outbox.state import Entry, handed_on
from wakestream.streams.placement.requirements import MAX_REQUIREMENTS, all_of
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.kinds import check_bounds, check_kind_name, drawn, is_declared_repeatable
from wakestream.streams.protocol.known_kinds import KnownKinds
from wakestream.streams.protocol.messages import MAX_ID
from wakestream.streams.protocol.structs import needed, read
from wakestream.streams.recording.event_json import OUTCOME_KINDS

T = TypeVar("T")

MAX_BODY: Final = 64 * 1024
MAX_PATH: Final = 4096
MAX_AFTER: Final = 64
MAX_BATCH: Final = 80

_BODY_WITHIN = 30.0
FROM_JOB: Final = "@"
"""The first character of an input that is a result of another job, such as `@ws-1:video`."""

FindResult = Callable[[str, str], tuple[str, str, bool]]
"""From a field and `JOB:NAME`, the job, the path of its result, and whether it is there; raises `WrongInput`."""

_LENGTH_MOST = 1e9
UNFINISHED: Final = ("open", "cancelling")
"""The states of a job that has not ended."""

STATES = ("open", "ended", "all", *OUTCOME_KINDS, "cancelling")


async def body_of(request: web.Request) -> bytes:
    """The body."""
    try:
        return await http_server.body_of(request, _BODY_WITHIN)
    except TimeoutError as error:
        raise ApiError(408, "timeout", str(error)) from None


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object; an empty body counts as an empty object."""
    try:
        return http_server.object_of(await body_of(request) or b"{}")
    except ValueError as error:
        raise bad_request(str(error)) from None


def hub_query(frame: Mapping[str, Any]) -> Query:
    """A question for the hub, from its frame (docs/protocol-api.md)."""
    try:
        query = wire.from_frame({**frame, "request_id": "-"})
    except wire.Malformed as error:
        raise bad_request(str(error)) from None
    if isinstance(query, Query):
        return query
    passed_on = ", ".join(sorted(known.TYPE for known in ANSWERS))
    raise bad_request(f"{str(frame['type'])[:40]!r} is not passed on; send one of {passed_on}")


Word = Annotated[
    str, Meta(pattern=rf"\A[!-~]{{1,{MAX_ID}}}\Z", description=f"one word of 1 to {MAX_ID} ASCII characters")
]
Priority = Annotated[
    int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description=f"a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
]
Seconds = Annotated[float, Meta(ge=0, le=_LENGTH_MOST, description="a number of seconds")]
Batch = Annotated[str, Meta(max_length=MAX_BATCH, description=f"a name of at most {MAX_BATCH} characters")]
Jobs = Annotated[tuple[str, ...], Meta(max_length=MAX_AFTER, description=f"a list of at most {MAX_AFTER} ids of jobs")]
Gpus = Annotated[tuple[str, ...], Meta(max_length=MAX_AFTER, description=f"a list of at most {MAX_AFTER} names")]
Requires = Annotated[
    tuple[str, ...], Meta(max_length=MAX_REQUIREMENTS, description=f"a list of at most {MAX_REQUIREMENTS} texts")
]
IfExists = Literal["fail", "number", "replace"]
"""Where the file of a result exists, the job is refused, the result gets the next number, or it replaces the file."""


class _Submission(Struct, kw_only=True):
    """The fields of every submitted job."""

    id: Word | None = None
    priority: Priority = 0
    video_s: Seconds = 0.0
    audio_s: Seconds = 0.0
    again: bool = False
    if_exists: IfExists = "number"
    unnamed: bool = False
    batch: Batch = ""
    family: Batch = ""
    sidecar: bool = False


class _PairSubmission(_Submission, kw_only=True):
    """A job of a video and an audio file."""

    video: Any = None
    audio: Any = None
    output: Any = None
    task_type: Word = "heygem_submit"


class _AnySubmission(_Submission, kw_only=True):
    """A job of any kind."""

    kind: Word
    inputs: dict[str, Any] = {}
    params: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    after: Jobs = ()
    gpus: Gpus = ()
    requires: Requires = ()
    wake_to_ask: Any = False


class Rerun(Struct):
    """What is other in a job that is done again."""

    id: Any = None
    params: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    if_exists: IfExists = "number"


_NONE: Final[Mapping[str, Entry]] = MappingProxyType({})
_COMMON, _OLD, _NEW = (frozenset(kind.__struct_fields__) for kind in (_Submission, _PairSubmission, _AnySubmission))
_OF_JOB: Final = ("inputs", "params", "outputs", "after", "gpus", "requires")
"""Fields that have the code `wrong_input` if they are wrong; others have `bad_request`."""


def fields(kind: type[T], body: Mapping[str, Any]) -> T:
    """The fields of a call. `ApiError` or `WrongInput` names the wrong one."""
    try:
        return read(kind, body)
    except WrongInput as error:
        if error.field in _OF_JOB:
            raise
        raise ApiError(400, "bad_request", str(error), field=error.field) from None


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A submitted job, before a look at its files.

    Attributes:
        job: The job.
        said: What was sent.
        seconds: The lengths of the files that are known.
        after: The jobs for whose end it waits.
        sources: The inputs that are results of other jobs, as in `JobAccepted`.
        pending: Those of them that are not there yet.
        version: The fingerprint of the kind.
        caller: The program that asked for it by the API for programs.
    """

    job: Job
    said: _Submission
    seconds: Mapping[str, float]
    after: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    version: str = ""
    caller: Caller | None = None

    @property
    def if_exists(self) -> IfExists:
        """What happens where the file of a result exists."""
        return self.said.if_exists

    def changed(self, **fields: Any) -> SubmittedJob:
        """The same with other fields of the job."""
        return replace(self, job=replace(self.job, **fields))


def no_results(name: str, result: str) -> tuple[str, str, bool]:
    """Find nothing, for callers that have no other jobs."""
    raise WrongInput(name, f"{name}: results of other jobs, such as {result[:80]!r}, cannot be used here; send a file")


def submitted_job(body: Mapping[str, Any], find: FindResult = no_results) -> SubmittedJob:
    """The fields of a submitted job. It resolves links in paths, so call it in a thread.

    `find` finds the results of other jobs that are inputs of this one.
    """
    if unknown := body.keys() - _OLD - _NEW:
        raise bad_request(f"there is no field {min(unknown)[:40]!r}; known: {', '.join(sorted(_OLD | _NEW))}")
    old, new = body.keys() & (_OLD - _COMMON), body.keys() & (_NEW - _COMMON)
    if old and new:
        raise bad_request(f'"{min(old)}" is a field of jobs without "kind"; leave one of the two out')
    if new:
        return _of_any_kind(fields(_AnySubmission, body), find)
    said = fields(_PairSubmission, body)
    paths = _paths({name: getattr(said, name) for name in ("video", "audio", "output")})
    return _submitted_job(said, Job.lipsync("", **paths, task_type=said.task_type))


def _of_any_kind(said: _AnySubmission, find: FindResult) -> SubmittedJob:
    check_kind_name(said.kind)
    results = {name: find(f"inputs.{name}", value[1:]) for name, value in said.inputs.items() if _is_result(value)}
    inputs = said.inputs | {name: path for name, (_, path, _) in results.items()}
    check_bounds(inputs, said.params, said.outputs)
    job = Job("", _paths(inputs, "inputs."), _paths(said.outputs, "outputs."), said.kind, said.params, gpus=said.gpus)
    try:
        job = replace(job, requires=all_of(said.requires))
    except ValueError as error:
        raise WrongInput("requires", str(error)) from None
    return replace(
        _submitted_job(said, job),
        after=tuple(
            dict.fromkeys([*(find("after", name)[0] for name in said.after), *(id_ for id_, *_ in results.values())])
        ),
        sources={name: ":".join([id_, *said.inputs[name].split(":", 1)[1:]]) for name, (id_, *_) in results.items()},
        pending=tuple(name for name, (*_, there) in results.items() if not there),
    )


def _submitted_job(said: _Submission, job: Job) -> SubmittedJob:
    for name, text in (("batch", said.batch), ("family", said.family)):
        if not text.isprintable():
            raise bad_request(f'"{name}" must be {needed(Batch)}, which can be printed')
    id_ = f"ws-{uuid.uuid4().hex[:16]}" if said.id is None else said.id
    job = replace(job, id=id_, again=said.again, unnamed=said.unnamed, overwrite=said.if_exists == "replace")
    return SubmittedJob(job, said, {"video": said.video_s, "audio": said.audio_s})


async def fitting(kinds: DaemonKinds, asked: SubmittedJob, jobs: Mapping[str, Entry] = _NONE) -> SubmittedJob:
    """Check a job as far as the kinds are known, before it is in the outbox. A pair of files may have any formats.

    `jobs` are those whose results it may have as inputs.

    Returns:
        The job, with what tells its work from that of an earlier version of its kind.

    Raises:
        UnknownKind: No GPU is known to have the kind, and without `wake_to_ask` none may be started to ask.
        WrongInput: Something does not fit; it names the field.
    """
    said = asked.said
    if not isinstance(said, _AnySubmission):
        return asked
    job = replace(asked.job, params=kinds.secrets.shown(asked.job.params))
    known, exts = await kinds.present(), {name: path.suffix.lower() for name, path in job.inputs.items()}
    job = replace(job, params=drawn(next(iter(known.named(job.kind, job.gpus)), None), job.params, job.id))
    check_lists(known, asked, jobs)
    gpus = known.check(job.kind, exts, job.params, job.outputs, gpus=job.gpus, wake_to_ask=said.wake_to_ask is True)
    kinds.shown(job.kind, job.params)
    version, repeatable = known.identity(job.kind, job.params, gpus)
    if asked.caller is not None:  # Replicate makes each prediction anew
        repeatable &= all(map(is_declared_repeatable, known.named(job.kind, gpus)))
    return replace(asked, version=version, job=replace(job, again=job.again or not repeatable, gpus=gpus))


def check_lists(kinds: KnownKinds, asked: SubmittedJob, jobs: Mapping[str, Entry]) -> None:
    """Raise `WrongInput` if a result of several files is to be an input that is one file, as far as that is known."""
    lists = {slot.name for kind in kinds.named(asked.job.kind) for slot in kind.inputs if slot.many}
    for name, source in asked.sources.items() if jobs and kinds.named(asked.job.kind) else ():
        job, _, result = source.partition(":")
        entry, result = jobs[job], result or next(iter(jobs[job].accepted.outputs))
        made = {slot.name for kind in kinds.named(entry.accepted.kind) for slot in kind.outputs if slot.many}
        if (result in made or len(handed_on(entry, result)) > 1) and not (name in lists or list_of(name, lists)):
            why = f"takes one file, and {result} of job {job} is a list; choose one, such as @{job}:{result}[0], or"
            raise WrongInput(f"inputs.{name}", f"inputs.{name} {why} make a job of each with --each FOLDER")


def given_again(
    a: JobAccepted,
    jobs: Container[str],
    params: Mapping[str, Any] = MappingProxyType({}),
    outputs: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The fields with which a job was submitted, but its id. Results of jobs that are not in `jobs` are plain files.

    These `params` and `outputs` replace those of the job.
    """
    results, after = {**a.outputs, **outputs}, [job for job in a.after if job in jobs]
    inputs = {name: file.path for name, file in a.inputs.items()}
    inputs |= {name: f"{FROM_JOB}{source}" for name, source in a.sources.items() if source.partition(":")[0] in jobs}
    shared: dict[str, Any] = {
        "priority": a.priority, "batch": a.batch, "again": a.again, "unnamed": a.unnamed and not outputs,
        "if_exists": "replace" if a.overwrite else "number", "family": a.family, "sidecar": a.sidecar,
    }  # fmt: skip
    if a.old_shape and not (a.after or a.gpus or a.requires or params) and len(results) == 1:
        lengths = {f"{name}_s": file.seconds for name, file in a.inputs.items()}
        return {**inputs, **lengths, "output": results["video"], "task_type": a.task_type, **shared}
    shared |= {"after": after} if after else {}
    given = {"kind": a.kind, "inputs": inputs, "params": {**a.params, **params}, "outputs": results}
    return {**given, "gpus": [*a.gpus], "requires": [*a.requires], **shared}


def another(entry: Entry, body: Mapping[str, Any], jobs: Container[str]) -> dict[str, Any]:
    """The fields of a new job that does the work of a known one again, changed by those of `body`."""
    other = fields(Rerun, body)
    given = given_again(entry.accepted, jobs, other.params, other.outputs)
    if entry.state == "done" and "kind" in given:
        given["wake_to_ask"] = True  # some GPU had the kind
    family = entry.accepted.family or entry.accepted.job
    return {**given, "id": other.id, "again": True, "if_exists": other.if_exists, "family": family}


def _is_result(given: Any) -> bool:
    return isinstance(given, str) and given.startswith(FROM_JOB)


def _paths(given: Mapping[str, Any], part: str = "") -> dict[str, Path]:
    return {name: _path(path, part + name) for name, path in given.items()}


def looked_at(asked: SubmittedJob, retry_of: str = "", taken: Container[str] | None = ()) -> Submitting:
    """The submission of these fields, after a check of its files. It reads the disk, so call it in a thread.

    Open jobs write to `taken`, as `path_key` names them. None: the job is known, and its results may be there.
    """
    job = asked.job
    try:
        for name, path in job.inputs.items():
            if name not in asked.pending:
                check_readable(path)
            check_named(path)
        for path in job.outputs.values():
            new = asked.if_exists == "fail" and taken is not None
            check_writable(path, keep=tuple(job.inputs.values()), new=new)
        if asked.if_exists == "number" and taken is not None:
            job = replace(job, outputs={name: next_free(path, taken) for name, path in job.outputs.items()})
        files = {
            name: FileStat(str(path), 0, 0) if name in asked.pending else _look(path, asked.seconds.get(name, 0.0))
            for name, path in job.inputs.items()
        }
    except FileError as error:
        raise ApiError(400, error.code, str(error)) from None
    except OSError as error:
        raise ApiError(400, "file_unusable", f"the files cannot be read: {error.strerror or error}") from None
    _check_apart(job.outputs)
    said = asked.said
    more = {name: getattr(asked, name) for name in ("after", "sources", "version", "caller")}
    more |= {"batch": said.batch.strip(), "family": said.family, "sidecar": said.sidecar}
    return Submitting(0, JobAccepted.of(job, files, said.priority, retry_of=retry_of, **more))


def _check_apart(outputs: Mapping[str, Path]) -> None:
    if (same := same_path(outputs)) is not None:
        why = f"outputs {same[0]} and {same[1]} have the same path {outputs[same[1]]}; give each its own"
        raise WrongInput(f"outputs.{same[1]}", why)


def _look(path: Path, seconds: float) -> FileStat:
    status = path.stat()
    return FileStat(str(path), status.st_size, status.st_mtime_ns, seconds)


def job_name(given: Any) -> str:
    """A job's id."""
    return fields(_Submission, {"id": given or ""}).id or ""


def _path(given: Any, name: str) -> Path:
    if not isinstance(given, str) or not 0 < len(given) <= MAX_PATH or "\0" in given:
        raise bad_request(f'"{name}" is missing or is not a path; send an absolute path')
    if not Path(given).is_absolute():
        raise bad_request(f'"{name}" must be an absolute path, since the daemon runs in another folder')
    folder, name = os.path.split(given.rstrip("/"))
    # Resolve links in the folder, so that one file has one path; keep the file's name, whose extension tells its kind.
    return Path(os.path.realpath(folder)) / name


def moved(body: Mapping[str, Any]) -> dict[str, Any]:
    """Where a job is to be moved, as `Outbox.move` takes it."""
    first = body.get("first", False)
    given = [name for name in ("before", "after") if name in body]
    if type(first) is not bool or len(given) + first != 1:
        raise bad_request(
            'send one of "before", the id of another job or null for the end, "after", the id of another job, '
            'or "first": true'
        )
    if first or body.get("before", "") is None:
        return {"first": first}
    return {given[0]: job_name(body[given[0]])}


def listed(query: Mapping[str, str]) -> tuple[tuple[str, ...], int, int]:
    """The filter for states, the limit and the number of skipped jobs of a query."""
    state, limit = query.get("state", "all"), query.get("limit", "100")
    if state not in STATES:
        raise bad_request(f'"state" must be one of {", ".join(STATES)}')
    most = whole_number(limit, 1, LIST_MOST)
    if most is None:
        raise bad_request(f'"limit" must be a whole number from 1 to {LIST_MOST}')
    skip = whole_number(query.get("skip", "0"))
    if skip is None:
        raise bad_request('"skip" must be a whole number from 0')
    groups = {"all": (*UNFINISHED, *OUTCOME_KINDS), "open": UNFINISHED, "ended": tuple(OUTCOME_KINDS)}
    return groups.get(state, (state,)), most, skip
