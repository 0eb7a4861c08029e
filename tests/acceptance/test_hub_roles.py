"""Every type of message from every kind of peer, over the hub's real socket: what a role does not give is refused."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.programs.our_peers import Place
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub.events import Fact
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

ROLES = ("nobody", "client", "admin", "worker", "monitor", "depot")
CLIENTS = {"client", "admin"}
REGISTERED = {"client", "admin", "worker", "monitor", "depot"}

MAY: dict[type[m.Message], set[str]] = {
    m.Connected: set(),
    m.Register: set(),  # a second one is refused as such; the first is what makes the role
    m.Registered: set(),
    m.Ping: {"nobody", *REGISTERED},
    m.Pong: {"nobody", *REGISTERED},
    m.Submit: CLIENTS,
    m.Ack: set(),
    m.Offline: set(),
    m.Online: {"worker"},
    m.Result: {"worker"},
    m.Boot: CLIENTS,
    m.StatusQuery: CLIENTS,
    m.StatusResponse: {"monitor"},
    m.Booted: {"monitor"},
    m.BootResult: {"monitor"},
    m.PowerState: {"monitor"},
    m.TaskActive: {"worker"},
    m.TaskQuery: {"monitor"},
    m.TaskQueryResponse: set(),
    m.DispatchBatch: set(),
    m.Cancel: CLIENTS,
    m.JobDone: CLIENTS,
    m.JobReleased: set(),
    m.JobQueued: set(),
    m.JobOrder: CLIENTS,
    m.Capability: set(),
    m.LicenseRevoked: set(),
    m.Error: REGISTERED,
    m.Kicked: set(),
    m.Url: REGISTERED,
    m.HubStatusQuery: {*CLIENTS, "monitor"},
    m.HubStatus: set(),
    m.GpuKinds: {"worker"},
    m.KindsQuery: CLIENTS,
    m.WorkerState: {"worker"},
    m.JobWork: {"worker"},
    m.MonitorState: set(),
    m.GpuAdmin: CLIENTS,
    m.GpuAdminDone: set(),
    m.KindsResponse: set(),
    m.KindsChanged: set(),
    m.Release: set(),
    d.DepotOffer: {*CLIENTS, "worker"},
    d.DepotPlaces: set(),
    d.DepotProgress: {*CLIENTS, "worker"},
    d.DepotStored: CLIENTS,
    d.DepotWithdraw: CLIENTS,
    d.DepotFetch: set(),
    d.DepotDelivered: {"worker"},
    d.DepotQuery: {*CLIENTS, "worker"},
    d.DepotList: CLIENTS,
    d.DepotListed: set(),
    d.DepotRemove: CLIENTS,
    d.DepotExpiring: set(),
}
"""Who may send what. No role may send a message that is not listed here."""

FIELDS: dict[str, Any] = {
    "fd": 1, "task_id": "t1", "status": "running", "gpu": "gpu", "state": "starting", "url": "http://w:1",
    "active_count": 0, "has_recent_active": False, "capability": "eyJ.a.b", "expires": 1, "license": "lic",
    "action": "stop", "position": 1, "connected": True, "jobs": ("t1",),
    "files": (), "task_type": "paint", "payload": {}, "at": 1,
}  # fmt: skip


def frame(kind: type[m.Message]) -> dict[str, Any]:
    """A whole frame of this type."""
    fields = FIELDS | {"request_id": kind.TYPE}
    fields |= {"files": ("0f" * 32,)} if kind is d.DepotRemove else {}
    needed = {one.name: fields[one.name] for one in msgspec.structs.fields(kind) if one.required}
    return wire.to_frame(kind(**needed))


@pytest.fixture
async def hub_url(place: Place) -> AsyncIterator[str]:
    for role in ("admin", "depot"):
        place.keys[role] = place.book.issue(role, "", 0.0)[1]
    async with open_hub(HubConfig(LicenseBook(place.folder / "hub")), FakeJournal[Fact]()) as hub:
        yield hub.url


async def to_its_end(socket: ClientConnection) -> list[dict[str, Any]]:
    """All that still comes before the connection is closed."""
    said: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            said.append(json.loads(await socket.recv()))
    return said


async def joined(socket: ClientConnection, role: str, key: str) -> None:
    names = {"client": None, "admin": None, "worker": "worker", "monitor": "gpu_monitor", "depot": "depot"}
    said = {"key": key} if names[role] is None else {"token": key, "role": names[role], "gpu": "gpu", "gpus": ["gpu"]}
    await socket.send(json.dumps({"type": "register", **said}))
    while json.loads(await socket.recv())["type"] != "registered":
        pass


async def answer(url: str, role: str, key: str | None, said: dict[str, Any]) -> dict[str, Any]:
    """The first `error` to what was said, or the pong to a ping that was sent behind it."""
    async with asyncio.timeout(100), connect(url) as socket:
        if key is not None:
            await joined(socket, role, key)
        await socket.send(json.dumps(said))
        await socket.send(json.dumps({"type": "ping"}))
        async for text in socket:
            reply: dict[str, Any] = json.loads(text)
            if reply["type"] in ("error", "pong"):
                return reply
    raise AssertionError("the hub said nothing")


async def test_the_table_names_every_message_that_there_is() -> None:
    assert set(MAY) == set(wire.KNOWN)


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_send_what_the_table_says_and_nothing_else(hub_url: str, place: Place, role: str) -> None:
    key = place.keys.get(role)
    wrong = {}
    for kind in wire.KNOWN:
        reply = await answer(hub_url, role, key, frame(kind))
        expected = expected_code(kind, role)
        # What is asked about a job in the depot is answered by `places`, since an error would end the job.
        if reply.get("code") != expected:
            wrong[kind.TYPE] = (reply, expected)
    assert wrong == {}


def expected_code(kind: type[m.Message], role: str) -> str | None:
    if kind is m.Register:
        return "already_registered" if role != "nobody" else "unauthorized"
    if role in MAY.get(kind, ()):
        refusals = {m.Cancel: "unknown_job", m.Boot: "no_monitor", m.GpuAdmin: "unknown_gpu"}
        return {**refusals, m.WorkerState: "bad_request"}.get(kind)  # allowed, and nothing there to do it to
    return "not_registered" if role == "nobody" else "forbidden"


@pytest.mark.parametrize("holds", ["client", "admin", "worker", "monitor", "depot"])
@pytest.mark.parametrize("claims", [None, "worker", "gpu_monitor", "admin", "hub", "client", "depot"])
async def test_a_license_gives_its_own_role_and_no_other(hub_url: str, place: Place, holds: str, claims: Any) -> None:
    gives = {"client": {None, "client", "admin"}, "admin": {None, "client", "admin"}, "worker": {"worker"}}
    gives |= {"monitor": {"gpu_monitor"}, "depot": {"depot"}}
    said = {"type": "register", "token": place.keys[holds]} | ({"role": claims} if claims else {})
    async with connect(hub_url) as socket:
        await socket.send(json.dumps(said))
        await socket.recv()
        reply = json.loads(await socket.recv())
        if claims in gives[holds]:
            assert reply["type"] == "registered"
        else:
            assert (reply["type"], reply["code"]) == ("error", "forbidden")
            await socket.wait_closed()
            assert socket.close_code == 4403


@pytest.mark.parametrize("role", ["client", "worker", "monitor"])
async def test_a_revoked_license_s_connections_are_closed_at_once(place: Place, role: str) -> None:
    async with asyncio.timeout(100), place.hub() as hub, contextlib.AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(connect(hub.url)) for _ in range(2 if role == "client" else 1)]
        other = await stack.enter_async_context(connect(hub.url))
        for socket in mine:
            await joined(socket, role, place.keys[role])
        rest = "monitor" if role == "client" else "client"
        await joined(other, rest, place.keys[rest])
        place.book.revoke(place.licenses[role].id, 0.0)
        for socket in mine:
            last = (await to_its_end(socket))[-1]
            assert (last["type"], last["msg"]) == ("kicked", "this license was revoked")
            assert (socket.close_code, socket.close_reason) == (4403, "this license was revoked")
        await other.send(json.dumps({"type": "ping"}))
        assert json.loads(await other.recv())["type"] in ("pong", "gpu.power.offline")
        again = await stack.enter_async_context(connect(hub.url))
        names = {"client": {}, "worker": {"role": "worker"}, "monitor": {"role": "gpu_monitor"}}
        await again.send(json.dumps({"type": "register", "token": place.keys[role], **names[role]}))
        await again.recv()
        assert json.loads(await again.recv())["msg"] == "this license was revoked; ask for a new one"
