"""The webhook about the end of a job. Pure."""

from __future__ import annotations

from typing import Any, Final

from wakestream.streams.outbox import facts as f
from wakestream.streams.webhooks import WebhookOwed, delivery_id

EVENTS: Final = {"done": "job.done", "failed": "job.failed", "timed_out": "job.failed"}
"""The webhook event of each outcome; a cancelled job has none."""


def pending(accepted: f.JobAccepted, ended: f.JobEnded, sent: int) -> WebhookOwed | None:
    """The webhook that this end makes due, if any. `sent` is how many bytes went to workers."""
    event = EVENTS.get(ended.outcome)
    if event is None:
        return None
    files = accepted.files
    news: dict[str, Any] = {
        "id": accepted.job,
        "event": event,
        "outcome": ended.outcome,
        "files": {"output": accepted.output},
        "times": {"accepted": accepted.at, "ended": ended.at},
        "bytes": {"sent": sent, "result": ended.size},
    }
    if accepted.is_pair:
        news["files"] = {**{name: file.path for name, file in files.items()}, **news["files"]}
        news["bytes"] = {**{name: file.size for name, file in files.items()}, **news["bytes"]}
    else:  # an input may have any name, also "output" or "sent"
        inputs = {name: {"path": file.path, "bytes": file.size} for name, file in files.items()}
        news |= {"kind": accepted.task_type, "inputs": inputs, "params": accepted.params, "outputs": accepted.outputs}
    if ended.outcome != "done":
        news |= {"why": ended.why or f"{ended.stage}: nothing within {ended.seconds:g} s", "code": ended.code}
    return WebhookOwed(accepted.job, delivery_id(accepted.job, ended.at), ended.at, news)
