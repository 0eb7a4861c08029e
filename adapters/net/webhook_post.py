"""Telling somebody else's HTTP server what happened, signed where both know a secret."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.operators.model.errors import WakestreamError

PATIENCE = 10.0
"""Seconds that the receiver has to answer."""

SIGNATURE = "X-Wakestream-Signature"
DELIVERY = "X-Wakestream-Delivery"
EVENT = "X-Wakestream-Event"


class WebhookDown(WakestreamError):
    """The receiver did not take the news; it may at the next attempt."""

    code = "webhook_down"
    retryable = True


class WebhookGone(WakestreamError):
    """The receiver wants no such news any more (HTTP 410)."""

    code = "webhook_gone"


def signed(secret: str, body: bytes, at: int) -> str:
    """The signature header's value: `at` (UNIX seconds) and the HMAC-SHA256 of `at`, a full stop and the body."""
    mac = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


async def post_json(
    url: str,
    news: Mapping[str, Any],
    *,
    secret: str | None = None,
    at: int = 0,
    headers: Mapping[str, str] | None = None,
    ca: ssl.SSLContext | None = None,
) -> None:
    """POST `news` as JSON; `WebhookDown` unless the answer is a 2xx, `WebhookGone` when it is 410.

    With a `secret` it is signed as of `at`, UNIX seconds. Nothing but `url` is called: no redirect is followed, and of
    the answer only the status is read. The address stays out of errors, and so out of logs and recordings: such
    addresses often hold a secret.
    """
    body = orjson.dumps(dict(news))
    sent = {"Content-Type": "application/json", "User-Agent": "wakestream", **(headers or {})}
    if secret is not None:
        sent[SIGNATURE] = signed(secret, body, at)
    try:
        status = await _post(url, body, sent, ca)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise WakestreamError(
            "the webhook was not told: its address is none that can be called", code="bad_url"
        ) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WebhookDown(f"the webhook was not told: {_why(error)}") from None
    if status == 410:
        raise WebhookGone("the webhook was not told: its receiver wants no more (HTTP 410)")
    if not 200 <= status < 300:
        raise WebhookDown(f"the webhook was not told: it answers HTTP {status}")


def _why(error: Exception) -> str:
    """In words that hold neither the address nor what is secret in it."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"no safe connection to it: {explained(error) or 'the TLS handshake failed'}"
        case aiohttp.ClientConnectorError(os_error=OSError() as cause):
            return no_connection(cause)
        case TimeoutError():
            return f"no answer within {PATIENCE:g} s"
        case _:
            return f"no answer ({type(error).__name__})"


async def _post(url: str, body: bytes, headers: Mapping[str, str], ca: ssl.SSLContext | None) -> int:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with (
        aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.post(url, data=body, headers=headers, allow_redirects=False, ssl=ca or True) as response,
    ):
        return response.status
