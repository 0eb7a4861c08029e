"""A message of your own pipeline, as a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reactivex import Observable

from wakestream.operators.model.events import JobEvent, Note
from wakestream.operators.rx.sources import of


def note(text: str, data: Mapping[str, Any] | None = None) -> Observable[JobEvent]:
    """Emit a `Note` and complete.

    Example:
        >>> stages.submit().pipe(then(lambda granted: note("the GPU is on")))

    Args:
        text: The message for people.
        data: The same for programs, as JSON.

    Returns:
        An observable, as a stage returns it.
    """
    return of(Note(text, data or {}))
