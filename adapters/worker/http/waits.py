"""Calls of `progress` with `wait`: each is answered when the task's report differs from the one that the caller has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.worker.http.replies import bad_request
from wakestream.streams.worker import state as w

LONGEST: Final = 25.0
"""Seconds that a call waits at most: less than proxies wait for an answer."""

MOST: Final = 256
"""Calls that wait at one time; a further one is answered at once."""

QUIET: Final = 0.25
"""Seconds for which a call waits for more where only the engine's progress has changed."""

Report = Mapping[str, Any]


class Waits:
    """All calls that wait. `told` is called with each fact, after it was applied."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Event, str] = {}
        self._closed = False

    def told(self, fact: w.Fact) -> None:
        """End the waits that this fact concerns. Progress concerns only its own task."""
        own = fact.task_id if isinstance(fact, w.Advanced) else None
        for changed, task in self._open.items():
            if own in (None, task):
                changed.set()

    async def close(self, _: web.Application) -> None:
        """Answer all calls, because the worker stops."""
        self._closed = True
        for changed in self._open:
            changed.set()

    async def report(self, query: Mapping[str, str], look: Callable[[], Report]) -> Report:
        """The report that answers a call.

        Args:
            query: The call's: `wait` has seconds, `seen` the `version` of the report that the caller has.
            look: Returns the present report, and raises if the task is not known any more.

        Returns:
            The report, with its `version` if a next call would wait.
        """
        seconds, seen = _seconds(query.get("wait", "0")), query.get("seen", "")
        report = look()
        if seconds and seen and not self._full:
            await self._changed(report["task_id"], seen, seconds, look)
            report = look()
        return report if self._full else {**report, "version": _version(report)}

    @property
    def _full(self) -> bool:
        return self._closed or len(self._open) >= MOST

    async def _changed(self, task: str, seen: str, seconds: float, look: Callable[[], Report]) -> None:
        now = asyncio.get_running_loop().time
        began, changed = now(), asyncio.Event()
        self._open[changed] = task
        try:
            while not self._closed and (report := look())["status"] not in ("done", "error"):
                version = _version(report)
                if version.partition(".")[0] != seen.partition(".")[0]:
                    return
                changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(began + (seconds if version == seen else min(QUIET, seconds))):
                        await changed.wait()
                        continue
                return
        finally:
            del self._open[changed]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # NaN is neither
        raise bad_request(f'"wait" is {text[:20]!r}; send seconds, such as 25')
    return min(seconds, LONGEST)


def _version(report: Report) -> str:
    """Tells reports apart; up to the dot it stays while only the engine's progress changes."""
    digest = blake2b(orjson.dumps(report), digest_size=8).hexdigest()
    return f"{report['status']}-{report['queue_position']}.{digest}"
