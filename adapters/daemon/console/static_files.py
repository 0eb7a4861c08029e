"""The console's page as it is shipped: a few static files, read once, each with the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

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
"""On every answer of the page: nothing is loaded from elsewhere, nothing runs that is not one of its files."""

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Page:
    """The files of the folder `static`, by their addresses; `/` is `index.html`."""

    def __init__(self) -> None:
        folder = files("wakestream.adapters.daemon.console") / "static"
        found = {f"/{each.name}": each.read_bytes() for each in folder.iterdir() if _ending(each.name) in _TYPES}
        self._files = {"/": found["/index.html"], **found}

    def __contains__(self, path: str) -> bool:
        """Whether anybody on this machine may read that address: there is nothing secret in it."""
        return path in self._files

    def routes(self) -> list[web.RouteDef]:
        """The files by their addresses."""
        return [web.get(path, self.give) for path in self._files]

    async def give(self, request: web.Request) -> web.Response:
        """One file, or 304 to one who has it."""
        body = self._files[request.path]
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {**SAFE, hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers=headers)
        ending = _ending(request.path) or ".html"
        return web.Response(body=body, content_type=_TYPES[ending], charset="utf-8", headers=headers)


def _ending(name: str) -> str:
    head, dot, tail = name.rpartition(".")
    return f".{tail}" if dot and head else ""
