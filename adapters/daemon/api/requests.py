"""What callers of the local API send, checked: each refusal says what to send instead."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.operators.model.errors import FileError
from wakestream.streams.outbox.facts import FileStat
from wakestream.streams.protocol.wire import MAX_ID
from wakestream.streams.recording.event_json import OUTCOME_KINDS

MAX_BODY: Final = 64 * 1024
MAX_PRIORITY: Final = 100
MAX_PATH: Final = 4096
LIST_MOST: Final = 1000

_BODY_WITHIN = 30.0
_FIELDS = frozenset({"video", "audio", "output", "task_type", "priority", "id", "video_s", "audio_s"})
_LENGTH_MOST = 1e9
STATES = ("open", "ended", "all", *OUTCOME_KINDS, "cancelling")


@dataclass(frozen=True, slots=True)
class Wish:
    """A submitted job after its checks: its files exist and its output can be written."""

    job: str
    video: FileStat
    audio: FileStat
    output: str
    task_type: str
    priority: int


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object; nothing at all counts as an empty one."""
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            raw = await request.read()
        body = orjson.loads(raw) if raw else {}
    except TimeoutError:
        raise ApiError(408, "timeout", f"the body did not come within {_BODY_WITHIN:g} s; send it again") from None
    except orjson.JSONDecodeError:
        raise ApiError(400, "bad_request", "the body of this call is a JSON object in UTF-8") from None
    if not isinstance(body, dict):
        raise ApiError(400, "bad_request", "the body of this call is a JSON object")
    return body


def fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job to be, by name; the files are not looked at yet, but the folders are: for a thread."""
    unknown = body.keys() - _FIELDS
    if unknown:
        raise ApiError(
            400, "bad_request", f"there is no field {min(unknown)[:40]!r}; known: {', '.join(sorted(_FIELDS))}"
        )
    return {
        "job": _job_id(body.get("id")),
        **{name: _path(body, name) for name in ("video", "audio", "output")},
        "task_type": _word(body.get("task_type", "heygem_submit"), "task_type"),
        "priority": _priority(body.get("priority", 0)),
        **{name: _seconds(body.get(name, 0), name) for name in ("video_s", "audio_s")},
    }


def looked_at(
    job: str,
    video: Path,
    audio: Path,
    output: Path,
    task_type: str,
    priority: int,
    video_s: float = 0.0,
    audio_s: float = 0.0,
) -> Wish:
    """The wish of these fields, its files looked at. Touches the disk: for a thread."""
    try:
        for path in (video, audio):
            check_readable(path)
            check_named(path)
        check_writable(output, keep=(video, audio))
        looks = _look(video, video_s), _look(audio, audio_s)
    except FileError as error:
        raise ApiError(400, error.code, str(error)) from None
    except OSError as error:
        raise ApiError(400, "file_unusable", f"the files cannot be looked at: {error.strerror or error}") from None
    return Wish(job, *looks, str(output), task_type, priority)


def _look(path: Path, seconds: float) -> FileStat:
    status = path.stat()
    return FileStat(str(path), status.st_size, status.st_mtime_ns, seconds)


def job_name(text: str) -> str:
    """A job's id, as it stands in an address."""
    return _word(text, "id")


def _job_id(given: Any) -> str:
    return f"ws-{uuid.uuid4().hex[:16]}" if given is None else _word(given, "id")


def _word(given: Any, name: str) -> str:
    usable = isinstance(given, str) and 0 < len(given) <= MAX_ID and given.isprintable() and " " not in given
    if not usable or not given.isascii():
        raise ApiError(400, "bad_request", f'"{name}" is one word of 1 to {MAX_ID} ASCII characters')
    return str(given)


def _path(body: Mapping[str, Any], name: str) -> Path:
    given = body.get(name)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_PATH or "\0" in given:
        raise ApiError(400, "bad_request", f'"{name}" is missing or is no path; send an absolute path')
    if not Path(given).is_absolute():
        raise ApiError(400, "bad_request", f'"{name}" must be an absolute path, as the daemon runs in another folder')
    folder, name = os.path.split(given.rstrip("/"))
    # One name for one place, whatever links lead there; the file's own name tells its kind, so it stays.
    return Path(os.path.realpath(folder)) / name


def _priority(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or abs(given) > MAX_PRIORITY:
        raise ApiError(400, "bad_request", f'"priority" is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}')
    return given


def _seconds(given: Any, name: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= _LENGTH_MOST:
        raise ApiError(400, "bad_request", f'"{name}" is a number of seconds')
    return float(given)


def listed(query: Mapping[str, str]) -> tuple[Callable[[str], bool], int]:
    """Which states are asked for, and how many jobs at most."""
    state, limit = query.get("state", "all"), query.get("limit", "100")
    if state not in STATES:
        raise ApiError(400, "bad_request", f'"state" is one of {", ".join(STATES)}')
    most = whole_number(limit, 1, LIST_MOST)
    if most is None:
        raise ApiError(400, "bad_request", f'"limit" is a whole number from 1 to {LIST_MOST}')
    unfinished = ("open", "cancelling")
    wanted: dict[str, Callable[[str], bool]] = {
        "all": lambda _: True, "open": lambda one: one in unfinished, "ended": lambda one: one not in unfinished,
    }  # fmt: skip
    return wanted.get(state, lambda one: one == state), int(limit)
