"""The network between replayed programs: in memory, in the loop's time. Each channel keeps the order."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median_high
from typing import Any

from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Row

USUAL = 0.001
"""Seconds that a message takes if the logs have no such message."""

SLACK = 0.25
"""Computing takes no time in a replay, so a program sends a little earlier than it did. A message that is at most this
many seconds early arrives at its recorded time, so that its order among the receiver's own rows is kept."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A message on its way between two programs (`daemon`, `hub`, `monitor`, `worker`).

    It is sent at `at` seconds on the shared clock. `recorded` are the seconds that it took in the recorded run, or the
    usual ones if it was not sent then.
    """

    sender: str
    receiver: str
    message: m.Message
    at: float
    recorded: float


Delay = Callable[[Hop], float]
"""The seconds that a message takes."""


@dataclass(frozen=True, slots=True)
class Past:
    """A recorded message: when it was sent, and when and as which row it arrived (None: not recorded)."""

    kind: tuple[str, str | None]
    sent: float
    arrived: float | None = None
    received: Row | None = None

    @property
    def took(self) -> float | None:
        """The seconds that it took; None if it was lost."""
        return None if self.arrived is None else self.arrived - self.sent


Deliver = Callable[[m.Message, Row | None], None]
"""Receives a message, with its recorded row if it arrives at the recorded time."""


class Network:
    """The clock and the message delays of a replay. Times are seconds since the replay began.

    Without `delay`, messages arrive as in the recorded run, and those that were lost are lost again. With it, it gives
    the seconds that each message takes. `alone`: only one program is replayed. The replay lasts until the logs have
    ended, and all jobs in `awaited`.
    """

    def __init__(self, delay: Delay | None = None, *, alone: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        self.delay, self.alone = delay, alone
        self.over: asyncio.Future[None] = self.loop.create_future()
        self.awaited: set[str] = set()
        self.closed = False
        self._logs_ended = False

    @property
    def exact(self) -> bool:
        """Whether the recorded run is repeated exactly."""
        return self.delay is None

    @property
    def now(self) -> float:
        """Seconds since the replay began."""
        return self.loop.time() - self.start

    def at(self, when: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call at a time. An error in the call ends the replay."""
        return self.loop.call_at(self.start + when, self._guarded, call, *args)

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call after this many seconds."""
        return self.at(self.now + seconds, call, *args)

    def fail(self, error: Exception) -> None:
        """End the replay with an error."""
        if not self.over.done():
            self.over.set_exception(error)

    def escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error in a callback of the loop: the replay would otherwise never end."""
        error = context.get("exception")
        if isinstance(error, Exception):
            self.fail(error)
        else:
            loop.default_exception_handler(context)

    def logs_end(self) -> None:
        """The last row is over."""
        self._logs_ended = True
        self._perhaps_finish()

    def job_ended(self, job: str) -> None:
        """A job is over."""
        self.awaited.discard(job)
        self._perhaps_finish()

    def _perhaps_finish(self) -> None:
        if self._logs_ended and not self.awaited:
            if self.exact:
                self.finish()
            else:
                self.after(1.0, self.finish)  # messages are on their way

    def finish(self) -> None:
        """End the replay."""
        if not self.over.done():
            self.over.set_result(None)

    def _guarded(self, call: Callable[..., None], *args: Any) -> None:
        if self.over.done():
            return
        try:
            call(*args)
        except Exception as error:
            self.fail(error)


class Channel:
    """One direction of one connection. `past` are its messages in the recorded run, in order.

    `only_past`: others are lost, since the sender ended before it sent all that it had decided.
    """

    def __init__(
        self, net: Network, sender: str, receiver: str, deliver: Deliver, past: Iterable[Past] = (),
        *, only_past: bool = False,
    ) -> None:  # fmt: skip
        self._net, self._sender, self._receiver, self._deliver = net, sender, receiver, deliver
        self._only_past = only_past
        self._past: defaultdict[tuple[str, str | None], deque[Past]] = defaultdict(deque)
        for message in past:
            self._past[message.kind].append(message)
        took = [message.took for same in self._past.values() for message in same if message.took is not None]
        self._usual = median_high(took) if took else USUAL
        self._last = 0.0

    def send(self, message: m.Message) -> None:
        """Send a message. It never arrives before one that was sent earlier."""
        known = self._past[kind_of(message)]
        past = known.popleft() if known else None
        arrival = None if past is None and self._only_past else self._arrival(message, past)
        if arrival is None:
            return
        self._last = max(self._last, arrival)
        as_then = past is not None and past.arrived == self._last
        self._net.at(self._last, self._deliver, message, past.received if past is not None and as_then else None)

    def _arrival(self, message: m.Message, past: Past | None) -> float | None:
        now = self._net.now
        took = self._usual if past is None else past.took
        if self._net.delay is not None:
            hop = Hop(self._sender, self._receiver, message, now, self._usual if took is None else took)
            return now + max(0.0, self._net.delay(hop))
        if took is None:
            return None
        if past is not None and past.sent - SLACK <= now <= past.sent:
            return past.arrived
        return now + max(0.0, took)


def kind_of(message: m.Message) -> tuple[str, str | None]:
    """The key for finding a recorded message of the same connection: its type and its job."""
    kind = message.type if isinstance(message, m.Unknown) else message.TYPE
    return kind, getattr(message, "request_id", None)
