"""Serves the static files of the console's page."""

from __future__ import annotations

import gzip
from typing import Final

from aiohttp import hdrs, web

from wakestream.adapters.net.static_files import POLICY, SAFE, files_of, tag_of, type_of

INDEX = "index.html"

PAGE: Final = {**SAFE, hdrs.CONTENT_SECURITY_POLICY: POLICY.replace("media-src 'self'", "media-src 'self' blob:")}
"""The headers of the page. It may also play files that the user has chosen on it, for their previews."""


class Page:
    """The files of the folder `static` of a package, and those that our pages share, by path; `/` is `index.html`."""

    def __init__(self, package: str = "wakestream.adapters.daemon.console") -> None:
        files = {f"/{name}": body for name, body in files_of(package).items()}
        self._files = {"/": files[f"/{INDEX}"], **files}
        self._packed = {path: gzip.compress(body, mtime=0) for path, body in self._files.items()}

    @property
    def weight(self) -> int:
        """Bytes that a browser fetches for the page in English; Chinese has a file of texts more."""
        return sum(len(body) for path, body in self._packed.items() if path != "/" and not path.endswith(".json"))

    def __contains__(self, path: str) -> bool:
        """Whether the path is one of the files. They contain no secrets."""
        return path in self._files

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get(path, self.give) for path in self._files]

    async def give(self, request: web.Request) -> web.Response:
        """A file, or 304 if the browser has it."""
        body = self._files[request.path]
        headers = {**PAGE, hdrs.ETAG: tag_of(body), hdrs.CACHE_CONTROL: "no-cache", hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag_of(body):
            return web.Response(status=304, headers=headers)
        kind = type_of(request.path.removeprefix("/") or INDEX)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            body = self._packed[request.path]
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
