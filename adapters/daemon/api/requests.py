"""Checks what callers of the local API send. Each refusal says what to send instead."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError, bad_request
from wakestream.adapters.daemon.api_client import LIST_MOST
from wakestream.adapters.daemon.kinds import DaemonKinds
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.disk.result_names import next_free, same_path
from wakestream.adapters.net import json_body
from wakestream.operators.model.errors import FileError, WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.outbox.facts import FileStat, JobAccepted, Submitting
from wakestream.streams.outbox.state import Entry
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.kinds import check_bounds, check_kind_name
from wakestream.streams.protocol.wire import MAX_ID
from wakestream.streams.recording.event_json import OUTCOME_KINDS

MAX_BODY: Final = 64 * 1024
MAX_PRIORITY: Final = 100
MAX_PATH: Final = 4096
MAX_AFTER: Final = 64
MAX_BATCH: Final = 80

_BODY_WITHIN = 30.0
FIELDS = frozenset({
    "video", "audio", "output", "task_type", "priority", "id", "video_s", "audio_s", "again", "if_exists", "unnamed",
    "batch",
})  # fmt: skip
"""The fields of a submitted job of a video and an audio file."""

ANY_KIND: Final = frozenset({"kind", "inputs", "params", "outputs", "after", "gpus", "wake_to_ask"})
"""The fields of a submitted job of any kind, beside `priority` and `id`."""

IF_EXISTS: Final = ("fail", "number", "replace")
"""Where the file of a result exists, the job is refused, the result gets the next number, or it replaces the file."""

FROM_JOB: Final = "@"
"""The first character of an input that is a result of another job, such as `@ws-1:video`."""

FindResult = Callable[[str, str], tuple[str, str, bool]]
"""From a field and `JOB:NAME`, the job, the path of its result, and whether it is there; raises `WrongInput`."""

_LENGTH_MOST = 1e9
UNFINISHED: Final = ("open", "cancelling")
"""The states of a job that has not ended."""

STATES = ("open", "ended", "all", *OUTCOME_KINDS, "cancelling")


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object; an empty body counts as an empty object."""
    try:
        return await json_body.json_object(request, _BODY_WITHIN, empty=b"{}")
    except TimeoutError as error:
        raise ApiError(408, "timeout", str(error)) from None
    except ValueError as error:
        raise bad_request(str(error)) from None


def hub_query(frame: Mapping[str, Any]) -> m.HubStatusQuery | m.StatusQuery | m.GpuAdmin:
    """A question for the hub, from its frame (docs/protocol-api.md)."""
    try:
        query = wire.from_frame({**frame, "request_id": "-"})
    except wire.Malformed as error:
        raise bad_request(str(error)) from None
    if isinstance(query, m.HubStatusQuery | m.StatusQuery | m.GpuAdmin):
        return query
    raise bad_request(
        f"{str(frame['type'])[:40]!r} is not passed on; send hub.status.query, gpu.status.query or gpu.admin"
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A submitted job, before a look at its files. `seconds` are the lengths of the files that are known.

    `any_kind`: it was not submitted as a pair of a video and an audio file. It waits for the jobs `after`. Of
    `sources`, the inputs that are results of other jobs, `pending` are not there yet. `wake_to_ask`: a GPU may be
    started to ask whether it has the kind. `version` and `again` are those of `JobAccepted`. `gpus` are the GPUs that
    may do it; any, if it is empty. `batch`: a name that it has in common with the jobs started together with it.
    """

    job: str
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    kind: str
    params: dict[str, Any]
    task_type: str
    priority: int
    seconds: dict[str, float]
    after: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    any_kind: bool = False
    wake_to_ask: bool = False
    version: str = ""
    again: bool = False
    gpus: tuple[str, ...] = ()
    if_exists: str = "number"
    unnamed: bool = False
    batch: str = ""


def no_results(name: str, result: str) -> tuple[str, str, bool]:
    """Find nothing, for callers that have no other jobs."""
    raise WrongInput(name, f"{name}: results of other jobs, such as {result[:80]!r}, cannot be used here; send a file")


def wanted(body: Mapping[str, Any], find: FindResult = no_results) -> Wanted:
    """The fields of a submitted job. It resolves links in paths, so call it in a thread.

    `find` finds the results of other jobs that are inputs of this one.
    """
    unknown = body.keys() - FIELDS - ANY_KIND
    if unknown:
        raise bad_request(f"there is no field {min(unknown)[:40]!r}; known: {', '.join(sorted(FIELDS | ANY_KIND))}")
    old = body.keys() & {"video", "audio", "output", "task_type"}
    if old and body.keys() & ANY_KIND:
        raise bad_request(f'"{min(old)}" is a field of jobs without "kind"; leave one of the two out')
    after: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    sources: dict[str, str] = {}
    if not body.keys() & ANY_KIND:
        inputs = {name: _path(body, name) for name in ("video", "audio")}
        outputs, params = {"video": _path(body, "output")}, {}
        kind = LIPSYNC
    else:
        kind = _word(body.get("kind"), "kind")
        check_kind_name(kind)
        given = table(body, "inputs")
        found = {name: find(f"inputs.{name}", each[1:]) for name, each in given.items() if _is_result(each)}
        sources = {name: ":".join([job, *given[name].split(":", 1)[1:]]) for name, (job, *_) in found.items()}
        pending = tuple(name for name, (*_, there) in found.items() if not there)
        after = tuple(dict.fromkeys([*_after(body, find), *(job for job, *_ in found.values())]))
        inputs = _paths({"inputs": given | {name: path for name, (_, path, _) in found.items()}}, "inputs")
        outputs = _paths(body, "outputs")
        params = table(body, "params")
        check_bounds(inputs, params, outputs)
    return Wanted(
        f"ws-{uuid.uuid4().hex[:16]}" if body.get("id") is None else job_name(body["id"]),
        inputs, outputs, kind, params, _word(body.get("task_type", "heygem_submit"), "task_type"),
        _priority(body.get("priority", 0)),
        {name: _seconds(body.get(f"{name}_s", 0), f"{name}_s") for name in inputs if f"{name}_s" in FIELDS},
        after, sources, pending, bool(body.keys() & ANY_KIND), body.get("wake_to_ask") is True,
        again=_switch(body, "again"), gpus=_names(body, "gpus"), if_exists=_if_exists(body),
        unnamed=_switch(body, "unnamed"), batch=_batch(body),
    )  # fmt: skip


async def fitting(kinds: DaemonKinds, asked: Wanted) -> Wanted:
    """Check a job as far as the kinds are known, before it is in the outbox. A pair of files may have any formats.

    Returns:
        The job, with what tells its work from that of an earlier version of its kind.

    Raises:
        UnknownKind: No GPU is known to have the kind, and without `wake_to_ask` none may be started to ask.
        WrongInput: Something does not fit; it names the field.
    """
    if not asked.any_kind:
        return asked
    asked = replace(asked, params=kinds.secrets.shown(asked.params))
    known, exts = await kinds.present(), {name: path.suffix.lower() for name, path in asked.inputs.items()}
    what = asked.kind, exts, asked.params, asked.outputs
    gpus = known.check(*what, gpus=asked.gpus, wake_to_ask=asked.wake_to_ask)
    kinds.shown(asked.kind, asked.params)
    version, repeatable = known.identity(asked.kind, asked.params, gpus)
    return replace(asked, version=version, again=asked.again or not repeatable, gpus=gpus)


def given_again(
    a: JobAccepted,
    jobs: Container[str],
    params: Mapping[str, Any] = MappingProxyType({}),
    outputs: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The fields with which a job was submitted, but its id. Results of jobs that are not in `jobs` are plain files.

    These `params` and `outputs` replace those of the job.
    """
    again: dict[str, Any] = {
        "again": a.again,
        "unnamed": a.unnamed and not outputs,
        "if_exists": "replace" if a.overwrite else "number",
    }
    results = {**a.results, **outputs}
    if a.is_pair and not (a.after or a.gpus or params) and len(results) == 1:
        pair = {name: getattr(a, name) for name in FIELDS - {"id", "if_exists"}}
        return {**pair, "output": results["video"], **again}
    sources = {name: source for name, source in a.sources.items() if source.partition(":")[0] in jobs}
    inputs = {name: file.path for name, file in a.files.items()}
    inputs |= {name: f"{FROM_JOB}{source}" for name, source in sources.items()}
    given: dict[str, Any] = {"kind": a.kind, "inputs": inputs, "params": {**a.params, **params}, "outputs": results}
    given |= {"priority": a.priority, **({"gpus": [*a.gpus]} if a.gpus else {})}
    given |= {"batch": a.batch} if a.batch else {}
    after = [job for job in a.after if job in jobs]
    return {**given, **again, **({"after": after} if after else {})}


def another(entry: Entry, body: Mapping[str, Any], jobs: Container[str]) -> dict[str, Any]:
    """The fields of a new job that does the work of a known one again, changed by those of `body`."""
    given = given_again(entry.accepted, jobs, table(body, "params"), table(body, "outputs"))
    if entry.state == "done" and "kind" in given:
        given["wake_to_ask"] = True  # some GPU had the kind
    return {**given, "id": body.get("id"), "again": True, "if_exists": _if_exists(body)}


def _is_result(given: Any) -> bool:
    return isinstance(given, str) and given.startswith(FROM_JOB)


def _names(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = body.get(name, [])
    listed = isinstance(given, list | tuple) and all(isinstance(each, str) for each in given)
    if not listed or len(given) > MAX_AFTER:
        raise WrongInput(name, f'"{name}" must be a list of at most {MAX_AFTER} names')
    return tuple(given)


def _after(body: Mapping[str, Any], find: FindResult) -> list[str]:
    given = body.get("after", [])
    if not isinstance(given, list) or not all(isinstance(job, str) for job in given) or len(given) > MAX_AFTER:
        raise WrongInput("after", f'"after" must be a list of at most {MAX_AFTER} ids of jobs')
    return [find("after", job)[0] for job in given]


def table(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object in the field `name`; empty if it is missing."""
    given = body.get(name, {})
    if not isinstance(given, dict):
        raise WrongInput(name, f'"{name}" must be an object')
    return given


def _switch(body: Mapping[str, Any], name: str) -> bool:
    given = body.get(name, False)
    if type(given) is not bool:
        raise bad_request(f'"{name}" must be true or false')
    return given


def _if_exists(body: Mapping[str, Any]) -> str:
    given = body.get("if_exists", "number")
    if given not in IF_EXISTS:
        raise bad_request(f'"if_exists" must be one of {", ".join(IF_EXISTS)}')
    return str(given)


def _batch(body: Mapping[str, Any]) -> str:
    given = body.get("batch", "")
    if not isinstance(given, str) or len(given) > MAX_BATCH or not given.isprintable():
        raise bad_request(f'"batch" must be a name of at most {MAX_BATCH} characters')
    return given.strip()


def _paths(body: Mapping[str, Any], name: str) -> dict[str, Path]:
    given = table(body, name)
    return {each: _path(given, each, f"{name}.") for each in given}


def looked_at(asked: Wanted, retry_of: str = "", taken: Container[str] | None = ()) -> Submitting:
    """The submission of these fields, after a check of its files. It reads the disk, so call it in a thread.

    Open jobs write to `taken`, as `path_key` names them. None: the job is known, and its results may be there.
    """
    inputs = tuple(asked.inputs.values())
    try:
        for name, path in asked.inputs.items():
            if name not in asked.pending:
                check_readable(path)
            check_named(path)
        for path in asked.outputs.values():
            check_writable(path, keep=inputs, new=asked.if_exists == "fail" and taken is not None)
        if asked.if_exists == "number" and taken is not None:
            asked = replace(asked, outputs={name: next_free(path, taken) for name, path in asked.outputs.items()})
        files = {
            name: FileStat(str(path), 0, 0) if name in asked.pending else _look(path, asked.seconds.get(name, 0.0))
            for name, path in asked.inputs.items()
        }
    except FileError as error:
        raise ApiError(400, error.code, str(error)) from None
    except OSError as error:
        raise ApiError(400, "file_unusable", f"the files cannot be read: {error.strerror or error}") from None
    _check_apart(asked.outputs)
    outputs = {name: str(path) for name, path in asked.outputs.items()}
    return Submitting(
        0, asked.job, files, outputs, asked.kind, asked.params, asked.task_type, asked.priority, retry_of,
        asked.after, asked.sources, asked.version, asked.again, asked.gpus, asked.if_exists == "replace",
        asked.unnamed, asked.batch,
    )  # fmt: skip


def _check_apart(outputs: Mapping[str, Path]) -> None:
    if (same := same_path(outputs)) is not None:
        why = f"outputs {same[0]} and {same[1]} have the same path {outputs[same[1]]}; give each its own"
        raise WrongInput(f"outputs.{same[1]}", why)


def _look(path: Path, seconds: float) -> FileStat:
    status = path.stat()
    return FileStat(str(path), status.st_size, status.st_mtime_ns, seconds)


def job_name(given: Any) -> str:
    """A job's id."""
    return _word(given, "id")


def _word(given: Any, name: str) -> str:
    usable = isinstance(given, str) and 0 < len(given) <= MAX_ID and given.isprintable() and " " not in given
    if not usable or not given.isascii():
        raise bad_request(f'"{name}" must be one word of 1 to {MAX_ID} ASCII characters')
    return str(given)


def _path(body: Mapping[str, Any], name: str, part: str = "") -> Path:
    given = body.get(name)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_PATH or "\0" in given:
        raise bad_request(f'"{part}{name}" is missing or is not a path; send an absolute path')
    if not Path(given).is_absolute():
        raise bad_request(f'"{part}{name}" must be an absolute path, since the daemon runs in another folder')
    folder, name = os.path.split(given.rstrip("/"))
    # Resolve links in the folder, so that one file has one path; keep the file's name, whose extension tells its kind.
    return Path(os.path.realpath(folder)) / name


def _priority(given: Any) -> int:
    if type(given) is not int or abs(given) > MAX_PRIORITY:
        raise bad_request(f'"priority" must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}')
    return given


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


def _seconds(given: Any, name: str) -> float:
    if type(given) not in (int, float) or not 0 <= given <= _LENGTH_MOST:
        raise bad_request(f'"{name}" must be a number of seconds')
    return float(given)


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
