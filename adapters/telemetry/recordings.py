"""Reads recorded logs: `.jsonl`, `.jsonl.gz`, the parts `…-001.jsonl`, `…-002.jsonl` of one run, or a folder of them.

Errors name the file and the line.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wakestream.adapters.disk.atomic import replace_file, temporary_beside
from wakestream.streams.recording.log_checks import check, refuse_secrets
from wakestream.streams.recording.recording import Log, Row, UnusableLog, header_line, read_log, row_line

SUFFIXES: Final = (".jsonl", ".jsonl.gz")

MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line. The first one of a hub has its state: 100,000 waiting jobs have 35 MB."""

MAX_LOG: Final = 256 * 1024 * 1024
"""Bytes of one run, uncompressed. A replay needs several times this size in memory."""

_PART = re.compile(r"(.+)-(\d{3,})(\.jsonl(?:\.gz)?)")


@dataclass(frozen=True, slots=True)
class LogFile:
    """One run's log: the files of its parts, in order."""

    parts: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Its name in messages: the first file, and the number of the others."""
        more = f" (+{len(self.parts) - 1})" if len(self.parts) > 1 else ""
        return f"{self.parts[0]}{more}"

    @property
    def stem(self) -> str:
        """The first file's name without its extension."""
        return self.parts[0].name.removesuffix(".gz").removesuffix(".jsonl")

    def beside(self, tag: str) -> Path:
        """The path of a log that is derived from this one, in the same folder."""
        return self.parts[0].with_name(f"{self.stem}.{tag}.jsonl")


def find(paths: Iterable[Path]) -> list[LogFile]:
    """Find the runs that `paths` name, each once. Any part of a run stands for the whole run.

    Args:
        paths: Log files, and folders for all logs in them.

    Raises:
        UnusableLog: a path does not exist, a folder has no logs, or a part of a run is missing.
    """
    numbered = functools.cache(_numbered)
    runs: dict[Path, LogFile] = {}
    for path in paths:
        for file in _in(path):
            if file not in runs:
                run = _run_of(file, numbered)
                runs.update(dict.fromkeys((file, *run.parts), run))
    return list({run.parts: run for run in runs.values()}.values())


def find_one(path: Path) -> LogFile:
    """The one run that `path` names. Raises `UnusableLog` when it names several."""
    runs = find([path])
    if len(runs) != 1:
        raise UnusableLog(f"{path} contains {len(runs)} logs; name one of them")
    return runs[0]


def output_beside(file: LogFile, given: Path | None, tag: str) -> Path:
    """The path of a log derived from `file`: `given`, or one in its folder. `UnusableLog` when it is the log itself."""
    path = given or file.beside(tag)
    if path.resolve() in [part.resolve() for part in file.parts]:
        raise UnusableLog(f"{path} is the input log; name another file with -o")
    return path


def _in(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        if not path.exists():
            raise UnusableLog(f"{path}: the file or folder does not exist")
        return (path,)
    inside = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
    if not inside:
        raise UnusableLog(f"{path}: this folder contains no log (*.jsonl, *.jsonl.gz)")
    return inside


def _numbered(folder: Path) -> Mapping[str, Mapping[int, Path]]:
    """The parts of runs in a folder, by the name and the number of each."""
    runs: dict[str, dict[int, Path]] = {}
    for file in folder.iterdir():
        if (part := _PART.fullmatch(file.name)) is not None:
            runs.setdefault(part[1], {}).setdefault(int(part[2]), file)
    return runs


def _run_of(path: Path, numbered: Callable[[Path], Mapping[str, Mapping[int, Path]]]) -> LogFile:
    part = _PART.fullmatch(path.name)
    if part is None:
        return LogFile((path,))
    parts = numbered(path.parent)[part[1]]
    missing = set(range(1, max(parts) + 1)) - set(parts)
    if missing:
        raise UnusableLog(f"{path}: part {min(missing):03} of this run is missing; a replay needs all parts")
    return LogFile(tuple(parts[number] for number in sorted(parts)))


def read(file: LogFile, *, secrets: bool = False) -> Log:
    """Read a log and join its parts.

    Args:
        file: The files of the run.
        secrets: Whether the log may contain secrets; otherwise such a log is refused.

    Returns:
        The log. An incomplete last line is left out (`Log.torn`).

    Raises:
        UnusableLog: the log cannot be read or is invalid.
    """
    logs = []
    room = MAX_LOG
    for path in file.parts:
        with _named(path):
            log, size = _read_part(path, room)
            room -= size
            check(log)
            if not secrets:
                refuse_secrets(log)
            logs.append(log)
    first = logs[0]
    rows: list[Row] = []
    for path, log in zip(file.parts, logs, strict=True):
        if log.header != first.header:
            raise UnusableLog(f"{path}: its header differs from that of {file.parts[0].name}; they are not one run")
        if rows and log.rows and log.rows[0].seq != rows[-1].seq + 1:
            raise UnusableLog(f"{path}: line 2 has seq {log.rows[0].seq}, but the part before ends with {rows[-1].seq}")
        rows += log.rows
    return dataclasses.replace(first, rows=tuple(rows), torn=logs[-1].torn, name=str(file.parts[0]))


def _read_part(path: Path, room: int) -> tuple[Log, int]:
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        lines = _Lines(file, room)
        return read_log(lines), lines.size


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns errors of reading into `UnusableLog` with the file's name."""
    try:
        yield
    except UnusableLog as error:
        raise UnusableLog(f"{path}: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnusableLog(
            f"{path}: the compressed data is damaged or incomplete; uncompress what is left of it"
        ) from None
    except OSError as error:
        raise UnusableLog(f"{path}: cannot be read: {error.strerror or error}") from None


class _Lines:
    """The lines of a file, at most `room` bytes; counts the bytes."""

    def __init__(self, file: gzip.GzipFile | BinaryIO, room: int) -> None:
        self._file, self._room = file, room
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        number = 0
        while line := self._file.readline(MAX_LINE + 1):
            number += 1
            self.size += len(line)
            if len(line) > MAX_LINE:
                raise UnusableLog(f"line {number} is longer than {MAX_LINE} bytes; this is not a log")
            if self.size > self._room:
                raise UnusableLog(f"the log is larger than {MAX_LOG >> 20} MiB; cut it after the incident")
            yield line


def write(log: Log, path: Path) -> None:
    """Write a log to a file, completely or not at all. Raises `UnusableLog` when that fails."""
    try:
        with temporary_beside(path) as partial:
            with gzip.open(partial, "xb") if path.name.endswith(".gz") else partial.open("xb") as file:
                file.write(header_line(log.header))
                file.writelines(map(row_line, log.rows))
            replace_file(partial, path)
    except OSError as error:
        raise UnusableLog(f"{path}: cannot be written: {error.strerror or error}") from None
