"""Serves the files of the operator's page in answers to handshakes: the hub's server has no other HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from wakestream.adapters.net.static_files import SAFE, files_of, tag_of, type_of

FOLDER: Final = "/operator/"
"""The path below which the page is."""

LIVE: Final = f"{FOLDER}live"
"""The path of its WebSocket."""

_INDEX = "index.html"


class OperatorPage:
    """The files."""

    def __init__(self) -> None:
        self._files = files_of("wakestream.adapters.hub.operator")
        self._tags = {name: tag_of(body) for name, body in self._files.items()}

    def answer(self, path: str, request: Request) -> Response:
        """The file at this path, or why there is none. Paths are compared as a whole, so that none leads elsewhere."""
        if getattr(request, "method", "GET") != "GET":  # websockets 15 accepts no other
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "this address answers to GET only")
        if path == FOLDER.rstrip("/"):
            return _response(HTTPStatus.PERMANENT_REDIRECT, {"Location": FOLDER})
        name = path.removeprefix(FOLDER) or _INDEX
        if name not in self._files:
            return plain(HTTPStatus.NOT_FOUND, f"the operator's page is at {FOLDER}")
        headers = {"ETag": self._tags[name], "Cache-Control": "no-cache"}
        if request.headers.get_all("If-None-Match") == [self._tags[name]]:
            return _response(HTTPStatus.NOT_MODIFIED, headers)
        headers["Content-Type"] = f"{type_of(name)}; charset=utf-8"
        return _response(HTTPStatus.OK, headers, self._files[name])


def plain(status: HTTPStatus, text: str) -> Response:
    """A refusal in one line."""
    return _response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{text}\n".encode())


def _response(status: HTTPStatus, headers: dict[str, str], body: bytes = b"") -> Response:
    length = {} if status is HTTPStatus.NOT_MODIFIED else {"Content-Length": str(len(body))}
    sent = Headers({**SAFE, **headers, **length, "Connection": "close"})
    return Response(status.value, status.phrase, sent, body)
