"""A one-time link to the console, printed or opened in a browser."""

from __future__ import annotations

import contextlib
import html
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.runtime.printing import say

PAGE: Final = "open-console.html"


def address(url: str, code: str) -> str:
    """The link. Browsers do not send the part after `#` to a server, and the page removes it from its address."""
    return f"{url}/#link={code}"


@contextmanager
def shown(state: Path, url: str, code: Callable[[], str], *, browser: bool) -> Iterator[None]:
    """Print the console's address; the link only on a terminal, since other readers may log it.

    `browser` also opens it in a browser.
    """
    if sys.stdout.isatty():
        say(f"web console: {address(url, code())}")
    else:
        say(f"web console: {url}/ (`wakestream console` gives a link that opens it)")
    if browser:
        in_browser(state, address(url, code()))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (state / PAGE).unlink(missing_ok=True)


def in_browser(state: Path, link: str) -> bool:
    """Open the link in the user's browser; False when that fails.

    The browser gets the path of a file that only this user can read, and that redirects to the link: all users of a
    machine can read the arguments of its processes.
    """
    path = state / PAGE
    text = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    try:
        write_atomic(path, text.encode(), sync=False)
    except PermissionError:  # on Windows, while a browser still reads the last one
        return False
    return webbrowser.open(path.as_uri())
