"""A job's events in words for a person, and numbers as people read them."""

from __future__ import annotations

from wakestream.operators import events as e

PHASES = {
    "booting": "the GPU is being started",
    "starting": "the GPU is being started",
    "booted": "the machine is up, its worker is starting",
    "initializing": "the worker is up, its engine is loading",
    "stopping": "the GPU is just being stopped and will be started again",
    "draining": "the GPU is just being stopped and will be started again",
    "no_capacity": "the provider has no GPU to give at the moment; the monitor keeps trying",
    "no_monitor": "no monitor is connected to the hub, so nobody can start the GPU; waiting for one",
    "lost": "the GPU went away; it is being started again",
    "connecting": "connecting to the hub",
    "hub_lost": "the connection to the hub is lost; connecting again",
    "hub_unreachable": "the hub cannot be reached; trying again",
}


HINTS = {
    "hub_unreachable": "; is the hub running, and is its address right (--hub, API_SERVER_URL)?",
    "worker_unreachable": "; look at the worker's log",
}
"""What to do about a failure that cannot say it itself, by its code."""


def size(count: float) -> str:
    """Bytes as `12.3 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `2 min 05 s` or `1 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def phase(word: str) -> str:
    """What the GPU is doing, as a clause."""
    return PHASES.get(word, word.replace("_", " "))


def event(happened: e.JobEvent) -> str:
    """One event as a line without its time."""
    match happened:
        case e.Queued():
            return f"the GPU is off: job queued{_place(happened.position)}; {phase(happened.phase)}{_hope(happened)}"
        case e.Waking():
            return f"waiting {duration(happened.waited)}: {waking(happened)}"
        case e.Granted():
            return _granted(happened)
        case e.Online():
            return f"worker ready at {happened.url}"
        case e.Fingerprinted():
            return "read: " + ", ".join(f"{file.path.name} ({size(file.size)})" for file in happened.files)
        case e.Checked():
            return _checked(happened)
        case e.Note():
            return happened.text
        case _:
            return _later(happened)


def _later(happened: e.JobEvent) -> str:
    match happened:
        case e.Uploading():
            return f"uploading {_percent(happened.bytes, happened.of)} ({size(happened.bytes)} of {size(happened.of)})"
        case e.Uploaded():
            return f"uploaded {size(happened.sent)}, saved {size(happened.saved)}"
        case e.Submitted():
            return "the worker has this result already" if happened.cached else f"work submitted ({happened.task_id})"
        case e.Running():
            return _running(happened)
        case e.Rendered():
            return "rendered"
        case e.Downloading():
            of = f" of {size(happened.of)}" if happened.of else ""
            return f"downloading {size(happened.bytes)}{of}"
        case e.Retrying():
            return f"{happened.why}; trying again in {duration(happened.delay)} (attempt {happened.attempt})"
        case _:
            return outcome(happened)


def outcome(happened: e.JobEvent) -> str:
    """The last event as a sentence."""
    match happened:
        case e.Done():
            return f"done: {happened.path} ({size(happened.size)})"
        case e.Failed():
            return f"failed: {happened.why}{HINTS.get(happened.code, '')}"
        case e.TimedOut():
            return f"timed out: {_timed_out(happened)}"
        case e.Cancelled():
            return happened.why
        case _:
            return type(happened).__name__


def _timed_out(happened: e.TimedOut) -> str:
    within = duration(happened.seconds)
    return {
        "reply": f"the hub is connected but did not answer the job within {within}; is the hub well?",
        "online": f"the GPU did not come online within {within}; look at the monitor's log (--online-timeout)",
        "ready": f"the worker answers but its engine was not ready within {within}; look at the worker's log",
        "execution": f"the work took longer than {within} (--execution-timeout)",
        "total": f"the whole job took longer than {within} (--total-timeout)",
        "transfer": f"no byte was transferred for {within}; look at the network",
    }.get(happened.stage, happened.why or f"{happened.stage} within {within}")


def _granted(grant: e.Granted) -> str:
    name = f"GPU {grant.gpu}" if grant.gpu else "the GPU"
    return f"{name} is on" if grant.branch == "online" else f"{name} came online after {duration(grant.waited)}"


def _checked(checked: e.Checked) -> str:
    if not checked.missing:
        return f"the worker has both files: nothing to upload, {size(checked.saved)} saved"
    names = " and ".join(file.path.name for file in checked.missing)
    return f"the worker lacks {names}" + (f", {size(checked.saved)} saved" if checked.saved else "")


def _running(running: e.Running) -> str:
    if running.status == "queued":
        return f"queued at the worker{_place(running.position)}"
    frames = f", frame {running.frame} of {running.frames}" if running.frames else ""
    return f"rendering {running.percent:.0f} %{frames}"


def waking(happened: e.Waking) -> str:
    """What is waited for, without how long it was."""
    if happened.phase == "hub_unreachable":
        return f"{happened.why}; trying again"
    why = f" ({happened.why})" if happened.why else ""
    return f"{phase(happened.phase)}{_place(happened.position)}{why}{_hope(happened)}"


def _place(position: int | None) -> str:
    return f", position {position}" if position else ""


def _hope(happened: e.Queued | e.Waking) -> str:
    return "" if happened.phase == "no_monitor" else _eta(happened.eta)


def _eta(eta: e.Eta | None) -> str:
    return f" (usually {duration(eta.p50)} more, at most {duration(eta.p90)})" if eta and eta.p90 > 0 else ""


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "100 %"
