"""What each license has in the depot: quotas, the list, and what is removed when. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice, takewhile
from typing import Final

from msgspec.structs import replace

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.local_time import DAY
from wakestream.streams.hub.state import Connection, HubJob, HubState
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

EVERY: Final = 60.0
"""Seconds between two looks for what can leave the depot."""

LATE: Final = 3700.0
"""Seconds after which no link for an upload is valid any more."""

TRIED: Final = 600.0
"""Seconds for which the file of a try stays at the most, if its client does not remove it."""

Refusal = tuple[str, str]
"""A code and a sentence."""


def make_room(state: HubState, job: HubJob, files: Sequence[d.DepotFile], decision: HubDecision) -> Refusal | None:
    kept, limits = state.in_depot.get(job.owner, {}), state.limits
    sizes = {file.blake3: file.size for file in files}
    quota = limits.depot_quota if limits.depot_quota is not None else float("inf")
    if sum(sizes.values()) > quota or len(sizes) > limits.depot_files:
        most = f"{quota:.0f} bytes" if sum(sizes.values()) > quota else f"{limits.depot_files} files"
        return "too_large", f"{len(sizes)} files of {sum(sizes.values())} bytes: this license may have {most}"
    new = {blake3: size for blake3, size in sizes.items() if blake3 not in kept}
    size = sum(entry[0] for entry in kept.values()) + sum(new.values()) if limits.depot_quota is not None else 0
    count, out = len(kept) + len(new), list[str]()
    if size > quota or count > limits.depot_files:
        needed = _needed(state, job.owner) | sizes.keys()
        for blake3, (bytes_, *_) in kept.items():
            if blake3 not in needed and (size > quota or count > limits.depot_files):
                out, size, count = [*out, blake3], size - bytes_, count - 1
    if size > quota or count > limits.depot_files:
        why = f"this license has {len(kept)} files in the depot, and its quota leaves no room for these"
        return "quota", f"{why}; remove some with `wakestream depot rm`, or fetch results"
    take_out(state, job.owner, out, decision)
    return None


def is_probe(files: Sequence[d.DepotFile]) -> bool:
    return len(files) == 1 and files[0].name == d.PROBE and files[0].size <= d.MOST_OF_PROBE


def probe(state: HubState, peer: Connection, message: d.DepotOffer, now: float, decision: HubDecision) -> bool:
    """Let a client try the depot with a file of no job; returns whether this is one."""
    if not is_probe(message.files):
        return False
    owner, refused = peer.owner or "", None
    if not state.depot_up:
        refused = "down", "the depot is not connected"
    elif len(state.in_depot.get(owner, {})) >= state.limits.depot_files:
        refused = "quota", "this license has no room for another file in the depot; use `wakestream depot rm`"
    if refused is not None:
        refuse(peer.fd, message.request_id, *refused, decision)
        return True
    decision.fact(f.DepotUsed(owner, message.files, now - state.limits.depot_keep + TRIED))
    decision.command(f.AskDepot("open", owner, message.request_id, peer.fd, message.files))
    return True


def list_files(state: HubState, peer: Connection, message: d.DepotList, now: float, decision: HubDecision) -> None:
    """Tell a client what its license has in the depot."""
    if not too_fast(state, peer, message.request_id, now, decision):
        known = sorted(state.in_depot.get(peer.owner or "", {}))
        page = [blake3 for blake3 in known if blake3 > (message.after or "")][: d.MOST_FILES + 1]
        _list(state, peer, message.request_id, decision, page)


def _list(
    state: HubState, peer: Connection, id_: str, decision: HubDecision, page: Sequence[str] = (), late: int = 0
) -> None:
    kept, keep = state.in_depot.get(peer.owner or "", {}), state.limits.depot_keep
    entries = [(blake3, *kept[blake3]) for blake3 in page[: d.MOST_FILES]]
    files = [
        {"blake3": blake3, "ext": ext, "size": size, "used": int(used), "until": int(used + keep)}
        for blake3, size, used, ext in entries
    ]
    size, quota, more = sum(entry[0] for entry in kept.values()), state.limits.depot_quota, len(page) > d.MOST_FILES
    listed = d.DepotListed(request_id=id_, files=tuple(files), count=len(kept), size=size, quota=quota, more=more)
    decision.send(peer.fd, replace(listed, late=late or None))


def remove(state: HubState, peer: Connection, message: d.DepotRemove, now: float, decision: HubDecision) -> None:
    """A client removes files of its license; those of open jobs and of results that were not fetched stay."""
    if too_fast(state, peer, message.request_id, now, decision):
        return
    owner = peer.owner or ""
    known = state.in_depot.get(owner, {}).keys() - _needed(state, owner)
    out = [blake3 for blake3 in dict.fromkeys(message.files) if blake3 in known]
    take_out(state, owner, out, decision, message.request_id, peer.fd)
    if not out:
        _list(state, peer, message.request_id, decision)


def take_out(
    state: HubState, owner: str, out: Collection[str], decision: HubDecision, id_: str = "", fd: int = 0
) -> None:
    """Have the depot remove files of a license."""
    kept = state.in_depot.get(owner, {})
    known = ((blake3, kept[blake3]) for blake3 in out if blake3 in kept)
    files = [d.DepotFile(name=blake3, blake3=blake3, ext=ext, size=size) for blake3, (size, _, ext) in known]
    _ask_to_remove(owner, files, decision, id_, fd)


def _ask_to_remove(owner: str, files: Sequence[d.DepotFile], decision: HubDecision, id_: str = "", fd: int = 0) -> None:
    if files:
        decision.fact(f.DepotLeaves(owner, tuple(file.blake3 for file in files)))
        decision.command(f.AskDepot("remove", owner, id_, fd, tuple(files)))


def take_unneeded(state: HubState, owner: str, files: Sequence[d.DepotFile], decision: HubDecision) -> None:
    """Have the depot remove those of the files that nothing needs."""
    needed = _needed(state, owner)
    take_out(state, owner, [file.blake3 for file in files if file.blake3 not in needed], decision)


def removed(state: HubState, event: f.DepotAnswered, now: float, decision: HubDecision) -> None:
    owner, peer = event.asked.owner, state.connections.get(event.asked.fd)
    decision.fact(f.DepotLeaves(owner, tuple(file.blake3 for file in event.asked.files), ended=True))
    if not event.code:
        needed = _needed(state, owner)  # such a file is on its way again
        out = tuple(blake3 for file in event.asked.files if (blake3 := file.blake3) not in needed)
        decision.fact(f.DepotRemoved(owner, out, now))
    if peer is not None and event.code:
        decision.refuse(peer.fd, event.code, event.reason, event.asked.request_id)
    elif peer is not None:
        _list(state, peer, event.asked.request_id, decision, late=int(now + LATE) if state.limits.depot else 0)


def leave(state: HubState, asked: f.AskDepot) -> bool:
    """Whether the depot was asked meanwhile to remove some of these files: what it has said of them is soon wrong."""
    return any((asked.owner, file.blake3) in state.leaving for file in asked.files)


def take_results(state: HubState, record: f.JobDelivered, decision: HubDecision) -> None:
    results = {file.blake3 for file in record.files} - _needed(state, record.owner)
    take_out(state, record.owner, results, decision)


def _needed(state: HubState, owner: str) -> set[str]:
    """The files of a license that open jobs need, or that are results which no client has fetched."""
    jobs = (state.jobs[id_] for id_ in state.jobs_of.get(owner, ()))
    results = (state.delivered[id_].files for id_ in state.delivered_of.get(owner, ()))
    return {file.blake3 for files in (*map(files_of, jobs), *results) for file in files}


def sweep(state: HubState, now: float, decision: HubDecision) -> list[HubJob]:
    """Once a minute: remove what is too old, and tell owners a day before. Returns the stored jobs that no GPU did."""
    if not (state.in_depot or state.delivered or state.stored or state.removed) or now - state.swept < EVERY:
        return []
    keep = state.limits.depot_keep
    old = [*takewhile(lambda record: now - record.at > keep, state.delivered.values())]
    if old:
        decision.fact(f.DeliveriesGone(tuple(record.id for record in old)))
    soon = now - keep + min(DAY, keep / 2)
    told: dict[str, list[f.JobDelivered]] = {}
    for record in takewhile(lambda record: record.at < soon, state.delivered.values()):
        if record.id not in state.expiry_told and hearers(state, record.owner):
            told.setdefault(record.owner, []).append(record)
    for owner, records in told.items():
        for at in range(0, len(records), d.MOST_FILES):
            ids = tuple(record.id for record in records[at : at + d.MOST_FILES])
            decision.send(hearers(state, owner), d.DepotExpiring(jobs=ids, at=int(records[at].at + keep)))
    decision.fact(f.DepotSwept(tuple(record.id for records in told.values() for record in records), now))
    for owner in state.in_depot if state.depot_up else ():
        _sweep_files(state, owner, now, decision)
    for owner, out in state.removed.items():
        late = [blake3 for blake3, at in out.items() if now - at > LATE and (owner, blake3) not in state.leaving]
        _ask_to_remove(owner, [d.DepotFile(name=blake3, blake3=blake3) for blake3 in late[: d.MOST_FILES]], decision)
    kept = ((state.jobs[id_], state.jobs[id_].depot) for id_ in state.stored)
    return [job for job, files in kept if job.gpu is None and files is not None and now - (files.stored or now) > keep]


def hearers(state: HubState, owner: str) -> list[int]:
    """The clients of a license that know the depot."""
    return state.with_feature(d.FEATURE, state.of_owner(owner))


def _sweep_files(state: HubState, owner: str, now: float, decision: HubDecision) -> None:
    old = [*takewhile(lambda entry: now - entry[1][1] > state.limits.depot_keep, state.in_depot[owner].items())]
    if old:
        needed = _needed(state, owner)
        take_out(state, owner, [*islice((digest for digest, _ in old if digest not in needed), d.MOST_FILES)], decision)


def revoke(state: HubState, owner: str, decision: HubDecision) -> None:
    """The results of a revoked license are fetched by no one, and its files are removed by the next sweeps."""
    if ids := tuple(state.delivered_of.get(owner, ())):
        decision.fact(f.DeliveriesGone(ids))
    if owner in state.in_depot:
        decision.fact(f.DepotUnused(owner))


def refuse(fd: int | None, id_: str, code: str, why: str, decision: HubDecision) -> None:
    """Tell a peer, if it is here, that its files cannot be put into the depot."""
    if fd is not None:
        decision.send(fd, d.DepotPlaces(request_id=id_, code=code, reason=why or None))


def files_of(job: HubJob) -> tuple[d.DepotFile, ...]:
    return job.depot.files if job.depot is not None else ()


def too_fast(state: HubState, peer: Connection, id_: str, now: float, decision: HubDecision) -> bool:
    """Refuse what a connection sends too often, since the depot is asked; else count it.

    A client that comes back asks for all of its jobs. An `error` would end them.
    """
    if peer.told_in(now) >= max(state.limits.passed_on, state.limits.jobs_per_key):
        why = "this connection asks too often; try again in 1 s"
        refuse(peer.fd, id_, "too_fast", why, decision)
        return True
    decision.fact(f.MonitorsTold(peer.fd, now))
    return False


def frame(state: HubState, message: m.Message, files: Sequence[d.DepotFile]) -> int:
    """The most bytes of a message with the links of these files."""
    link = state.limits.depot_link if state.limits.depot else 0
    return len(wire.octets(message)) + sum(len(file.name.encode()) + link + 300 for file in files)
