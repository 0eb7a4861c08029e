"""A job's events in words for a person, in the person's language."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from wakestream.adapters.cli.i18n.catalog import known, t, translated
from wakestream.adapters.config import units
from wakestream.adapters.config.units import size
from wakestream.operators.lifecycle.reuse import AT_WORKER, OWN
from wakestream.operators.model import events as e
from wakestream.operators.stages.submit import BUDGET, IN_LINE
from wakestream.streams.protocol.features import ON_THE_WAY, UPLOADED
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import kind

Wait = TypeVar("Wait", bound=e.Queued | e.Waking)

UP = (IN_LINE, "booted", "initializing", "draining", "stopping", "lost", "not_ready", "paused")
"""Phases in which the GPU's machine is not off, though no job can be given to it."""

NO_HOPE = (
    "budget", "no_monitor", "no_capacity", "not_ready", "paused", "connecting", "hub_lost", "hub_unreachable",
)  # fmt: skip
"""Phases without an estimate: the boot has not begun, or its start is unknown."""


def duration(seconds: float, *, tenths: bool = True, days_from: float | None = None) -> str:
    """A time in the user's language; see `units.duration`."""
    names = tuple(map(t, ("unit.second", "unit.minute", "unit.hour", "unit.day")))
    return units.duration(seconds, names, tenths=tenths, days_from=days_from)


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
    if (chinese := translated(why)) is not None:
        return printable(chinese)
    return t(f"reason.{code}", why=why) if known(f"reason.{code}") else printable(why)


def event(happened: e.JobEvent, reused: str = "") -> str:
    """One event as a line without its time. `reused`: see `outcome`."""
    text = _PROGRESS.get(type(happened))
    return outcome(happened, reused) if text is None else text(happened)


def outcome(happened: e.JobEvent, reused: str = "") -> str:
    """The last event as a sentence. `reused` is whose result it is (`operators.lifecycle.reuse`)."""
    match happened:
        case e.Done():
            files = [str(file.path) for file in happened.files] or [str(happened.path)]
            done = t(
                "done", path=", ".join(files), size=size(sum(file.size for file in happened.files) or happened.size)
            )
            if happened.absent:
                done += t("done.absent", names=", ".join(happened.absent))
            if reused in ("", OWN):
                return done
            return done + (t("done.at_worker") if reused == AT_WORKER else t("done.of_job", job=reused))
        case e.Failed():
            hint = f"hint.{happened.code}"
            return t("failed", why=reason(happened.code, happened.why), hint=t(hint) if known(hint) else "")
        case e.TimedOut():
            return t("timed_out", why=_timed_out(happened))
        case e.Cancelled():
            return t("cancelled", why=happened.why)
        case _:
            name = kind(happened)
            return t(name, **_said_fields(happened)) if known(name) else name


_UNITS: Mapping[str, Callable[[Any], str]] = {"size": size, "seconds": duration}


def _said_fields(happened: e.JobEvent) -> dict[str, str]:
    """The fields of an event, for a text that names them."""
    return {each.name: _UNITS.get(each.name, str)(getattr(happened, each.name)) for each in fields(happened)}


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


def _queued(wait: e.Queued) -> str:
    name = "queued.up" if wait.phase in (*UP, BUDGET) else "queued"
    return t(name, place=_place(wait.position), phase=_what(wait), hope=_hope(wait))


def _fingerprinted(read: e.Fingerprinted) -> str:
    if not read.files:
        return t("uploaded.none")
    files = (t("fingerprinted.file", name=file.path.name, size=size(file.size)) for file in read.files)
    return t("fingerprinted", files=t("list.comma").join(files))


def _uploading(sent: e.Uploading | e.Storing) -> str:
    percent = f"{100 * sent.bytes / sent.of:.0f} %" if sent.of else "100 %"
    return t(kind(sent), percent=percent, size=size(sent.bytes), of=size(sent.of))


def _remote(work: e.Remote) -> str:
    name = "remote.has" if work.step == "wait" and work.gpu else f"remote.{work.step}"
    percent = "" if work.percent is None else t("remote.percent", percent=f"{work.percent:.0f}")
    pc = t("remote.here" if work.local else "remote.off")
    return t(name if known(name) else "remote.render", gpu=work.gpu or t("the_gpu"), percent=percent, pc=pc)


def _note(note: e.Note) -> str:
    if "direct" in note.data:
        return t("direct", why=reason(note.data["direct"], str(note.data.get("why", ""))))
    return printable(note.text)


def _checked(checked: e.Checked) -> str:
    if not checked.inputs:
        return t("uploaded.none")
    if not checked.missing:
        return t("checked.all", size=size(checked.saved))
    names = t("list.and").join(file.path.name for file in checked.missing)
    if not checked.saved:
        return t("checked.lacks", names=names)
    return t("checked.lacks.saved", names=names, size=size(checked.saved))


def _uploaded(uploaded: e.Uploaded) -> str:
    sent, saved = uploaded.sent, uploaded.saved
    if not saved:
        return t("uploaded.sent", sent=size(sent)) if sent else t("uploaded.none")
    return t("uploaded", sent=size(sent), saved=size(saved))


def _running(running: e.Running) -> str:
    if running.why:
        return t("running.waits", why=reason("", running.why))
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
    """The same wait `passed` seconds later: its times to come are shorter."""

    def left(seconds: float) -> float:
        return max(0.0, seconds - passed)

    eta = None if wait.eta is None else e.Eta(left(wait.eta.p50), left(wait.eta.p90))
    return replace(wait, eta=eta, retry_in=None if wait.retry_in is None else left(wait.retry_in))


def hoped_for(wait: e.Queued | e.Waking, passed: float) -> float | None:
    """Seconds until the GPU is expected, `passed` seconds after the event; None if that is not known, or over."""
    eta = None if wait.phase in NO_HOPE or wait.eta is None else nearer(wait, passed).eta
    return eta.p50 if eta is not None and eta.p50 > 0 else None


def pause_left(happened: e.JobEvent | None, passed: float) -> float | None:
    """Seconds until the next try of a job that pauses, `passed` seconds after it said so; None for any other."""
    rests = happened.data.get("rests") if isinstance(happened, e.Note) else None
    return max(0.0, rests - passed) if isinstance(rests, int | float) else None


def waits_for_turn(happened: e.JobEvent | None) -> bool:
    """Whether the job waits until fewer jobs of this program do the same."""
    return isinstance(happened, e.Note) and "waits" in happened.data


def waking(happened: e.Waking) -> str:
    """What the job waits for, without the time so far."""
    if happened.phase == "hub_unreachable":
        return t("waking.hub", why=happened.why)
    if happened.phase == "busy" and happened.eta:
        return t("waking.busy", time=duration(happened.eta.p50))
    told = reason("", happened.why)
    uploads = happened.why == ON_THE_WAY or UPLOADED in happened.why
    what, why = (told, "") if uploads else (_what(happened), t("waking.why", why=told) if told else "")
    return t("waking", phase=what, place=_place(happened.position), why=why, hope=_hope(happened))


def _what(wait: e.Queued | e.Waking) -> str:
    if wait.phase == BUDGET and wait.until is not None:
        return t("phase.budget.until", time=clock_time(wait.until))
    if wait.phase == "no_capacity" and wait.retry_in is not None and wait.retry_in >= 1:
        return t("phase.no_capacity.retry", time=duration(wait.retry_in, tenths=False))
    return phase(wait.phase)


def clock_time(at: float) -> str:
    """A time in UNIX seconds as the clock here shows it."""
    return f"{datetime.datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"


def _place(position: int | None) -> str:
    return t("place", position=position) if position else ""


def _hope(happened: e.Queued | e.Waking) -> str:
    eta = None if happened.phase in NO_HOPE else happened.eta
    if not eta or eta.p90 <= 0:
        return ""
    if eta.p50 == eta.p90:  # one start so far
        return t("eta.one", p50=duration(eta.p50))
    return t("eta", p50=duration(eta.p50), p90=duration(eta.p90))


_PROGRESS: Mapping[type, Callable[[Any], str]] = {
    e.Queued: _queued,
    e.Waking: lambda wait: t("waited", time=duration(wait.waited), what=waking(wait)),
    e.Granted: _granted,
    e.Fingerprinted: _fingerprinted,
    e.Checked: _checked,
    e.Uploading: _uploading,
    e.Uploaded: lambda files: _uploaded(files),
    e.Submitted: lambda task: t("submitted.cached") if task.cached else t("submitted", task=task.task_id),
    e.Running: _running,
    e.Downloading: _downloading,
    e.Retrying: lambda again: t("retrying", why=again.why, time=duration(again.delay), attempt=again.attempt),
    e.Note: _note,
    e.Storing: _uploading,
    e.Stored: lambda stored: t("stored.here" if stored.local else "stored"),
    e.Remote: _remote,
}
"""The line of each event but the last. One that is not here has the text of its kind, which may name its fields."""
