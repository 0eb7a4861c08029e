"""Delivers webhooks: each is posted until the receiver accepts it, and its outcome is reported to a decider."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import ssl
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Final, Literal

import aiohttp
import orjson
from loguru import logger

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.public_addresses import NotPublic, public_connector
from wakestream.adapters.net.tls import client_context, explained
from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.to_future import to_future
from wakestream.streams import webhooks as f

AT_ONCE: Final = 4
"""Attempts at a time."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """The webhook's address and secret. `post` makes one attempt; errors that are `retryable` may be tried again."""

    url: str = field(repr=False)
    secret: str = field(repr=False)
    ca: Any = None

    async def post(self, owed: f.WebhookOwed) -> None:
        """One attempt."""
        news = {**owed.news, "params": redacted(owed.news["params"])} if "params" in owed.news else owed.news
        await post_json(self.url, news, secret=self.secret, message_id=owed.delivery, ca=self.ca)


def receiver(setting: Literal["webhook_url", "power_webhook_url"], settings: Settings) -> Receiver | None:
    """The receiver that a setting names; `SettingsError` when its secret is missing, invalid or not for it."""
    url: str | None = getattr(settings, setting)
    if url is None:
        return None
    settings.check_sent("webhook_secret", setting)
    if settings.webhook_secret is None:
        raise SettingsError(
            "the webhook has no secret; set WAKESTREAM_WEBHOOK_SECRET in the environment or in .env, to the one with "
            "which the receiver verifies signatures"
        )
    try:
        signing_key(settings.webhook_secret)
    except ValueError as error:
        raise SettingsError(f"WAKESTREAM_WEBHOOK_SECRET: {error}; correct it, or create a new one") from None
    return Receiver(url, settings.webhook_secret, client_context(settings.ca))


class Webhooks:
    """Delivers webhooks. `report` is called with the outcome of each; `counted` counts attempts by result.

    `whose` says to whom one belongs: those of one owner, whose receiver may be slow, do not delay those of others.
    """

    def __init__(
        self,
        post: f.Post,
        report: Callable[[f.WebhookSettled], object],
        *,
        now: Callable[[], float] = time.time,
        whose: Callable[[f.WebhookOwed], str] = lambda _: "",
    ) -> None:
        self.counted: Counter[str] = Counter()
        self._post, self._report, self._now = post, report, now
        self._random = Random()
        self._scheduler = LoopScheduler()
        self._whose = whose
        self._turns = defaultdict[str, Limiter](lambda: Limiter(AT_ONCE))
        self._telling: dict[str, asyncio.Future[Any]] = {}

    def tell(self, owed: f.WebhookOwed) -> None:
        """Start a delivery, unless one with the same id is running."""
        if owed.delivery in self._telling:
            return
        if len(self._telling) >= f.MAX_PENDING:
            next(iter(self._telling.values())).cancel()
        backoff = replace(f.AGAIN, on_retry=partial(self._again, owed.job))
        told = f.delivery(self._attempt, owed, self._now(), self._random, self._turns[self._whose(owed)], backoff)
        telling = self._telling[owed.delivery] = told.pipe(to_future(self._scheduler))
        telling.add_done_callback(lambda ended: self._over(owed, ended))

    def is_telling(self, delivery: str) -> bool:
        """Whether this delivery has not ended."""
        return delivery in self._telling

    async def aclose(self) -> None:
        """Stop all deliveries; the rest is delivered after the next start."""
        for telling in tuple(self._telling.values()):
            telling.cancel()
        await self._scheduler.close()

    async def _attempt(self, owed: f.WebhookOwed) -> None:
        try:
            await self._post(owed)
        except WakestreamError as error:
            logger.bind(job=owed.job, stage="webhook").debug("{}", error)
            raise

    def _again(self, job: str, attempt: int, delay: float, error: Exception) -> None:
        self.counted["failed"] += 1
        level = "WARNING" if attempt == 1 else "DEBUG"
        logger.bind(job=job, stage="webhook").log(level, "{}; next try in {:.0f} s, for a day at most", error, delay)

    def _over(self, owed: f.WebhookOwed, ended: asyncio.Future[Any]) -> None:
        del self._telling[owed.delivery]
        if ended.cancelled():
            return
        error, log = ended.exception(), logger.bind(job=owed.job, stage="webhook")
        if error is None:
            self.counted["delivered"] += 1
            log.info("the webhook was delivered")
        else:
            self.counted["given_up"] += 1
            log.error("{}; given up", error if isinstance(error, WakestreamError) else repr(error))
        self._report(f.WebhookSettled(owed.delivery, str(error) or repr(error) if error is not None else ""))


@asynccontextmanager
async def telling(to: Receiver, report: Callable[[f.WebhookSettled], object]) -> AsyncIterator[Webhooks]:
    """Deliver webhooks while the block runs."""
    async with contextlib.aclosing(Webhooks(to.post, report)) as webhooks:
        yield webhooks


# POSTs a message to a webhook, signed as Standard Webhooks (https://www.standardwebhooks.com) says.

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
    public: bool = False,
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
        public: Whether only addresses of the internet are called.

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
    timeout, connector = aiohttp.ClientTimeout(total=ANSWER_WITHIN), public_connector() if public else None
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), connector=connector) as session,
            session.post(url, data=body, headers=sent, allow_redirects=False, ssl=ca or True) as response,
        ):
            status = response.status
    except NotPublic:
        why = "the webhook was not sent: its address is one of this machine or of a local network"
        raise WakestreamError(why, code="bad_url") from None
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
