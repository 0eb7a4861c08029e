"""Read and check requests: JSON bodies, files by their hash, ids of tasks and jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from wakestream.adapters.net import http_server
from wakestream.adapters.worker.http.replies import bad_request
from wakestream.operators.model.errors import WorkerRefused, WrongInput
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol.kinds import check_bounds
from wakestream.streams.protocol.structs import read
from wakestream.streams.worker.state import TaskSpec
from wakestream.streams.worker.state import pair as plain_pair

MAX_BODY = 1024 * 1024
"""The most bytes of a JSON body."""

MAX_ID = 200
"""The most characters of a job's id."""

SILENCE = 60.0
"""Seconds without a byte after which a request fails."""

_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_EXT = re.compile(r"\.[a-z0-9]{1,10}")
_MAX_FILES = 1000

Pair = tuple[FileRef, FileRef]
"""The inputs of a task, in the order of `USUAL`."""

USUAL = {"video": ".mp4", "audio": ".wav"}
"""The inputs of a task, with the endings that they have if a submit names none."""


def silent() -> WorkerRefused:
    """The error for a sender that has sent nothing for too long."""
    return WorkerRefused(f"no bytes came for {SILENCE:g} s: send the request again", code="timeout")


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object."""
    try:
        return http_server.object_of(await http_server.body_of(request, SILENCE))
    except TimeoutError:
        raise silent() from None
    except ValueError as error:
        raise bad_request(str(error)) from None


def file_hash(value: object, name: str = "hash") -> str:
    """A file's hash in lower case: MD5 (32 hex digits) or BLAKE3 (64)."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if not is_hash(text):
        raise bad_request(f'"{name}" must be 32 hex digits (MD5) or 64 (BLAKE3)')
    return text


def blake3(value: object, name: str) -> str:
    """A BLAKE3 in lower case: 64 hex digits."""
    text = file_hash(value, name)
    if len(text) != 64:
        raise bad_request(f'"{name}" must be 64 hex digits')
    return text


def said_hash(value: object) -> str:
    """The hash as the client sent it: an old client may send any text."""
    if not isinstance(value, str) or not value.strip():
        raise bad_request('"hash" is missing: send the MD5 of the file')
    return value


def is_hash(text: str) -> bool:
    """Whether the text has the form of a hash."""
    return _HASH.fullmatch(text.strip().lower()) is not None


def file_ext(value: object, name: str = "ext") -> str:
    """A file's extension with its dot, in lower case."""
    text = value.strip().lower() if isinstance(value, str) else ""
    text = text if text.startswith(".") else f".{text}"
    if not _EXT.fullmatch(text):
        raise bad_request(f'"{name}" must be a dot and 1 to 10 letters or digits, such as ".mp4"')
    return text


def file(body: dict[str, Any]) -> FileRef:
    """The file of a call."""
    return FileRef(file_hash(body.get("hash")), file_ext(body.get("ext")))


def proof(body: dict[str, Any]) -> str | None:
    """The proof in a call: 64 hex digits."""
    said = body.get("proof")
    return None if said is None else blake3(said, "proof")


class _OfAnyKind(Struct):
    """A submit of a job of any kind."""

    kind: Annotated[str, Meta(min_length=1, description='the name of a kind, such as "lipsync"')]
    outputs: Annotated[tuple[str, ...], Meta(description="a list of names")]
    inputs: Annotated[dict[str, dict[str, Any]], Meta(description='an object: {name: {"hash", "ext"}}')] = {}
    params: dict[str, Any] = {}


def task_spec(body: dict[str, Any]) -> TaskSpec:
    """What a submit asks for: that of deployed clients, or of any kind."""
    if "inputs" not in body and "kind" not in body:
        return plain_pair(*pair(body))
    said = read(_OfAnyKind, body)
    check_bounds(said.inputs, said.params, said.outputs)
    inputs = {name: _task_file(name, given) for name, given in said.inputs.items()}
    return TaskSpec(inputs, said.kind, said.params, tuple(dict.fromkeys(said.outputs)))


def _task_file(name: str, body: dict[str, Any]) -> FileRef:
    try:
        return file(body)
    except WorkerRefused as error:
        raise WrongInput(f"inputs.{name}", f"input {name}: {error}") from None


def pair(body: dict[str, Any]) -> tuple[FileRef, FileRef]:
    """The video and the audio of a submit, with default endings."""
    video, audio = (_input(body, name, usual) for name, usual in USUAL.items())
    return video, audio


def _input(body: dict[str, Any], name: str, usual: str) -> FileRef:
    digest, ext = body.get(f"{name}_hash"), body.get(f"{name}_ext") or usual
    return FileRef(file_hash(digest, f"{name}_hash"), file_ext(ext, f"{name}_ext"))


def wanted(body: dict[str, Any]) -> list[tuple[str, FileRef | None]]:
    """The files of a check, by their hashes as sent; None for text that is not a hash."""
    files = body.get("files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise bad_request('"files" must be a list of {"hash", "ext"}')
    if len(files) > _MAX_FILES:
        raise bad_request(f"ask for at most {_MAX_FILES} files at once")
    return [_wanted(file) for file in files]


def _wanted(file: dict[str, Any]) -> tuple[str, FileRef | None]:
    name = said_hash(file.get("hash"))
    ext = file_ext(file.get("ext"))
    return name, FileRef(file_hash(name), ext) if is_hash(name) else None


def known_task(value: object) -> str:
    """The id of a task, or of a job that wants it."""
    if not isinstance(value, str) or not value:
        raise bad_request('"task_id" is missing: send the one that submit returned')
    return value


def holder(body: dict[str, Any]) -> str:
    """The job of a call; empty if the call has none."""
    job = body.get("job_id")
    if job is None:
        return ""
    if not isinstance(job, str) or not 0 < len(job) <= MAX_ID:
        raise bad_request(f'"job_id" must be a string of 1 to {MAX_ID} characters')
    return job
