"""A one-time link to the console, printed or opened in a browser."""

from __future__ import annotations

import contextlib
import html
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wakestream.adapters.disk.atomic import retry_in_use
from wakestream.adapters.runtime.printing import say

PAGE: Final = "open-console.html"


def address(url: str, code: str) -> str:
    """The link. What follows the `#` is not sent to any server, and the page takes it out of the address at once."""
    return f"{url}/#link={code}"


@contextmanager
def shown(state: Path, url: str, code: Callable[[], str], *, browser: bool) -> Iterator[None]:
    """Say where the console is; the link only on a terminal, as whatever else reads this may keep it in a log.

    `browser` opens it in one as well.
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
    """Open the link in the user's browser; False when there is none, or it could not be told.

    The browser is told of a file that only this user can read, and which leads to the link: all users of a machine can
    read what its programs were started with.
    """
    path = state / PAGE
    text = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    with contextlib.suppress(OSError):
        retry_in_use(lambda: path.unlink(missing_ok=True))
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:  # Windows, while a browser still reads the last one
        return False
    return webbrowser.open(path.as_uri())
