"""The worker's answers to jobs from a hub, with the texts of deployed workers."""

from __future__ import annotations

from typing import Any

from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import replies, requests
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

_RENDER = "heygem_submit"
_NO_HASHES = "缺少 audio_hash 或 video_hash"
_NO_ASSETS = "不支持 upload_asset: 请用 HTTP 的 upload_file 上传文件"


def without_work(job: m.Submit, *, old_hub: bool) -> m.Result | None:
    """The answer to a job that is not a render; None for a render.

    A wakestream client may name its files later and use any task type, so a wakestream hub's jobs are all renders.
    """
    if job.task_type == "delete_asset":  # this worker has no assets, and an unknown one counts as deleted
        return _answer(job, error=False, result={"id": job.payload.get("id"), "msg": "删除成功"})
    if job.task_type == "upload_asset":
        return failed(job, _NO_ASSETS)
    if not old_hub and "kind" in job.payload:
        return None
    named = all(job.payload.get(f"{name}_hash") for name in requests.USUAL)
    if named or not (old_hub or (job.payload and job.task_type != _RENDER)):
        return None
    return failed(job, _NO_HASHES if job.task_type == _RENDER else f"未知任务类型: {job.task_type}")


def missing(job: m.Submit, store: FileStore) -> str | None:
    """The text about a missing file of the job, the audio first; None if both are here."""
    for name, called in (("audio", "音频"), ("video", "视频")):
        said, ext = str(job.payload.get(f"{name}_hash")), job.payload.get(f"{name}_ext") or requests.USUAL[name]
        if not requests.is_hash(said) or not store.claim(FileRef(requests.file_hash(said), requests.file_ext(ext))):
            return f"{called}文件不存在: {said}{ext}"
    return None


def accepted(job: m.Submit, task: w.Task, state: w.State) -> m.Result:
    """The answer to a deployed hub, for which it ends the job; its clients read it as "the render has begun"."""
    return _answer(job, error=False, result={"task_id": task.id, "queue": replies.queue(state)})


def ended(job: m.Submit, task: w.Task) -> m.Result:
    """The end of a job, for a wakestream hub."""
    failure = {} if task.status == "done" else {"error": True, "error_msg": task.error or "the task failed"}
    return _answer(job, result={"task_id": task.id, "status": replies.status_word(task)}, **failure)


def failed(job: m.Submit, why: str) -> m.Result:
    """The job failed."""
    return _answer(job, error=True, error_msg=why)


def _answer(job: m.Submit, **answer: Any) -> m.Result:
    about = ("request_id", "task_type", "key", "license", "sender_fd")
    return m.Result(**{name: getattr(job, name) for name in about}, **answer)
