"""The hub's decider: connections and messages in, facts and replies out.

Jobs are known by their `request_id` alone: the same id from another license is refused (`conflict`), since workers and
monitors name a job by nothing else. The hub checks the role of the sender for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wakestream.operators.model.events import GPU_CHOICE, INPUTS, PRIORITY, REQUIRES
from wakestream.streams.decider import Decider
from wakestream.streams.hub import (
    admin,
    budget,
    capabilities,
    depot,
    depot_files,
    halts,
    holders,
    jobs,
    keep_warm,
    kinds,
    late_jobs,
    news,
    placement,
    power,
    relays,
)
from wakestream.streams.hub import events as f
from wakestream.streams.hub import status as hub_status
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.evolve import CHANGES, reindex
from wakestream.streams.hub.jobs import FEATURES
from wakestream.streams.hub.power import REPLACED
from wakestream.streams.hub.state import Connection, Durable, HubState, Limits
from wakestream.streams.placement import requirements
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import CAPABILITY, GPU_URL, HUB_STATUS, STATUS_OF_GPU
from wakestream.streams.protocol.kinds import KINDS
from wakestream.streams.protocol.printable import is_name

__all__ = ["DECIDER", "FEATURES", "REPLACED", "HubState", "Limits"]

UNAUTHORIZED = 4401
"""Close code: no license, a wrong one or a revoked one."""
FORBIDDEN = 4403
"""Close code: a license that does not give the role claimed."""
NOT_REGISTERED = 4408
"""Close code: no registration in time."""
TOO_MANY = 4429
"""Close code: the license has as many connections as it may."""

LARGEST_PRICE = 1e6
"""A price per hour from which on it is not believed."""

LONGEST_IDLE = 1e6
"""Seconds of idle time from which on they are not believed."""

LONGEST_MACHINE = 200
"""Characters of a machine's name that are kept."""

_ROLES = dict.fromkeys((None, "client", "admin", "pc"), "client")
_ROLES |= {"worker": "worker", "gpu_monitor": "monitor", "monitor": "monitor", "depot": "depot"}
_GIVES = {"client": "client", "admin": "client", "worker": "worker", "monitor": "monitor", "depot": "depot"}

_CLOSES = {"unauthorized": UNAUTHORIZED, "too_many_connections": TOO_MANY}

_REPLACED_KEY = "this key was replaced by another one; put that in place"
_REVOKED = ("unauthorized", "this license was revoked; ask for a new one")

Handler = Callable[[HubState, Connection, Any, float, HubDecision], None]


def _started(state: HubState, event: f.ProcessStarted, now: float, decision: HubDecision) -> None:
    decision.fact(f.HubStarted(now))
    if state.limits.webhook:
        decision.command(*map(f.Notify, state.news.values()))
    budget.tick(state, now, decision)


def _opened(state: HubState, event: f.Opened, now: float, decision: HubDecision) -> None:
    decision.fact(f.ConnectionOpened(event.fd, now))
    decision.send(event.fd, m.Connected(fd=event.fd))


def _of_peer(handle: Handler) -> Callable[[HubState, Any, float, HubDecision], None]:
    """A handler for events of a connection; those that come after its end are ignored."""

    def apply(state: HubState, event: Any, now: float, decision: HubDecision) -> None:
        peer = state.connections.get(event.fd)
        if peer is not None:
            handle(state, peer, event, now, decision)

    return apply


def _gone(state: HubState, peer: Connection, now: float, decision: HubDecision) -> None:
    if peer.role == "worker":
        power.worker_gone(state, peer, now, decision)
    decision.fact(f.ConnectionClosed(peer.fd, now))


def _drop(state: HubState, peer: Connection, code: int, why: str, now: float, decision: HubDecision) -> None:
    """Close a connection. It is gone at once, so that frames that it has sent already are ignored."""
    _gone(state, peer, now, decision)
    decision.command(f.Close(peer.fd, code, why))


def _unreadable(state: HubState, peer: Connection, event: f.Unreadable, now: float, decision: HubDecision) -> None:
    decision.fact(f.FrameRefused(event.fd))
    decision.refuse(event.fd, event.code, event.reason)
    if peer.refused >= state.limits.malformed:
        _drop(state, peer, 1008, "too many malformed frames", now, decision)


def _registering(state: HubState, peer: Connection, event: f.Registering, now: float, decision: HubDecision) -> None:
    if peer.role is not None:
        decision.refuse(event.fd, "already_registered", "this connection is registered; open another for another role")
        return
    refusal = _refusal(state, event) or _unfit(event.message) or _crowded(state, event.license)
    refusal = refusal or holders.refusal(state, *_claimed(event), now) or _second(state, event.message)
    license_ = event.license.id if event.license is not None else ""
    refusal = refusal or depot.refusal(state, event.message.role or "", license_)
    if refusal is not None:
        code, why = refusal
        decision.refuse(event.fd, code, why)
        _drop(state, peer, _CLOSES.get(code, FORBIDDEN), why, now, decision)
        return
    message, fd = event.message, event.fd
    role, owner, names = _claimed(event)
    gpu = message.gpu or depot.NAME if role == "depot" else message.gpu if role == "worker" else None
    if gpu is not None and not _take(state, peer, role, gpu, owner, now, decision):
        return
    for former in _monitors_like(state, message):
        _drop(state, former, REPLACED, "this monitor connected again", now, decision)
    holders.claim(state, role, owner, names, now, decision)
    gpus = _served(message)
    features = frozenset(message.features or ())
    device = message.device_type or "pc"
    admin = event.license is not None and event.license.role == "admin"
    misfit = requirements.misfit(message.labels, message.slots)
    labelled = (message.labels, message.slots) if role != "client" and misfit is None else (None, None)
    cap = event.license.max_priority if event.license is not None else 0
    said = (*labelled, cap, message.instance or "")
    decision.fact(
        f.ConnectionRegistered(
            fd, role, owner, event.credential, gpu, message.url, gpus, features, device, admin, *said
        )
    )
    _welcome(state, message, role, fd, decision, cap)
    if misfit is not None:
        decision.refuse(fd, "bad_request", f"{misfit}; the hub goes on with what it knew")
    else:
        placement.label(state, peer, names, decision)
    halts.registered(state, gpu, features, now, decision)
    if role in ("worker", "depot") and _capable(state, message, role):
        for id_ in capabilities.recently_revoked(state, now):
            decision.send(fd, m.LicenseRevoked(license=id_))
    if role == "monitor":
        _note_machine(state, peer, message, now, decision)
        power.monitor_back(state, peer, now, decision)
        power.greet_monitor(state, peer, now, decision)
    elif role == "client":
        if jobs.POWER_NOW in features:
            power.present(state, fd, decision)
        if owner is not None and jobs.hears_results(features):
            jobs.deliver(state, fd, owner, decision)


def _refusal(state: HubState, event: f.Registering) -> tuple[str, str] | None:
    """Why this peer may not have the role that it claims, or None."""
    claimed = _ROLES.get(event.message.role)
    if claimed is None:
        return "forbidden", 'there is no such role; "role" is worker, gpu_monitor or depot; a client gives "key"'
    if event.credential is None:
        if claimed in state.limits.open_roles:
            return None
        what = '"key"' if claimed == "client" else '"token"'
        return "unauthorized", f"register needs a license key in {what}; issue one with `wakestream license issue`"
    if event.license is None:
        return "unauthorized", "this hub does not know the license key; check that it is whole and for this hub"
    if event.license.revoked:
        return _REVOKED
    if _GIVES.get(event.license.role) != claimed:
        return "forbidden", f"a {event.license.role} license does not give the role of a {claimed}"
    return None


def _claimed(event: f.Registering) -> tuple[str, str | None, tuple[str, ...]]:
    """The claimed role, the license id and the claimed names of GPUs."""
    message, role = event.message, _ROLES[event.message.role]
    names = _served(message) if role == "monitor" else (message.gpu,) if role == "worker" and message.gpu else ()
    return role, event.license.id if event.license is not None else None, names


def _served(message: m.Register) -> tuple[str, ...]:
    return message.gpus or ((message.gpu,) if message.gpu else ())


def _unfit(message: m.Register) -> tuple[str, str] | None:
    names = (*(message.gpus or ()), *((message.gpu,) if message.gpu is not None else ()))
    if len(names) > 100 or not all(map(is_name, names)):
        return "bad_request", "a GPU's name has 1 to 100 printable characters, and a peer serves 100 of them at most"
    return None


def _second(state: HubState, message: m.Register) -> tuple[str, str] | None:
    """Why a monitor may not be the second one of a GPU; two would start and stop one machine against each other."""
    for peer in _monitors_like(state, message):
        if peer.instance != message.instance:
            gpu = next(name for name in peer.gpus if name in _served(message))
            return "gpu_taken", f"another monitor of the GPU {gpu} is connected; stop one of them"
    return None


def _monitors_like(state: HubState, message: m.Register) -> list[Connection]:
    """The monitors of the GPUs that a monitor names, if it says which process it is: older ones do not."""
    names = _served(message) if message.instance and _ROLES[message.role] == "monitor" else ()
    return [peer for fd in state.monitors if any(name in (peer := state.connections[fd]).gpus for name in names)]


def unwelcome(state: HubState, license_: f.License) -> tuple[str, str] | None:
    """Why the hub refuses any connection of this license, or None."""
    return _REVOKED if license_.revoked else _crowded(state, license_)


def _crowded(state: HubState, license_: f.License | None) -> tuple[str, str] | None:
    limit = state.limits.per_license
    if license_ is None or len(state.by_owner.get(license_.id, ())) < limit:
        return None
    return "too_many_connections", f"this license has {limit} connections already; close some, or use another license"


def _note_machine(state: HubState, peer: Connection, message: m.Register, now: float, decision: HubDecision) -> None:
    """Remember what a monitor says of its machine, if that has changed."""
    price = message.price if message.price is not None and 0 < message.price < LARGEST_PRICE else None
    idle = message.idle_after if message.idle_after is not None and 0 <= message.idle_after < LONGEST_IDLE else None
    for name in peer.gpus:
        machine = (message.machines or {}).get(name, message.machine or "")
        said = machine[:LONGEST_MACHINE], price, (message.currency or "")[:LONGEST_MACHINE], idle
        if not (said[0] or price is not None or idle is not None):
            continue
        known = state.gpus.get(name)
        new = said
        if known is not None and price is None:  # the provider did not answer in time: the last price stays
            new = said[0] or known.machine, known.price, known.currency, idle
        host = "\n".join((peer.owner or "", new[0])) if new[0] else ""
        if known is None or (known.machine, known.price, known.currency, known.idle_after, known.host) != (*new, host):
            decision.fact(f.MachineKnown(name, *new, host, now))


def _welcome(state: HubState, message: m.Register, role: str, fd: int, decision: HubDecision, cap: int) -> None:
    device = message.device_type or ("pc" if role == "client" else None)
    capable, wanted = _capable(state, message, role), message.features or ()
    may_ask = role in ("client", "monitor") and HUB_STATUS in wanted
    offers = {
        CAPABILITY: capable,
        HUB_STATUS: may_ask,
        GPU_URL: may_ask,
        jobs.RELEASED: role == "client",
        INPUTS: role == "client",
        GPU_CHOICE: role == "client",
        REQUIRES: role == "client",
        PRIORITY: role == "client" and cap > 0,
        KINDS: role in ("client", "worker"),
        m.GpuAdmin.FEATURE: role == "client",
        late_jobs.FEATURE: role == "client",
        power.AGE: role == "monitor",
        STATUS_OF_GPU: may_ask,
        m.WorkerState.FEATURE: role in ("client", "worker"),
        m.JobWork.FEATURE: role == "worker",
        m.JobState.FEATURE: role == "worker",
        m.MonitorState.FEATURE: role == "worker",
        d.FEATURE: role == "worker" or (role == "client" and state.has_depot),
    }
    features = (*FEATURES, *(name for name, offered in offers.items() if offered and name in wanted))
    registered = m.Registered(key=message.key, role=message.role, device_type=device, features=features)
    decision.command(f.Send(fd, registered, seal=f.Seal() if capable and role != "client" else None))


def _capable(state: HubState, message: m.Register, role: str) -> bool:
    wanted = CAPABILITY in (message.features or ()) and state.limits.capability_ttl > 0
    return wanted and role in ("client", "worker", "depot")


def _take(
    state: HubState, peer: Connection, role: str, gpu: str, owner: str | None, now: float, decision: HubDecision
) -> bool:
    """Free the GPU for a worker, or the depot: close a former connection of the same license, not of another one."""
    if role == "depot":
        if (before := state.connections.get(state.depot or 0)) is not None:
            _drop(state, before, REPLACED, "this depot connected again", now, decision)
        if state.depot_of is None:
            decision.fact(f.DepotHeld(owner or "", gpu, now))
        depot.back(state, decision)
        return True
    before = None if holders.free(state, gpu) else state.connections.get(state.gpus[gpu].worker or 0)
    if before is None:
        return True
    if before.owner != owner:
        why = "another worker serves a GPU of this name; give this one another --gpu"
        decision.refuse(peer.fd, "gpu_taken", why)
        _drop(state, peer, FORBIDDEN, why, now, decision)
        return False
    power.replaced(state, before, now, decision)
    return True


def _revoked(state: HubState, event: f.Revoked, now: float, decision: HubDecision) -> None:
    decision.fact(f.LicenseGone(event.license, now))
    decision.send(capabilities.told_of(state), m.LicenseRevoked(license=event.license))
    jobs.revoke(state, event.license, now, decision)
    holders.release(state, event.license, now, decision)
    for fd in [*state.by_owner.get(event.license, ())]:
        _kick(state, state.connections[fd], "this license was revoked", now, decision)


def _kick(state: HubState, peer: Connection, why: str, now: float, decision: HubDecision) -> None:
    decision.send(peer.fd, m.Kicked(msg=why))
    _drop(state, peer, FORBIDDEN, why, now, decision)


def _book_seen(state: HubState, event: f.BookSeen, now: float, decision: HubDecision) -> None:
    why = "this GPU's name was issued to another key, or this key for another GPU"
    for fd in holders.book_seen(state, event, decision):
        _drop(state, state.connections[fd], FORBIDDEN, why, now, decision)


def _tick(state: HubState, event: f.Tick, now: float, decision: HubDecision) -> None:
    for peer in [*state.connections.values()]:
        if peer.role is None and now - peer.opened > state.limits.register:
            why = f"no register within {state.limits.register:g} s; send register first"
            decision.refuse(peer.fd, "register_timeout", why)
            _drop(state, peer, NOT_REGISTERED, why, now, decision)
    capabilities.renew(state, now, decision)
    jobs.expire(state, now, decision)
    jobs.tick(state, now, decision)
    depot.tick(state, now, decision)
    relays.tick(state, now, decision)
    holders.tick(state, now, decision)
    halts.tick(state, now, decision)
    power.fail_late(state, now, decision)
    late_jobs.tick(state, now, decision)
    power.unregistered(state, now, decision)
    power.abandoned(state, now, decision)
    power.unwatched(state, now, decision)
    keep_warm.tick(state, now, decision)
    # Each of these may grant what waits, which may happen once only.
    # Money comes first: workers whose kinds keep changing must not put it off.
    if not (budget.tick(state, now, decision) or kinds.tick(state, now, decision)):
        power.overdue(state, now, decision)


def _received(state: HubState, peer: Connection, event: f.Received, now: float, decision: HubDecision) -> None:
    message = event.message
    if event.old and not peer.old:
        decision.fact(f.OldNamesSpoken(event.fd))
    if isinstance(message, m.Ping):
        decision.send(event.fd, m.Pong())
        return
    handler = _BY_ROLE.get(peer.role or "", {}).get(type(message)) or relays.handler(peer, message)
    if handler is not None:
        handler(state, peer, message, now, decision)
    elif not isinstance(message, _IGNORED if peer.role is not None else m.Pong):
        request_id = getattr(message, "request_id", None)
        if isinstance(message, m.Unknown):
            request_id = message.frame.get("request_id")
            request_id = request_id if isinstance(request_id, str) and len(request_id) <= m.MAX_ID else None
        if peer.role is None:
            decision.refuse(peer.fd, "not_registered", "send register first, with the license key", request_id)
        elif isinstance(message, m.Unknown):
            decision.refuse(peer.fd, "unknown_type", f'this hub knows no message of type "{message.type}"', request_id)
        else:
            why = f'a {peer.role} may not send "{message.TYPE}"'
            decision.refuse(peer.fd, "forbidden", why, request_id)


def _worker_url(state: HubState, peer: Connection, message: m.Url, now: float, decision: HubDecision) -> None:
    if peer.gpu is not None:
        decision.fact(f.WorkerUrl(peer.gpu, message.url))


_IGNORED = (m.Pong, m.Url, m.Error)
"""Needs no answer: old peers send bare addresses and errors."""

_BY_ROLE: Mapping[str, Mapping[type[m.Message], Handler]] = {
    "client": {
        m.Url: relays.url,
        m.Submit: jobs.submit,
        m.Cancel: jobs.cancel,
        m.JobDone: jobs.done,
        m.JobOrder: jobs.order,
        m.StatusQuery: power.status_query,
        m.HubStatusQuery: hub_status.query,
        m.Boot: power.boot,
        m.KindsQuery: kinds.query,
        m.GpuAdmin: admin.order,
        d.DepotOffer: depot.offer,
        d.DepotProgress: depot.uploading,
        d.DepotStored: depot.says,
        d.DepotWithdraw: depot.says,
        d.DepotQuery: depot.says,
        d.DepotList: depot_files.list_files,
        d.DepotRemove: depot_files.remove,
    },
    "worker": {
        m.Online: power.online,
        m.Result: jobs.result,
        m.JobWork: jobs.worked,
        m.JobState: jobs.told_state,
        m.TaskActive: power.task_active,
        m.GpuKinds: kinds.heard,
        m.WorkerState: halts.heard,
        m.Url: _worker_url,
        d.DepotOffer: depot.offer_results,
        d.DepotProgress: depot.working,
        d.DepotDelivered: depot.delivered,
        d.DepotQuery: depot.fetch_again,
    },
    "monitor": {
        m.StatusResponse: power.status_response,
        m.Booted: power.booted,
        m.BootResult: power.boot_result,
        m.PowerState: power.power_state,
        m.HubStatusQuery: hub_status.query,
        m.TaskQuery: power.task_query,
    },
}


def _finish(state: HubState, decision: HubDecision, now: float) -> None:
    late_jobs.fill(state, decision, now)
    capabilities.give(state, decision, now)


DECIDER: Decider[HubState, f.Event, f.Fact, f.Command] = Decider(
    HubState,
    {
        f.ProcessStarted: _started,
        f.Opened: _opened,
        f.Closed: _of_peer(lambda state, peer, _, now, decision: _gone(state, peer, now, decision)),
        f.Received: _of_peer(_received),
        f.Registering: _of_peer(_registering),
        f.Unreadable: _of_peer(_unreadable),
        f.Revoked: _revoked,
        f.KeyEnded: _of_peer(lambda state, peer, _, now, decision: _kick(state, peer, _REPLACED_KEY, now, decision)),
        f.BookSeen: _book_seen,
        f.ClockMoved: lambda state, event, now, decision: decision.fact(f.ClockSet(event.by, now)),
        f.DiskSeen: lambda state, event, now, decision: decision.fact(f.DiskLow(event.low)),
        f.NewsSettled: news.settled,
        f.DepotAnswered: depot.answered,
        f.Tick: _tick,
    },
    CHANGES,
    Durable,
    decision=HubDecision,
    finish=_finish,
    watch=dict.fromkeys(news.TOLD, news.tell),
    reindex=reindex,
)
"""The hub. Raises nothing for any message of any peer; `now` is UNIX seconds."""
