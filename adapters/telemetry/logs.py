"""Log lines with time, level, job and stage, on stderr, without secrets and control characters.

All modules log with `from loguru import logger` and `logger.bind(job=..., stage=...)`. This module decides where the
lines go, and whether they are text or JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from loguru import logger

from wakestream.adapters.runtime.known_secrets import hide, redacted_text
from wakestream.adapters.telemetry.log_file import LogFile
from wakestream.streams.protocol.printable import printable

if TYPE_CHECKING:
    from loguru import Message, Record

LIBRARIES = ("websockets", "aiohttp", "asyncio", "opentelemetry")
"""Standard library loggers whose warnings and errors are shown like ours."""

_FORMAT = "{time:HH:mm:ss.SSS} {level: <7} {extra[job]} {extra[stage]}  {message}\n"
_DATED = "{time:YYYY-MM-DD} " + _FORMAT


class _Lines:
    """The sink: redacts lines, then writes them to the current destination."""

    def __init__(self) -> None:
        self.write: Callable[[str], object] = to_stderr
        self.keep: Callable[[str], object] = to_stderr
        self.json = False
        self.program = ""
        self.lowest = "INFO"

    def show(self, message: Message) -> None:
        self.write(self._line(message))

    def show_in_file(self, message: Message) -> None:
        self.keep(self._line(message))

    def _line(self, message: Message) -> str:
        record, broke = message.record, message.record["exception"]
        if not self.json:
            return redacted_text(str(message) + ("" if broke is None else printable_trace(*broke)))
        told = {name: record["extra"][name] for name in ("job", "stage")}
        if broke is not None and broke.type is not None:
            told["error"] = "".join(traceback.format_exception_only(broke.type, broke.value)).strip()
            told["traceback"] = "".join(traceback.format_exception(broke.type, broke.value, broke.traceback))
        return self.line(record["time"], record["level"].name, record["message"], **told)

    def line(self, time: datetime, level: str, message: str, **given: object) -> str:
        """One record as JSON. Redacted first: afterwards a pattern could remove a quotation mark."""
        told = {"message": message, "job": None, "stage": None, "program": self.program or None, "error": None, **given}
        clean = {name: None if text in (None, "-") else redacted_text(str(text)) for name, text in told.items()}
        stamp = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # ASCII only: json escapes every kind of line separator, and lone surrogates.
        return json.dumps({"time": stamp, "level": level, **clean}) + "\n"


def to_stderr(text: str) -> None:
    """Write a line to standard error; a closed one is ignored."""
    # Looked up for each line: a live display replaces sys.stderr while it runs.
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return  # stderr is closed; that must not end the program


_lines = _Lines()


def configure(
    level: str,
    secrets: Collection[str] = (),
    *,
    json: bool = False,
    program: str = "",
    file: Path | None = None,
    file_level: str | None = None,
) -> None:
    """Configure the log of this program.

    Args:
        level: The lowest level that is written to stderr.
        secrets: Are redacted, as is all that looks like a key.
        json: Each line is an object with time (ISO 8601, UTC), level, message, job, stage, program, error and, if there
            is one, traceback. An unexpected error of the program is such a line too.
        program: The program's name in JSON lines.
        file: Also receives the lines, with the date.
        file_level: The lowest level in `file`, if it differs.
    """
    hide(*secrets)
    _lines.json, _lines.program = json, program
    _lines.lowest = min(level, file_level or level, key=lambda name: logger.level(name).no)
    sys.excepthook = _broke if json else _broke_plainly
    logger.remove()
    logger.configure(extra={"job": "-", "stage": "-"}, patcher=_untouched if json else _printable)
    # diagnose and backtrace print values of variables, which may be secrets; catch prints complete records.
    add = partial(logger.add, backtrace=False, diagnose=False, catch=False)
    add(_lines.show, level=level, format=lambda _: _FORMAT)
    if file is not None:
        _lines.keep = LogFile(file).write
        add(_lines.show_in_file, level=file_level or level, format=lambda _: _DATED)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers = [_Forward()]
        library.setLevel(logging.WARNING)
        library.propagate = False


def lowest() -> str:
    """The lowest level that this program writes anywhere."""
    return _lines.lowest


def in_json() -> bool:
    """Whether lines are JSON."""
    return _lines.json


def json_line(level: str, message: str, *, program: str) -> str:
    """A JSON log line for a message that is not logged."""
    return _lines.line(datetime.now(UTC), level, message, program=program)


def _broke(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.opt(exception=(kind, error, trace)).critical("the program ended with an unexpected error")


def _broke_plainly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    to_stderr(redacted_text(printable_trace(kind, error, trace)))


def printable_trace(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> str:
    """A traceback in which text of the error cannot begin a new line."""
    parts = [] if kind is None else traceback.format_exception(kind, error, trace)
    # Frames contain lines of code; the error itself, which is not indented, may quote any text.
    return "".join(
        printable(part, layout=True) if part[:1].isspace() else printable(part.strip("\n")) + "\n" for part in parts
    )


@contextmanager
def through(write: Callable[[str], object]) -> Iterator[None]:
    """Within the block, lines (with their line ends) go to `write`: a live display shows them above itself."""
    before, _lines.write = _lines.write, write
    try:
        yield
    finally:
        _lines.write = before


def _printable(record: Record) -> None:
    record["message"] = printable(record["message"].replace("\r", "\\r").replace("\n", "\\n"))
    record["extra"] = {name: printable(str(value)) for name, value in record["extra"].items()}


def _untouched(_: Record) -> None:
    """No change: JSON escapes line breaks."""


class _Forward(logging.Handler):
    """Forwards the standard library's log records to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in ("WARNING", "ERROR", "CRITICAL") else "WARNING"
        bound = logger.bind(stage=record.name.partition(".")[0])
        bound.opt(exception=record.exc_info).log(level, "{}", record.getMessage())
