"""Budgets: what a day or a month may cost, in all and for each GPU. Pure.

A GPU whose budget is spent is blocked until the next day or month: no job wakes it and it is given no new work. Jobs
that hold it go on. When nothing holds it, its monitor is asked to stop it without waiting for the idle time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

from wakestream.streams.hub import answers, costs, jobs, late_jobs, ledger, power
from wakestream.streams.hub import events as f
from wakestream.streams.hub import local_time as t
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.late_jobs import AGAIN, RELEASE
from wakestream.streams.hub.state import ALL, Gpu, HubState
from wakestream.streams.protocol import messages as m

STEPS = (100, 80)
"""Percentages of a budget that are reported, each once in a period."""

Period = Literal["day", "month"]


class Purse(NamedTuple):
    """One budget: of `gpu`, or of `ALL`, in the period that began on the day `begin` and ends at `until`."""

    gpu: str
    period: Period
    limit: Decimal
    spent: Decimal
    begin: int
    until: float

    @property
    def reached(self) -> int:
        """The highest of the percentages that it reached, or 0."""
        return next((step for step in STEPS if self.spent * 100 >= self.limit * step), 0)


def purses(state: HubState, now: float) -> Iterator[Purse]:
    """All budgets in the settings, with what is spent of each."""
    zone = state.limits.zone
    today = t.day_of(now, zone)
    for gpu, limits in state.limits.budgets.items():
        named = [state.gpus[gpu]] if gpu in state.gpus else [] if gpu != ALL else state.gpus.values()
        periods: tuple[tuple[Period, int, int], ...] = (
            ("day", today, today + 1),
            ("month", t.first_of_month(today), t.next_month(today)),
        )
        for limit, (period, begin, end) in zip(limits, periods, strict=True):
            if limit is not None:
                since, until = t.begin_of(begin, zone), t.begin_of(end, zone)
                sums = sum((spent(state, known, since, now) for known in named), Decimal())
                yield Purse(gpu, period, ledger.money(limit), sums, begin, until)


def spent(state: HubState, gpu: Gpu, begin: float, now: float) -> Decimal:
    """What `gpu` cost since `begin`, which is the begin of a day; 0 without a price."""
    price = state.price_of(gpu.name)
    return ledger.cost(gpu.account.ran(begin, now, state.limits.zone), price) if price else Decimal()


def of_licenses(state: HubState, now: float, only: str | None = None) -> Iterator[tuple[str, Purse]]:
    """The budget of each license that used a GPU today, or of one. A job counts on the day on which it ends.

    One that lost its GPU counts on that day, too, while it waits: it goes on the next day, whatever it used.
    """
    limit, zone = state.limits.license_budget, state.limits.zone
    if limit is None:
        return
    today = t.day_of(now, zone)
    used = {owner: state.usage.on_day(owner, today) for owner in (state.usage.days if only is None else (only,))}
    for job in costs.open_jobs(state):
        if only in (None, job.owner) and (job.gpu is not None or t.day_of(job.since, zone) == today):
            sums = used.setdefault(job.owner, {})
            for name, seconds in state.used_by(job, now).items():
                sums[name] = sums.get(name, 0.0) + seconds
    until = t.begin_of(today + 1, zone)
    for owner, sums in used.items():
        amounts = (ledger.cost(seconds, state.price_of(name) or Decimal()) for name, seconds in sums.items())
        yield owner, Purse(ALL, "day", ledger.money(limit), sum(amounts, Decimal()), today, until)


def tick(state: HubState, now: float, decision: HubDecision) -> bool:
    """Report budgets that reached 80 % or 100 %; returns whether it blocked or unblocked GPUs or licenses."""
    if not state.limits.budgets and state.limits.license_budget is None:
        return False
    blocked, unpaid = _spent_of_gpus(state, now, decision), _spent_by_licenses(state, now)
    if blocked == state.blocked and unpaid == f.LicensesUnpaid(state.unpaid, state.unpaid_until):
        # Tell the monitors of blocked GPUs that they need not wait for the idle time, nor for capacity.
        for gpu in state.gpus.values():
            unused = gpu.phase == "no_capacity" or (gpu.online and not gpu.leases)
            if not (unused and state.blocks(gpu.name) and now - gpu.let_go >= AGAIN):
                continue
            if to := state.with_feature(RELEASE, state.watching(gpu.name)):
                decision.fact(f.GpuUnneeded(gpu.name, now))
                decision.send(to, m.Release(gpu=gpu.name, msg="the budget is spent, and no job holds the GPU"))
        return False
    _block(state, blocked, unpaid, now, decision)
    return True


def _spent_by_licenses(state: HubState, now: float) -> f.LicensesUnpaid:
    spent_by = {owner: purse.until for owner, purse in of_licenses(state, now) if purse.reached == 100}
    return f.LicensesUnpaid(frozenset(spent_by), max(spent_by.values(), default=0.0))


def _spent_of_gpus(state: HubState, now: float, decision: HubDecision) -> dict[str, float]:
    """Report budgets; returns the GPUs whose budget is spent, and until when."""
    all_purses = list(purses(state, now))
    for purse in all_purses:
        before = state.reached.get((purse.gpu, purse.period))
        limit, cost = str(purse.limit), str(round(purse.spent, 2))
        fact = f.BudgetReached(purse.gpu, purse.period, purse.reached, limit, cost, purse.begin, purse.until, now)
        if purse.reached > (before.percent if before is not None and _same(before, fact) else 0):
            decision.fact(fact)
    blocked: dict[str, float] = {}
    for purse in all_purses:
        if purse.reached == 100:
            blocked[purse.gpu] = max(purse.until, blocked.get(purse.gpu, 0.0))
    return blocked


def _same(before: f.BudgetReached, now: f.BudgetReached) -> bool:
    """Whether both are about one period and one amount: a raised budget is reported again."""
    return (before.begin, before.limit) == (now.begin, now.limit)


def _block(
    state: HubState, blocked: Mapping[str, float], unpaid: f.LicensesUnpaid, now: float, decision: HubDecision
) -> None:
    """Give work to GPUs that are no longer blocked, or wake them, and tell the jobs that wait."""
    before, paid = state.blocked, not state.unpaid <= unpaid.licenses
    former = [gpu for gpu in state.gpus.values() if paid or state.blocks(gpu.name)]
    decision.fact(f.GpusBlocked(blocked))
    if unpaid != f.LicensesUnpaid(state.unpaid, state.unpaid_until):
        decision.fact(unpaid)
    for gpu in former:
        if gpu.online and gpu.ready and not state.blocks(gpu.name):
            jobs.grant(state, gpu, state.url_of(gpu), now, decision, again=False)
    expected = {need: answers.outlook(state, need, now) for need in state.wanted}
    lines = state.lines.items()
    in_line = {shape: late_jobs.outlook_of(state, line, state.jobs[line.next], now) for shape, line in lines}
    for place, job in enumerate(state.queued(), 1):
        if job.fd in state.connections and state.connections[job.fd].features:
            early = answers.offline(job.submit, place, now, expected[state.need_of(job)])
            known = in_line.get(job.shape)
            decision.send(job.fd, late_jobs.answer(state, job, now, known) if job.late else early)
    if before or paid:
        for fd in state.monitors:
            power.boot_for_the_queue(state, state.connections[fd], decision)
