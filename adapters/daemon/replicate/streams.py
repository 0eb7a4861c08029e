"""The event streams of predictions: the log as it grows, a text as it grows, then the output."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.daemon import event_feed as sse
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.api.routes import FOLLOWERS
from wakestream.adapters.daemon.event_feed import Item
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.daemon.previews import EVERY, WAITS, Previews
from wakestream.adapters.daemon.replicate.predictions import Predictions, caller_of, ignored
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.engine import MAX_PREVIEW, TEXT
from wakestream.streams.outbox.state import Entry
from wakestream.streams.recording.event_json import OUTCOME_KINDS

_GROWN: Final = "grown"
"""The kind of the events that say that a text has grown."""


class Streams:
    """The event streams. Those of a token are limited, so that they take no place of others."""

    def __init__(self, outbox: Outbox, predictions: Predictions, previews: Previews) -> None:
        self._feed, self._predictions, self._previews = outbox.feed, predictions, previews

    async def answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        """Follow a prediction to its end. `ApiError` if its token has too many streams open."""
        token, feed = caller_of(entry).token, self._feed
        if feed.followers(token) >= FOLLOWERS:
            why = f"this token has {FOLLOWERS} event streams open; close one, then try again"
            raise ApiError(429, "too_many_followers", why)
        job, only_text = entry.accepted.job, [*caller_of(entry).shape.values()] == ["text"]
        last_id, _, sent = request.headers.get("Last-Event-ID", "").partition(":")
        number = feed.after(last_id) or 0
        grown = GrowingText((number and whole_number(sent, most=MAX_PREVIEW)) or 0)

        def text(item: Item) -> bytes:
            nonlocal number
            if item.kind == _GROWN:
                more = grown.more()
                return event(f"{feed.boot}-{number}:{grown.sent}", "output", more) if more else b""
            lines, number = self._predictions.log([item]), item.number
            return event(f"{feed.boot}-{number}:{grown.sent}", "logs", lines) if lines else b""

        with feed.follow(job, sse.cutting(request), whose=token) as listener:
            first = b"" if number else event(f"{feed.boot}-0:0", "logs", ignored(caller_of(entry)))
            first = b"".join([first, *map(text, self._predictions.items(job, number))])
            live = None if entry.ended is not None else listener
            async with tasks_of_block() as start:
                if only_text and live is not None:
                    start(self._grow(job, grown, lambda: listener.put(Item(0, job, _GROWN, b""))))
                response = await sse.stream(request, first, live, text, last=lambda item: item.kind in OUTCOME_KINDS)
            ended = self._predictions.find(job)
            if response.prepared and ended is not None and ended.ended is not None:
                with suppress(ConnectionError):
                    await response.write(end_of(await self._predictions.plain(ended), grown if only_text else None))
        return response

    async def _grow(self, job: str, grown: GrowingText, tell: Callable[[], object]) -> None:
        """Follow the text of a prediction; `tell` is called when there is more, once until it was read."""
        number = 0
        while True:
            if (newest := await self._previews.newer(job, number, WAITS)) is None:
                continue
            number, preview = newest
            if preview.media == TEXT:
                waits, grown.text = grown.waits, preview.data.decode(errors="replace")
                if not waits and grown.waits:
                    tell()
            await asyncio.sleep(EVERY)


def event(id_: str, kind: str, data: str) -> bytes:
    """A server-sent event."""
    lines = "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", data))  # each ends a line for a reader
    return f"event: {kind}\nid: {id_}\n{lines}\n".encode()


class GrowingText:
    """The text of an output, of which a reader has the first `sent` characters."""

    def __init__(self, sent: int) -> None:
        self.sent, self.text, self._before = sent, "", ""

    @property
    def waits(self) -> bool:
        """Whether there is more for the reader."""
        return len(self.text) > self.sent and self.text.startswith(self._before)

    def more(self) -> str:
        """What the reader has not got. Nothing while the work, begun again, writes another text."""
        if not self.waits:
            return ""
        more, self._before, self.sent = self.text[self.sent :], self.text, len(self.text)
        return more

    def rest(self, whole: str) -> str:
        """The rest of the output `whole`; all of it if the reader has another text."""
        return whole[self.sent :] if whole.startswith(self._before) else whole


def end_of(plain: Mapping[str, Any], grown: GrowingText | None = None) -> bytes:
    """The last events of a stream: the output, or what `grown` lacks of it, or the error, and the end."""
    job, output, status = plain["id"], plain["output"], plain["status"]
    values = [*output.values()] if isinstance(output, dict) else output if isinstance(output, list) else [output]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value]) if item is not None]
    texts = [item if isinstance(item, str) else orjson.dumps(item).decode() for item in flat]
    if grown is not None:
        texts = [rest for text in texts if (rest := grown.rest(text))]
    events = [event(f"{job}:{number}", "output", text) for number, text in enumerate(texts)]
    if plain["error"]:
        events.append(event(f"{job}:error", "error", plain["error"]))
    reasons: dict[str, dict[str, str]] = {"failed": {"reason": "error"}, "canceled": {"reason": "canceled"}}
    return b"".join([*events, event(f"{job}:done", "done", orjson.dumps(reasons.get(status, {})).decode())])
