"""Every type of message from every kind of peer: what a role does not give is refused."""

from typing import Any

import msgspec
import pytest

from tests.support.streams.hub_net import ROLES, Net
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

CLIENTS = {"client", "admin"}
REGISTERED = {*ROLES}

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
    m.JobState: {"worker"},
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


def whole(kind: type[m.Message]) -> m.Message:
    """A whole message of this type."""
    fields = FIELDS | {"request_id": kind.TYPE}
    fields |= {"files": ("0f" * 32,)} if kind is d.DepotRemove else {}
    return kind(**{field.name: fields[field.name] for field in msgspec.structs.fields(kind) if field.required})


def test_the_table_names_every_message_that_there_is() -> None:
    assert set(MAY) == set(wire.KNOWN)


@pytest.mark.parametrize("role", ["nobody", *ROLES])
def test_each_role_may_send_what_the_table_says_and_nothing_else(role: str) -> None:
    for kind in wire.KNOWN:
        net = Net()
        if role == "nobody":
            net.happen(f.Opened(fd := 1))
        else:
            fd = net.join(role, gpu="gpu", gpus=("gpu",))
        facts = len(net.facts)
        message = whole(kind)
        net.happen(f.Registering(fd, message) if isinstance(message, m.Register) else f.Received(fd, message))
        # What is asked about a job in the depot is answered by `places`, since an error would end the job.
        codes = [error.code for error in net.heard(fd, m.Error)]
        expected = expected_code(kind, role)
        assert codes == ([expected] if expected else []), kind.TYPE
        refused = ("forbidden", "not_registered", "already_registered")
        assert expected not in refused or (len(net.facts) == facts and not net.closed), kind.TYPE


def expected_code(kind: type[m.Message], role: str) -> str | None:
    if kind is m.Register:
        return "already_registered" if role != "nobody" else "unauthorized"
    if role in MAY[kind]:
        refusals = {m.Cancel: "unknown_job", m.Boot: "no_monitor", m.GpuAdmin: "unknown_gpu"}
        return {**refusals, m.WorkerState: "bad_request"}.get(kind)  # allowed, and nothing there to do it to
    return "not_registered" if role == "nobody" else "forbidden"


GIVES = {
    "client": {None, "client", "admin"}, "admin": {None, "client", "admin"}, "worker": {"worker"},
    "monitor": {"gpu_monitor"}, "depot": {"depot"},
}  # fmt: skip


@pytest.mark.parametrize("holds", GIVES)
def test_a_license_gives_its_own_role_and_no_other(holds: str) -> None:
    for claims in (None, "worker", "gpu_monitor", "admin", "hub", "client", "depot"):
        net = Net()
        net.happen(f.Opened(1))
        net.happen(f.Registering(1, m.Register(role=claims, token="topsecret"), "topsecret", f.License("id", holds)))
        assert "topsecret" not in repr(net.commands)
        codes = [error.code for error in net.heard(1, m.Error)]
        given = ([], {}) if claims in GIVES[holds] else (["forbidden"], {1: hub.FORBIDDEN})
        assert (codes, net.closed) == given, claims
