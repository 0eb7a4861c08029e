"""The hub's answer about its GPUs as lines for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wakestream.adapters.cli.i18n.catalog import known, t, translated
from wakestream.adapters.cli.render.job_text import clock_time, count, duration
from wakestream.adapters.config.units import size
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import UPLOADED
from wakestream.streams.protocol.printable import printable

SPANS = ("today", "month", "asked", "all")
"""Spans of an answer; days and months are those of the hub's time zone."""


def status(answer: m.HubStatus) -> list[str]:
    """How each GPU is, who holds it, what it has cost, and how long a boot takes."""
    lines = [line for gpu in answer.gpus for line in _gpu(gpu, answer.ts or 0)]
    return [
        *(lines or [t("status.no_gpu")]),
        *more(answer),
        *budgets(answer),
        *_rest(answer),
        *starts(answer),
        *depot(answer),
        *([t("status.leader", name=of["name"], epoch=of["epoch"])] if (of := answer.leader) else []),
    ]


def plan(gpu: Mapping[str, Any]) -> str:
    """What the hub plans for this GPU and why; empty if nothing, or if the hub does not say it."""
    planned: Mapping[str, Any] = gpu.get("plan") or {}
    said = bool(gpu.get("why")) and (gpu["phase"], planned.get("do")) == ("paused", "held")  # by its reason
    if not planned or planned["do"] == "keep" or said:
        return ""
    later = planned["do"] == "wake" and planned.get("in_s") is not None
    name = f"plan.{planned['do']}" + ((".upload" if planned.get("why") == UPLOADED else ".in") if later else "")
    if not known(name):
        return printable(str(planned.get("why", "")))
    return t(name, gpu=printable(gpu["gpu"]), time=duration(max(1, planned.get("in_s") or 0), tenths=False))


def starts(answer: m.HubStatus) -> list[str]:
    """When waiting jobs start: a line for each kind."""
    return [_starts(line) for line in answer.expected or ()]


def _starts(line: Mapping[str, Any]) -> str:
    times = [line.get("first_s"), line.get("last_s")]
    first, last = (duration(time or 0, tenths=False) for time in times)
    name = ("plan.job" if line["jobs"] == 1 else "plan.jobs") + (".unknown" if None in times else "")
    return t(name, jobs=count(line["jobs"]), kind=printable(line["kind"]), first=first, last=last)


def depot(answer: m.HubStatus) -> list[str]:
    """What the depot has, the jobs that use it, and what it saved; nothing of a hub without one."""
    told = answer.depot
    if told is None:
        return []
    if not told["up"]:
        return [t("depot.down")]
    quota = t("depot.quota", quota=size(told["quota"])) if told.get("quota") else ""
    lines = [t("depot.has", files=told["files"], size=size(told["size"]), quota=quota)]
    lines += [t("depot.of", license=of["license"], size=size(of["size"])) for of in told.get("licenses", ())]
    states = [t(f"depot.{name}", jobs=count(told[name])) for name in DEPOT_STATES if told.get(name)]
    lines += [t("depot.jobs", jobs=t("list.comma").join(states))] if states else []
    return [*lines, *saved(answer)]


DEPOT_STATES = ("storing", "away", "stored", "at_work", "delivered")


def saved(answer: m.HubStatus) -> list[str]:
    """The time that no GPU spent on uploads this month, thanks to the depot."""
    seconds = (answer.depot or {}).get("saved_s", 0)
    return [t("depot.saved", time=long(seconds))] if seconds >= 1 else []


def budgets(answer: m.HubStatus) -> list[str]:
    """A line for each budget: what is spent, what is left, and when the next period begins."""
    own = [] if answer.license_budget is None else [_budget(answer.license_budget, answer, own=True)]
    return [*own, *(_budget(budget, answer, own=False) for budget in answer.budgets or ())]


def _budget(budget: Mapping[str, Any], answer: m.HubStatus, *, own: bool) -> str:
    of = t("gpu", name=budget["gpu"]) if "gpu" in budget else t("budget.own" if own else "budget.all")
    spent, limit, left = (money(budget[name], answer) for name in ("spent", "limit", "left"))
    span = t("span.today" if budget["period"] == "day" else "span.month")
    text = "budget.left" if budget["left"] > 0 else "budget.own.spent" if own else "budget.spent"
    return t(text, of=of, span=span, spent=spent, limit=limit, left=left, time=clock_time(budget["until"]))


def money(amount: float, answer: m.HubStatus) -> str:
    """An amount with the hub's currency."""
    return f"{amount:.2f}" + (f" {answer.currency}" if answer.currency else "")


def _gpu(gpu: Mapping[str, Any], now: int) -> list[str]:
    lines = [_phase(gpu, now)]
    reasons = dict.fromkeys(filter(None, (gpu.get("amiss"), gpu.get("why"))))
    lines += [t("status.why", why=_reason(why)) for why in reasons]
    lines += [t("plan.line", plan=planned)] if (planned := plan(gpu)) else []
    lines += [_running(gpu), _holders(gpu)]
    if labels := gpu.get("labels"):
        named = t("list.comma").join(f"{name}={value}" if value != "" else name for name, value in labels.items())
        lines.append(t("status.labels", labels=named))
    lines += [t("status.span", span=t(f"span.{span}"), how=_span(gpu[span])) for span in SPANS[:2] if span in gpu]
    if gpu.get("boot_s"):
        lines.append("  " + _boot(gpu["boot_s"], gpu["boots"]))
    if "price_per_hour" not in gpu:
        lines.append("  " + t("status.no_price"))
    return lines


def _reason(why: str) -> str:
    """A reason of a monitor or worker, in the language of the user if the catalog has it."""
    idle = re.fullmatch(r"no work for ([\d.]+) s", why)
    if idle is None:
        return translated(why) or why
    minutes, rest = divmod(float(idle[1]), 60)
    return t("status.idle", time=f"{minutes:g} {t('unit.minute')}" if minutes and not rest else long(float(idle[1])))


def _phase(gpu: Mapping[str, Any], now: int) -> str:
    word = gpu["phase"]
    phase = t(f"status.{word}") if known(f"status.{word}") else word
    left = gpu.get("retry_at", now) - now
    again = t("status.no_capacity.retry", time=long(left)) if left >= 1 else ""
    if not gpu.get("since"):
        return t("status.gpu", gpu=gpu["gpu"], phase=phase) + again
    return t("status.gpu.for", gpu=gpu["gpu"], phase=phase, time=long(max(0, now - gpu["since"]))) + again


def _running(gpu: Mapping[str, Any]) -> str:
    uptime = gpu.get("uptime_s", 0)
    unknown = gpu["phase"] == "unknown"
    if not uptime:
        at_zero = {"unknown": "status.counted_off", "not_ready": "status.on_uncounted", "paused": "status.on_uncounted"}
        return t(at_zero.get(gpu["phase"], "status.not_running"))
    return t("status.counted_on" if unknown else "status.on_for", time=long(uptime))


def _holders(gpu: Mapping[str, Any]) -> str:
    own, others = gpu.get("own", 0), gpu.get("others", 0)
    if not own and not others:
        return t("status.nobody")
    named = list(gpu.get("own_jobs", ()))
    ids = ", ".join(named) + (", …" if own > len(named) else "")
    mine = t("status.yours", jobs=count(own), ids=ids) if own else ""
    theirs = t("status.others", jobs=count(others)) if others else ""
    return t("status.held", who=t("list.and").join(filter(None, (mine, theirs))))


def _span(span: Mapping[str, Any]) -> str:
    on, of = long(span["on_s"]), long(span["of_s"])
    if "cost" not in span:
        return t("status.on", on=on, of=of)
    return t("status.on.cost", on=on, of=of, cost=f"{span['cost']:.2f}", saved=f"{span['saved']:.2f}")


def more(answer: m.HubStatus) -> list[str]:
    """How many GPUs are not in the answer."""
    return [t("status.more", count=answer.more)] if answer.more else []


def _rest(answer: m.HubStatus) -> list[str]:
    waiting = t("status.queue", jobs=count(answer.queue), mine=answer.own_queued)
    lines = [waiting if answer.queue else t("status.no_queue")]
    if not answer.boot_s:
        lines.append(t("status.no_boot"))
    elif not any(gpu.get("boot_s") for gpu in answer.gpus):  # a hub of an earlier version
        lines.append(_boot(answer.boot_s, answer.boots))
    if not answer.monitors:
        lines.append(t("status.no_monitor"))
    return lines


def _boot(boot: Mapping[str, float], count: int) -> str:
    if count == 1:
        return t("status.boot.one", p50=duration(boot["p50"], tenths=False))
    return t("status.boot", p50=duration(boot["p50"]), p90=duration(boot["p90"]), count=count)


def long(seconds: float) -> str:
    """A time that may be days."""
    return duration(seconds, tenths=seconds > 0, days_from=2 * 86_400)
