"""Names of another program's fields as names that jobs may have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from wakestream.operators.model.engine import Slot

MORE_FILES = 8
"""The slots of a field that takes or makes a list of files; the first has the field's own name."""

_MOST = 32
_ENDING = re.compile(r"\.[a-z0-9]{1,10}")


def ending(name: str) -> str:
    """The ending of a file's name, if results can have it; else an empty text."""
    suffix = Path(name).suffix.lower()
    return suffix if _ENDING.fullmatch(suffix) else ""


def slot_name(text: str, taken: Collection[str] = ()) -> str:
    """A text as the name of a file, in lower case; one that is in `taken` gets a number."""
    return _name(text.lower(), taken)


def param_name(text: str, taken: Collection[str] = ()) -> str:
    """A text as the name of a parameter; one that is in `taken` gets a number."""
    return _name(text, taken)


def _name(text: str, taken: Collection[str]) -> str:
    word = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    word = (word if word[:1].isalpha() else f"f_{word}")[:_MOST].rstrip("_")
    names = (word if n == 1 else f"{word[: _MOST - 3]}_{n}" for n in range(1, 99))
    return next(name for name in names if name not in taken)


def seed_of(params: Collection[str]) -> str:
    """The parameter that is a seed by its name, if there is one; else an empty text."""
    return next((name for name in ("seed", "noise_seed", "Seed") if name in params), "")


def list_slots(first: Slot, taken: Mapping[str, object]) -> Iterator[Slot]:
    """The slots of a list of files: the first, and more that may be left out."""
    yield first
    for n in range(2, MORE_FILES + 1):
        name = slot_name(f"{first.name[: _MOST - 3]}_{n}", taken)
        yield Slot(name, first.accepts, first.title and f"{first.title} {n}", required=False)
