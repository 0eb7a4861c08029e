"""A cancellation that was not requested is an error, so that those who wait for the result learn of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.faults import location_of


@contextmanager
def cancel_as_error(name: str | None) -> Iterator[None]:
    """Turn a `CancelledError` into a `WakestreamError` (code `internal`) unless the running task was cancelled.

    An effect raises such an error by itself when something that it awaits was cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        location = location_of(cancelled)
        reason = (
            f"{name or 'an effect'} cancelled itself (CancelledError): something that it waited for was cancelled, "
            "not the job"
        ) + (f" ({location})" if location else "")
        raise WakestreamError(reason, code="internal") from cancelled
