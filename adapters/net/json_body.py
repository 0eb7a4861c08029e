"""Reads a request's body as JSON, for all our HTTP servers."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web


async def json_object(request: web.Request, within: float, *, empty: bytes = b"") -> dict[str, Any]:
    """The body as a JSON object. aiohttp itself refuses bodies that are too large.

    Args:
        request: The request.
        within: Seconds that the body may take.
        empty: Stands for an empty body.

    Raises:
        TimeoutError: the body was not complete in time.
        ValueError: the body is not a JSON object.
    """
    try:
        async with asyncio.timeout(within):
            body = orjson.loads(await request.read() or empty)
    except TimeoutError:
        raise TimeoutError(f"the body did not arrive within {within:g} s: send the request again") from None
    except orjson.JSONDecodeError:
        raise ValueError("the body of this call must be a JSON object in UTF-8, but it is not valid JSON") from None
    if not isinstance(body, dict):
        raise ValueError("the body of this call must be a JSON object")  # noqa: TRY004 - the caller answers both alike
    return body
