"""Webhooks for programs: a prediction that starts, has new lines in its log, or has ended."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.event_feed import Item
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.replicate.predictions import Predictions, caller_of
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.net.public_addresses import NotPublic, PublicResolver
from wakestream.adapters.net.webhooks import WebhookDown, Webhooks, post_json
from wakestream.operators.model.errors import WakestreamError, WrongInput
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.webhooks import LASTS, WebhookOwed, delivery_id

EVENTS: Final = ("start", "output", "logs", "completed")
URL_MOST: Final = 2048
"""Characters of a webhook's address: each job keeps its own."""

USUAL: Final = ("output", "completed")
"""What a program is notified of that does not say it."""

APART: Final = 0.5
"""Seconds between two webhooks for new lines in the log of a prediction."""


class Hooks:
    """Sends the webhooks of programs.

    Args:
        outbox: The jobs.
        predictions: What is sent.
        tokens: The secrets with which they are signed.
        hosts: The hosts that may be in a local network.
        ca: Verifies receivers whose certificates the system does not trust.
    """

    def __init__(
        self, outbox: Outbox, predictions: Predictions, tokens: Tokens, hosts: Collection[str], ca: Any = None
    ) -> None:
        self._outbox, self._predictions, self._tokens, self._hosts, self._ca = outbox, predictions, tokens, hosts, ca
        self.webhooks: Webhooks  # set before `run`
        # For a job, whether it works, when its log was sent, and the last delivery.
        self._last: dict[str, tuple[bool, float, str]] = {}

    async def check(self, url: str) -> None:
        """Raise `WrongInput` unless a webhook with this address may be called."""
        if len(url) > URL_MOST:
            raise WrongInput("webhook", f"webhook has {len(url)} characters; {URL_MOST} are allowed")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 443
        except ValueError:
            host = ""
        if not host or parts.scheme not in ("http", "https"):
            raise WrongInput("webhook", f"webhook must be an address that begins with https://, not {url[:60]!r}")
        if host in self._hosts:
            return
        with suppress(OSError, UnicodeError):  # its name is not known now; each call is checked again
            try:
                await PublicResolver().resolve(host, port, socket.AF_UNSPEC)
            except NotPublic as error:
                why = f"webhook: {error}; the daemon calls it only with --api-webhook-host {host[:80]}"
                raise WrongInput("webhook", why) from None

    def whose(self, owed: WebhookOwed) -> str:
        """The program of a webhook."""
        entry = self._predictions.find(owed.job)
        return "" if entry is None else caller_of(entry).token

    async def post(self, owed: WebhookOwed) -> None:
        """One attempt."""
        entry = self._predictions.find(owed.job)
        try:
            token = None if entry is None else self._tokens.named(caller_of(entry).token)
        except SettingsError as error:  # a later version wrote the tokens: that one may run again
            raise WebhookDown(str(error)) from None
        if entry is None or token is None:
            raise WakestreamError("the webhook was not sent: its prediction or its token was removed", code="gone")
        url, body = caller_of(entry).webhook, owed.news or await self._predictions.plain(entry)
        public = urlsplit(url).hostname not in self._hosts
        at = int(time.time())
        await post_json(url, body, secret=token.secret, message_id=owed.delivery, at=at, ca=self._ca, public=public)

    async def run(self) -> None:
        """Notify of starts and logs; their ends come from the outbox."""
        while True:
            cut = asyncio.Event()
            with self._outbox.feed.follow(None, cut.set, whose=None) as happened:
                while (item := await happened.next()) is not None:
                    await self._happened(item)
            if not cut.is_set():
                return

    async def _happened(self, item: Item) -> None:
        entry = self._predictions.find(item.job)
        if entry is None or not (caller := caller_of(entry)).webhook:
            return
        if item.kind in OUTCOME_KINDS:
            self._last.pop(item.job, None)
            return
        works, told_at, delivery = self._last.get(item.job, (False, float("-inf"), ""))
        now = time.monotonic()
        logs = "logs" in caller.events and now - told_at >= APART and not self.webhooks.is_telling(delivery)
        if not logs and (works or "start" not in caller.events):
            return
        plain = await self._predictions.plain(entry)
        starts = not works and plain["status"] == "processing"
        at = time.time()
        if sends := logs or (starts and "start" in caller.events):
            delivery = delivery_id(f"{item.job} {item.number}", at)
        self._last[item.job] = works or starts, now if logs else told_at, delivery
        if sends:  # as of so long ago, it is tried once: the next one has newer lines
            self.webhooks.tell(WebhookOwed(item.job, delivery, at - LASTS, plain))
