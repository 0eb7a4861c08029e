"""The files of our pages, and the headers with which they are served: browsers run only what these files contain."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

SAFE: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer to a page: browsers load and run only the page's own files."""

TYPES: Final = {
    ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
    ".json": "application/json",
}  # fmt: skip


def files_of(package: str) -> dict[str, bytes]:
    """The files of a page by name: those in the folder `static` of a package, and those that our pages share."""
    folders = files("wakestream.adapters.net") / "page", files(package) / "static"
    return {file.name: _short(file) for folder in folders for file in folder.iterdir() if _ending(file.name)}


_SPARE: Final = re.compile(rb"^[ \t]*(?://[^\n]*\n|/\*.*?\*/[ \t]*\n|\n)|^[ \t]+", re.MULTILINE | re.DOTALL)
"""Indentation, empty lines, and comments that are lines of their own."""


def _short(file: Traversable) -> bytes:
    """A file as browsers get it: without what only its readers need."""
    body = file.read_bytes()
    return _SPARE.sub(b"", body) if _ending(file.name) in (".js", ".css", ".html") else body


def type_of(name: str) -> str:
    """The type of a file of a page."""
    return TYPES[_ending(name)]


def tag_of(body: bytes) -> str:
    """An entity tag for this content."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _ending(name: str) -> str:
    ending = PurePath(name).suffix
    return ending if ending in TYPES else ""
