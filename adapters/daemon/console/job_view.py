"""Jobs as the page shows them: the names of their files, their state, and whether the result exists."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from wakestream.adapters.daemon.console.upload_validation import shown_name
from wakestream.adapters.daemon.console.uploads import Uploads
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox.state import Entry, plain_outcome

NOW_LASTS: Final = 30 * 60.0
"""Seconds that an ended job is listed with the running ones."""

NOW_MOST: Final = 200
"""Unfinished jobs that a page gets when it opens; it gets the others when they start."""

ENDED_MOST: Final = 6
NAMES_KEPT: Final = 5000


@dataclass(frozen=True, slots=True)
class JobView:
    """The outbox's jobs as objects for the page. `results` is the folder for results of the page's own jobs."""

    outbox: Outbox
    uploads: Uploads
    results: Path
    _names: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def card(self, entry: Entry, *, events: bool = True) -> dict[str, Any]:
        """One job, with its stored events."""
        a, ended = entry.accepted, entry.ended
        names = self.names(entry)
        return {
            "id": a.job, "state": entry.state, "stage": (entry.stage and entry.stage.stage) or "submit",
            **self._inputs(entry, names), "output": names["output"], "priority": a.priority,
            "accepted_at": a.at, "ended_at": ended.at if ended else None, "retry_of": a.retry_of or None,
            "outcome": self._outcome(entry), "result": self._result(entry),
            "events": [orjson.Fragment(item.data) for item in self.outbox.feed.of_job(a.job) if events],
        }  # fmt: skip

    def _inputs(self, entry: Entry, names: Mapping[str, str]) -> dict[str, Any]:
        """The input files: under `video` and `audio`, or under `inputs` with the kind for other jobs."""
        a = entry.accepted
        files = {
            name: {"name": names[name], "size": file.size, "seconds": file.seconds or None}
            for name, file in a.files.items()
        }
        return files if a.is_pair else {"inputs": files, "kind": a.kind, "params": a.params}

    def names(self, entry: Entry) -> Mapping[str, str]:
        """The names of the files; a result of the page's own job is named after its inputs."""
        a = entry.accepted
        if a.job not in self._names:
            if len(self._names) > NAMES_KEPT:
                self._names.clear()
            self._names[a.job] = self._looked_up(entry)
        return self._names[a.job]

    def _looked_up(self, entry: Entry) -> Mapping[str, str]:
        a = entry.accepted
        inputs = {name: self._name(file.path, entry, name) for name, file in a.files.items()}
        stems = " - ".join(Path(name).stem for name in inputs.values())
        output = f"{stems}{Path(a.output).suffix}" if self.is_ours(a.output) else Path(a.output).name
        return {**inputs, "output": shown_name(output)}

    def _name(self, path: str, entry: Entry, kind: str) -> str:
        if (upload := self.uploads.of_path(path)) is not None:
            return upload.name
        return str(self._kept_names(entry.accepted.output).get(kind) or shown_name(Path(path).name))

    def _kept_names(self, output: str) -> Mapping[str, Any]:
        """The names of files that were removed; they are stored beside the result."""
        if not self.is_ours(output):
            return {}
        try:
            return msgspec.json.decode(Path(output).with_suffix(".json").read_bytes(), type=dict[str, Any])
        except (OSError, ValueError):
            return {}

    def is_ours(self, output: str) -> bool:
        """Whether the result is of a job of the page, so that the page may remove it."""
        return Path(output).parent == self.results

    def _outcome(self, entry: Entry) -> dict[str, Any] | None:
        if entry.ended is None:
            return None
        return {name: value for name, value in plain_outcome(entry.ended).items() if name != "path"}

    def _result(self, entry: Entry) -> dict[str, Any] | None:
        ended = entry.ended
        if ended is None or ended.outcome != "done":
            return None
        return {"here": Path(ended.path).is_file(), "size": ended.size, "ours": self.is_ours(ended.path)}

    def told(self, entry: Entry) -> dict[str, Any]:
        """The card of a new or changed job, with the number of unfinished jobs."""
        return {**self.card(entry), "open": len(self.outbox.state.open)}

    def now(self) -> list[dict[str, Any]]:
        """Running jobs, the next waiting ones, and those that ended recently."""
        jobs, since = self.outbox.state.jobs.values(), time.time() - NOW_LASTS
        ended = [entry for entry in self._ended("") if entry.ended and entry.ended.at >= since]
        open_ = sorted((entry for entry in jobs if entry.ended is None), key=_turn)
        return [self.card(entry) for entry in (*open_[:NOW_MOST], *ended[:ENDED_MOST])]

    def history(self, text: str, state: str, limit: int, skip: int) -> tuple[list[dict[str, Any]], int]:
        """Ended jobs, newest first, whose names or state contain all words of `text`; and their number."""
        words = text.casefold().split()
        found = [one for one in self._ended(state) if all(word in self._text(one) for word in words)]
        return [self.card(entry, events=False) for entry in found[skip : skip + limit]], len(found)

    def _ended(self, state: str) -> Iterator[Entry]:
        ended = [entry for entry in self.outbox.state.jobs.values() if entry.ended is not None]
        ended.sort(key=lambda entry: entry.ended.at if entry.ended else 0.0, reverse=True)
        return (entry for entry in ended if state in ("", entry.state))

    def _text(self, entry: Entry) -> str:
        return f"{' '.join(self.names(entry).values())} {entry.state}".casefold()


def _turn(entry: Entry) -> tuple[bool, int]:
    """The sort key: started jobs first, then by priority. Equal jobs stay in the order of their acceptance."""
    begun = entry.stage is not None and entry.stage.stage != ""
    return not begun, -entry.accepted.priority
