"""The fewest facts that lead to a state of the hub: its journal may be cut down to them."""

from __future__ import annotations

from collections.abc import Iterator

from wakestream.streams.hub import events as f
from wakestream.streams.hub.state import Gpu, HubState


def snapshot(state: HubState) -> Iterator[f.Fact]:
    """The fewest durable facts that lead to the same jobs, GPUs and kept results."""
    for gpu in state.gpus.values():
        yield from _of_gpu(gpu)
    yield from (f.GpuHeld(role, gpu, owner, at) for (role, gpu), (owner, at) in state.holders.items())
    for job in sorted(state.jobs.values(), key=lambda job: job.seq):
        queued = f.JobQueued(job.id, job.owner, job.fd, job.task_type, job.payload, job.since)
        yield queued
        if job.gpu is not None:
            yield f.JobGranted(job.id, job.gpu, job.since)
        elif job.last is not None:
            yield f.JobGranted(job.id, job.last, job.since)
            yield queued
    yield from _of_ended(state)
    yield from _of_money(state)
    if state.boots or state.jobs:
        yield f.BootTimes(tuple(state.boots), state.waking)


def _of_ended(state: HubState) -> Iterator[f.Fact]:
    for owner, results in state.kept.items():
        yield from (f.ResultKept(owner, result, at) for at, result in results)
    yield from (f.LetGo(id_, owner, gpu) for id_, (owner, gpu) in state.recently_released.items())
    for name, pending in state.pending_cancels.items():
        yield from (f.CancelOwed(name, id_, at) for id_, at in pending.items())


def _of_money(state: HubState) -> Iterator[f.Fact]:
    """After the jobs: these replace what their facts lead to."""
    for gpu in state.gpus.values():
        if gpu.machine or gpu.price is not None:
            yield f.MachineKnown(gpu.name, gpu.machine, gpu.price, gpu.currency)
        if gpu.leases:
            yield f.MeterKept(gpu.name, gpu.meter.at, gpu.meter.share)
    for job in state.jobs.values():
        if job.used or job.gpu is not None:
            yield f.JobMetered(job.id, tuple(job.used.items()), job.began)
    yield from state.usage.snapshot()
    yield from state.reached.values()
    yield from state.news.values()


def _of_gpu(gpu: Gpu) -> Iterator[f.Fact]:
    if gpu.phase == "online":
        yield f.GpuOnline(gpu.name, gpu.url, gpu.since)
    else:
        yield f.GpuPhase(gpu.name, gpu.phase, gpu.since, gpu.cause, gpu.retry_at)
    book = gpu.account
    days = tuple(book.days.items())
    if gpu.machine_url is not None:
        yield f.MachineUrl(gpu.name, gpu.machine_url)
    if gpu.kinds is not None or gpu.pairs_only:
        kinds = None if gpu.kinds is None else tuple(gpu.kinds.values())
        yield f.GpuDescribed(gpu.name, gpu.described_at, kinds, gpu.pairs_only)
    yield f.AccountKept(gpu.name, book.since, book.at, book.running_since, days, book.before)
