"""What the hub's messages say to jobs: each message as a reply."""

from __future__ import annotations

from wakestream.operators.model import depot, ports
from wakestream.operators.model.events import Eta, Remote, Stored
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

NEWS = frozenset({"starting", "booted", "no_capacity", "draining", "stopping"})
"""Power states that waiting jobs get as `PowerNotice`."""

_Answer = tuple[ports.Reply, str | None]


def reply_to(message: m.Message, *, grants: bool) -> _Answer | None:
    """Turn a message of the hub into a reply.

    Example:
        >>> reply_to(messages.Ack(request_id="job-1", gpu="a"), grants=True)
        (Accepted(gpu='a', url=None, position=None), 'job-1')

    Args:
        message: A message of the hub.
        grants: Whether the hub announced `grant`: then a broadcast that a GPU is online grants nothing.

    Returns:
        The reply, and the id of its job (None: all jobs); None for messages that are no reply.
    """
    match message:
        case m.Ack():
            return ports.Accepted(message.gpu, message.url, message.position), message.request_id
        case m.Offline():
            phase, why = message.phase or "booting", message.why or ""
            position, retry_in = message.position, message.retry_in
            has = message.depot or False
            offline = ports.OfflineReply(phase, position, _eta(message), message.until, why, retry_in, has)
            return offline, message.request_id
        case m.JobQueued():
            eta = None if message.eta_s is None else Eta(message.eta_s, message.eta_s)
            has, why = message.depot or False, message.reason or ""
            in_line = ports.OfflineReply("queued", message.position, eta, reason=why, depot=has)
            return in_line, message.request_id
        case m.Online():
            return None if grants else (ports.OnlineNotice(message.gpu, message.url), None)
        case m.Booted() | m.PowerState() | m.WorkerState():
            notice = _notice(message)
            return None if notice is None else (notice, None)
        case m.BootResult(success=False):
            return ports.BootFailure(message.msg or f"the GPU could not be started ({message.status or 'failed'})"), (
                message.request_id
            )
        case m.Error(request_id=str(request_id)):
            return _refusal(message, request_id), request_id
        case d.DepotPlaces():
            return depot.Places(places_of(message), message.code or "", message.reason or ""), message.request_id
        case d.DepotStored():
            return Stored(0, message.until), message.request_id
        case d.DepotProgress(step=str(step)):
            return Remote(step, message.percent, message.gpu), message.request_id
        case d.DepotDelivered():
            places, code = places_of(message), message.code or ""
            return depot.InDepotDone(places, message.gpu, code, message.reason or ""), message.request_id
    return None


def places_of(message: d.DepotPlaces | d.DepotDelivered | d.DepotFetch) -> tuple[depot.Place, ...]:
    """Where the files of the message are, or are put."""
    return tuple(
        depot.Place(
            depot.DepotFile(file.name, file.blake3, file.ext, file.size),
            message.request_id, file.have, message.depot,
            file.url, {int(number): url for number, url in file.parts.items()}, file.part_size, file.parted,
        )
        for file in message.files
    )  # fmt: skip


def _notice(message: m.Booted | m.PowerState | m.WorkerState) -> ports.PowerNotice | None:
    """News about a GPU for all waiting jobs."""
    match message:
        case m.PowerState():
            new = message.present is None and message.state in NEWS
            return ports.PowerNotice(message.state, retry_in=message.retry_in) if new else None
        case m.WorkerState(state="ready"):
            return None
        case m.WorkerState():
            return ports.PowerNotice(message.state, f"GPU {message.gpu}: {message.reason or message.state}")
    return ports.PowerNotice("booted")


def _refusal(error: m.Error, request_id: str) -> ports.Reply:
    if error.old_request_id is not None:
        return ports.Busy(own=error.old_request_id == request_id)
    return ports.Refused(error.text, error.code or "refused")


def _eta(message: m.Offline) -> Eta | None:
    seconds = message.eta_s or {}
    p50, p90 = seconds.get("p50"), seconds.get("p90")
    if isinstance(p50, int | float) and isinstance(p90, int | float):
        return Eta(float(p50), float(p90))
    return None
