"""Let pages of other origins call the worker, as deployed workers do. Calls still need the secret, not a cookie."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from wakestream.adapters.worker.http import tus

_HEADERS = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, OPTIONS",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, Range",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Content-Length, Content-Range, Accept-Ranges, Content-Disposition",
}


async def put_cors(_: web.Request, response: web.StreamResponse) -> None:
    """For the application's `on_response_prepare`."""
    response.headers.update(_HEADERS)


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS at every address; for tus only a browser's preflight, since tus has its own OPTIONS."""
    asks = hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers or not request.path.startswith(tus.AT)
    if request.method == hdrs.METH_OPTIONS and asks:
        return web.Response()
    return await handler(request)
