"""What an engine made of the outputs of a work: those that it did not make do not fail the others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from wakestream.operators.model.engine import Kind, Line, Made, Slot, Work
from wakestream.operators.model.errors import TaskFailed


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
