"""What the worker answers at once to a job that a hub hands over, in the words of deployed workers."""

from __future__ import annotations

from typing import Any

from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import replies, requests
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import worker as w

_RENDER = "heygem_submit"
_NO_HASHES = "缺少 audio_hash 或 video_hash"
_NO_ASSETS = "不支持 upload_asset: 请用 HTTP 的 upload_file 上传文件"


def without_work(job: m.Submit, *, old_hub: bool) -> m.Result | None:
    """The answer to a job that is no render; None for one that is.

    A client of ours may name its files later, and its task as it likes: behind a hub of ours that is a render too.
    """
    if job.task_type == "delete_asset":  # this worker keeps no assets, and an unknown one counts as deleted
        return _answer(job, error=False, result={"id": job.payload.get("id"), "msg": "删除成功"})
    if job.task_type == "upload_asset":
        return failed(job, _NO_ASSETS)
    named = all(job.payload.get(f"{kind}_hash") for kind in ("audio", "video"))
    if named or not (old_hub or (job.payload and job.task_type != _RENDER)):
        return None
    return failed(job, _NO_HASHES if job.task_type == _RENDER else f"未知任务类型: {job.task_type}")


def missing(job: m.Submit, store: FileStore) -> str | None:
    """Which file of the job is not here, the audio first."""
    for kind, name, ending in (("audio", "音频", ".wav"), ("video", "视频", ".mp4")):
        said, ext = str(job.payload.get(f"{kind}_hash")), job.payload.get(f"{kind}_ext") or ending
        if not requests.is_hash(said) or not store.claim(FileRef(requests.file_hash(said), requests.file_ext(ext))):
            return f"{name}文件不存在: {said}{ext}"
    return None


def accepted(job: m.Submit, task: w.Task, state: w.State) -> m.Result:
    """A deployed hub takes this for the job's end, and its clients for "the render has begun"."""
    return _answer(job, error=False, result={"task_id": task.id, "queue": replies.queue(state)})


def ended(job: m.Submit, task: w.Task) -> m.Result:
    """A hub of ours takes this for the job's end."""
    result = {"task_id": task.id, "status": replies.status_word(task)}
    if task.status == "done":
        return _answer(job, result=result)
    return _answer(job, result=result, error=True, error_msg=task.error or "the task failed")


def failed(job: m.Submit, why: str) -> m.Result:
    """The job cannot be done here."""
    return _answer(job, error=True, error_msg=why)


def _answer(job: m.Submit, **answer: Any) -> m.Result:
    about: dict[str, Any] = {"request_id": job.request_id, "task_type": job.task_type}
    return m.Result(**about, key=job.key, license=job.license, sender_fd=job.sender_fd, **answer)
