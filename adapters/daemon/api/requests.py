"""Checks what callers of the local API send. Each refusal says what to send instead."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError, bad_request
from wakestream.adapters.daemon.api_client import LIST_MOST
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.net import json_body
from wakestream.operators.model.errors import FileError
from wakestream.streams.outbox.facts import FileStat, Submitting
from wakestream.streams.protocol.wire import MAX_ID
from wakestream.streams.recording.event_json import OUTCOME_KINDS

MAX_BODY: Final = 64 * 1024
MAX_PRIORITY: Final = 100
MAX_PATH: Final = 4096

_BODY_WITHIN = 30.0
FIELDS = frozenset({"video", "audio", "output", "task_type", "priority", "id", "video_s", "audio_s"})
"""The fields of a submitted job."""

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


def fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a submitted job, by name. It resolves links in paths, so call it in a thread."""
    unknown = body.keys() - FIELDS
    if unknown:
        raise bad_request(f"there is no field {min(unknown)[:40]!r}; known: {', '.join(sorted(FIELDS))}")
    return {
        "job": f"ws-{uuid.uuid4().hex[:16]}" if body.get("id") is None else job_name(body["id"]),
        **{name: _path(body, name) for name in ("video", "audio", "output")},
        "task_type": _word(body.get("task_type", "heygem_submit"), "task_type"),
        "priority": _priority(body.get("priority", 0)),
        **{name: _seconds(body.get(name, 0), name) for name in ("video_s", "audio_s")},
    }


def looked_at(asked: Mapping[str, Any], retry_of: str = "") -> Submitting:
    """The submission of these fields, after a check of its files. It reads the disk, so call it in a thread."""
    inputs = asked["video"], asked["audio"]
    try:
        for path in inputs:
            check_readable(path)
            check_named(path)
        check_writable(asked["output"], keep=inputs)
        video, audio = (_look(asked[name], asked[f"{name}_s"]) for name in ("video", "audio"))
    except FileError as error:
        raise ApiError(400, error.code, str(error)) from None
    except OSError as error:
        raise ApiError(400, "file_unusable", f"the files cannot be read: {error.strerror or error}") from None
    output = str(asked["output"])
    return Submitting(0, asked["job"], video, audio, output, asked["task_type"], asked["priority"], retry_of)


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


def _path(body: Mapping[str, Any], name: str) -> Path:
    given = body.get(name)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_PATH or "\0" in given:
        raise bad_request(f'"{name}" is missing or is not a path; send an absolute path')
    if not Path(given).is_absolute():
        raise bad_request(f'"{name}" must be an absolute path, since the daemon runs in another folder')
    folder, name = os.path.split(given.rstrip("/"))
    # Resolve links in the folder, so that one file has one path; keep the file's name, whose extension tells its kind.
    return Path(os.path.realpath(folder)) / name


def _priority(given: Any) -> int:
    if type(given) is not int or abs(given) > MAX_PRIORITY:
        raise bad_request(f'"priority" must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}')
    return given


def _seconds(given: Any, name: str) -> float:
    if type(given) not in (int, float) or not 0 <= given <= _LENGTH_MOST:
        raise bad_request(f'"{name}" must be a number of seconds')
    return float(given)


def listed(query: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The filter for states and the limit of a query."""
    state, limit = query.get("state", "all"), query.get("limit", "100")
    if state not in STATES:
        raise bad_request(f'"state" must be one of {", ".join(STATES)}')
    most = whole_number(limit, 1, LIST_MOST)
    if most is None:
        raise bad_request(f'"limit" must be a whole number from 1 to {LIST_MOST}')
    groups = {"all": (*UNFINISHED, *OUTCOME_KINDS), "open": UNFINISHED, "ended": tuple(OUTCOME_KINDS)}
    return groups.get(state, (state,)), most
