"""Send a result: `FileResponse` for speed and ranges, with the result's BLAKE3 as its ETag."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

_CONDITIONS = (
    hdrs.IF_MATCH,
    hdrs.IF_NONE_MATCH,
    hdrs.IF_RANGE,
    hdrs.IF_MODIFIED_SINCE,
    hdrs.IF_UNMODIFIED_SINCE,
    hdrs.ACCEPT_ENCODING,
)

_ONE_PART = re.compile(r"bytes=(\d+-\d*|-\d+)", re.ASCII | re.IGNORECASE)


class ResultFile(web.FileResponse):
    """The file at `path` whose BLAKE3 is `digest`.

    aiohttp only has ETags of size and date, so the conditions of the request are handled here: with `If-Range` of
    another result, the response is the whole file (RFC 9110, 13.1.5), and so it is for several ranges and for units
    other than bytes (14.2), which aiohttp would refuse.
    """

    def __init__(self, path: Path, digest: str) -> None:
        named = f"inline; filename={path.name}"
        super().__init__(path, headers={hdrs.CONTENT_TYPE: _media_type(path), hdrs.CONTENT_DISPOSITION: named})
        self.tag = f'"{digest}"'

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        headers = request.headers.copy()
        one_part = _ONE_PART.fullmatch(headers.get(hdrs.RANGE, ""))
        if one_part is None or headers.get(hdrs.IF_RANGE, self.tag) != self.tag:
            headers.popall(hdrs.RANGE, None)
        for condition in _CONDITIONS:
            headers.popall(condition, None)
        return await super().prepare(request.clone(headers=headers))


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name, strict=False)[0] or "application/octet-stream"


async def put_etag(_: web.Request, response: web.StreamResponse) -> None:
    """For the application's `on_response_prepare`, which runs after aiohttp has set its own ETag."""
    if isinstance(response, ResultFile):
        response.headers[hdrs.ETAG] = response.tag


def result_response(request: web.Request, path: Path, digest: str) -> web.StreamResponse:
    """The file, the requested part, 304 if the caller has it, or 412 if it wants a part of another result."""
    wanted, held = request.headers.get(hdrs.IF_MATCH, "*"), request.headers.get(hdrs.IF_NONE_MATCH, "")
    if f'"{digest}"' not in wanted and wanted.strip() != "*":
        return web.Response(status=412, headers={hdrs.ETAG: f'"{digest}"'})
    if digest in held or held.strip() == "*":
        return web.Response(status=304, headers={hdrs.ETAG: f'"{digest}"'})
    return ResultFile(path, digest)
