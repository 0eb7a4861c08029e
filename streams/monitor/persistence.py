"""What a monitor must know after a restart: who started the machine, since when it is on or off, when it was used.

A `MachineKept` is the only fact of a monitor's journal; the newest one counts. Its times are UNIX seconds, those of a
`Machine` are on the monitor's own clock, and ages join the two. Pure.

Of a machine that ends with its monitor, all that counts is since when it is off: while it is on, that is the last sign
of life of both, since a monitor that is killed writes no end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from wakestream.streams.monitor.power_machine import Boot, Machine, Use
from wakestream.streams.protocol.structs import Frozen

USE_EVERY = 30.0  # seconds by which the last use may be older than it was, before that is worth a write
LIFE_EVERY = 10.0  # seconds after which a sign of life is worth a write

# The times of a `MachineKept`, each with the seconds by which it must differ; two clocks always differ a little.
_WORTH = {"start_at": 2.0, "up_since": 2.0, "last_use": USE_EVERY, "off_since": 2.0}


class MachineKept(Frozen, frozen=True):
    """`start_at`: a start was asked for then, and does not show yet; `start_taken`: the provider took it."""

    ours: bool = False
    start_at: float | None = None
    start_taken: bool = False
    up_since: float | None = None
    last_use: float | None = None
    off_since: float | None = None


def snapshot(machine: Machine, now: float, unix: float, *, ends: bool = False) -> MachineKept:
    """What to journal of `machine`; `now` is the monitor's clock, `unix` the same moment in UNIX seconds.

    `ends`: it ends with the monitor.
    """
    boot, use, served = machine.boot, machine.use, machine.worker.served
    off_since = _moved(None if machine.on is not False else machine.on_or_off_since, unix - now)
    if ends:
        return MachineKept(off_since=unix - unix % LIFE_EVERY if machine.on else off_since)
    used = served or boot.start_at is not None or use.remembered
    return MachineKept(
        ours=machine.ours or served,
        start_at=_moved(boot.start_at, unix - now),
        start_taken=boot.start_at is not None and boot.start_taken,
        up_since=_moved(use.up_since, unix - now),
        last_use=_moved(use.last_at, unix - now) if used else None,
        off_since=off_since,
    )


def _moved(at: float | None, by: float) -> float | None:
    return None if at is None else round(at + by, 1)


def worth_keeping(before: MachineKept, now: MachineKept) -> bool:
    """Whether `now` says more than `before`, beyond what two clocks differ by."""
    times = ((getattr(before, name), getattr(now, name), by) for name, by in _WORTH.items())
    moved = any(old is not new and (old is None or new is None or abs(old - new) >= by) for old, new, by in times)
    return moved or (before.ours, before.start_taken) != (now.ours, now.start_taken)


def ages(facts: Iterable[MachineKept], unix: float, snapshot: Iterable[bytes] = ()) -> dict[str, Any] | None:
    """The newest fact with the age of each of its times in seconds, as a log's header has it; None without any.

    Args:
        facts: The facts of a journal.
        unix: The time, in UNIX seconds.
        snapshot: The rows of its snapshot, which come before the facts: see `rows`.
    """
    kept = [*(msgspec.json.decode(row, type=MachineKept) for row in snapshot), *facts]
    if not kept:
        return None
    known = asdict(kept[-1])
    return known | {name: max(0.0, unix - known[name]) for name in _WORTH if known[name] is not None}


def rows(kept: MachineKept) -> list[bytes]:
    """The snapshot of a monitor's journal."""
    return [msgspec.json.encode(kept)]


def restore(known: Mapping[str, Any] | None, now: float) -> Machine:
    """The machine at a restart, from what the journal knows: it is inspected before any action.

    A start that had begun is still wanted, and is not repeated while it may still show.
    """
    if known is None:
        return Machine()
    at = {name: None if known.get(name) is None else now - known[name] for name in _WORTH}
    start_at, last_use = at["start_at"], at["last_use"]
    return Machine(
        on=None if at["off_since"] is None else False,
        on_or_off_since=at["off_since"],
        ours=known["ours"],
        boot=Boot(wanted=start_at is not None, wanted_at=now, start_at=start_at, start_taken=known["start_taken"]),
        use=Use(up_since=at["up_since"], last_at=last_use or 0.0, remembered=last_use is not None),
    )
