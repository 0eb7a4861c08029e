"""The worker's HTTP replies: `{"code", "data", "msg"}`, where `code` is 0 or the HTTP status of the failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from loguru import logger

from wakestream.adapters.net.refusals import WORD
from wakestream.operators.model.errors import WakestreamError, WorkerRefused, WrongInput
from wakestream.streams.worker import shares
from wakestream.streams.worker.state import QueueState, Task

HEALTH = "/api/heygem/health"

_STATUS = {
    "bad_request": 400,
    "corrupt": 400,
    "file_unusable": 400,
    "unauthorized": 401,
    "expired": 401,
    "not_yet": 401,
    "forbidden": 403,
    "not_found": 404,
    "timeout": 408,
    "not_done": 409,
    "wrong_offset": 409,
    "tus_version": 412,
    "too_large": 413,
    "unsupported_media": 415,
    "not_proved": 422,
    "locked": 423,
    "hash_mismatch": 460,
    "too_many": 429,
    "not_ready": 503,
    "queue_full": 503,
    "no_space": 507,
    "full": 507,
}
_LISTED = 100


def ok(data: object, msg: str = "ok") -> web.Response:
    """The reply to a successful call."""
    return _json(200, {"code": 0, "data": data, "msg": msg})


def health(*, initialized: bool, msg: str, **more: object) -> web.Response:
    """The reply to `health`, whose fields are at the top level."""
    return _json(200, {"code": 0, "msg": msg, "initialized": initialized, **more})


def failure(status: int, msg: str, error: str, **more: str) -> web.Response:
    """The reply to a failed call; `error` (an addition) is a word for programs."""
    said = msg.encode(errors="replace").decode()  # it may quote the caller, whose bytes may not be valid text
    reply = _json(status, {"code": status, "data": None, "msg": said, "error": error, **more})
    reply[WORD] = error
    return reply


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", charset="utf-8")


def bad_request(why: str) -> WorkerRefused:
    """The error for a wrong request; `why` says what to send instead."""
    return WorkerRefused(why, code="bad_request")


def status_of(code: str) -> int:
    """The HTTP status of an error word."""
    return _STATUS.get(code, 500)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return all errors of calls in the same form."""
    try:
        return await handler(request)
    except WrongInput as error:
        return failure(400, str(error), error.code, field=error.field)
    except WakestreamError as error:
        return failure(status_of(error.code), str(error), error.code)
    except web.HTTPException as error:
        sentences = {
            404: f"there is no call {request.path[:100]!r} here",
            405: f"this call needs {error.headers.get('Allow', 'another method')}, not {request.method}",
            413: "the body of this call may have at most 1 MiB",
        }
        reply = failure(error.status, sentences.get(error.status, error.reason), f"http_{error.status}")
        if "Allow" in error.headers:
            reply.headers["Allow"] = error.headers["Allow"]
        return reply
    except (HttpProcessingError, web.RequestPayloadError) as error:
        return failure(400, f"the request is not valid: {' '.join(str(error).split())[:200]}", "bad_request")
    except ConnectionError:
        raise  # the caller has disconnected
    except Exception as error:
        logger.opt(exception=error).error("{} {} failed", request.method, request.path)
        return failure(500, f"the worker raised {type(error).__name__}: see its log", "internal")


def status_word(task: Task) -> str:
    """The status word of deployed workers; a cancelled task is an `error`."""
    if task.status == "running":
        if task.progress.percent >= 100:
            return "encoding"
        return "synthesizing" if task.progress.percent or task.progress.frame else "processing"
    return {"queued": "queued", "done": "done"}.get(task.status, "error")


def report(state: QueueState, task: Task) -> dict[str, Any]:
    """A task as deployed clients expect it: whole numbers, and 0 or the empty string for unknown values.

    Times are Unix seconds; `queue_position` is 1 for the next task. Additions: `percent` has the engine's decimals,
    `cancelled` tells a task that no job wanted any more from one that failed, `waits` says why no task begins. A task
    that waits in its engine's own queue is `queued` there.
    """
    there = state.waits.get(task.id) if task.status == "running" else None
    position = there.before if there else shares.position(state, task.id)
    percent = {"done": 100.0, "failed": 0.0, "cancelled": 0.0}.get(task.status, min(task.progress.percent, 99.9))
    frames = max(task.progress.frames, task.progress.frame)
    more: dict[str, Any] = {"outputs": [asdict(output) for output in task.outputs]} if task.outputs else {}
    if task.status == "cancelled":
        more["cancelled"] = True
    if task.status == "queued" and state.halt is not None:
        more["waits"] = state.halt.reason
    return {
        "task_id": task.id,
        "status": "queued" if there else status_word(task),
        "progress": int(percent),
        "percent": round(percent, 1),
        "message": more.get("waits") or (there.text if there else _message(task, position)),
        "total_frames": frames,
        "current_frame": frames if task.status == "done" else task.progress.frame,
        "queue_position": position,
        "created_at": int(task.created_at),
        "started_at": int(task.started_at or 0),
        "finished_at": int(task.finished_at or 0),
        "error": task.error or "",
        **more,
    }


def progress(state: QueueState, task: Task) -> dict[str, Any]:
    """The task with its queue."""
    return {**report(state, task), "queue": queue(state)}


def _message(task: Task, position: int) -> str:
    if task.status == "queued":
        return f"waiting, number {position} in the line"
    return task.error or {"running": "the engine is at work", "done": "the result is ready"}.get(
        task.status, task.status
    )


def queue(state: QueueState) -> dict[str, Any]:
    """The numbers of the queue, for health, submit and progress; `running` (an addition) is the engine's task."""
    running = [task.id for task in state.tasks.values() if task.status == "running"]
    numbers = {"total_tasks": len(state.tasks), "processing": len(running), "queued": len(state.line)}
    return {**numbers, "max_concurrent": 1, "running": running[0] if running else None}


def queue_listing(state: QueueState, mine: Callable[[Task], bool] = lambda _: True) -> dict[str, Any]:
    """The queue with at most 100 of the tasks that are `mine`: running, waiting in order, ended last."""
    waiting = [state.tasks[name] for name in shares.turns(state)]
    running = [task for task in state.tasks.values() if task.status == "running"]
    ended = sorted(
        (task for task in state.tasks.values() if not task.unfinished), key=lambda task: -(task.finished_at or 0)
    )
    shown = [task for task in (*running, *waiting, *ended) if mine(task)]
    return {"tasks": [report(state, task) for task in shown[:_LISTED]], **queue(state)}
