"""The depot at the hub: jobs that wait with their files, those that the hub does by itself, and their results. Pure.

docs/protocol-depot.md says what each message means. `events.AskDepot` is a question to the store, `DepotAnswered` the
answer to it. `events.Links` marks a message that gets its links when it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from wakestream.streams.hub import answers, capabilities, depot_files, late_jobs, placement
from wakestream.streams.hub import events as f
from wakestream.streams.hub.depot_files import Refusal, files_of
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.needs import STORING
from wakestream.streams.hub.state import Connection, Gpu, HubJob, HubState, JobFiles
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.features import GONE, REFUSED
from wakestream.streams.protocol.param_schema import is_secret

Said = d.DepotStored | d.DepotWithdraw | d.DepotQuery

DOWN: Final = "the depot is not connected"

NAME: Final = "depot"
"""The name of our own depot, unless it gives another."""

LONGEST_REASON: Final = 300
"""Characters that are kept of why a job failed."""

A_TICK: Final = 1000
"""The most jobs that go the direct way in one second when our own depot stays away."""

AWAITED: Final = 15.0
"""Seconds in which our own depot comes back after a restart of the hub, as its clients do."""


def refusal(state: HubState, role: str, owner: str) -> Refusal | None:
    """Why a depot of this license may not serve this hub, or None. A new one has no license yet."""
    if role != NAME:
        return None
    if state.limits.depot:
        return "depot_taken", "the files of this hub are in a bucket; start the hub without --depot to use this depot"
    if state.depot_of is not None and state.depot_of[0] != owner:
        return "depot_taken", (
            "another license runs the depot of this hub; use its key, or at the hub `wakestream license release` for it"
        )
    return None


def back(state: HubState, decision: HubDecision) -> None:
    """Our own depot is back: ask it about the files that it was not asked about."""
    for job in _unasked(state):
        decision.command(f.AskDepot("open", job.owner, job.id, job.fd or 0, files_of(job)))


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """If our own depot is not back in time, the jobs that wait for it go the direct way."""
    for job in () if state.depot_up or _awaited(state, now) else _unasked(state)[:A_TICK]:
        depot_files.refuse(job.fd, job.id, "down", DOWN, decision)
        _direct(state, job, now, decision)


def _awaited(state: HubState, now: float) -> bool:
    return state.depot_of is not None and now - state.restarted < AWAITED


def _unasked(state: HubState) -> list[HubJob]:
    lines = [line for (need, *_), line in state.lines.items() if need.depot == STORING]
    return [state.jobs[id_] for line in lines for id_ in line if id_ not in state.uploads]


# Jobs of clients


def offer(state: HubState, peer: Connection, message: d.DepotOffer, now: float, decision: HubDecision) -> None:
    """A client offers the files of a job that waits. One that the depot cannot take goes the direct way."""
    if depot_files.too_fast(state, peer, message.request_id, now, decision):
        return
    job, id_ = state.job_of(peer, message.request_id), message.request_id
    if job is None:
        if not (_told(state, peer, id_, decision) or depot_files.probe(state, peer, message, now, decision)):
            _unknown(peer, id_, decision)
        return
    if job.stored and (job.gpu is not None or files_of(job) == message.files):
        say_stored(state, job, peer.fd, now, decision)
        return
    if (refused := _refused(state, job, message.files, now, decision)) is not None:
        depot_files.refuse(peer.fd, id_, *refused, decision)
        if job.gpu is None:
            _direct(state, job, now, decision)
        return
    if job.depot != JobFiles(message.files, None, bool(message.again)):  # else it asks for new links
        decision.fact(f.JobStoring(id_, message.files, now, bool(message.again)))
    if state.depot_up:  # else when it is back
        decision.command(f.AskDepot("open", job.owner, id_, peer.fd, message.files))


def _refused(
    state: HubState, job: HubJob, files: Sequence[d.DepotFile], now: float, decision: HubDecision
) -> Refusal | None:
    """Why this job does not go through the depot, or None. Files that nothing needs make room for its own ones."""
    if job.gpu is not None:
        return "unknown_job", f"the GPU {job.gpu} has the job already"
    if (why := state.refusals.get(job.id)) is not None:
        return REFUSED, why
    if not state.has_depot:
        return "no_depot", "this hub has no depot"
    if not (state.depot_up or _awaited(state, now)):
        return "down", DOWN
    if (why := _unsupported(state, job)) is not None:
        return "unsupported", why
    if depot_files.frame(state, job.submit, files) > wire.MAX_FRAME:
        return "too_large", f"the job with its {len(files)} files is too large for one message"
    return depot_files.make_room(state, job, files, decision)


def _unsupported(state: HubState, job: HubJob) -> str | None:
    if not job.late:
        return "the client does not announce `queue`"
    plain = state.need_of(job)._replace(depot="")
    fit = [gpu for gpu in state.gpus.values() if placement.can(state, gpu, plain)]
    if fit and not any(placement.can(state, gpu, plain._replace(depot=STORING)) for gpu in fit):
        return "only workers of an earlier version can do the job, and they do not know the depot"
    for gpu in fit:
        params = (gpu.kinds or {}).get(plain.kind or "", {}).get("params", {})
        for name in params.get("required", ()):
            if is_secret(params.get("properties", {}).get(name, {})):
                return f"the parameter {name} is secret, and the hub does not get it"
    return None


def uploading(state: HubState, peer: Connection, message: d.DepotProgress, now: float, decision: HubDecision) -> None:
    """A client says how far its upload is."""
    job = state.job_of(peer, message.request_id)
    if job is not None and job.depot is not None and not job.stored and state.depot_up:  # else it is asked when back
        decision.fact(f.UploadSeen(job.id, max(0, message.left or 0), max(0.0, message.rate or 0.0), now))


def says(state: HubState, peer: Connection, message: Said, now: float, decision: HubDecision) -> None:
    """A client says that all files are there, or that it sends them to the worker itself; or it asks.

    A job that the hub does stays with it.
    """
    job, id_ = state.job_of(peer, message.request_id), message.request_id
    if job is not None and job.stored:
        say_stored(state, job, peer.fd, now, decision)
    elif isinstance(message, d.DepotWithdraw) and job is not None:
        if job.gpu is None:
            _direct(state, job, now, decision)
    elif isinstance(message, d.DepotStored) and job is not None and job.depot is not None:
        # While it is not back yet, its answer to `open` follows.
        if not depot_files.too_fast(state, peer, id_, now, decision) and (state.depot_up or not _awaited(state, now)):
            decision.command(f.AskDepot("check", job.owner, id_, peer.fd, job.depot.files))
    elif job is not None or not (_looks(state, peer, message, now, decision) or _told(state, peer, id_, decision)):
        _unknown(peer, id_, decision)


def _looks(state: HubState, peer: Connection, message: Said, now: float, decision: HubDecision) -> bool:
    """Have the depot say whether the results are there, before a client gets links again; whether it is asked."""
    record = _record(state, peer, message.request_id)
    if record is None or not (record.files and state.depot_up and isinstance(message, d.DepotQuery)):
        return False
    if not depot_files.too_fast(state, peer, record.id, now, decision):
        decision.command(f.AskDepot("check", record.owner, record.id, peer.fd, record.files))
    return True


def _asked_about(state: HubState, asked: f.AskDepot) -> f.JobDelivered | None:
    """The delivered job for whose results a client asked the depot; not for inputs, or for a try under that id."""
    record = None if asked.gpu else state.delivered.get(asked.request_id)
    return record if record is not None and (record.owner, record.files) == (asked.owner, asked.files) else None


def _results_kept(
    state: HubState, record: f.JobDelivered, event: f.DepotAnswered, now: float, decision: HubDecision
) -> None:
    """Send the links, or say that results are gone, which the job's owner may have removed by hand."""
    fd = _asker(state, event.asked, event.asked.fd)
    to = [fd] if fd is not None else []
    if event.code or all(_is_there(file, event) for file in record.files):
        _send_results(record, to, decision)
        return
    lost = [file for file in record.files if not _is_there(file, event)]
    decision.fact(f.DeliveriesGone((record.id,)))
    decision.fact(f.DepotRemoved(record.owner, tuple(file.blake3 for file in lost), now))
    why = f"the result {lost[0].name!r} was removed from the depot before it was fetched; the job must run again"
    _send_results(f.JobDelivered(record.id, record.owner, record.gpu, (), now, d.LOST, why), to, decision)


def _direct(state: HubState, job: HubJob, now: float, decision: HubDecision) -> None:
    """The job waits as without a depot."""
    if not job.direct:
        decision.fact(f.JobDirect(job.id))
    if job.late:
        late_jobs.place_new(state, state.jobs[job.id], now, decision)
        job = state.jobs[job.id]
        if job.gpu is None and job.fd is not None:
            decision.send(job.fd, late_jobs.answer(state, job, now))


def say_stored(state: HubState, job: HubJob, fd: int, now: float, decision: HubDecision) -> None:
    """Tell the client that the hub does this job, and how far it is."""
    if job.depot is None:
        return
    decision.send(fd, _stored(state, job.id, job.depot.stored or now))
    if job.gpu is not None:
        decision.send(fd, d.DepotProgress(request_id=job.id, step="wait", gpu=job.gpu))
    else:
        decision.send(fd, late_jobs.answer(state, job, now))


def _stored(state: HubState, id_: str, since: float) -> d.DepotStored:
    return d.DepotStored(request_id=id_, until=int(since + state.limits.depot_keep))


def knows(state: HubState, peer: Connection, id_: str, now: float, decision: HubDecision) -> bool:
    """Answer a submit of a job that the hub does by itself, or whose results are in the depot."""
    job, able = state.job_of(peer, id_), d.FEATURE in peer.features
    if job is None and able:
        return _told(state, peer, id_, decision)
    if job is None:  # a client of an earlier version cannot fetch the results: the job is done again
        forget(state, peer, id_, decision)
        return False
    if job.depot is not None and not able:
        decision.fact(f.JobDirect(id_))
    gpu = state.gpus.get(job.gpu or "")
    if not (able and job.stored) or (gpu is not None and not gpu.fetches(job)):
        return False
    if gpu is None and placement.refusal(state, job.need, now) is not None:  # the submit is refused for that
        return False
    decision.fact(f.JobClaimed(id_, peer.fd, job.payload, now))
    if gpu is None:  # with its client here, a worker that knows no depot can do it too
        late_jobs.place_new(state, state.jobs[id_], now, decision)
    job = state.jobs[id_]
    if job.gpu is None or state.gpus[job.gpu].fetches(job):
        say_stored(state, job, peer.fd, now, decision)
    return True


def forget(state: HubState, peer: Connection, id_: str, decision: HubDecision, *, unusable: bool = False) -> bool:
    """The client has the results of this job, or wants none; returns whether there are any.

    Those that it cannot use leave the depot: for else the depot would be taken to have them.
    """
    if (record := _record(state, peer, id_)) is not None:
        decision.fact(f.DeliveriesGone((id_,)))
        if unusable:
            depot_files.take_results(state, record, decision)
    return record is not None


def _told(state: HubState, peer: Connection, id_: str, decision: HubDecision) -> bool:
    """Send the client where the results of a job are; returns whether there are any."""
    if (record := _record(state, peer, id_)) is not None:
        _send_results(record, [peer.fd], decision)
    return record is not None


def _record(state: HubState, peer: Connection, id_: str) -> f.JobDelivered | None:
    record = state.delivered.get(id_)
    return record if record is not None and record.owner == (peer.owner or "") else None


def _send_results(record: f.JobDelivered, to: Iterable[int], decision: HubDecision) -> None:
    message = d.DepotDelivered(
        request_id=record.id,
        gpu=record.gpu or None,
        files=answers.places(record.files, [file.blake3 for file in record.files]),
        code=record.code or None,
        reason=record.reason or None,
    )
    decision.command(*(f.Send(fd, message, seal=f.Links(record.owner, record.id, "get")) for fd in to))


# What the depot says


def answered(state: HubState, event: f.DepotAnswered, now: float, decision: HubDecision) -> None:
    """The depot said what it has of the files of a job, of its results, or that files are removed."""
    asked, job = event.asked, state.jobs.get(event.asked.request_id)
    job = job if job is not None and job.owner == asked.owner else None  # else it is another one of that id
    if asked.ask == "remove":
        depot_files.removed(state, event, now, decision)
    elif job is None and (record := _asked_about(state, asked)) is not None:
        _results_kept(state, record, event, now, decision)
    elif job is None and depot_files.is_probe(asked.files) and _asker(state, asked, asked.fd) is not None:
        _tried(state, event, now, decision)
    elif asked.gpu:
        _results_seen(state, job, event, now, decision)
    elif job is not None and job.gpu is not None and state.gpus[job.gpu].fetches(job):
        _inputs_seen(state, job, state.gpus[job.gpu], event, now, decision)
    elif job is not None and job.depot is not None and not job.stored and files_of(job) == asked.files:
        missing = {file.blake3: file.size for file in asked.files if not _is_there(file, event)}
        if event.code:
            depot_files.refuse(job.fd, job.id, event.code, event.reason, decision)
            _direct(state, job, now, decision)
            if event.code in ("full", "too_large"):  # the list of its files would have what is not there
                depot_files.take_unneeded(state, job.owner, asked.files, decision)
        elif asked.ask == "open" or missing:
            decision.fact(f.UploadSeen(job.id, sum(missing.values()), state.uploads.get(job.id, (0, 0.0, 0.0))[1], now))
            _send_places(state, job.fd, event, decision)
        elif depot_files.leave(state, asked):
            decision.command(asked)
        else:
            decision.fact(f.JobStored(job.id, now, round(state.upload_saved(job.id, 0, 0.0, now), 1)))
            _now_stored(state, job, now, decision)


def _now_stored(state: HubState, job: HubJob, now: float, decision: HubDecision) -> None:
    """Place a job whose files are all there, and tell its client what it waits for."""
    if job.fd is not None:
        decision.send(job.fd, _stored(state, job.id, now))
    late_jobs.place_new(state, state.jobs[job.id], now, decision)
    if job.fd is not None and state.jobs[job.id].gpu is None:
        decision.send(job.fd, late_jobs.answer(state, state.jobs[job.id], now))


def _tried(state: HubState, event: f.DepotAnswered, now: float, decision: HubDecision) -> None:
    """Tell the client where the file of its try is put, or where it is."""
    asked = event.asked
    if event.code:
        depot_files.refuse(asked.fd, asked.request_id, event.code, event.reason, decision)
    elif _is_there(asked.files[0], event):
        _send_results(f.JobDelivered(asked.request_id, asked.owner, "", asked.files, now), [asked.fd], decision)
    else:
        _send_places(state, asked.fd, event, decision)


def _is_there(file: d.DepotFile, event: f.DepotAnswered) -> bool:
    return event.have.get(file.blake3) == file.size


def _asker(state: HubState, asked: f.AskDepot, fd: int | None) -> int | None:
    """The connection that gets the answer, if it is the worker's or the license's that was asked for."""
    peer = state.connections.get(fd or 0)
    right = peer is not None and (peer.gpu == asked.gpu if asked.gpu else peer.owner == asked.owner)
    return fd if right else None


def _send_places(state: HubState, fd: int | None, event: f.DepotAnswered, decision: HubDecision) -> None:
    asked = event.asked
    if (fd := _asker(state, asked, fd)) is not None:
        have = [file.blake3 for file in asked.files if _is_there(file, event)]
        message = d.DepotPlaces(request_id=asked.request_id, files=answers.places(asked.files, have))
        decision.command(f.Send(fd, message, seal=f.Links(asked.owner, asked.request_id, "put")))


# Work of workers


def offer_results(state: HubState, peer: Connection, message: d.DepotOffer, now: float, decision: HubDecision) -> None:
    """A worker offers the results of a job that it fetched."""
    job = _work(state, peer, message.request_id, now, decision)
    if job is None:
        return
    if depot_files.frame(state, message, message.files) > wire.MAX_FRAME:
        why = f"the {len(message.files)} results are too many for one message"
        depot_files.refuse(peer.fd, job.id, "too_large", why, decision)
        return
    decision.fact(f.DepotUsed(job.owner, message.files, now))
    decision.command(f.AskDepot("open", job.owner, job.id, peer.fd, message.files, peer.gpu or ""))


def working(state: HubState, peer: Connection, message: d.DepotProgress, now: float, decision: HubDecision) -> None:
    """A worker says how far a job is."""
    job = state.jobs.get(message.request_id)
    if job is None or job.gpu is None or job.gpu != peer.gpu:
        return
    decision.fact(f.GpuActive(job.gpu, now))
    if job.fd is not None and job.stored:
        step, percent = message.step, message.percent
        decision.send(job.fd, d.DepotProgress(request_id=job.id, step=step, percent=percent, gpu=job.gpu))


def fetch_again(state: HubState, peer: Connection, message: d.DepotQuery, now: float, decision: HubDecision) -> None:
    """A worker asks for new links to the files of a job. It may be that the depot lacks some."""
    job = _work(state, peer, message.request_id, now, decision)
    if job is None:
        return
    if job.gpu == peer.gpu and job.stored:
        decision.command(f.AskDepot("check", job.owner, job.id, peer.fd, files_of(job)))
    else:
        decision.send(peer.fd, m.Cancel(request_id=job.id))


def _inputs_seen(
    state: HubState, job: HubJob, gpu: Gpu, event: f.DepotAnswered, now: float, decision: HubDecision
) -> None:
    if event.code or all(_is_there(file, event) for file in event.asked.files):
        answers.fetch(state, gpu, job, decision)
        return
    capabilities.cancel(state, gpu, job.id, job.owner, decision)
    _store_again(state, job, now, decision)


def _store_again(state: HubState, job: HubJob, now: float, decision: HubDecision) -> None:
    """The job loses its GPU and waits for its client, which sends what the depot lacks."""
    late_jobs.give_back(state, [job.id], now, decision)
    decision.fact(f.JobStoring(job.id, files_of(job), now, job.depot is not None and job.depot.again))
    if job.fd is not None:
        decision.command(f.AskDepot("open", job.owner, job.id, job.fd, files_of(job)))


def delivered(state: HubState, peer: Connection, message: d.DepotDelivered, now: float, decision: HubDecision) -> None:
    """A worker says that the results of a job are in the depot, or why the work failed. The first delivery counts."""
    job, gpu = _work(state, peer, message.request_id, now, decision), peer.gpu or ""
    if job is None:
        return
    files = tuple(
        d.DepotFile(name=file.name, blake3=file.blake3, ext=file.ext, size=file.size) for file in message.files
    )
    if not message.code:
        decision.command(f.AskDepot("check", job.owner, job.id, peer.fd, files, gpu))
        return
    if job.gpu == gpu and message.code == GONE and job.depot is not None:
        lost = {file.blake3 for file in files} & {file.blake3 for file in files_of(job)}
        depot_files.take_out(state, job.owner, sorted(lost), decision)
        _store_again(state, job, now, decision)
    elif job.gpu == gpu and message.code == REFUSED and job.fd is not None:
        why = f"the GPU {gpu} cannot use the depot: {message.reason or 'its links are refused'}"[:LONGEST_REASON]
        late_jobs.give_back(state, [job.id], now, decision)
        decision.fact(f.JobDirect(job.id, why))
        depot_files.refuse(job.fd, job.id, REFUSED, why, decision)
        _direct(state, state.jobs[job.id], now, decision)
    elif job.gpu == gpu:
        reason = (message.reason or "")[:LONGEST_REASON]
        _end(state, job, f.JobDelivered(job.id, job.owner, gpu, (), now, message.code, reason), decision)
    decision.send(peer.fd, _stored(state, job.id, now))


def _results_seen(
    state: HubState, job: HubJob | None, event: f.DepotAnswered, now: float, decision: HubDecision
) -> None:
    asked, id_ = event.asked, event.asked.request_id
    said: m.Message = _stored(state, id_, now)
    if event.code:
        said = d.DepotPlaces(request_id=id_, code=event.code, reason=event.reason or None)
    elif asked.ask == "open" or not all(_is_there(file, event) for file in asked.files):
        _send_places(state, asked.fd, event, decision)
        return
    elif job is not None and job.depot is not None:
        if depot_files.leave(state, asked):  # the answer is from before
            decision.command(asked)
            return
        _end(state, job, f.JobDelivered(job.id, job.owner, asked.gpu, asked.files, now), decision)
    if _asker(state, asked, asked.fd) is not None:
        decision.send(asked.fd, said)


def _end(state: HubState, job: HubJob, record: f.JobDelivered, decision: HubDecision) -> None:
    """The job is done, or has failed: its lease ends, and its client gets the news. No other GPU goes on with it."""
    to = state.with_feature(d.FEATURE, state.listeners(job))
    decision.fact(record)
    if job.gpu is not None and job.gpu != record.gpu:
        decision.fact(f.CancelOwed(job.gpu, job.id, record.at))
        capabilities.cancel(state, state.gpus[job.gpu], job.id, job.owner, decision)
    decision.fact(f.JobRemoved(job.id, "delivered", record.at))
    if job.id in state.pending_cancels.get(record.gpu, ()):
        decision.fact(f.CancelsSettled(record.gpu, (job.id,)))
    _send_results(record, to, decision)


def _work(state: HubState, peer: Connection, id_: str, now: float, decision: HubDecision) -> HubJob | None:
    """The job that a worker speaks of; its part is done of one that has ended, or that the client does itself."""
    job, gpu = state.jobs.get(id_), state.gpus.get(peer.gpu or "")
    if job is None or job.depot is None:
        decision.send(peer.fd, _stored(state, id_, now))
    elif gpu is None or job.owner not in gpu.served:
        why = "this job is not this worker's: only one that was given it delivers its results"
        decision.refuse(peer.fd, "forbidden", why, id_)
    else:
        return job
    return None


def _unknown(peer: Connection, id_: str, decision: HubDecision) -> None:
    why = "the hub has no such job in the depot; submit it, and offer its files"
    depot_files.refuse(peer.fd, id_, "unknown_job", why, decision)
