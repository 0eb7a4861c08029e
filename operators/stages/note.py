"""What a pipeline of your own says, as a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reactivex import Observable

from wakestream.operators.model.events import JobEvent, Note
from wakestream.operators.rx.sources import of


def note(text: str, data: Mapping[str, Any] | None = None) -> Observable[JobEvent]:
    """A `Note` and the end, as a stage returns it: `text` for people, `data` (JSON) for programs."""
    return of(Note(text, data or {}))
