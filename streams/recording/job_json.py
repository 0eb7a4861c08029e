"""A job as JSON, as recordings and the daemon's API have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wakestream.operators.model.events import Job
from wakestream.streams.recording.event_json import plain_text

_SWITCHES = ("again", "overwrite", "unnamed")
"""Fields of a job that are written only where they are true."""


def plain_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON, without its id. A job of the old shape has the fields that it always had."""
    inputs = {name: plain_text(path) for name, path in job.inputs.items()}
    more: dict[str, Any] = {name: True for name in _SWITCHES if getattr(job, name)}
    more |= {"gpus": [*job.gpus]} if job.gpus else {}
    if job.old_shape:
        return {**inputs, "output": plain_text(job.output), "task_type": job.task_type, **more}
    outputs = {name: plain_text(path) for name, path in job.outputs.items()}
    return {"kind": job.kind, "inputs": inputs, "params": dict(job.params), "outputs": outputs, **more}


def job_from(job_id: str, plain: Mapping[str, Any]) -> Job:
    """Return the job that `plain_job` wrote. Raises `KeyError`, `TypeError` for other objects."""
    if "kind" in plain:
        inputs, outputs = (_paths(plain[name]) for name in ("inputs", "outputs"))
        job = Job(job_id, inputs, outputs, plain["kind"], plain.get("params", {}))
    else:
        video, audio, output = (Path(plain[name]) for name in ("video", "audio", "output"))
        job = Job.lipsync(job_id, video, audio, output, plain["task_type"])
    again, overwrite, unnamed = (bool(plain.get(name)) for name in _SWITCHES)
    return replace(job, gpus=tuple(plain.get("gpus", ())), again=again, overwrite=overwrite, unnamed=unnamed)


def _paths(plain: Mapping[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in plain.items()}
