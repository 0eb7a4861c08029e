"""Who watches while a server is attacked: its log, its folder, its counts."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger


class Watcher(logging.Handler):
    """Collects what must not occur: tracebacks and errors, in our log and in the libraries'."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.exc_info or record.levelno >= logging.ERROR:
            self.faults.append(self.format(record))

    def show(self, line: str) -> None:
        """A sink for our own log."""
        self.faults.append(line)


def _threads() -> int:
    """How many there are but those of the loop's pool, which starts as many as it is busy and keeps them."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


@contextmanager
def watched() -> Iterator[Watcher]:
    """Within the block, faults are collected; at its end there must be none."""
    watcher = Watcher()
    threads = _threads()
    libraries = [logging.getLogger(name) for name in (None, "asyncio", "wakestream.hub.websockets")]
    levels = [library.level for library in libraries]
    for library in libraries:
        library.addHandler(watcher)
        library.setLevel(logging.WARNING)
    # A peer's fault is at most a warning; an error is our own fault.
    sink = logger.add(watcher.show, level="ERROR", backtrace=False, diagnose=False)
    try:
        yield watcher
    finally:
        logger.remove(sink)
        for library, level in zip(libraries, levels, strict=True):
            library.removeHandler(watcher)
            library.setLevel(level)
    assert not watcher.faults, "\n".join(watcher.faults)[:3000]
    assert _threads() <= threads + 2, "threads are left behind"


def tree(folder: Path, *, without: Path) -> set[Path]:
    """All that is in `folder`, but not in `without`."""
    return {path for path in folder.rglob("*") if without not in (path, *path.parents)}
