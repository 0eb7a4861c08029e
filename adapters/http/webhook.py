"""Telling somebody else's HTTP server what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from wakestream.operators.errors import WakestreamError

PATIENCE = 10.0
"""Seconds that the receiver has to answer."""


class WebhookDown(WakestreamError):
    """The receiver did not take the news; it may at the next attempt."""

    code = "webhook_down"
    retryable = True


async def post_json(url: str, news: Mapping[str, Any]) -> None:
    """POST `news` as JSON; `WebhookDown` unless the answer is a 2xx.

    The address stays out of errors, and so out of logs and recordings: such addresses often hold a secret.
    """
    body, headers = orjson.dumps(dict(news)), {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise WakestreamError(
            "the webhook was not told: its address is none that can be called", code="bad_url"
        ) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WebhookDown(f"the webhook was not told: no answer ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise WebhookDown(f"the webhook was not told: it answers HTTP {status}")
