"""The log of an HTTP server: without the faults of callers."""

import asyncio
import logging
import sys

import pytest

from wakestream.adapters.net.refusals import quiet_logger


def _handle_request() -> None:
    raise asyncio.InvalidStateError("invalid state")


def _of_ours() -> None:
    raise asyncio.InvalidStateError("invalid state")


@pytest.mark.parametrize(("fault", "lines"), [(_handle_request, 0), (_of_ours, 1)])
def test_a_handler_that_ends_in_the_moment_of_the_stop_is_no_fault(
    fault: object, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(fault)
    log = quiet_logger(f"test-{lines}", logging.DEBUG)
    try:
        fault()
    except asyncio.InvalidStateError:
        log.error("Unhandled exception", exc_info=sys.exc_info())
    assert len(caplog.records) == lines
