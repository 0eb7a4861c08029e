"""A cancellation that nobody asked for is a fault, and whoever waits must hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.faults import location_of


@contextmanager
def cancel_as_error(name: str | None) -> Iterator[None]:
    """`CancelledError` as `WakestreamError` (code `internal`) where nobody has cancelled the running task.

    An effect raises it by itself when something that it awaits was cancelled. One from outside passes as it is.
    """
    try:
        yield
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        place = location_of(cancelled)
        why = (
            f"{name or 'an effect'} cancelled itself (CancelledError): something that it waited for was cancelled, "
            "not the job"
        ) + (f" ({place})" if place else "")
        raise WakestreamError(why, code="internal") from cancelled
