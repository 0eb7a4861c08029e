"""Parses the replies of workers, old and new. Errors show the invalid part."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import aiohttp
import orjson
from aiohttp import ClientResponse
from msgspec import ValidationError, convert

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.operators.model.engine import Preview
from wakestream.operators.model.errors import (
    Corrupt,
    TaskLost,
    WakestreamError,
    WorkerError,
    WorkerFull,
    WorkerRefused,
    WorkerUnreachable,
)
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Health, Output, TaskReceipt, TaskReport

# Turns errors of aiohttp into `WorkerError`.

SHOWN = 200
"""Characters of a peer's text that an error shows."""


@contextmanager
def worker_errors(url: str) -> Iterator[None]:
    """Wraps a call of the worker at `url`."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        said = (
            f"the connection to the worker at {url} broke: {shortened(str(error)) or type(error).__name__}{hint(url)}"
        )
        fault: WakestreamError = WorkerUnreachable(said)
        match error:
            case aiohttp.InvalidURL():
                fault = WorkerRefused(f"{url} is not an HTTP address; correct HEYGEM_SERVER_URL", code="bad_url")
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
                fault = WorkerRefused(f"no secure connection to {url}: {explained(error) or error}", code="tls")
            case aiohttp.ClientConnectorError():
                fault = WorkerUnreachable(f"no connection to {url}: {no_connection(error.os_error)}")
            case aiohttp.ClientResponseError():
                fault = WorkerRefused(f"{url} is not an HTTP server: {shortened(error.message)}", code="bad_reply")
            case TimeoutError():
                fault = WorkerUnreachable(f"the worker at {url} stopped answering during a call")
        raise fault from error


def hint(url: str) -> str:
    """For an http address: a TLS port closes such a connection and gives no reason."""
    return "; if it needs TLS, write https://" if url.startswith("http:") else ""


def shortened(text: str) -> str:
    """A peer's text on one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


MAX_REPLY = 4 * 1024 * 1024
"""Bytes of a JSON reply that are read at most."""

_WORDS = {400: "bad_request", 401: "unauthorized", 403: "unauthorized", 404: "not_found", 507: "no_space"}
_GATEWAY = (502, 503, 504, *range(520, 531))
"""Statuses of proxies that do not reach the server; those from 520 on are Cloudflare's."""

_PASSING = ("expired", "not_yet", "not_ready", "too_many", "timeout", "locked")
"""Refusals of our workers that may pass; the call is tried again."""


async def body(response: ClientResponse) -> bytes:
    """The body of a reply. Raises `WorkerRefused` when it is longer than `MAX_REPLY`."""
    received = bytearray()
    async for chunk in response.content.iter_any():
        received += chunk
        if len(received) > MAX_REPLY:
            raise WorkerRefused(
                f"the worker's reply has more than {MAX_REPLY} bytes; is this a worker?", code="bad_reply"
            )
    return bytes(received)


def accepted(status: int, raw: bytes) -> dict[str, Any]:
    """A reply with `code` 0. Raises `WorkerError` with the worker's message for any other."""
    reply = parsed(raw)
    code = reply.get("code") if reply is not None else None
    if reply is None or status >= 300 or code != 0 or isinstance(code, bool):
        raise failure(status, raw)
    return reply


def parsed(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in `raw`, or None."""
    try:
        reply = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return reply if isinstance(reply, dict) else None


def not_json(status: int, raw: bytes) -> WorkerError:
    """The error for an answer that is not from a worker."""
    if status in _GATEWAY:
        return WorkerUnreachable(
            f"a gateway answered for the worker with HTTP {status}: the worker behind it does not run"
        )
    if status in (401, 403):
        return _unauthorized()
    text = shortened(raw[:1000].decode(errors="replace")) or "nothing"
    why = f"not a worker: it answered HTTP {status} with {text!r}; correct HEYGEM_SERVER_URL"
    return WorkerRefused(why, code=f"http_{status}" if status >= 300 else "bad_reply")


def failure(status: int, raw: bytes) -> WorkerError:
    """The error for a reply that is not the expected one: a refusal of the worker, or an answer of something else."""
    reply = parsed(raw)
    return not_json(status, raw) if reply is None else _refusal(status, reply)


def _refusal(status: int, reply: Mapping[str, Any]) -> WorkerError:
    code = reply.get("code")
    number = code if type(code) is int and status < 300 else status
    said = reply.get("msg") or reply.get("message") or "without a reason"
    word = reply.get("error")
    if word in _PASSING:
        return WorkerUnreachable(f"the worker refuses the call for the moment: {shortened(str(said))}")
    if word == "corrupt":
        return Corrupt(f"the worker received other bytes than were sent: {shortened(str(said))}")
    if number in (401, 403) and word != "forbidden":
        return _unauthorized()
    known = word if isinstance(word, str) and 0 < len(word) <= 40 else _WORDS.get(number, f"http_{number}")
    kind = WorkerFull if known in ("no_space", "queue_full") else WorkerRefused
    return kind(f"the worker refused ({number}): {shortened(str(said))}", code=known)


def _unauthorized() -> WorkerRefused:
    return WorkerRefused(
        "the worker does not accept our secret (401); set HEYGEM_API_SECRET to the one that the worker runs with",
        code="unauthorized",
    )


def no_result(status: int, raw: bytes) -> WorkerError:
    """The error for a reply to `download` that is no file."""
    if status == 416:
        return Corrupt("the worker no longer has the partly downloaded result; the download starts again")
    return failure(status, raw)


def continued(headers: Mapping[str, str], etag: str | None, have: int) -> int:
    """The complete length, if `headers` belong to the rest of `etag` from byte `have` on. Raises `Corrupt`."""
    content_range = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", content_range.strip())
    if match is None or int(match[1]) != have or headers.get("ETag", etag) != etag:
        raise Corrupt(f"asked to continue at byte {have}, the worker sent {shortened(content_range)!r}")
    return int(match[2])


def nothing_left(status: int, headers: Mapping[str, str], etag: str, have: int) -> bool:
    """Whether the answer says that `etag` has no more than the `have` bytes."""
    return status == 416 and headers.get("ETag") == etag and headers.get("Content-Range") == f"bytes */{have}"


@contextmanager
def task_known() -> Iterator[None]:
    """Wraps calls about a task: one that is not there, or has no result any more, becomes `TaskLost`."""
    try:
        yield
    except WorkerRefused as error:
        if error.code not in ("not_found", "not_done"):
            raise
        raise TaskLost(f"{error}; the job is submitted again") from error


def wrong(reply: object, wanted: str) -> NoReturn:
    """Raise `WorkerRefused`: the reply is JSON but lacks what this call returns."""
    shown = shortened(orjson.dumps(reply, default=str).decode())
    raise WorkerRefused(f"the worker's reply lacks {wanted}: {shown}", code="bad_reply")


def health(status: int, raw: bytes) -> Health:
    """The answer to a health call: `initialized` is at its top and counts with any status."""
    reply = parsed(raw)
    if reply is None:
        raise not_json(status, raw)
    initialized = reply.get("initialized")
    if not isinstance(initialized, bool):
        if status >= 300:
            raise _refusal(status, reply)
        shown = shortened(orjson.dumps(reply).decode())
        raise WorkerRefused(f'not a worker: its health lacks "initialized": {shown}', code="bad_reply")
    listed = reply.get("features")
    features = listed if isinstance(listed, list) else ()
    words = frozenset(word for word in features if isinstance(word, str))
    return Health(initialized, words, _busy(reply.get("queue")), str(reply.get("msg", "")))


def _busy(queue: object) -> int:
    """The number of tasks and transfers. Some workers have `running` instead of `processing`."""
    if not isinstance(queue, Mapping):
        return 0
    running, queued = queue.get("processing", int(bool(queue.get("running")))), queue.get("queued")
    return sum(max(0, count) for count in (running, queued, queue.get("transfers")) if type(count) is int)


def known_files(data: Mapping[str, Any], asked: Sequence[FileRef]) -> dict[str, bool]:
    """Which files the worker has; files that it does not mention are missing."""
    known = {ref.hash: data.get(ref.hash, False) for ref in asked}
    if not all(isinstance(there, bool) for there in known.values()):
        wrong(data, "true or false for each hash")
    return known


def uploaded(reply: Mapping[str, Any], ref: FileRef) -> None:
    """Raise `Corrupt` when the worker received a file with another hash."""
    data = reply.get("data")
    came = data.get("hash") if isinstance(data, dict) else None
    if isinstance(came, str) and len(came) == len(ref.hash) and came.lower() != ref.hash:
        raise Corrupt(f"the worker received a file whose hash is {came} and not {ref.hash}: it is sent again")


def receipt(data: Mapping[str, Any]) -> TaskReceipt:
    """The answer to a submit."""
    task = data.get("task_id")
    if isinstance(task, bool) or not isinstance(task, str | int) or not 0 < len(str(task)) <= 200:
        wrong(data, 'a "task_id"')
    queue = data.get("queue")
    position = _whole(data.get("queue_position")) or (
        _whole(queue.get("position")) if isinstance(queue, dict) else None
    )
    return TaskReceipt(str(task), data.get("cached") is True, position)


def report(data: Mapping[str, Any]) -> TaskReport:
    """The answer to a poll. Only `status` is required; old workers have fewer fields."""
    status = "cancelled" if data.get("cancelled") is True else data.get("status")
    if not isinstance(status, str) or not status:
        wrong(data, 'a "status"')
    error = data.get("error")
    return TaskReport(
        status=status,
        percent=_percent(data.get("percent", data.get("progress"))),
        message=str(data.get("message") or ""),
        frame=_whole(data.get("current_frame")),
        frames=_whole(data.get("total_frames")),
        position=_whole(data.get("queue_position")),
        error=str(error) if error else None,
        outputs=_outputs(data.get("outputs")),
        waits=shortened(str(data.get("waits") or "")),
        live=data.get("live") is True,
    )


def preview(line: bytes) -> Preview | None:
    """The preview of an event; None if it is not one that may be shown."""
    try:
        plain = orjson.loads(line)
        media, text = str(plain["media"]), plain.get("text")
        data = (
            text.encode(errors="replace") if isinstance(text, str) else base64.b64decode(plain["data"], validate=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    candidate = Preview(media, data)
    return candidate if candidate.fits else None


def _outputs(value: object) -> tuple[Output, ...]:
    try:
        return convert(value or (), tuple[Output, ...])
    except ValidationError:
        wrong(value, '"outputs" with name, ext, size and blake3 of each')


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _percent(value: object) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    return min(max(number, 0.0), 100.0)
