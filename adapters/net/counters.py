"""How often a server has refused something, and why: read by tests and by whatever shows metrics. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

Tell = Callable[[str, int], object]


class Refusals(Counter[str]):
    """Refusals by reason. A reason is a word of the server's own, never a caller's text, so there are few of them.

    `tell` hears of each: the reason, and how often it has occurred by now.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        super().__init__()
        self._tell = tell

    def count(self, reason: str) -> None:
        """Something was refused."""
        self[reason] += 1
        if self._tell is not None:
            self._tell(reason, self[reason])
