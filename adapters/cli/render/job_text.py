"""A job's events in words for a person, in the person's language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from wakestream.adapters.cli.i18n import reasons, t
from wakestream.adapters.cli.i18n.catalog import known
from wakestream.adapters.cli.render.units import size
from wakestream.operators.lifecycle.reuse import AT_WORKER, OWN
from wakestream.operators.model import events as e
from wakestream.streams.protocol.printable import printable

__all__ = ["count", "duration", "event", "nearer", "outcome", "phase", "reason", "size", "state", "waking"]


Wait = TypeVar("Wait", bound=e.Queued | e.Waking)

UP = ("booted", "initializing", "draining", "stopping", "lost")
"""Phases in which the GPU's machine is not off, though no job can be given to it."""

NO_HOPE = ("no_monitor", "no_capacity", "connecting", "hub_lost", "hub_unreachable")
"""Phases without an estimate: the boot has not begun, or its start is unknown."""


def duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `2 min 05 s` or `1 h 03 min`."""
    if round(seconds) < 60:
        return t("seconds", count=f"{seconds:.1f}" if seconds < 9.95 else f"{seconds:.0f}")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return t("minutes", minutes=minutes, seconds=f"{rest:02}")
    return t("hours", hours=minutes // 60, minutes=f"{minutes % 60:02}")


def count(jobs: int) -> str:
    """So many jobs."""
    return t("jobs.one" if jobs == 1 else "jobs.many", count=jobs)


def phase(word: str) -> str:
    """What the GPU is doing, as a clause."""
    return t(f"phase.{word}") if known(f"phase.{word}") else word.replace("_", " ")


def state(word: str) -> str:
    """How a job of the daemon is, in a word."""
    return next((t(name) for name in (f"state.{word}", f"stage.{word}") if known(name)), word)


def reason(code: str, why: str) -> str:
    """Why something failed, as a sentence. `why` is in English; frequent reasons are translated."""
    if (chinese := reasons.translated(why)) is not None:
        return printable(chinese)
    return t(f"reason.{code}", why=why) if known(f"reason.{code}") else printable(why)


def event(happened: e.JobEvent, reused: str = "") -> str:
    """One event as a line without its time. `reused`: see `outcome`."""
    match happened:
        case e.Queued():
            place, what = _place(happened.position), phase(happened.phase)
            return t("queued.up" if happened.phase in UP else "queued", place=place, phase=what, hope=_hope(happened))
        case e.Waking():
            return t("waited", time=duration(happened.waited), what=waking(happened))
        case e.Granted():
            return _granted(happened)
        case e.Online():
            return t("online", url=happened.url)
        case e.Fingerprinted():
            return t("fingerprinted", files=t("list.comma").join(_named(happened)))
        case e.Checked():
            return _checked(happened)
        case e.Note():
            return printable(happened.text)
        case _:
            return _later(happened, reused)


def _later(happened: e.JobEvent, reused: str) -> str:
    match happened:
        case e.Uploading():
            percent = _percent(happened.bytes, happened.of)
            return t("uploading", percent=percent, size=size(happened.bytes), of=size(happened.of))
        case e.Uploaded():
            return t("uploaded", sent=size(happened.sent), saved=size(happened.saved))
        case e.Submitted():
            return t("submitted.cached") if happened.cached else t("submitted", task=happened.task_id)
        case e.Running():
            return _running(happened)
        case e.Rendered():
            return t("rendered")
        case e.Downloading():
            return _downloading(happened)
        case e.Retrying():
            return t("retrying", why=happened.why, time=duration(happened.delay), attempt=happened.attempt)
        case _:
            return outcome(happened, reused)


def outcome(happened: e.JobEvent, reused: str = "") -> str:
    """The last event as a sentence. `reused` is whose result it is, as `operators.job.reuse` tells."""
    match happened:
        case e.Done():
            done = t("done", path=happened.path, size=size(happened.size))
            return done if reused in ("", OWN) else f"{done}{_reused(reused)}"
        case e.Failed():
            hint = f"hint.{happened.code}"
            return t("failed", why=reason(happened.code, happened.why), hint=t(hint) if known(hint) else "")
        case e.TimedOut():
            return t("timed_out", why=_timed_out(happened))
        case e.Cancelled():
            return t("cancelled", why=happened.why)
        case _:
            return type(happened).__name__


def _reused(whose: str) -> str:
    return t("done.at_worker") if whose == AT_WORKER else t("done.of_job", job=whose)


def _timed_out(happened: e.TimedOut) -> str:
    within, name = duration(happened.seconds), f"timed_out.{happened.stage}"
    if known(name):
        return t(name, time=within)
    return happened.why or t("timed_out.other", stage=happened.stage, time=within)


def _granted(grant: e.Granted) -> str:
    name = t("gpu", name=grant.gpu) if grant.gpu else t("the_gpu")
    if grant.branch == "online":
        return t("granted.online", gpu=name)
    return t("granted.offline", gpu=name, time=duration(grant.waited))


def _named(read: e.Fingerprinted) -> Sequence[str]:
    return [t("fingerprinted.file", name=file.path.name, size=size(file.size)) for file in read.files]


def _checked(checked: e.Checked) -> str:
    if not checked.missing:
        return t("checked.all", size=size(checked.saved))
    names = t("list.and").join(file.path.name for file in checked.missing)
    if not checked.saved:
        return t("checked.lacks", names=names)
    return t("checked.lacks.saved", names=names, size=size(checked.saved))


def _running(running: e.Running) -> str:
    if running.status == "queued":
        return t("running.queued", place=_place(running.position))
    percent = f"{running.percent:.0f} %"
    if not running.frames:
        return t("running", percent=percent)
    return t("running.frames", percent=percent, frame=running.frame, frames=running.frames)


def _downloading(happened: e.Downloading) -> str:
    if not happened.of:
        return t("downloading", size=size(happened.bytes))
    return t("downloading.of", size=size(happened.bytes), of=size(happened.of))


def nearer(wait: Wait, passed: float) -> Wait:
    """The same wait `passed` seconds later: its estimates are shorter."""
    if wait.eta is None:
        return wait
    return replace(wait, eta=e.Eta(max(0.0, wait.eta.p50 - passed), max(0.0, wait.eta.p90 - passed)))


def pause_left(happened: e.JobEvent | None, passed: float) -> float | None:
    """Seconds until the next try of a job that pauses, `passed` seconds after it said so; None for any other."""
    rests = happened.data.get("rests") if isinstance(happened, e.Note) else None
    return max(0.0, rests - passed) if isinstance(rests, int | float) else None


def waking(happened: e.Waking) -> str:
    """What the job waits for, without the time so far."""
    if happened.phase == "hub_unreachable":
        return t("waking.hub", why=happened.why)
    if happened.phase == "busy" and happened.eta:
        return t("waking.busy", time=duration(happened.eta.p50))
    why = t("waking.why", why=happened.why) if happened.why else ""
    return t("waking", phase=phase(happened.phase), place=_place(happened.position), why=why, hope=_hope(happened))


def _place(position: int | None) -> str:
    return t("place", position=position) if position else ""


def _hope(happened: e.Queued | e.Waking) -> str:
    return "" if happened.phase in NO_HOPE else _eta(happened.eta)


def _eta(eta: e.Eta | None) -> str:
    return t("eta", p50=duration(eta.p50), p90=duration(eta.p90)) if eta and eta.p90 > 0 else ""


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "100 %"
