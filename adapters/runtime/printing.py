"""All output of the command line, and its questions. It is cleaned, so that quoted text cannot control the terminal."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.streams.protocol.printable import escaped, printable

if TYPE_CHECKING:
    from rich.console import Console

_PAINTED = re.compile(r"(\x1b\[[0-9;]*m)")

YES = ("y", "yes", "是", "好", "对")
"""Answers to a question on a terminal."""


def say(*lines: str, error: bool = False) -> None:
    """Print lines for the user. Line breaks within a line are escaped."""
    if lines:
        _put("\n".join(map(printable, lines)), error=error)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON, without secrets."""
    _put(json_text(redacted(value)))


def answer(value: Any, *lines: str, as_json: bool) -> None:
    """Print the value as JSON for a program, or the lines for a person."""
    if as_json:
        say_json(value)
    else:
        say(*lines)


def agrees(*question: str) -> bool:
    """Ask on a terminal; without one, or without an answer, it is no."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    say(*question)
    return sys.stdin.readline().strip().lower() in YES


def ring() -> None:
    """Ring the terminal's bell, if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write("\a")
        sys.stderr.flush()


def draw(text: str) -> None:
    """Print text with colour codes; everything else in it is cleaned."""
    parts = _PAINTED.split(text)
    _put("".join(part if at % 2 else printable(part, layout=True) for at, part in enumerate(parts)))


def json_text(value: Any) -> str:
    """`value` as JSON; invisible characters are escaped."""
    import json

    import orjson

    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate is not UTF-8
        text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return escaped(text)


def console(*, soft_wrap: bool = False) -> Console:
    """A rich console for standard output that cleans what is printed."""
    from rich.console import Console
    from rich.segment import Segment

    class Clean(Console):
        def render(self, *what: Any, **options: Any) -> Any:
            for part in super().render(*what, **options):
                yield part if part.control else Segment(printable(part.text, layout=True), part.style)

    return Clean(highlight=False, soft_wrap=soft_wrap)


def _put(text: str, *, error: bool = False) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
