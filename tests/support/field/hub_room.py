"""The connections of a deployed hub, and what it makes of JSON and of ids."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.support.field.frames import Frame

QUEUED_A_KEY = 100
ACK = "已提交到GPU服务器"
OFFLINE = "GPU服务器未上线，任务已排队，服务器启动后自动执行（约2分钟）"


@dataclass(slots=True, eq=False)
class Peer:
    """One connection; roles add up."""

    socket: ServerConnection
    fd: int
    roles: set[str] = field(default_factory=set)
    key: str = ""
    device: str = ""

    async def say(self, frame: Frame) -> None:
        with suppress(ConnectionClosed):
            await self.socket.send(orjson.dumps(php(frame)).decode())


class Room:
    """All who are connected, and what waits for a worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.queue: dict[str, list[Frame]] = defaultdict(list)
        self.peers: dict[int, Peer] = {}

    def _of(self, role: str) -> list[Peer]:
        return [peer for peer in self.peers.values() if role in peer.roles]

    def _of_key(self, key: str) -> list[Peer]:
        return [peer for peer in self._of("client") if peer.key == key]

    async def tell(self, frame: Frame, role: str = "client") -> None:
        """One frame to all of a role, as if it came from somewhere."""
        for peer in self._of(role):
            await peer.say(frame)

    def _power(self, word: str, request_id: Any, data: Frame) -> Frame:
        source = "gpu" if word == "online" else "api"
        return {
            "type": f"gpu.power.{word}", "version": "1.0", "source": source, "target": "client",
            "ts": int(self.clock()), "request_id": request_id, "trace_id": made("trace"), "data": data,
        }  # fmt: skip

    async def _offline(self, peer: Peer, request_id: str, task_type: str) -> None:
        power = self._power("offline", request_id, {"status": "offline", "task_type": task_type})
        await peer.say({**power, "task_type": task_type, "msg": OFFLINE})

    def _keep(self, key: str, job: Frame) -> None:
        self.queue[key] = [*self.queue[key], job][-QUEUED_A_KEY:]  # the oldest is dropped without a word

    async def _to_sender(self, frame: Frame, answer: Frame) -> None:
        """To that connection number, whose ever it is now; else to all of the key."""
        there = self.peers.get(frame.get("sender_fd") or 0)
        for peer in [there] if there else self._of_key(str(frame.get("key") or "")):
            await peer.say(answer)


def id_of(frame: Frame, kind: str) -> Any:
    """`""` stays, and so does a number; what is absent or null is made."""
    said = frame.get("request_id")
    return made(kind) if said is None else said


def made(kind: str) -> str:
    return f"{kind}_{uuid4().hex[:13]}"


def php(value: Any) -> Any:
    """JSON as it leaves this hub: an empty object is `[]`."""
    if isinstance(value, dict):
        return {name: php(each) for name, each in value.items()} if value else []
    return [php(each) for each in value] if isinstance(value, list) else value
