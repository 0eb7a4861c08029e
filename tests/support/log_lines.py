"""What our programs log, as a list that a test reads."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def logged(level: str, form: str = "{message}") -> Iterator[list[str]]:
    """The lines from this level on, while the block runs."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).removesuffix("\n")), level=level, format=form)
    try:
        yield lines
    finally:
        logger.remove(sink)
