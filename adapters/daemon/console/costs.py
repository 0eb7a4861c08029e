"""What the hub says of costs, for the pages: asked when a page needs it, and not more often than it may change."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import bad_request, json_answer
from wakestream.adapters.daemon.console.gpu_status import stuck
from wakestream.adapters.daemon.console.job_view import JobView
from wakestream.adapters.disk.state_file import keep_state, read_state
from wakestream.adapters.net.static_files import SAFE
from wakestream.adapters.runtime.tasks import background, end
from wakestream.operators.model.errors import HubRefused, WakestreamError
from wakestream.streams.outbox.facts import JobAccepted
from wakestream.streams.outbox.state import OutboxState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

NAME: Final = "costs.json"

FRESH: Final = 15.0
"""Seconds for which an answer of the hub is good, if no job ended meanwhile."""

APART: Final = 2.0
"""Seconds between two questions, if jobs end."""

WITHIN: Final = 2.0
"""Seconds that a caller of the API waits for the hub."""

UNSEEN: Final = 25
"""Ends of jobs after which it asks without a page: the hub tells only the last 50 jobs."""

KEPT: Final = 1000
"""Ended jobs whose costs are kept; the history shows no more."""

USUAL_OF: Final = 20
USUAL_LEAST: Final = 3
"""An estimate is made of the last jobs of the same kind, at most and at least so many."""

Spent = Mapping[str, Any]
"""What a job used: `used_s`, the `gpu`, and with a price `cost` and `currency`."""

LENGTHS_MOST: Final = 1000

Work = tuple[str, float]
"""The kind of a job, and the seconds of its longest input; 0 if they are not known."""

_SPENT = msgspec.json.Decoder(dict[str, Spent])


class Costs:
    """Asks the hub and keeps what jobs have cost: the hub knows only the last ones.

    Args:
        ask: Asks the hub. It raises `WakestreamError`.
        jobs: The jobs of this daemon.
        folder: Where the costs of jobs are kept.
        now: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[m.HubStatus]],
        jobs: JobView,
        folder: Path,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._jobs, self._path, self._now = ask, jobs, folder / NAME, now
        self._spent: dict[str, Spent] = read_state(self._path, _SPENT.decode, {})
        self._hub_status: dict[str, Any] = {"hub": "connecting"}
        self._asked_at = float("-inf")
        self._news, self._seen, self._sent = 0, 0, 0
        self._asking: asyncio.Task[None] | None = None
        self.always = False  # whether costs of single jobs are asked for

    def outdate(self) -> None:
        """The hub has booked a job, or it came or went: what is known is out of date."""
        self._news += 1
        if self.always or self._news - self._seen >= UNSEEN:
            self._start()

    async def present(self) -> dict[str, Any]:
        """The costs as they are now, or as they were when the hub was last there."""
        sent = self._sent
        while self._sent == sent and not self._is_good():  # one under way may be from before the end of a job
            await asyncio.shield(self._start())
        return {**self._hub_status, "spent": self._spent, "open": self._estimate(self._open(), ahead=())}

    async def ask_within(self, seconds: float) -> None:
        """Wait for an answer of the hub, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.present()

    async def estimate(self, request: web.Request) -> web.Response:
        """What jobs of the kind `kind` take; `lengths` has the seconds of each job's longest input, or null."""
        body = await requests.json_object(request)
        kind, lengths = body.get("kind"), body.get("lengths")
        if (
            not isinstance(lengths, list)
            or len(lengths) > LENGTHS_MOST
            or not all(length is None or (type(length) in (int, float) and 0 <= length < 1e9) for length in lengths)
        ):
            raise bad_request(f'send "kind" and "lengths", a list of at most {LENGTHS_MOST} seconds or nulls')
        await self.ask_within(WITHIN)
        jobs = [(str(kind), float(length or 0)) for length in lengths]
        return json_answer(self._estimate(jobs, ahead=self._open()), headers=SAFE)

    def _estimate(self, jobs: Sequence[Work], ahead: Sequence[Work]) -> dict[str, Any]:
        return estimate(usual(self._spent, self._jobs.outbox.state), jobs, ahead, self._hub_status, time.time())

    def _open(self) -> list[Work]:
        """The unfinished jobs."""
        state = self._jobs.outbox.state
        return [_work(state.jobs[job].accepted) for job in state.queue]

    def of(self, job: str) -> Spent:
        """What a job that has ended used, as far as the hub has told it."""
        return self._spent.get(job, {})

    async def by_job(self, *, wait: bool) -> dict[str, Any]:
        """What jobs cost so far: `jobs`, an amount for each id, and the `currency`; no job if their money differs.

        `spent` is all that is known of each.

        With `wait` the hub has `WITHIN` seconds to answer; without, or after that, it is what was known before.
        """
        if wait:
            await self.ask_within(WITHIN)
        booked = (self._hub_status.get("costs") or {}).get("jobs", ())
        running = {job["id"]: _spent(job, self._hub_status.get("currency") or "") for job in booked}
        known = {**self._spent, **running}
        priced = {job: spent for job, spent in known.items() if "cost" in spent}
        currency, *others = {spent["currency"] for spent in priced.values()} or {""}
        costs = {} if others else {job: spent["cost"] for job, spent in priced.items()}
        return {"jobs": costs, "currency": currency, "spent": known}

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            await end(self._asking)

    def _is_good(self) -> bool:
        """Whether the last answer, or the last attempt, is young enough and nothing has changed since."""
        lasts = FRESH if self._hub_status["hub"] == "up" else APART
        return self._seen == self._news and self._now() - self._asked_at < lasts

    def _start(self) -> asyncio.Task[None]:
        self._asking = self._asking or background("the question for costs", self._question())
        return self._asking

    async def _question(self) -> None:
        try:
            await asyncio.sleep(max(0.0, APART - (self._now() - self._asked_at)))
            self._asked_at, self._seen = self._now(), self._news
            self._sent += 1
            await self._answer()
        finally:
            self._asking = None

    async def _answer(self) -> None:
        try:
            answer = await self._ask()
        except WakestreamError as error:
            hub = "old" if error.code == "old_hub" else "refused" if isinstance(error, HubRefused) else "down"
            self._hub_status = {**self._hub_status, "hub": hub, "why": str(error)}
            return
        data = wire.to_frame(answer).get("data", {})
        if answer.costs is None:
            self._hub_status = {"hub": "old"}
            return
        jobs = answer.costs.get("jobs", ())
        known = self._jobs.outbox.state.jobs
        names = {job["id"]: self._jobs.input_names(known[job["id"]]) for job in jobs if job["id"] in known}
        self._hub_status = {"hub": "up", "at": time.time(), **data, "names": names}
        await self._keep(jobs, answer.currency or "")

    async def _keep(self, jobs: Iterable[Mapping[str, Any]], currency: str) -> None:
        """Remember what the jobs of this daemon cost that have ended."""
        known = self._jobs.outbox.state.jobs
        fresh = {
            job["id"]: _spent(job, currency) for job in reversed(list(jobs)) if "ended" in job and job["id"] in known
        }
        if fresh.items() <= self._spent.items():
            return
        kept = {job: spent for job, spent in self._spent.items() if job in known and job not in fresh}
        self._spent = dict([*kept.items(), *fresh.items()][-KEPT:])
        await keep_state(self._path, orjson.dumps(self._spent))


def _spent(job: Mapping[str, Any], currency: str) -> Spent:
    cost = {"cost": job["cost"], "currency": job.get("currency", currency)} if "cost" in job else {}
    return {"used_s": job["used_s"], **({"gpu": job["gpu"]} if "gpu" in job else {}), **cost}


def usual(spent: dict[str, Spent], state: OutboxState) -> dict[str, Any]:
    """What a job of each kind usually takes: the medians of the last ones that were really made.

    Returns:
        By kind: `jobs`, how many they are; `used_s`; `per_s`, the GPU time for each second of the longest input, if
        lengths are known; and, if the last of them had a price, `cost` and `currency`.
    """
    made: dict[str, list[tuple[Spent, float]]] = {}
    for job, usage in reversed(spent.items()):
        entry = state.jobs.get(job)
        if entry is not None and entry.ended is not None and entry.ended.outcome == "done" and not entry.ended.reused:
            of_kind = made.setdefault(entry.accepted.kind, [])
            if len(of_kind) < USUAL_OF:
                of_kind.append((usage, _work(entry.accepted)[1]))
    return {kind: _median(jobs) for kind, jobs in made.items() if len(jobs) >= USUAL_LEAST}


def _median(jobs: list[tuple[Spent, float]]) -> dict[str, Any]:
    spent = [usage for usage, _ in jobs]
    medians = {"jobs": len(jobs), "used_s": round(median(usage["used_s"] for usage in spent), 1)}
    paces = [usage["used_s"] / length for usage, length in jobs if length]
    if len(paces) >= USUAL_LEAST:
        medians["per_s"] = round(median(paces), 3)
    priced = [usage for usage in spent if "cost" in usage and usage["currency"] == spent[0].get("currency")]
    if len(priced) < USUAL_LEAST:
        return medians
    return {**medians, "cost": round(median(usage["cost"] for usage in priced), 2), "currency": priced[0]["currency"]}


def estimate(
    usually: Mapping[str, Mapping[str, Any]],
    jobs: Sequence[Work],
    ahead: Sequence[Work],
    hub_status: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """What jobs take, with the start of a GPU and the idle time after them.

    Args:
        usually: What jobs of each kind take (see `usual`).
        jobs: The jobs.
        ahead: The jobs that are done before.
        hub_status: What the hub says.
        now: UNIX seconds.

    Returns:
        `jobs`, `used_s`, `wake_s`, `idle_s`, `all_s`, `share_s`, `cost`, `all_cost`, `share`, `currency` and `done_at`,
        as far as they are known; an empty object without the usual time of a kind. `share_s` is the usual share of
        boots and idle time, as this month.
    """
    used, before = _used(usually, jobs), _used(usually, ahead)
    if not used:
        return {}
    gpus = hub_status.get("gpus", ()) if hub_status["hub"] == "up" else ()
    on = [gpu for gpu in gpus if gpu["phase"] == "online"]
    first: Mapping[str, Any] = min(on or gpus, key=_comes_first, default={})
    wake = 0.0 if on else (first.get("boot_s") or hub_status.get("boot_s") or {}).get("p50") if gpus else None
    whole = used + (wake or 0.0) + first.get("idle_after_s", 0.0)
    figures = {"jobs": len(jobs), "used_s": used, "wake_s": wake, "idle_s": first.get("idle_after_s"), "all_s": whole}
    costs = hub_status.get("costs") or {}
    if (worked := sum(row["used_s"] for row in costs.get("licenses", ()))) and "unused" in costs:
        figures["share_s"] = used * costs["unused"]["used_s"] / worked
    kind = usually[jobs[0][0]]
    rate = first["price_per_hour"] / 3600 if "price_per_hour" in first else kind.get("cost", 0) / (kind["used_s"] or 1)
    if rate:
        currency = first.get("currency") or hub_status.get("currency") or kind.get("currency")
        share = {"share": rate * figures["share_s"]} if "share_s" in figures else {}
        figures |= {"cost": rate * used, "all_cost": rate * whole, **share, "currency": currency}
    others = hub_status.get("queue", 0) > hub_status.get("own_queued", 0) or any(gpu.get("others") for gpu in gpus)
    if wake is not None and before is not None and not others and stuck(hub_status) is None:
        figures["done_at"] = now + wake + (before + used) / max(1, len(on))
    return {name: value for name, value in figures.items() if value is not None}


def _comes_first(gpu: Mapping[str, Any]) -> tuple[bool, bool, float, float]:
    """The order in which GPUs come: those that are starting, that are planned to, and then the cheapest."""
    coming, planned = gpu["phase"] in ("starting", "booted"), (gpu.get("plan") or {}).get("do") == "wake"
    return not coming, not planned, gpu.get("price_per_hour", 0.0), (gpu.get("boot_s") or {}).get("p50", 0.0)


def _used(usually: Mapping[str, Mapping[str, Any]], jobs: Sequence[Work]) -> float | None:
    """The GPU time of the jobs; None if a kind is not known."""
    if any(kind not in usually for kind, _ in jobs):
        return None
    usages = ((usually[kind], length) for kind, length in jobs)
    return math.fsum(
        usage["per_s"] * length if length and "per_s" in usage else usage["used_s"] for usage, length in usages
    )


def _work(accepted: JobAccepted) -> Work:
    return accepted.kind, max((file.seconds for file in accepted.inputs.values()), default=0.0)
