"""The states of a GPU machine and every way from one to another, as a table; `monitor.py` raises the signals.

A pair that is not in the table changes nothing: it is news about what is known, or of no use in that state. Three rules
shape the rows. A machine that may be running is never started: a wake leads to `starting` only from `off`, or from
`unknown` once the provider said that nothing runs. `booted` is not `online`: only `READY` (the worker is initialized,
or the hub saw it) makes the difference. And a machine is stopped only out of `draining`, where the hub was asked, or
when its boot failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from wakestream.operators.model.ports import PowerWord


class Signal(Enum):
    """What can move the state."""

    WAKE = "a job asks for the GPU"
    GO = "a job asks for the GPU, and the machine is known to be off"
    STARTING = "the provider says: starting"
    RUNNING = "the provider says: running"
    STOPPING = "the provider says: stopping"
    STOPPED = "the provider says: stopped"
    FAILED = "the provider says: failed, or refused to start it"
    TERMINATED = "the provider says: terminated, the machine does not exist any more"
    NO_CAPACITY = "the provider has no machine to give, or it takes too long to start one"
    LOST = "the provider could not say, several times in a row"
    READY = "the machine runs and its worker is initialized"
    UNREADY = "the worker no longer answers as initialized"
    TIMEOUT = "the time for a boot is over"
    RETRY = "time to ask for capacity again"
    IDLE = "no work for the idle time"
    OVERDUE = "the longest allowed uptime is over"
    FREE = "no job holds the GPU"
    KEPT = "a job holds the GPU or needs it, or the hub does not say"
    UNUSABLE = "it runs, but never came online, or runs without a request; and no job holds it"
    UNWANTED = "no job needs the start any more, and it had no effect"
    GONE = "the provider says: stopped or failed, of a machine that had served before"
    GOING = "the provider says: stopping, of a machine that had served before"
    RUNS_ON = "it was to stop, and runs on"
    ENDED = "the monitor ends, and the machine has ended with it"


S = Signal

# fmt: off
# A machine that no job had asked for. Started by another program or person, it is adopted like one that ran when the
# monitor started.
_LOOKED_AT: Mapping[Signal, PowerWord] = {
    S.GO: "starting", S.STARTING: "starting", S.RUNNING: "booted", S.STOPPING: "stopping", S.TERMINATED: "failed",
}
_BOOT_ENDS: Mapping[Signal, PowerWord] = {S.FAILED: "failed", S.TERMINATED: "failed", S.TIMEOUT: "failed"}
# One that served and goes away (a spot machine taken back, a crash) is merely off, and may be woken again.
_GOES_AWAY: Mapping[Signal, PowerWord] = {
    S.STOPPING: "stopping", S.STOPPED: "off", S.FAILED: "off", S.TERMINATED: "failed", S.LOST: "unknown",
}

TABLE: Mapping[PowerWord, Mapping[Signal, PowerWord]] = {
    # Before the first inspect, and while no inspect succeeds. A wake is kept until one does.
    "unknown": {**_LOOKED_AT, S.STOPPED: "off", S.FAILED: "failed"},
    "off": {**_LOOKED_AT, S.LOST: "unknown"},
    # `stopped` is no news here: a start that was accepted may take a while to show, or never happen (TIMEOUT).
    "starting": {
        **_BOOT_ENDS, S.RUNNING: "booted", S.NO_CAPACITY: "no_capacity", S.UNWANTED: "off", S.UNUSABLE: "stopping",
    },
    "no_capacity": {
        **_BOOT_ENDS, S.RETRY: "starting", S.STARTING: "starting", S.RUNNING: "booted", S.UNWANTED: "off",
        S.UNUSABLE: "stopping",
    },
    # A machine that goes away before it came online has failed to boot: waiting jobs get an answer. One that had
    # served, and whose worker was no longer to be reached, is merely off (GONE), or on its way there (GOING).
    "booted": {
        **_BOOT_ENDS, S.STOPPING: "failed", S.STOPPED: "failed",
        S.READY: "online", S.GONE: "off", S.GOING: "stopping", S.UNUSABLE: "stopping",
    },
    "online": {**_GOES_AWAY, S.UNREADY: "booted", S.IDLE: "draining", S.OVERDUE: "draining"},
    "draining": {**_GOES_AWAY, S.FREE: "stopping", S.KEPT: "online"},
    "stopping": {
        S.STOPPED: "off", S.FAILED: "failed", S.TERMINATED: "failed", S.RUNS_ON: "booted", S.LOST: "unknown",
    },
    # A terminated machine is `failed` too, and no wake starts it: it is looked at, and found terminated again.
    # A wake looks first: the start that failed may have happened after all. So may one that no job waits for any more.
    "failed": {S.WAKE: "unknown", S.RUNNING: "booted", S.UNUSABLE: "stopping"},
}

STATUS: Mapping[PowerWord, str] = {  # what the field's `gpu.status.response` calls each state
    "unknown": "unknown", "starting": "starting", "no_capacity": "starting", "booted": "running", "online": "running",
    "draining": "running", "stopping": "stopping", "off": "stopped", "failed": "stopped",
}
# fmt: on
TABLE = {state: ways if state == "off" else {**ways, S.ENDED: "off"} for state, ways in TABLE.items()}

# The states whose time is limited by the boot timeout.
BOOTING: frozenset[PowerWord] = frozenset({"starting", "no_capacity", "booted"})

# The states in which the machine is on, as far as one can know, and costs money.
PAID: frozenset[PowerWord] = frozenset({"starting", "booted", "online", "draining", "stopping"})
