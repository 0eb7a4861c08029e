"""The latest log lines of this program, for a page that shows them: redacted, cut, and bounded in number."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.telemetry.logs import lowest
from wakestream.streams.protocol.printable import printable

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
        line |= {name: _clean(told) for name in ("job", "stage") if (told := record["extra"].get(name, "-")) != "-"}
        self._lines.append(line)


def _clean(text: object) -> str:
    """Redacted first: a cut could leave a part of a secret that no pattern knows."""
    clean = printable(redacted_text(str(text)))
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}…"
