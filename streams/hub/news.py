"""News of power and money for the hub's webhook: what happened to a GPU or a budget, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from wakestream.streams.hub import events as f
from wakestream.streams.hub import ledger
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import Gpu, HubState
from wakestream.streams.webhooks import delivery_id

_UP: Final = ("booted", "online")
_DOWN: Final = ("off", "starting", "no_capacity", "failed")


def tell(state: HubState, decision: HubDecision, now: float, fact: f.Fact) -> None:
    """Add the webhooks about a fact, if the hub has one; `state` is from before it."""
    if not state.limits.webhook:
        return
    for event, about, more in _of(state, fact, now):
        id_ = delivery_id(f"{event} {about} {more.get('period', '')}", now)
        of = {"gpu": about} if about else {}
        owed = f.PowerNews(about, id_, now, {"id": id_, "event": event, **of, "at": now, **more})
        decision.fact(owed)
        decision.command(f.Notify(owed))


def _of(state: HubState, fact: f.Fact, now: float) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Event, GPU and further fields."""
    match fact:
        case f.BudgetReached():
            yield "budget.spent" if fact.percent == 100 else "budget.warning", fact.gpu, _budget(state, fact)
        case f.OrphanFound() if fact.cause:
            yield "power.orphan", fact.gpu, {"why": fact.cause}
        case f.GpuOnline():
            yield from _power(state, state.gpus.get(fact.gpu) or Gpu(fact.gpu), "online", "", now)
        case f.GpuPhase():
            yield from _power(
                state, state.gpus.get(fact.gpu) or Gpu(fact.gpu), fact.phase, fact.cause, fact.switched or now
            )


def _power(state: HubState, gpu: Gpu, phase: str, why: str, now: float) -> Iterable[tuple[str, str, dict[str, Any]]]:
    began = gpu.account.running_since
    if phase in _UP and gpu.phase in _DOWN:
        yield "power.started", gpu.name, {"why": why}
    elif phase == "failed" and gpu.phase != "failed":
        yield "power.failed", gpu.name, {"why": why}
    elif phase == "off" and began is not None:
        yield (
            "power.stopped",
            gpu.name,
            {"why": why, "on_s": round(now - began), **_cost(state, gpu, (now - began) / gpu.account.gpus)},
        )


def _cost(state: HubState, gpu: Gpu, seconds: float) -> dict[str, Any]:
    price = state.price_of(gpu.name)
    return {} if price is None else {"cost": ledger.plain(ledger.cost(seconds, price)), **_currency(state)}


def _budget(state: HubState, fact: f.BudgetReached) -> dict[str, Any]:
    amounts = {"limit": float(fact.limit), "spent": float(fact.spent)}
    return {"period": fact.period, "percent": fact.percent, **amounts, **_currency(state), "until": fact.until}


def _currency(state: HubState) -> dict[str, Any]:
    return {"currency": state.currency} if state.currency else {}


def settled(state: HubState, event: f.NewsSettled, now: float, decision: HubDecision) -> None:
    """A webhook was delivered or given up."""
    if event.delivery in state.news:
        decision.fact(f.NewsOver(event.delivery))


TOLD = (f.GpuPhase, f.GpuOnline, f.BudgetReached, f.OrphanFound)
"""The facts that have webhooks."""
