"""POSTs a message to a webhook, signed as Standard Webhooks (https://www.standardwebhooks.com) says."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained
from wakestream.operators.model.errors import WakestreamError

ANSWER_WITHIN = 10.0
"""Seconds that the receiver has to answer."""

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
"""A secret that begins so is base64 of the key; any other text is the key itself."""


class WebhookDown(WakestreamError):
    """The receiver did not accept the message; a retry may succeed."""

    code = "webhook_down"
    retryable = True


class WebhookGone(WakestreamError):
    """The receiver does not want this message (HTTP 410)."""

    code = "webhook_gone"


def signing_key(secret: str) -> bytes:
    """The key in a webhook secret. Raises `ValueError` when it begins with `whsec_` and the rest is not base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret that begins with whsec_ must go on in base64") from None


def signed(secret: str, body: bytes, message_id: str, at: int) -> dict[str, str]:
    """The three headers of Standard Webhooks for this body, as of `at` (UNIX seconds)."""
    mac = hmac.new(signing_key(secret), f"{message_id}.{at}.".encode() + body, hashlib.sha256)
    return {ID: message_id, TIMESTAMP: str(at), SIGNATURE: f"v1,{base64.b64encode(mac.digest()).decode()}"}


async def post_json(
    url: str,
    message: Mapping[str, Any],
    *,
    secret: str | None = None,
    message_id: str | None = None,
    at: int | None = None,
    ca: ssl.SSLContext | None = None,
) -> None:
    """POST a message as JSON to a webhook.

    Only `url` is called: redirects are not followed, and only the status of the answer is read. Errors, and therefore
    logs and recordings, do not contain the address, since such addresses often contain a secret.

    Args:
        url: The receiver's address.
        message: What is sent, as a JSON object.
        secret: Signs the message, so that the receiver can verify it with any Standard Webhooks library.
        message_id: The same for each attempt to send this message; a new one by default.
        at: The time of the attempt in UNIX seconds; now by default.
        ca: Verifies a receiver whose certificate the system does not trust.

    Raises:
        WebhookDown: no answer, or another status than 2xx; a retry may succeed.
        WebhookGone: the answer is HTTP 410.
        WakestreamError: the address cannot be called.

    Example:
        >>> await post_json("https://shop.example/done", {"job": "job-1"}, secret="whsec_c2VjcmV0LXNlY3JldA==")
    """
    body = orjson.dumps(dict(message))
    sent = {"Content-Type": "application/json", "User-Agent": "wakestream"}
    if secret is not None:
        sent |= signed(secret, body, message_id or f"msg_{uuid.uuid4().hex}", int(time.time()) if at is None else at)
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(url, data=body, headers=sent, allow_redirects=False, ssl=ca or True) as response,
        ):
            status = response.status
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise WakestreamError(
            "the webhook was not sent: its address cannot be called; correct it", code="bad_url"
        ) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WebhookDown(f"the webhook was not sent: {_reason(error)}") from None
    if status == 410:
        raise WebhookGone("the webhook was not sent: its receiver refuses it for good (HTTP 410)")
    if not 200 <= status < 300:
        raise WebhookDown(f"the webhook was not accepted: its receiver answered HTTP {status}")


def _reason(error: Exception) -> str:
    """A clause without the address, which may contain a secret."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"no secure connection: {explained(error) or 'the TLS handshake failed'}"
        case aiohttp.ClientConnectorError(os_error=OSError() as cause):
            return no_connection(cause)
        case TimeoutError():
            return f"no answer within {ANSWER_WITHIN:g} s"
        case _:
            return f"no answer ({type(error).__name__})"
