"""How results were made and what they cost, for callers of the API and as files beside results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.daemon.console.costs import WITHIN, Costs
from wakestream.adapters.daemon.result_reuse import results_of
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import later_format
from wakestream.streams.outbox.state import Entry, OutboxState


class Records:
    """Records of results, and the files beside them: each is written at the end of its job, and with its cost later.

    Args:
        state: The jobs.
        costs: What they cost.
        shown: Returns the parameters of a job of a kind without secrets.
    """

    def __init__(
        self, state: OutboxState, costs: Costs, shown: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
    ) -> None:
        self._state, self._costs, self._shown = state, costs, shown
        self._due: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    def of(self, entry: Entry) -> dict[str, Any]:
        """The record of the results of a job that is done."""
        a, spent, digests = entry.accepted, self._costs.of(entry.accepted.job), entry.read.inputs if entry.read else {}
        record: dict[str, Any] = {
            "job": a.job, "kind": a.kind, "version": a.version, "params": self._shown(a.kind, a.params),
            "inputs": {name: {"path": file.path, **digests.get(name, {})} for name, file in a.inputs.items()},
            "results": {name: str(path) for name, (path, _) in results_of(entry).items()},
            "gpu": spent.get("gpu"), "seconds": spent.get("used_s"), "cost": spent.get("cost"),
            "currency": spent.get("currency"), "reused": entry.ended and entry.ended.reused,
            "accepted_at": a.at, "ended_at": entry.ended and entry.ended.at, "batch": a.batch, "family": a.family,
        }  # fmt: skip
        return {name: value for name, value in record.items() if value not in (None, "")}

    def due(self, job: str, *, booked: bool = False) -> None:
        """Write the file of a job, if it wants one; with `booked` the hub knows its cost."""
        entry = self._state.jobs.get(job)
        if entry is not None and entry.accepted.sidecar and entry.state == "done":
            self._due.put_nowait((job, booked))

    async def run(self) -> None:
        """Write the files that are due, until cancelled; first those that an earlier run did not write."""
        for job, entry in self._state.jobs.items():
            if entry.accepted.sidecar and entry.state == "done" and not _beside(entry).exists():
                self.due(job, booked=True)
        while True:
            job, booked = await self._due.get()
            await self._costs.ask_within(WITHIN if booked else 0)
            if (ended := self._state.jobs.get(job)) is not None:
                try:
                    await asyncio.to_thread(_write, _beside(ended), self.of(ended))
                except (OSError, ValueError) as error:
                    logger.warning("the record of job {} was not written: {}", job, error)


def _beside(entry: Entry) -> Path:
    path = Path(entry.ended.path if entry.ended is not None else "")
    return path.with_name(f"{path.name}.json")


def _write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record; `ValueError` if a file of this name is another file, or of a later version."""
    with suppress(FileNotFoundError):
        content = path.read_bytes()
        if later := later_format(path, content):
            raise ValueError(later)
        if "job" not in msgspec.json.decode(content, type=dict[str, Any]):
            raise ValueError(f"{path} exists and is no record; move it")
    write_atomic(path, orjson.dumps({"v": 1, **record}, option=orjson.OPT_INDENT_2), mode=0o644)
