"""Our own depot as the hub uses it: by HTTP, with capabilities that the hub makes for itself."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from wakestream.adapters.client.depot import PLAIN
from wakestream.adapters.client.worker_calls import Known, Session, WorkerCalls
from wakestream.adapters.depot.store import LINKS, Method
from wakestream.adapters.net.capabilities import of_depot
from wakestream.adapters.net.capability_keys import Signer
from wakestream.operators.model.errors import DepotError, WakestreamError, WorkerUnreachable
from wakestream.streams.hub.answers import places
from wakestream.streams.protocol import depot_messages as d

LIFE = 60.0
"""Seconds for which a capability of the hub itself is valid."""

WITHIN = 20.0
"""Seconds that the depot has to answer."""

AT_ONCE = 1000
"""The most files of one call."""


class BuiltinDepot:
    """Implements `DepotStore`.

    Args:
        where: Returns the address and the name of the depot that is connected; None if none is.
        signer: The hub's key.
        ca: Verifies a depot whose certificate the system does not trust.
        clock: Returns UNIX seconds.
    """

    def __init__(
        self,
        where: Callable[[], tuple[str, str] | None],
        signer: Signer,
        ca: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._where, self._signer, self._clock = where, signer, clock
        self._session = Session(ca=ca, idle=WITHIN)

    def permission(self, owner: str, job: str, now: float) -> dict[str, str]:
        """See `DepotStore.permission`. Nothing while no depot is connected."""
        if (place := self._where()) is None:
            return {}
        url, name = place
        return {"depot": url, "capability": self._signer.mint(job, owner, of_depot(name), now, now + LINKS)}

    async def open(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """See `DepotStore.open`."""
        expect = {file.blake3: file.size for file in files}
        have, room, size = await self._look(owner, files, expect=expect)
        missing = {name: size for name, size in expect.items() if name not in have}
        if (wanted := sum(missing.values())) > room:
            if wanted > size:
                why = f"the depot takes {size} bytes, the files have {wanted}; give it a larger --size"
                raise DepotError(why, code="too_large")
            why = f"the depot is full: it has room for {room} bytes, the files have {wanted}"
            raise DepotError(f"{why}; remove some with `wakestream depot rm`, or give it a larger --size", code="full")
        return have

    def sign(
        self, files: Sequence[d.DepotFile], have: Collection[str], owner: str, method: Method, now: float
    ) -> tuple[d.DepotPlace, ...]:
        """See `DepotStore.sign`. There are no links: see `permission`."""
        return places(files, have)

    async def check(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """See `DepotStore.check`."""
        return (await self._look(owner, files))[0]

    async def remove(self, owner: str, files: Collection[str]) -> None:
        """See `DepotStore.remove`."""
        named = [{"hash": digest, "ext": PLAIN} for digest in files]
        for start in range(0, len(named), AT_ONCE):
            await self._call(owner, "remove", named[start : start + AT_ONCE])

    async def close(self) -> None:
        """See `DepotStore.close`."""
        await self._session.close()

    async def _look(
        self, owner: str, files: Sequence[d.DepotFile], **more: Mapping[str, int]
    ) -> tuple[dict[str, int], int, int]:
        """What is there, the room that is left, and the size of the depot."""
        named = [{"hash": file.blake3, "ext": file.ext or PLAIN} for file in files]
        answer = await self._call(owner, "look", named, **more)
        try:
            sizes = {digest: int(size) for digest, size in answer["sizes"].items() if size is not None}
            return sizes, int(answer["room"]), int(answer["size"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DepotError(f"the depot answered wrongly ({error!r}); update it", code="down") from None

    async def _call(
        self, owner: str, name: str, files: list[dict[str, str]], **more: Mapping[str, int]
    ) -> dict[str, Any]:
        if (place := self._where()) is None:
            raise DepotError("no depot is connected to the hub; start `wakestream depot run`", code="down")
        url, of = place
        now = self._clock()
        token = self._signer.mint("hub", owner, of_depot(of, hub=True), now, now + LIFE)
        try:
            async with asyncio.timeout(WITHIN):
                return await _Calls(self._session.resolve(url), self._session, token).call(
                    "POST", name, json={"files": files, **more}
                )
        except TimeoutError:
            raise DepotError(f"the depot at {url} did not answer within {WITHIN:g} s", code="down") from None
        except WakestreamError as error:
            code = "down" if isinstance(error, WorkerUnreachable) else "denied"
            raise DepotError(re.sub(r"\bworker\b", "depot", str(error)), code=code) from error


class _Calls(WorkerCalls):
    """The calls of the worker's protocol, with one capability."""

    def __init__(self, url: str, session: Session, token: str) -> None:
        super().__init__(url, session, Known())
        self._token = token

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header with the capability."""
        return {"Authorization": f"Bearer {self._token}"}
