"""Who gets a status answer, and in which form. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from wakestream.streams.hub.decision import HubDecision
from wakestream.streams.hub.state import HubState
from wakestream.streams.protocol import messages as m


def pass_on(state: HubState, askers: Iterable[int], message: m.StatusResponse, decision: HubDecision) -> None:
    """wakestream's own clients get the answers to their queries; deployed clients get each answer for their license.

    A deployed client begins to upload at `running`, so the hub sends that only while a worker is online.
    """
    peers = [state.connections[fd] for fd in askers if fd in state.connections]
    decision.send([peer.fd for peer in peers if peer.features], message)
    old = dict.fromkeys(peer.fd for peer in peers if not peer.features)
    for owner in dict.fromkeys(peer.owner for peer in peers):
        old |= dict.fromkeys(fd for fd in state.of_owner(owner or "") if not state.connections[fd].features)
    status = message.status.lower()
    if status in ("running", "online"):
        status = "running" if any(gpu.online for gpu in state.gpus.values()) else "starting"
    answer = {"type": message.TYPE, "status": status, "State": "", "request_id": message.request_id}
    decision.send(old, m.Unknown(type=message.TYPE, frame={**answer, "fresh": bool(message.fresh)}))
