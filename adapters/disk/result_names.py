"""Names for files of results that the user has not named."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import suppress
from filecmp import cmp
from itertools import count
from pathlib import Path

from wakestream.adapters.disk.atomic import place_new, remove, replace_file
from wakestream.adapters.disk.path_key import path_key


def free_name(
    beside: Path | None,
    name: str,
    ending: str,
    taken: Collection[Path] = (),
    *,
    inside: bool = False,
    exact: bool = False,
) -> Path:
    """Return a path where no file is.

    Args:
        beside: The file in whose folder the result goes; its name is the first part of the new one. None: the current
            folder, and no first part.
        name: The second part of the name.
        ending: The ending, such as `.png`.
        taken: Paths that other results have already.
        inside: Whether `beside` is the folder itself, and the name is only the second part.
        exact: Whether the path is returned also if a file is there.

    Returns:
        `photo.upscale.png` for `photo.jpg`, or `photo.upscale-2.png` if that exists.
    """
    folder, stem = (Path(), name) if beside is None else (beside.parent, f"{beside.stem}.{name}")
    if inside and beside is not None:
        folder, stem = beside, name
    if exact:
        return folder / f"{stem}{ending}"
    return next_free(folder / f"{stem}{ending}", {path_key(str(path)) for path in taken})


def _split(path: Path) -> tuple[str, int]:
    """The stem without its number, and the number; 1 if it has none."""
    match = re.fullmatch(r"(.+)-([2-9]|[1-9][0-9]{1,3})", path.stem)
    return (path.stem, 1) if match is None else (match[1], int(match[2]))


def numbered(path: Path) -> Iterator[Path]:
    """Yield the path and those with the next numbers: `a.mp4`, `a-2.mp4`, `a-3.mp4`, …"""
    yield path
    stem, number = _split(path)
    yield from (path.with_name(f"{stem}-{next_number}{path.suffix}") for next_number in count(number + 1))


def is_numbered(path: Path, wanted: Path) -> bool:
    """Whether `path` is one of the `numbered` paths of `wanted`."""
    stem, number = _split(wanted)
    later = path.with_name(wanted.name) == wanted and path.suffix == wanted.suffix and _split(path)[0] == stem
    return path == wanted or (later and _split(path)[1] > number)


def next_free(path: Path, taken: Container[str] = ()) -> Path:
    """Return the first of the `numbered` paths where no file is, and whose `path_key` is not in `taken`."""
    return next(free for free in numbered(path) if not os.path.lexists(free) and path_key(str(free)) not in taken)


def place_free(partial: Path, wanted: Path, own: Path | None = None, *, overwrite: bool = False) -> Path:
    """Rename a complete file to the first of the `numbered` paths where no file is, and return that path.

    `own` is where an earlier attempt of this job put the same file; it is kept if its content is the same. With
    `overwrite` the file `wanted` is replaced. Raises `OSError`.
    """
    if overwrite:
        replace_file(partial, wanted)
        return wanted
    with suppress(OSError):
        if own is not None and cmp(partial, own, shallow=False):
            remove(partial)
            return own
    for path in numbered(wanted):
        with suppress(FileExistsError):
            place_new(partial, path)
            return path
    raise AssertionError("the numbers have no end")


def same_path(paths: Mapping[str, Path]) -> tuple[str, str] | None:
    """Return the names of two paths that are the same file on this system, or None."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        key = path_key(str(path.parent.resolve() / path.name))
        other = taken.setdefault(key, name)
        if other != name:
            return other, name
    return None
