"""What our programs log, as a list that a test reads."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger

from wakestream.adapters.runtime import known_secrets
from wakestream.adapters.telemetry import logs


@contextmanager
def logged(level: str, form: str = "{message}") -> Iterator[list[str]]:
    """The lines from this level on, while the block runs."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).removesuffix("\n")), level=level, format=form)
    try:
        yield lines
    finally:
        logger.remove(sink)


def forget_logs() -> None:
    """Undo what `logs.configure` has done in this process."""
    logger.remove()
    sys.excepthook = sys.__excepthook__
    known_secrets.forget()
    logs._lines.json, logs._lines.program = False, ""
    kept, logs._lines.keep = getattr(logs._lines.keep, "__self__", None), logs.to_stderr
    if isinstance(kept, logs.LogFile):
        kept.close()
    for name in logs.LIBRARIES:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(logging.NOTSET)
