"""Where waiting jobs go, which machines are woken for them, and which are not needed any more. Pure.

Jobs are given as shapes: jobs alike, counted. So the cost does not grow with the queue. Times are seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

LEVEL = 600.0
"""Seconds of waiting that raise a job by one priority."""


@dataclass(frozen=True, slots=True)
class PlacePolicy:
    """The times of the rules.

    Attributes:
        patience: How long a job may wait for a start before a further machine is woken for it.
        min_gain: How much earlier a job must start with a further machine.
        surplus_after: How long a machine that is not the only idle one stays on without work.
        ahead: Jobs beyond its slots that a GPU is granted, so that uploads overlap the work, unless a machine that is
            coming or may be woken would start them sooner.
        wake_when: `ready`: a machine is woken when it is on by the time the files of a job are in the depot;
            `submitted`: at once.
    """

    patience: float = 60.0
    min_gain: float = 5.0
    surplus_after: float = 90.0
    ahead: int = 1
    wake_when: Literal["ready", "submitted"] = "ready"


class Machine(NamedTuple):
    """One GPU, as it is now.

    Attributes:
        name: Its name.
        host: The machine that it is in; GPUs of one host start, stop and cost together.
        on: Whether it may be given work now.
        coming: Whether it was woken and is not on yet.
        wakeable: Whether it may be woken: it is off, and neither held nor blocked.
        backed_off: Whether its last start failed a short time ago: it is woken only if there is no other.
        price: What an hour costs.
        slots: How many jobs it does at one time.
        held: How many it was given and has not ended.
        backlog: Their seconds of work that are left.
        boot: The median of the seconds from a wake until it is on; what is left of them if it is coming.
        late: Whether it is coming for longer than nine of ten boots took: it is not counted on.
        idle: For how long it has had no job.
    """

    name: str
    host: str = ""
    on: bool = False
    coming: bool = False
    wakeable: bool = False
    backed_off: bool = False
    price: float = 0.0
    slots: int = 1
    held: int = 0
    backlog: float = 0.0
    boot: float = 120.0
    late: bool = False
    idle: float = 0.0


class Shape(NamedTuple):
    """Waiting jobs alike.

    Attributes:
        key: What the caller calls it.
        jobs: How many there are.
        fits: The names of the GPUs that can do them.
        work: Seconds that one takes.
        first: When the oldest of them arrived.
        last: When the newest of them arrived.
        priority: Higher ones come first.
        used: What its license used of GPUs lately, divided by the weight of the license.
        share: What one of its jobs adds to that.
        near: Seconds that the files which a GPU has already save, by its name.
        ready: In how many seconds the first of them has its files in the depot; 0: now. No machine is woken for it that
            would be on before.
        grantable: Whether they may start as soon as a GPU is on.
        unsure: Those of `fits` that are not known to do them: the last choice.
    """

    key: Hashable
    jobs: int
    fits: frozenset[str]
    work: float = 120.0
    first: float = 0.0
    last: float = 0.0
    priority: int = 0
    used: float = 0.0
    share: float = 0.0
    near: Mapping[str, float] = {}
    ready: float = 0.0
    grantable: bool = True
    unsure: frozenset[str] = frozenset()


class Wake(NamedTuple):
    """A machine to wake, and the shape that needs it; `sooner` is by how much its last job starts earlier, None for
    the first machine that can do it.
    """

    gpu: str
    key: Hashable
    sooner: float | None


@dataclass(slots=True)
class Placing:
    """What to do now, and what to expect.

    Attributes:
        grants: GPUs for the next jobs of shapes, in this order.
        wakes: The machines to wake.
        unwanted: The machines that are coming and that no job needs.
        surplus: The machines that are on and are not needed any more.
        planned: The machines that are woken if others do not get free as expected: the shape, and in how many seconds.
        begins: When the first waiting job of each shape starts, in seconds from now; infinite if no machine comes.
        expected: The same for the last one.
        near: The shapes that go on waiting and that machines are kept on for.
    """

    grants: list[tuple[Hashable, str]] = field(default_factory=list)
    wakes: list[Wake] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    planned: dict[str, tuple[Hashable, float]] = field(default_factory=dict)
    begins: dict[Hashable, float] = field(default_factory=dict)
    expected: dict[Hashable, float] = field(default_factory=dict)
    near: set[Hashable] = field(default_factory=set)


def place(machines: Sequence[Machine], shapes: Sequence[Shape], policy: PlacePolicy, now: float) -> Placing:
    """Place the waiting jobs.

    Args:
        machines: All GPUs.
        shapes: All waiting jobs.
        policy: The times of the rules.
        now: The time, on the clock of `Shape.first`.

    Returns:
        The placing. It depends on nothing else; ties are broken by name.
    """
    placing = Placing()
    starts = {machine.host: machine for machine in machines if machine.host and machine.coming}
    lines = {machine.name: _Line(_with_its_host(machine, starts)) for machine in machines}
    left = _grant(lines, shapes, policy, now, placing)
    coming = {name for name, line in lines.items() if line.machine.coming}
    _wake(lines, left, policy, now, coming, placing)
    _leave(machines, left, policy, placing)
    return placing


def _with_its_host(machine: Machine, starts: Mapping[str, Machine]) -> Machine:
    """The GPU, coming if its host is."""
    first = starts.get(machine.host) if machine.wakeable else None
    return machine if first is None else machine._replace(coming=True, wakeable=False, boot=first.boot, late=first.late)


class _Line:
    """What a GPU has to do, while jobs are placed: `free` is when a slot gets free, in seconds from now."""

    __slots__ = ("counts", "free", "held", "machine")

    def __init__(self, machine: Machine) -> None:
        self.machine, self.held = machine, machine.held
        begin = 0.0 if machine.on else machine.boot
        busy = machine.held >= machine.slots
        self.free = begin + (machine.backlog / machine.slots if busy or not machine.on else 0.0)
        self.counts = machine.on or (machine.coming and not machine.late)

    def take(self, work: float) -> None:
        self.held += 1
        if self.held >= self.machine.slots:
            self.free += work / self.machine.slots


def _order(line: _Line, shape: Shape) -> tuple[bool, float, float]:
    """The place of a GPU among those that have room for a job of this shape: the lowest comes first."""
    name, price = line.machine.name, line.machine.price
    return name in shape.unsure, line.free - shape.near.get(name, 0.0), price


def _rank(shape: Shape, now: float, given: int) -> tuple[float, float, float, str]:
    """The place in the order of the next job of a shape of which some were given: the lowest comes first."""
    arrived = shape.first + (shape.last - shape.first) * given / max(1, shape.jobs - 1)
    level = shape.priority + max(0.0, now - arrived) // LEVEL
    return -level, shape.used + given * shape.share, arrived, str(shape.key)


def _grant(
    lines: dict[str, _Line], shapes: Sequence[Shape], policy: PlacePolicy, now: float, placing: Placing
) -> list[Shape]:
    """Give the next jobs to GPUs that are on and have room; returns what goes on waiting."""
    room = {
        line.machine.name: line.machine.slots + policy.ahead - line.held
        for line in lines.values()
        if line.machine.on and line.held < line.machine.slots + policy.ahead
    }
    given = [0] * len(shapes)
    others = [_soonest(lines, shape) + policy.min_gain for shape in shapes] if policy.ahead else []
    order = [(_rank(shape, now, 0), number) for number, shape in enumerate(shapes) if shape.jobs and shape.grantable]
    heapq.heapify(order)
    while room and order:
        number = order[0][1]
        shape = shapes[number]
        fit = {
            name
            for name in shape.fits & room.keys()
            if lines[name].held < lines[name].machine.slots or lines[name].free <= others[number]
        }
        if not fit:  # there will not be any more room, nor sooner
            heapq.heappop(order)
            continue
        name = min(fit, key=lambda name: (*_order(lines[name], shape), name))
        placing.grants.append((shape.key, name))
        lines[name].take(shape.work)
        room[name] -= 1
        given[number] += 1
        if not room[name]:
            del room[name]
        if given[number] == shape.jobs:
            heapq.heappop(order)
        else:
            heapq.heapreplace(order, (_rank(shape, now, given[number]), number))
    left = sorted(  # what can start comes first
        (not shapes[number].grantable, _rank(shape, now, count), number)
        for number, (shape, count) in enumerate(zip(shapes, given, strict=True))
        if count < shape.jobs
    )
    return [shapes[number]._replace(jobs=shapes[number].jobs - given[number]) for *_, number in left]


def _soonest(lines: Mapping[str, _Line], shape: Shape) -> float:
    """When the first of the machines is on that are coming for such jobs or may be woken."""
    fit = (line for name, line in lines.items() if name in shape.fits)
    off = (line for line in fit if not line.machine.on)
    return min(
        (line.free for line in off if line.counts or (line.machine.wakeable and not line.machine.backed_off)),
        default=math.inf,
    )


def _level(ends: Sequence[tuple[float, int]], work: float) -> float:
    """The time until which `work` fills slots that get free at these times, sorted."""
    width = 0
    for number, (free, slots) in enumerate(ends):
        width += slots
        room = (ends[number + 1][0] - free) * width if number + 1 < len(ends) else math.inf
        if work <= room:
            return free + work / width
        work -= room
    raise AssertionError  # the last one has no end


def _wake(
    lines: dict[str, _Line],
    left: Sequence[Shape],
    policy: PlacePolicy,
    now: float,
    coming: set[str],
    placing: Placing,
) -> None:
    """Spread the shapes over the machines, each so that its last job starts as early as possible.

    A machine is woken for a shape that none is on or coming for, and further ones where jobs would wait too long.
    """
    hosts = {line.machine.host or name for name, line in lines.items() if line.machine.on or name in coming}

    def last_start(names: Sequence[str], shape: Shape) -> tuple[float, float]:
        ends = sorted((lines[name].free, lines[name].machine.slots) for name in names)
        return _last_start(ends, shape.jobs * shape.work, shape.work)

    for shape in left:
        usable = [name for name, line in lines.items() if name in shape.fits and line.counts]
        start, level = last_start(usable, shape)
        none = not any(lines[name].machine.on or name in coming for name in shape.fits if name in lines)
        latest = policy.patience - max(0.0, now - shape.last)
        for name in _cheapest(lines, shape, coming, hosts, only=none) if none or start > latest else ():
            if not none and start <= latest:
                break
            machine = lines[name].machine
            if name in coming or (machine.backed_off and not none):
                continue
            if shape.ready > machine.boot and policy.wake_when == "ready":
                if none and math.isfinite(shape.ready):
                    placing.planned.setdefault(name, (shape.key, shape.ready - machine.boot))
                break
            starting = _together(machine, lines)
            with_it = [*usable, *(other for other in starting if other in shape.fits)]
            sooner, next_level = last_start(with_it, shape)
            if not none and start - max(sooner, shape.ready) < policy.min_gain:
                continue
            placing.wakes.append(Wake(name, shape.key, None if none else start - sooner))
            usable, start, level, none = with_it, sooner, next_level, False
            coming.update(starting)
            for gpu in starting:
                lines[gpu].counts = True
            hosts.add(machine.host or name)
        left_over = latest - start
        if left_over >= 0 and not shape.ready and (spare := _cheapest(lines, shape, coming, hosts, only=False)):
            placing.planned.setdefault(spare[0], (shape.key, left_over))
        placing.begins[shape.key] = max(shape.ready, min((lines[name].free for name in usable), default=math.inf))
        placing.expected[shape.key] = max(shape.ready, start)
        for name in usable:
            lines[name].free = max(lines[name].free, level)


def _together(machine: Machine, lines: Mapping[str, _Line]) -> list[str]:
    """The GPUs that start if this one is woken: itself, and those of its host that are off."""
    if not machine.host:
        return [machine.name]
    alike = (line.machine for line in lines.values() if line.machine.host == machine.host)
    return [other.name for other in alike if other.name == machine.name or other.wakeable]


def _last_start(ends: Sequence[tuple[float, int]], work: float, per_job: float) -> tuple[float, float]:
    """When the last job of a shape starts, and when all of its work is done."""
    if not ends:
        return math.inf, 0.0
    level = _level(ends, work)
    return max(ends[0][0], level - per_job), level


def _cheapest(lines: Mapping[str, _Line], shape: Shape, coming: set[str], hosts: set[str], *, only: bool) -> list[str]:
    """The machines that may be woken for a shape; those whose host is on anyway come first, as they cost nothing.

    One that is backed off comes last, and only if there is no other (`only`).
    """
    fit = [line.machine for name, line in lines.items() if name in shape.fits and name not in coming]
    free = [machine for machine in fit if machine.wakeable and (only or not machine.backed_off)]

    def price(machine: Machine) -> tuple[bool, bool, float, float, str]:
        price = 0.0 if (machine.host or machine.name) in hosts else machine.price
        return machine.backed_off, machine.name in shape.unsure, price, machine.boot, machine.name

    return [machine.name for machine in sorted(free, key=price)]


def _leave(machines: Sequence[Machine], left: Sequence[Shape], policy: PlacePolicy, placing: Placing) -> None:
    """The machines that are coming for no job, and idle ones that none needs; GPUs of one host leave together."""
    # A machine that has to wait for longer stops, and starts again.
    longest = {machine.name: policy.patience + 2 * machine.boot for machine in machines}
    waiting: list[set[str]] = []
    for shape in left:
        always = shape.grantable or policy.wake_when == "submitted"
        waits = {name for name in shape.fits if always or shape.ready <= longest.get(name, 0.0)}
        if waits:
            placing.near.add(shape.key)
            waiting.append(waits)
    needed = set[str]().union(*waiting)
    used = {name for _, name in placing.grants} | {wake.gpu for wake in placing.wakes}
    hosts: dict[str, list[Machine]] = {}
    for machine in machines:
        hosts.setdefault(machine.host or machine.name, []).append(machine)
    idle = []
    for gpus in hosts.values():
        if used.intersection(gpu.name for gpu in gpus) or any(gpu.held for gpu in gpus):
            continue
        coming = [gpu.name for gpu in gpus if gpu.coming]
        if coming and any(gpu.name in needed for gpu in gpus if gpu.coming or gpu.wakeable):
            continue
        if any(gpu.on for gpu in gpus):
            idle.append([gpu for gpu in gpus if gpu.on])
        else:
            placing.unwanted += coming
    idle.sort(key=lambda gpus: min((gpu.price, gpu.name) for gpu in gpus))
    for number, gpus in enumerate(idle):
        names = {gpu.name for gpu in gpus}
        others = [waits for waits in waiting if names.isdisjoint(waits)]
        # The cheapest one stays, and for each waiting job the cheapest one that can do it.
        if number and len(others) == len(waiting) and all(gpu.idle >= policy.surplus_after for gpu in gpus):
            placing.surplus += names
        waiting = others
    placing.unwanted.sort()
    placing.surplus.sort()
