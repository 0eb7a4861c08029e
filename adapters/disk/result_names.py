"""Names for files of results that the user has not named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain, count
from pathlib import Path

from wakestream.adapters.disk.path_key import path_key


def free_name(beside: Path | None, name: str, ending: str, taken: Collection[Path] = ()) -> Path:
    """Return a path where no file is.

    Args:
        beside: The file in whose folder the result goes; its name is the first part of the new one. None: the current
            folder, and no first part.
        name: The second part of the name.
        ending: The ending, such as `.png`.
        taken: Paths that other results have already.

    Returns:
        `photo.upscale.png` for `photo.jpg`, or `photo.upscale-2.png` if that exists.
    """
    folder, stem = (Path(), name) if beside is None else (beside.parent, f"{beside.stem}.{name}")
    keys = {path_key(str(path)) for path in taken}
    numbered = chain([""], (f"-{number}" for number in count(2)))
    paths = (folder / f"{stem}{number}{ending}" for number in numbered)
    return next(path for path in paths if not path.exists() and path_key(str(path)) not in keys)


def same_path(paths: Mapping[str, Path]) -> tuple[str, str] | None:
    """Return the names of two paths that are the same file on this system, or None."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        key = path_key(str(path.parent.resolve() / path.name))
        other = taken.setdefault(key, name)
        if other != name:
            return other, name
    return None
