"""A job as it is submitted to the outbox."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wakestream.operators.model.events import LIPSYNC, Job
from wakestream.streams.outbox import facts as f


def submitting(
    ticket: int,
    job: str,
    inputs: Mapping[str, f.FileStat],
    outputs: Mapping[str, str],
    kind: str = LIPSYNC,
    params: Mapping[str, Any] | None = None,
    **more: Any,
) -> f.Submitting:
    """The request `ticket` with a job of these files; `more` are other fields of `JobAccepted`."""
    paths = {name: Path(file.path) for name, file in inputs.items()}
    results = {name: Path(path) for name, path in outputs.items()}
    alias = more.pop("task_type", "")
    spec = Job(job, paths, results, kind, params or {}, alias)
    return f.Submitting(ticket, f.JobAccepted.of(spec, dict(inputs), **more))
