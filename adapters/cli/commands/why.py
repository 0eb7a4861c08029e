"""`wakestream why JOB|gpu`: one sentence on why a job waits, or why a GPU is on or off, made of facts."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.hub_answers import hub_status
from wakestream.adapters.cli.i18n.catalog import known, t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.status_text import plan
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.runtime.printing import answer
from wakestream.operators.model import events as e
from wakestream.streams.hub.local_time import UTC, time_text
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.event_json import event_from

EXAMPLES = ("why", "why ws-0123456789abcdef", "why gpu:studio --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    text = f"{flags.JOB}; gpu for all GPUs (the default), gpu:NAME for one"
    parser.add_argument("what", metavar="JOB|gpu", nargs="?", default="gpu", help=text)
    flags.add(parser, "--json", "one JSON object for each sentence")
    flags.question(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the daemon or the hub, and print the answer."""
    settings = begin(args, usual_level="CRITICAL")
    kind, _, name = args.what.partition(":")
    sentences = asyncio.run(_gpus(settings, args.state, name or None) if kind == "gpu" else _job(args))
    for sentence in sentences:
        answer({"what": args.what, "why": sentence}, sentence, as_json=args.json)
    return exit_codes.DONE


async def _job(args: argparse.Namespace) -> Sequence[str]:
    async with open_daemon_client(args.state) as client:
        return [job(await client.job(args.what), time.time())]


async def _gpus(settings: Settings, state: str | None, name: str | None) -> Sequence[str]:
    told = await hub_status(settings, state)
    said = gpus(told, name)
    if name is not None and not said:
        known = ", ".join(gpu["gpu"] for gpu in told.gpus) or "none at all"
        raise SettingsError(f"the hub knows no GPU {name!r}; it knows {known}")
    return said or [t("why.no_gpu")]


_RUNS = ("online", "booted")


def job(found: Mapping[str, Any], now: float) -> str:
    """`found` is a job as the daemon tells of it, `now` UNIX seconds."""
    name, last = found["id"], found.get("last")
    if found["state"] == "cancelling":
        return t("why.cancelling", job=name)
    if found.get("outcome"):
        return t("why.ended", job=name, how=_ended(found["outcome"]))
    since = words.duration(max(0.0, now - found["accepted_at"]))
    if last is None:
        return t("why.outbox", job=name, time=since)
    happened, passed = _event(last), max(0.0, now - last.get("at", now))
    match happened:
        case e.Waking():
            waited = words.duration(happened.waited + passed)
            return t("why.waking", job=name, time=waited, what=words.waking(words.nearer(happened, passed)))
        case e.Stored(local=local) | e.Remote(step="wait", gpu=None, local=local):
            return t("why.queued", job=name, what=words.event(e.Remote("wait", local=local)))
        case e.Queued():
            return t("why.queued", job=name, what=words.event(words.nearer(happened, passed)))
        case e.Note() if words.pause_left(happened, passed) is not None:
            left = words.duration(words.pause_left(happened, passed) or 0.0)
            return t("why.pauses", job=name, time=left, what=words.event(happened))
        case e.Note() if "direct" in happened.data:  # it is not stored, and has no GPU yet
            return t("why.queued", job=name, what=words.event(happened))
        case e.Retrying():
            return t("why.retrying", job=name, what=words.event(happened))
        case _:
            queued = isinstance(happened, e.Running) and happened.status == "queued"
            how = "why.turn" if queued or words.waits_for_turn(happened) else "why.works"
            return t(how, job=name, time=since, what=words.event(happened))


def _ended(outcome: Mapping[str, Any]) -> str:
    return words.outcome(_event(outcome), outcome.get("reused", ""))


def _event(plain: Mapping[str, Any]) -> e.JobEvent:
    return event_from(plain) or e.Note(t("why.unknown", event=plain.get("event")))


def gpus(answer: m.HubStatus, name: str | None = None) -> Sequence[str]:
    """A sentence for each GPU, or for the one of that name."""
    told = [gpu for gpu in answer.gpus if name in (None, gpu["gpu"])]
    return [
        t("why.planned", said=_gpu(gpu, answer), plan=planned) if (planned := plan(gpu)) else _gpu(gpu, answer)
        for gpu in told
    ]


def _name(gpu: Mapping[str, Any], answer: m.HubStatus) -> str:
    """The GPU, with its price where that is a reason: it decides which one is started."""
    name = t("gpu", name=gpu["gpu"])
    if "price_per_hour" not in gpu or (gpu.get("plan") or {}).get("do") != "wake":
        return name
    currency = gpu.get("currency") or answer.currency or ""
    return t("plan.price", gpu=name.strip(), price=f"{gpu['price_per_hour']:.2f} {currency}".rstrip())


def _gpu(gpu: Mapping[str, Any], answer: m.HubStatus) -> str:
    phase, name = gpu["phase"], _name(gpu, answer)
    cause = t("why.says", why=words.reason("", gpu["why"])) if gpu.get("why") else ""
    alone = gpu.get("amiss") or gpu.get("orphan")
    orphan = t("why.says", why=words.reason("", alone)) if alone else ""
    held = gpu.get("own", 0) + gpu.get("others", 0)
    if phase in _RUNS and held:
        if held == 1:
            mine = t("why.is_mine" if gpu.get("own") else "why.not_mine")
            return t("why.on.one", gpu=name, jobs=words.count(held), mine=mine) + orphan
        mine = t("why.mine", count=gpu["own"]) if gpu.get("own") else t("why.none_mine")
        return t("why.on.many", gpu=name, jobs=words.count(held), mine=mine) + orphan
    if phase == "booted":
        return t("why.booted", gpu=name, cause=_for(gpu, answer) or cause)
    if phase in _RUNS and gpu.get("warm_until"):
        return t("why.warm", gpu=name, time=time_text(gpu["warm_until"], answer.zone or UTC))
    if phase in _RUNS:
        return t("why.unused", gpu=name, cause=orphan) if orphan else t("why.idle", gpu=name)
    if phase == "off":
        return _off(gpu, answer)
    is_ = t(f"why.is.{phase}") if known(f"why.is.{phase}") else phase.replace("_", " ")
    alone = "" if _is_watched(gpu, answer) else t("why.but.no_monitor")
    return t("why.phase", gpu=name, phase=is_, cause=f"{cause}{_for(gpu, answer)}{alone}")


def _off(gpu: Mapping[str, Any], answer: m.HubStatus) -> str:
    name, waiting = _name(gpu, answer), _waiting(gpu, answer)
    if not waiting:
        # What this GPU cannot do, and what waits at the workers of others.
        others = [other.get("own", 0) + other.get("others", 0) - other.get("slots", 1) for other in answer.gpus]
        elsewhere = answer.queue + sum(more for more in others if more > 0)
        wait = t("why.wait.one" if elsewhere == 1 else "why.wait.many", jobs=words.count(elsewhere))
        return t("why.off.elsewhere", gpu=name, jobs=wait) if elsewhere else t("why.off", gpu=name)
    wait = t("why.wait.one" if waiting == 1 else "why.wait.many", jobs=words.count(waiting))
    own = answer.license_budget if waiting <= answer.own_queued else None
    budgets = [*(answer.budgets or ()), *((own,) if own else ())]
    until = max((each["until"] for each in budgets if _is_spent(each, gpu["gpu"])), default=None)
    if until is not None:
        return t("why.off.budget", gpu=name, jobs=wait, time=words.clock_time(until))
    if _is_watched(gpu, answer) and plan(gpu):
        return t("why.phase", gpu=name, phase=t("top.off"), cause="")
    depot = answer.depot or {}
    if waiting <= depot.get("storing", 0) + depot.get("away", 0):
        return t("why.off.storing" if depot["storing"] else "why.off.away", gpu=name, jobs=words.count(waiting))
    asked = "why.off.enough" if answer.expected else "why.off.asked"
    return t(asked if _is_watched(gpu, answer) else "why.off.no_monitor", gpu=name, jobs=wait)


def _is_watched(gpu: Mapping[str, Any], answer: m.HubStatus) -> bool:
    """Whether a monitor that can start this GPU is connected; an earlier hub only says how many there are."""
    return answer.monitors > 0 and gpu.get("watched", True)


def _waiting(gpu: Mapping[str, Any], answer: m.HubStatus) -> int:
    """How many waiting jobs this GPU can do."""
    return int(gpu.get("waiting", answer.queue))


def _is_spent(budget: Mapping[str, Any], gpu: str) -> bool:
    return not budget["left"] and budget.get("gpu", gpu) == gpu


def _for(gpu: Mapping[str, Any], answer: m.HubStatus) -> str:
    waiting = _waiting(gpu, answer)
    if not waiting:
        return ""
    return t("why.for.one" if waiting == 1 else "why.for.many", jobs=words.count(waiting))
