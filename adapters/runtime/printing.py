"""Every line of the command line goes through here: none steers a terminal, whoever wrote what it quotes."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from wakestream.streams.protocol.printable import escaped, printable

if TYPE_CHECKING:
    from rich.console import Console

_PAINTED = re.compile(r"(\x1b\[[0-9;]*m)")


def say(*lines: str, error: bool = False) -> None:
    """Lines for the user, on standard output or standard error; one that has several lines in it stays one."""
    if lines:
        _put("\n".join(map(printable, lines)), error=error)


def say_json(value: Any, *, error: bool = False, indent: bool = False) -> None:
    """A value for a program, as one line of JSON unless `indent`."""
    _put(json_text(value, indent=indent), error=error)


def answer(value: Any, *lines: str, as_json: bool) -> None:
    """The value for a program, or the lines for a person."""
    if as_json:
        say_json(value)
    else:
        say(*lines)


def draw(text: str) -> None:
    """Lines with colours of ours: what they quote has gone through `printable`."""
    parts = _PAINTED.split(text)
    _put("".join(part if at % 2 else printable(part, layout=True) for at, part in enumerate(parts)))


def json_text(value: Any, *, indent: bool = False) -> str:
    """`value` as JSON; characters that are not to be seen are escaped, so that it is all there."""
    import json

    import orjson

    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except TypeError:  # half a letter in a text, which is no UTF-8
        text = json.dumps(value, ensure_ascii=False, indent=2 if indent else None).encode(errors="replace").decode()
    return escaped(text)


def console(*, soft_wrap: bool = False) -> Console:
    """A rich console for standard output; what is printed on it is cleaned as lines are."""
    from rich.console import Console
    from rich.segment import Segment

    class Clean(Console):
        def render(self, *what: Any, **options: Any) -> Any:
            for part in super().render(*what, **options):
                yield part if part.control else Segment(printable(part.text, layout=True), part.style)

    return Clean(highlight=False, soft_wrap=soft_wrap)


def _put(text: str, *, error: bool = False) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
