"""Log lines with time, level, job and stage, on stderr and in files, without secrets and control characters.

All modules log with `from loguru import logger` and `logger.bind(job=..., stage=...)`. This module decides where the
lines go, and whether they are text or JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import private
from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.runtime.printing import say
from wakestream.streams.protocol.printable import printable

PIECE = 10_000_000
"""Bytes after which a new file is begun."""

PIECES = 5
"""Files that are kept: FILE, FILE.1 to FILE.4; the last is the oldest."""


class LogFile(RotatingFileHandler):
    """Writes lines with `write`. A full disk does not end the program; it is reported once, on stderr."""

    def __init__(self, path: Path) -> None:
        self._complained = False
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)  # one level only, in case of a typing error
            super().__init__(path, maxBytes=PIECE, backupCount=PIECES - 1, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SettingsError(f"--log-file {path}: cannot be written ({error.strerror or error})") from None

    def write(self, text: str) -> None:
        """Add complete lines without secrets."""
        self.handle(logging.makeLogRecord({"msg": text.rstrip("\n")}))

    def doRollover(self) -> None:  # noqa: N802 - the base class's word
        """Begin a new file. When that fails (on Windows, while another program reads it), continue with the old one."""
        path = Path(self.baseFilename)
        aside = path.with_name(f"{path.name}.next")
        try:
            self.close()
            path.replace(aside)  # first, since each failure after this step would lose the oldest file
            super().doRollover()
            aside.replace(path.with_name(f"{path.name}.1"))
        except OSError:
            if aside.exists() and not path.exists():
                aside.replace(path)
        if self.stream is None:
            self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's word
        """Report the first error, instead of a traceback for each line."""
        if not self._complained and sys.stderr is not None:
            self._complained = True
            say(f"wakestream: cannot write log lines to {self.baseFilename}: {sys.exc_info()[1]}", error=True)

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "ab", opener=private)  # noqa: SIM115 - the base class closes it
        return TextIOWrapper(file, encoding=self.encoding, errors=self.errors)


def pieces(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    older = [path.with_name(f"{path.name}.{number}") for number in range(PIECES - 1, 0, -1)]
    return [piece for piece in (*older, path) if piece.is_file()]


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
        fields = {name: record["extra"][name] for name in ("job", "stage")}
        if broke is not None and broke.type is not None:
            fields["error"] = "".join(traceback.format_exception_only(broke.type, broke.value)).strip()
            fields["traceback"] = "".join(traceback.format_exception(broke.type, broke.value, broke.traceback))
        return self.line(record["time"], record["level"].name, record["message"], **fields)

    def line(self, time: datetime, level: str, message: str, **given: object) -> str:
        """One record as JSON. Redacted first: afterwards a pattern could remove a quotation mark."""
        texts = {
            "message": message,
            "job": None,
            "stage": None,
            "program": self.program or None,
            "error": None,
            **given,
        }
        clean = {name: None if text in (None, "-") else redacted_text(str(text)) for name, text in texts.items()}
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
    *,
    json: bool = False,
    program: str = "",
    file: Path | None = None,
    file_level: str | None = None,
) -> None:
    """Configure the log of this program. Hidden secrets (`known_secrets.hide`) and what looks like a key are redacted.

    Args:
        level: The lowest level that is written to stderr.
        json: Each line is an object with time (ISO 8601, UTC), level, message, job, stage, program, error and, if there
            is one, traceback. An unexpected error of the program is such a line too.
        program: The program's name in JSON lines.
        file: Also receives the lines, with the date.
        file_level: The lowest level in `file`, if it differs.
    """
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


if TYPE_CHECKING:
    from loguru import Message

MOST: Final = 500
"""Lines that are kept."""

LONGEST: Final = 2000
"""Characters of a line that are kept."""

_USUAL = "INFO"


class RecentLog:
    """Keeps the lines of level INFO and above; those below too if the program writes them."""

    def __init__(self, most: int = MOST) -> None:
        self._lines: deque[dict[str, Any]] = deque(maxlen=most)
        self._last = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep lines while the block runs."""
        level = min(lowest(), _USUAL, key=lambda name: logger.level(name).no)
        sink = logger.add(self._take, level=level, format="{message}", backtrace=False, diagnose=False, catch=False)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # the log was configured again, which removes all sinks
                logger.remove(sink)

    def since(self, number: int) -> list[dict[str, Any]]:
        """The lines after the one of this `number`, the oldest first; 0 for all that are kept.

        Each has `n` (its number), `at` (UNIX seconds), `level` and `text`, and `job` and `stage` if it has them.
        """
        return [line for line in tuple(self._lines) if line["n"] > number]

    def _take(self, message: Message) -> None:
        record, broke = message.record, message.record["exception"]
        text = record["message"]
        if broke is not None and broke.type is not None:
            text += f" ({broke.type.__name__}: {broke.value})"
        self._last += 1
        line = {"n": self._last, "at": round(record["time"].timestamp(), 3), "level": record["level"].name}
        line["text"] = _clean(text)
        line |= {name: _clean(value) for name in ("job", "stage") if (value := record["extra"].get(name, "-")) != "-"}
        self._lines.append(line)


def _clean(text: object) -> str:
    """Redacted first: a cut could leave a part of a secret that no pattern knows."""
    clean = printable(redacted_text(str(text)))
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}…"
