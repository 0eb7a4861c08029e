"""Delivers webhooks: each is posted until the receiver accepts it, and its outcome is reported to a decider."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, Final, Literal

from loguru import logger

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.net import webhook_post as http
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.operators.model.backoff import Backoff
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
    now: Callable[[], float] = time.time

    async def post(self, owed: f.WebhookOwed) -> None:
        """One attempt."""
        at = int(self.now())
        news = {**owed.news, "params": redacted(owed.news["params"])} if "params" in owed.news else owed.news
        await http.post_json(self.url, news, secret=self.secret, message_id=owed.delivery, at=at, ca=self.ca)


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
        http.signing_key(settings.webhook_secret)
    except ValueError as error:
        raise SettingsError(f"WAKESTREAM_WEBHOOK_SECRET: {error}; correct it, or create a new one") from None
    return Receiver(url, settings.webhook_secret, client_context(settings.ca))


class Webhooks:
    """Delivers webhooks. `settle` is called with the outcome of each; `counted` counts attempts by result."""

    def __init__(
        self,
        post: f.Post,
        settle: Callable[[f.WebhookSettled], object],
        *,
        backoff: Backoff = f.AGAIN,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self.counted: Counter[str] = Counter()
        self._post, self._settle, self._now, self._backoff = post, settle, now, backoff
        self._random = random or Random()
        self._scheduler = LoopScheduler()
        self._turns = Limiter(AT_ONCE)
        self._telling: dict[str, asyncio.Future[Any]] = {}

    def tell(self, owed: f.WebhookOwed) -> None:
        """Start a delivery, unless one with the same id is running."""
        if owed.delivery in self._telling:
            return
        if len(self._telling) >= f.MAX_PENDING:
            next(iter(self._telling.values())).cancel()
        backoff = replace(self._backoff, on_retry=partial(self._again, owed.job))
        told = f.delivery(self._attempt, owed, self._now(), self._random, self._turns, backoff)
        telling = self._telling[owed.delivery] = told.pipe(to_future(self._scheduler))
        telling.add_done_callback(lambda ended: self._over(owed, ended))

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
        self._settle(f.WebhookSettled(owed.delivery, str(error) or repr(error) if error is not None else ""))


@asynccontextmanager
async def telling(
    to: Receiver, settle: Callable[[f.WebhookSettled], object], backoff: Backoff = f.AGAIN
) -> AsyncIterator[Webhooks]:
    """Deliver webhooks while the block runs."""
    async with contextlib.aclosing(Webhooks(to.post, settle, backoff=backoff, now=to.now)) as found:
        yield found
