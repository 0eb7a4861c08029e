"""Copies results into the folder that the user chose. A file that is there is never replaced.

A small file beside the results of a job, its mark, says that their copies are due. It keeps the folder, and the name
that each copy is about to get, so that a run that was killed at any point leaves neither a half copy nor a second one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from wakestream.adapters.daemon.console.result_name import legal
from wakestream.adapters.daemon.console.upload_validation import result_key
from wakestream.adapters.disk.atomic import copy_new, place_new, remove, write_atomic
from wakestream.adapters.disk.result_names import numbered

ENDING: Final = ".due"
Results = Mapping[str, tuple[Path, str]]
"""The file of each result by its name, and the name that its copy is to get."""


class Interrupted(Exception):
    """The daemon stops; the copy is made at its next start."""


class _Plan(msgspec.Struct):
    """What a mark contains. `folder` is empty until the first copy begins; `names` are stored before they are taken.

    `made` are the results that were copied when another one failed, which may go to another folder later.
    """

    folder: str = ""
    names: dict[str, str] = {}
    made: list[str] = []


def mark_of(output: Path) -> Path:
    """The mark of the job that makes this result."""
    return output.with_name(f"{result_key(output)}.{ENDING}")  # no result is called that


def deliver(mark: Path, results: Results, folder: str, stops: Callable[[], bool] = lambda: False) -> None:
    """Copy the results of a job, if that is due, and remove its mark. It blocks, so call it in a thread.

    Args:
        mark: The job's mark. Without it there is nothing to do.
        results: The results that exist.
        folder: The folder for copies that did not begin earlier; empty: no copies are wanted.
        stops: Asked between blocks; True ends the copy.

    Raises:
        OSError: A result cannot be copied; the others are. The mark stays, and the next call copies those that are
            missing, perhaps to another folder.
        Interrupted: `stops()` is true; the mark stays.
    """
    if not mark.is_file():
        return
    plan = _read(mark)
    if folder and not plan.folder:
        plan.folder = folder
        write_atomic(mark, msgspec.json.encode(plan))
    due = _without(results, plan.made) if plan.folder else {}
    errors = []
    for name, (result, wanted) in due.items():
        try:
            _copy(mark, plan, name, result, wanted, stops)
            plan.made.append(name)
        except OSError as error:
            errors.append(error)
    if errors:
        with suppress(OSError):  # then the names of the copies are in the mark already
            write_atomic(mark, msgspec.json.encode(_Plan(made=plan.made)))
        raise errors[0]
    mark.unlink(missing_ok=True)


def missing(mark: Path, results: Results) -> Results:
    """Return those of the results that an earlier call, which failed, did not copy."""
    return _without(results, _read(mark).made)


def _without(results: Results, made: Collection[str]) -> Results:
    return {name: each for name, each in results.items() if name not in made}


def _read(mark: Path) -> _Plan:
    try:
        return msgspec.json.decode(mark.read_bytes(), type=_Plan)
    except (ValueError, FileNotFoundError):
        return _Plan()


def _copy(mark: Path, plan: _Plan, name: str, result: Path, wanted: str, stops: Callable[[], bool]) -> None:
    """Copy one result under the first free name, unless an earlier run did. The part has the same name in each run."""
    partial = Path(plan.folder) / f".wakestream-{hashlib.sha256(os.fsencode(f'{mark}/{name}')).hexdigest()[:24]}.part"
    try:
        if name in plan.names and _is_made(partial, Path(plan.folder) / plan.names[name], result):
            return None
        remove(partial)
        with result.open("rb") as source:
            if not copy_new(source, partial, lambda: not stops()):
                raise Interrupted
        ending = Path(wanted).suffix
        free = f"{legal(wanted.removesuffix(ending))}{legal(ending[1:]) and ending}"
        for copy in (path for path in numbered(Path(plan.folder, free)) if not path.exists()):
            plan.names[name] = copy.name
            write_atomic(mark, msgspec.json.encode(plan))
            with suppress(FileExistsError):
                return place_new(partial, copy)
    finally:
        remove(partial)


def _is_made(partial: Path, copy: Path, result: Path) -> bool:
    """Whether an earlier run gave the copy its name. An empty file with which it reserved the name is removed."""
    if not copy.is_file():
        return False
    if partial.exists() and not copy.samefile(partial):
        if copy.stat().st_size == 0:
            copy.unlink()
        return False
    return copy.stat().st_size == result.stat().st_size
