"""Serves the static files of the console's page, with strict security headers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePath
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
"""Headers of every answer to the page: browsers load and run only the page's own files."""

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Page:
    """The files of the folder `static`, by path; `/` is `index.html`."""

    def __init__(self) -> None:
        folder = files("wakestream.adapters.daemon.console") / "static"
        found = {f"/{each.name}": each.read_bytes() for each in folder.iterdir() if _suffix(each.name) in _TYPES}
        self._files = {"/": found["/index.html"], **found}

    def __contains__(self, path: str) -> bool:
        """Whether the path is one of the files. They contain no secrets."""
        return path in self._files

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get(path, self.give) for path in self._files]

    async def give(self, request: web.Request) -> web.Response:
        """A file, or 304 if the browser has it."""
        body = self._files[request.path]
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {**SAFE, hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers=headers)
        ending = _suffix(request.path) or ".html"
        return web.Response(body=body, content_type=_TYPES[ending], charset="utf-8", headers=headers)


def _suffix(path: str) -> str:
    return PurePath(path).suffix
