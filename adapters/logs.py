"""Log lines: one each, with time, level, job and stage, to stderr, and never a secret in them.

Everyone logs with `from loguru import logger` and `logger.bind(job=..., stage=...)`; where lines go is decided here.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

HIDDEN = "***"
LIBRARIES = ("websockets", "aiohttp", "asyncio")
"""Standard library loggers whose warnings and errors are shown as ours."""

SHORTEST = 4
"""A secret of fewer characters would blot out half of every line, and guard nothing."""

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bws_[A-Za-z]+_[A-Za-z0-9_-]{16,}"), HIDDEN),
    (
        re.compile(r"""(\\?["'](?:license_key|api_secret|token|key)\\?["']\s*[:=]\s*\\?["'])[^"'\\]+"""),
        rf"\1{HIDDEN}",
    ),
)

_FORMAT = "{time:HH:mm:ss.SSS} {level: <7} {extra[job]} {extra[stage]}  {message}"


class _Lines:
    """The one sink: redacts, then writes to wherever lines go at the moment."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.write: Callable[[str], object] = _to_stderr

    def show(self, message: Message) -> None:
        self.write(self.redact(str(message)))

    def redact(self, text: str) -> str:
        # The longest first: one secret may begin with another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _to_stderr(text: str) -> None:
    # Looked up at each line: a live display puts itself in the place of sys.stderr while it runs.
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # nobody reads stderr any more; a log line is no reason to end the program


_lines = _Lines()


def configure(level: str, secrets: Collection[str] = ()) -> None:
    """Send log lines of `level` and above to stderr; `secrets` and whatever looks like a key never show."""
    hide(*secrets)
    logger.remove()
    logger.configure(extra={"job": "-", "stage": "-"}, patcher=_one_line)
    # diagnose and backtrace would print the values of variables, secrets among them; catch would print whole records.
    logger.add(_lines.show, level=level, format=_FORMAT, backtrace=False, diagnose=False, catch=False)
    for name in LIBRARIES:
        _intercept(logging.getLogger(name))


def hide(*secrets: str) -> None:
    """Never show these either, from now on."""
    _lines.secrets.update(secret for secret in secrets if len(secret) >= SHORTEST)


def redact(text: str) -> str:
    """`text` without the secrets that were named and without anything that looks like a key."""
    return _lines.redact(text)


@contextmanager
def through(write: Callable[[str], object]) -> Iterator[None]:
    """While inside, lines (each with its line end) go to `write`, so that a live display can put them above itself."""
    before, _lines.write = _lines.write, write
    try:
        yield
    finally:
        _lines.write = before


def _one_line(record: Record) -> None:
    record["message"] = record["message"].replace("\r", "\\r").replace("\n", "\\n")


class _Forward(logging.Handler):
    """Hands the standard library's log records to ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in ("WARNING", "ERROR", "CRITICAL") else "WARNING"
        bound = logger.bind(stage=record.name.partition(".")[0])
        bound.opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def _intercept(library: logging.Logger) -> None:
    library.handlers = [_Forward()]
    library.setLevel(logging.WARNING)
    library.propagate = False
