"""A cancellation that was not requested is an error, so that those who wait for the result learn of it."""

from __future__ import annotations

import asyncio

from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.faults import location_of


class cancel_as_error:  # noqa: N801 - used as a function; a class, since each call of a job makes two
    """Turn a `CancelledError` into a `WakestreamError` (code `internal`) unless the running task was cancelled.

    An effect raises such an error by itself when something that it awaits was cancelled.
    """

    __slots__ = ("name",)

    def __init__(self, name: str | None) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Nothing has to be done before."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise the error in place of a cancellation."""
        if error is None or not isinstance(error, asyncio.CancelledError):
            return
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return
        location = location_of(error)
        reason = (
            f"{self.name or 'an effect'} cancelled itself (CancelledError): something that it waited for was "
            "cancelled, not the job"
        ) + (f" ({location})" if location else "")
        raise WakestreamError(reason, code="internal") from error
