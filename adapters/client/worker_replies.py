"""What workers answer, old and new, read into the ports' types; whatever is of the wrong shape is shown, shortened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import orjson
from aiohttp import ClientResponse

from wakestream.adapters.client.worker_errors import shortened
from wakestream.operators.model.errors import Corrupt, TaskLost, WorkerError, WorkerRefused, WorkerUnreachable
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Health, TaskReceipt, TaskReport

MAX_REPLY = 4 * 1024 * 1024
"""Bytes of a JSON reply that are read at most."""

_WORDS = {400: "bad_request", 401: "unauthorized", 403: "unauthorized", 404: "not_found", 507: "no_space"}
_GATEWAY = (502, 503, 504, *range(520, 531))
"""What proxies say of a server that they do not reach; those from 520 on are Cloudflare's."""

_PASSING = ("expired", "not_yet", "not_ready", "too_many")
"""What our own workers say to one who may come again."""


async def body(response: ClientResponse) -> bytes:
    """The whole reply, as far as it is worth reading."""
    received = bytearray()
    async for chunk in response.content.iter_any():
        received += chunk
        if len(received) > MAX_REPLY:
            raise WorkerRefused(
                f"the worker's reply has more than {MAX_REPLY} bytes; is this a worker?", code="bad_reply"
            )
    return bytes(received)


async def payload(response: ClientResponse) -> dict[str, Any]:
    """The `data` of a reply that says yes; any other is raised."""
    reply = accepted(response.status, await body(response))
    data = reply.get("data")
    return data if isinstance(data, dict) else wrong(reply, 'an object in "data"')


def accepted(status: int, raw: bytes) -> dict[str, Any]:
    """A reply with `code` 0; `WorkerRefused` with the worker's own words for one without."""
    reply = parsed(raw)
    if reply is None:
        raise not_json(status, raw)
    code = reply.get("code")
    if status >= 300 or code != 0 or isinstance(code, bool):
        raise refusal(status, reply)
    return reply


def parsed(raw: bytes) -> dict[str, Any] | None:
    """A JSON object, or None if this is none."""
    try:
        reply = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return reply if isinstance(reply, dict) else None


def not_json(status: int, raw: bytes) -> WorkerError:
    """The error for an answer that no worker would give."""
    if status in _GATEWAY:
        return WorkerUnreachable(f"a gateway answers for the worker, HTTP {status}: the worker is not up behind it")
    if status in (401, 403):
        return _unauthorized()
    text = shortened(raw[:1000].decode(errors="replace")) or "nothing"
    why = f"what answers is not a worker: HTTP {status} with {text!r}; correct HEYGEM_SERVER_URL"
    return WorkerRefused(why, code=f"http_{status}" if status >= 300 else "bad_reply")


def refusal(status: int, reply: Mapping[str, Any]) -> WorkerError:
    """The error for a failure that the worker explains."""
    code = reply.get("code")
    number = code if type(code) is int and status < 300 else status
    said = reply.get("msg") or reply.get("message") or "without a reason"
    word = reply.get("error")
    if word in _PASSING:
        return WorkerUnreachable(f"the worker does not let us in at the moment: {shortened(str(said))}")
    if number in (401, 403) and word != "forbidden":
        return _unauthorized()
    known = word if isinstance(word, str) and 0 < len(word) <= 40 else _WORDS.get(number, f"http_{number}")
    return WorkerRefused(f"the worker refused ({number}): {shortened(str(said))}", code=known)


def _unauthorized() -> WorkerRefused:
    return WorkerRefused(
        "the worker does not accept our secret (401); set HEYGEM_API_SECRET to the one that the worker runs with",
        code="unauthorized",
    )


def no_result(status: int, raw: bytes) -> WorkerError:
    """The error for a reply to `download` that is no file."""
    if status == 416:
        return Corrupt("the worker no longer has the result that was begun; it is fetched from its start")
    reply = parsed(raw)
    return not_json(status, raw) if reply is None else refusal(status, reply)


def continued(headers: Mapping[str, str], etag: str | None, have: int) -> int:
    """The whole length, if `headers` are those of the part of `etag` that begins at byte `have`."""
    content_range = headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", content_range.strip())
    if found is None or int(found[1]) != have or headers.get("ETag", etag) != etag:
        raise Corrupt(f"asked to go on at byte {have}, the worker sent {shortened(content_range)!r}")
    return int(found[2])


def nothing_left(status: int, headers: Mapping[str, str], etag: str, have: int) -> bool:
    """Whether the answer says that the `have` bytes of `etag` are all that there are."""
    return status == 416 and headers.get("ETag") == etag and headers.get("Content-Range") == f"bytes */{have}"


@contextmanager
def task_known() -> Iterator[None]:
    """Around calls about a task: a worker that does not find it has forgotten it."""
    try:
        yield
    except WorkerRefused as error:
        if error.code != "not_found":
            raise
        raise TaskLost(f"{error}; the job is submitted again") from error


def wrong(reply: object, wanted: str) -> NoReturn:
    """The reply is JSON, but not what this call answers with."""
    shown = shortened(orjson.dumps(reply, default=str).decode())
    raise WorkerRefused(f"the worker's reply lacks {wanted}: {shown}", code="bad_reply")


def health(status: int, raw: bytes) -> Health:
    """`initialized` stands at the top of this reply, and counts whatever the status is."""
    reply = parsed(raw)
    if reply is None:
        raise not_json(status, raw)
    initialized = reply.get("initialized")
    if not isinstance(initialized, bool):
        raise refusal(status, reply) if status >= 300 else _not_a_worker(reply)
    listed = reply.get("features")
    features = listed if isinstance(listed, list) else ()
    return Health(initialized, frozenset(one for one in features if isinstance(one, str)), _busy(reply.get("queue")))


def _busy(queue: object) -> int:
    """Tasks that run or wait, and files on their way. Our earlier workers named what ran (`running`)."""
    if not isinstance(queue, Mapping):
        return 0
    running, queued = queue.get("processing", int(bool(queue.get("running")))), queue.get("queued")
    return sum(max(0, count) for count in (running, queued, queue.get("transfers")) if type(count) is int)


def _not_a_worker(reply: object) -> WorkerRefused:
    shown = shortened(orjson.dumps(reply).decode())
    return WorkerRefused(f'what answers is not a worker: its health lacks "initialized": {shown}', code="bad_reply")


def known_files(data: Mapping[str, Any], asked: Sequence[FileRef]) -> dict[str, bool]:
    """Which of the files asked for are there; one that the worker does not mention is not."""
    known = {ref.hash: data.get(ref.hash, False) for ref in asked}
    if not all(isinstance(there, bool) for there in known.values()):
        wrong(data, "true or false for each hash")
    return known


def uploaded(reply: Mapping[str, Any], ref: FileRef) -> None:
    """`Corrupt` when the worker says that what came has another hash."""
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
    """The answer to a poll. Only `status` is needed; old workers leave out what they do not know."""
    status = data.get("status")
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
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _percent(value: object) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    return min(max(number, 0.0), 100.0)
