"""Names of another program's fields as names that jobs may have."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path

from wakestream.operators.model.engine import Kind, Line, Made, Slot, Work
from wakestream.operators.model.errors import TaskFailed
from wakestream.streams.protocol.kinds import with_numbers

_MOST = 32
_ENDING = re.compile(r"\.[a-z0-9]{1,10}")


def ending(name: str) -> str:
    """The ending of a file's name, if results can have it; else an empty text."""
    suffix = Path(name).suffix.lower()
    return suffix if _ENDING.fullmatch(suffix) else ""


def slot_name(text: str, taken: Collection[str] = (), *, many: bool = False) -> str:
    """A text as the name of a file, in lower case; one that is in `taken` gets a number.

    `many`: as the name of a list, so that the names of its further files are free, too.
    """
    names = _names(text[: _MOST - 3].lower() if many else text.lower(), taken)
    return next(name for name in names if not many or taken_by([Slot(name, many=True)]).isdisjoint(taken))


def taken_by(slots: Iterable[Slot]) -> set[str]:
    """The names of these slots, and of the further files of lists."""
    return {slot.name for slot in with_numbers(slots)}


def param_name(text: str, taken: Collection[str]) -> str:
    """A text as the name of a parameter; one that is in `taken` gets a number."""
    return next(_names(text, taken))


def _names(text: str, taken: Collection[str]) -> Iterator[str]:
    word = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")
    word = (word if word[:1].isalpha() else f"f_{word}")[:_MOST].rstrip("_")
    names = (word if n == 1 else f"{word[: _MOST - 3]}_{n}" for n in range(1, 99))
    return (name for name in names if name not in taken)


def seed_of(params: Collection[str]) -> str:
    """The parameter that is a seed by its name, if there is one; else an empty text."""
    return next((name for name in ("seed", "noise_seed", "Seed") if name in params), "")


# What an engine made of the outputs of a work: those that it did not make do not fail the others.


class NotMade(TaskFailed):
    """The engine succeeded, and did not make this output."""


async def outputs_of(
    work: Work, kind: Kind, files_of: Callable[[Slot], AsyncGenerator[Made, None]]
) -> AsyncIterator[Line | Made]:
    """Yield the files of all outputs of a work.

    Args:
        work: The work.
        kind: Its kind.
        files_of: Yields the files of one output; may raise `NotMade`.

    Yields:
        The files, and a line for each output that was not made.

    Raises:
        NotMade: None was.
    """
    faults: list[NotMade] = []
    slots = [slot for slot in kind.outputs if slot.name in work.outputs]
    for slot in slots:
        try:
            async with aclosing(files_of(slot)) as files:
                async for made in files:
                    yield made
        except NotMade as fault:
            faults.append(fault)
            yield Line(str(fault))
    if len(faults) == len(slots):
        raise faults[0]
