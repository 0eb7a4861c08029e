"""Jobs as the page shows them: the names of their files, their state, and whether the result exists."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from wakestream.adapters.daemon.console import preferences as result_name
from wakestream.adapters.daemon.console.upload_validation import names_beside, shown_name
from wakestream.adapters.daemon.console.uploads import Uploads
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.result_reuse import is_intact, results_of
from wakestream.adapters.disk.media_types import TYPES, UNKNOWN, media_type
from wakestream.operators.model.engine import list_of
from wakestream.streams.outbox.state import Entry, plain_outcome
from wakestream.streams.recording.event_json import plain_text

NOW_LASTS: Final = 3 * 3600.0
"""Seconds that an ended job is listed with the running ones."""

NOW_MOST: Final = 200
"""Unfinished jobs that a page gets when it opens; it gets the others when they start."""

ENDED_MOST: Final = 12
STEMS: Final = 2
"""Input files after which a result is named."""

SEARCHED: Final = 200
"""Jobs that a search reads in one turn of the event loop."""

NAMES_KEPT: Final = 20_000
"""Jobs whose names are in memory: more than the outbox has, since a search reads all of them."""


class FileNames(NamedTuple):
    """The names of a job's files for people; `text` is what a search finds, beside the state and the date."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class JobView:
    """The outbox's jobs as objects for the page. `results` is the folder for results of the page's own jobs."""

    outbox: Outbox
    uploads: Uploads
    results: Path
    shown: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = lambda _, params: params
    _names: dict[str, FileNames] = field(default_factory=dict)
    _pattern: list[str] = field(default_factory=lambda: [result_name.DEFAULT, ""])

    def name_by(self, pattern: str, folder: str = "") -> None:
        """Name the results of the page's own jobs by this pattern (see `result_name`); `folder` gets their copies."""
        self._pattern[:] = [pattern, folder]
        self._names.clear()

    def card(self, entry: Entry, *, events: bool = True) -> dict[str, Any]:
        """One job, with its stored events. `inputs` and `outputs` are its files, the main output first."""
        a, ended = entry.accepted, entry.ended
        outputs, outcome = self.outputs(entry), None
        if ended is not None:
            outcome = {name: value for name, value in plain_outcome(ended).items() if name != "path"}
        return {
            "id": a.job, "state": entry.state, "stage": (entry.stage and entry.stage.stage) or "submit",
            "kind": a.kind, "params": self.shown(a.kind, a.params), "inputs": self._inputs(entry), "outputs": outputs,
            "priority": entry.priority, "batch": a.batch,
            "accepted_at": a.at, "ended_at": ended.at if ended else None, "retry_of": a.retry_of or None,
            "outcome": outcome, "result": self._result(entry, outputs),
            "events": [orjson.Fragment(item.data) for item in self.outbox.feed.of_job(a.job) if events],
        }  # fmt: skip

    def _inputs(self, entry: Entry) -> list[dict[str, Any]]:
        names = self._file_names(entry).inputs
        return [
            {
                "name": name, "file": names[name], "size": file.size, "seconds": file.seconds or None,
                "shown": TYPES.get(Path(file.path).suffix.lower(), UNKNOWN).shown, "here": Path(file.path).is_file(),
            }
            for name, file in entry.accepted.inputs.items()
        ]  # fmt: skip

    def outputs(self, entry: Entry) -> list[dict[str, Any]]:
        """The outputs; those of a job that is done with their size, their type, and whether they are `here`."""
        made, intact = results_of(entry), is_intact(entry)
        names = {**self._file_names(entry).outputs}
        for name in made.keys() - names.keys():  # the further files of a list
            stem, path = Path(names.get(list_of(name, names), name)).stem, made[name][0]
            ours = self.is_ours(str(path))
            names[name] = f"{stem}{name.removeprefix(list_of(name, names))}{path.suffix}" if ours else path.name
        names = {name: names[name] for name in (*made, *(output for output in names if output not in made))}
        return [
            {"name": name, "file": file, **(self._made(file, *made[name], intact) if name in made else {"here": False})}
            for name, file in names.items()
        ]

    def detailed(self, entry: Entry) -> dict[str, Any]:
        """One job with all that is known of it: also the `path` of each output."""
        card, paths = self.card(entry), self.paths(entry)
        outputs = [{**output, "path": plain_text(str(paths[output["name"]]))} for output in card["outputs"]]
        return {**card, "outputs": outputs}

    def paths(self, entry: Entry) -> dict[str, Path]:
        """Where the results are, or will be: for a copied one, that of the copy in the user's folder."""
        made, folder = results_of(entry), self._pattern[1]
        paths = {name: Path(path) for name, path in entry.accepted.outputs.items()}
        paths |= {name: path for name, (path, _) in made.items()}
        for output in self.outputs(entry) if folder and self.is_ours(entry.accepted.output) else ():
            copy = Path(folder, output["file"])
            if output["name"] in made and copy.is_file() and copy.stat().st_size == made[output["name"]][1]:
                paths[output["name"]] = copy
        return paths

    def _made(self, name: str, path: Path, size: int, intact: bool) -> dict[str, Any]:
        """The fields of an output that was made. The page's own have the ending of their content."""
        kind = media_type(path)
        ours = kind.ending and self.is_ours(str(path))
        file = f"{name.removesuffix(path.suffix)}{kind.ending}" if ours else name
        return {"file": file, "here": intact and path.is_file(), "size": size, "shown": kind.shown}

    def names(self, entry: Entry) -> dict[str, str]:
        """The names of the files by input; `output` is the main result. Those of the page's own results are made up."""
        names = self._file_names(entry)
        return {**names.inputs, "output": next(iter(names.outputs.values()))}

    def input_names(self, entry: Entry) -> list[str]:
        """What a job is called: the names of its input files; of a job without any, its kind."""
        return [*self._file_names(entry).inputs.values()] or [entry.accepted.kind]

    def _file_names(self, entry: Entry) -> FileNames:
        a = entry.accepted
        if a.job not in self._names:
            if len(self._names) > NAMES_KEPT:
                self._names.clear()
            self._names[a.job] = self._looked_up(entry)
        return self._names[a.job]

    def _looked_up(self, entry: Entry) -> FileNames:
        """The names of the files; a result of the page's own job is named after its inputs."""
        a = entry.accepted
        kept: Mapping[str, Any] = {}  # the names of files that were removed; they are stored beside the result
        with suppress(OSError, ValueError):
            if self.is_ours(a.output):
                kept = msgspec.json.decode(names_beside(Path(a.output)).read_bytes(), type=dict[str, Any])
        uploads = {name: self.uploads.of_path(file.path) for name, file in a.inputs.items()}
        inputs = {
            name: upload.name if upload else str(kept.get(name) or shown_name(Path(a.inputs[name].path).name))
            for name, upload in uploads.items()
        }
        given = " - ".join([Path(name).stem for name in inputs.values()][:STEMS]) or a.kind
        stem = result_name.filled(self._pattern[0], result_name.ResultName(given, a.kind, a.job, a.at))
        stems = {name: f"{stem} - {name}" if len(a.outputs) > 1 else stem for name in a.outputs}
        outputs = {
            name: shown_name(f"{stems[name]}{Path(path).suffix}" if self.is_ours(path) else Path(path).name)
            for name, path in a.outputs.items()
        }
        return FileNames(inputs, outputs, " ".join([*inputs.values(), *outputs.values(), a.kind]).casefold())

    def is_ours(self, output: str) -> bool:
        """Whether the result is of a job of the page, so that the page may remove it."""
        return Path(output).parent == self.results

    def _result(self, entry: Entry, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """All results together."""
        if entry.ended is None or entry.ended.outcome != "done":
            return None
        return {
            "here": any(output["here"] for output in outputs), "size": sum(output.get("size", 0) for output in outputs),
            "ours": self.is_ours(entry.accepted.output),
        }  # fmt: skip

    def card_event(self, entry: Entry) -> dict[str, Any]:
        """The card of a new or changed job, with the number of unfinished jobs."""
        return {**self.card(entry), "open": len(self.outbox.state.queue)}

    def now(self) -> list[dict[str, Any]]:
        """Running jobs, the next waiting ones, and those that ended recently."""
        state, since = self.outbox.state, time.time() - NOW_LASTS
        ended = [entry for entry in self._ended("") if entry.ended and entry.ended.at >= since]
        open_ = [state.jobs[job] for job in self.next()]
        return [self.card(entry) for entry in (*open_, *ended[:ENDED_MOST])]

    def next(self) -> list[str]:
        """The unfinished jobs that a page shows: those at work, then the waiting ones in turn."""
        jobs = self.outbox.state.jobs
        return sorted(self.outbox.state.in_turn(), key=lambda job: _state_word(jobs[job]) == "waiting")[:NOW_MOST]

    async def history(self, text: str, state: str, limit: int, skip: int) -> tuple[list[dict[str, Any]], int]:
        """Ended jobs, newest first, and their number.

        With `text` also the unfinished ones, newest first and before them: those whose names, kind, batch, state and
        date contain all its words. The date is that of the end, or of the start of an unfinished job.
        """
        words = text.casefold().split()
        jobs = self.outbox.state.jobs
        open_ = [entry for entry in reversed(jobs.values()) if entry.ended is None] if words and not state else []
        asked, matches = [*open_, *self._ended(state)], list[Entry]()
        for at in range(0, len(asked), SEARCHED):
            for entry in asked[at : at + SEARCHED]:
                day = time.strftime("%Y-%m-%d", time.localtime(entry.ended.at if entry.ended else entry.accepted.at))
                named = f"{self._file_names(entry).text} {entry.accepted.batch.casefold()}" if words else ""
                text = f"{named} {_state_word(entry)} {day}" if words else ""
                matches += [entry] if all(word in text for word in words) else []
            await asyncio.sleep(0)
        return [self.card(entry, events=False) for entry in matches[skip : skip + limit]], len(matches)

    def _ended(self, state: str) -> Iterator[Entry]:
        """The newest first."""
        entries = (self.outbox.state.jobs[job] for job in reversed(self.outbox.state.ended))
        return (entry for entry in entries if state in ("", entry.state))


_WAITING = ("", "submit", "wake")


def _state_word(entry: Entry) -> str:
    """The state as a word to search for: an unfinished job is waiting or running."""
    if entry.state != "open":
        return entry.state
    return "waiting" if (entry.stage.stage if entry.stage else "") in _WAITING else "running"
