"""What a job needs of a GPU, from its frame. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.placement.requirements import all_of

RENDER: Final = "heygem_submit"
"""The task type of a pair of files; deployed clients also send types that are no renders, which any GPU may get."""

FIELDS: Final = frozenset({"kind", "inputs", "params", "outputs", "gpus", "requires", "priority"})
"""The fields of a payload that deployed programs do not know."""

STORING: Final = "storing"
STORED: Final = "stored"
"""Values of `Need.depot`."""

MOST_GPUS: Final = 64
"""The most GPUs that a job may name."""


class Need(NamedTuple):
    """What a job needs.

    Attributes:
        kind: The kind that the GPU must have; None for tasks that are no renders.
        any_kind: Whether the job has the fields of jobs of any kind, which deployed workers do not know.
        unpaid: Whether the job's license has spent its budget, so that the job waits for another one.
        gpus: The names of the GPUs that may do it; empty if any may.
        requires: What it requires of the labels of a GPU.
        depot: `storing` while its files go into the depot: it does not start yet; `stored` if they are there only, so
            that its GPU must fetch them.
    """

    kind: str | None
    any_kind: bool
    unpaid: bool = False
    gpus: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    depot: str = ""


PAIR: Final = Need(LIPSYNC, any_kind=False)
"""A pair of a video and an audio file."""

ANY_GPU: Final = Need(None, any_kind=False)
"""Any GPU will do."""


def need_of(task_type: str, payload: Mapping[str, Any]) -> Need:
    """Return what a job needs."""
    kind, named = payload.get("kind"), payload.get("gpus")
    gpus = tuple(sorted({*map(str, named[:MOST_GPUS])})) if isinstance(named, list) else ()
    try:
        requires = all_of(payload.get("requires"))
    except ValueError:  # of a journal of an earlier version, to which the field meant nothing
        requires = ()
    if isinstance(kind, str) or "inputs" in payload:
        return Need(kind if isinstance(kind, str) else None, any_kind=True, gpus=gpus, requires=requires)
    plain = PAIR if task_type == RENDER else ANY_GPU
    return plain._replace(gpus=gpus, requires=requires) if gpus or requires else plain


def weight(kinds: Iterable[Mapping[str, Any]] | None) -> int:
    """Return the bytes of descriptions of kinds."""
    return sum(len(orjson.dumps(kind)) for kind in kinds or ())


def without_fields(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a payload without the fields of jobs of any kind."""
    return {name: value for name, value in payload.items() if name not in FIELDS}
