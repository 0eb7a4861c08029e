"""The frames that a deployed peer heard or said, and how a test waits for one of them."""

import asyncio
from typing import Any

Frame = dict[str, Any]

WITHIN = 30.0
"""Seconds within which a frame that a test waits for must come."""


class Frames:
    """All frames in order; `wait` returns the first with the fields asked for, at once if it was there before."""

    def __init__(self) -> None:
        self.all: list[Frame] = []
        self._changed = asyncio.Condition()

    async def add(self, frame: Frame) -> None:
        """One more frame."""
        async with self._changed:
            self.all.append(frame)
            self._changed.notify_all()

    def of(self, kind: str, **wanted: Any) -> list[Frame]:
        """The frames of one type with these fields."""
        wanted["type"] = kind
        return [frame for frame in self.all if wanted.items() <= frame.items()]

    async def wait(self, kind: str, count: int = 1, **wanted: Any) -> Frame:
        """The `count`-th frame of this type with these fields."""
        try:
            async with asyncio.timeout(WITHIN), self._changed:
                await self._changed.wait_for(lambda: len(self.of(kind, **wanted)) >= count)
        except TimeoutError:
            raise AssertionError(f"no {kind} with {wanted}; there were {self.all}") from None
        return self.of(kind, **wanted)[count - 1]


def dsp(url: str) -> str:
    """The address of the hub's socket, as deployed programs derive it from `API_SERVER_URL`."""
    scheme, _, rest = url.partition("://")
    base = {"http": "ws", "https": "wss"}.get(scheme, scheme) + "://" + rest.rstrip("/")
    return base if base.endswith("/dsp") else base + "/dsp"
