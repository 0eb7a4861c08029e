"""Jobs and machines in virtual time, and a policy that decides what is granted, woken and stopped. Pure.

Times are seconds. What machines do is drawn from a seed, for each machine apart: whatever the policy, its n-th boot
takes the same time. A stop takes no time.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, count
from math import inf
from random import Random
from statistics import fmean
from typing import Final, NamedTuple, Protocol

from wakestream.streams.placement.place import Machine, PlacePolicy, Shape, place

DAY: Final = 86_400.0
EPOCH: Final = date(1970, 1, 1).toordinal()

LATE: Final = 1.4
"""A boot that takes longer than this times the usual one is not counted on."""

AGAIN: Final = 60.0
"""Seconds after a failed boot in which another machine is preferred."""

LONGEST: Final = 400 * DAY
"""Seconds after the last arrival in which jobs that a budget stops are simulated."""

Budgets = Mapping[str, Sequence[float | None]]
"""What a day and a month (of UTC) may cost, by the machine's name, or for "" together. None: no limit."""

EVERY: Final = 5.0
"""Seconds after which jobs that wait are looked at again."""

WARM: Final = 300.0
"""Hours in which machines are kept on begin and end at a multiple of these seconds."""


class Job(NamedTuple):
    """A job: when it arrives, its seconds of work, and the machines that can do it; None: all."""

    at: float
    work: float
    fits: frozenset[str] | None = None


class Spec(NamedTuple):
    """A machine: an hour's `price`, what its boots take, how many of them fail, and how often it is lost in an hour."""

    name: str
    price: float = 1.0
    boots: Sequence[float] = (120.0,)
    slots: int = 1
    fails: float = 0.0
    lost: float = 0.0


@dataclass(slots=True)
class Gpu:
    """A machine in the simulation. `since` is when its phase (off, coming, on) began, `paid` from when on it costs."""

    spec: Spec
    random: Random
    boot: float
    phase: str = "off"
    since: float = 0.0
    paid: float = 0.0
    failed: float = -inf
    idle_since: float = 0.0
    held: list[int] = field(default_factory=list)
    running: dict[int, float] = field(default_factory=dict)
    life: int = 0
    cost: dict[int, float] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many jobs it was given and has not ended."""
        return len(self.held) + len(self.running)


class Moves(NamedTuple):
    """What a policy does now: jobs for machines, and machines to wake and to stop."""

    grants: Sequence[tuple[int, str]] = ()
    wakes: Sequence[str] = ()
    stops: Sequence[str] = ()


class Policy(Protocol):
    """Decides whenever something has happened, and again `after` seconds later."""

    def step(self, world: World, now: float) -> tuple[Moves, float]:
        """Returns what to do, and after how many seconds it wants to be asked again at the latest."""


class Outcome(NamedTuple):
    """What it came to. `cost` is by day, `waits` has the day and the seconds of each job, in order of arrival."""

    cost: dict[int, float]
    waits: list[tuple[int, float]]
    work: float
    boots: int

    @property
    def total(self) -> float:
        """The whole cost."""
        return sum(self.cost.values())

    @property
    def mean(self) -> float:
        """Mean seconds that a job waited."""
        return fmean(wait for _, wait in self.waits) if self.waits else 0.0

    @property
    def p95(self) -> float:
        """Seconds that 95 of 100 jobs did not wait longer than."""
        waits = sorted(wait for _, wait in self.waits)
        return waits[int(0.95 * (len(waits) - 1))] if waits else 0.0


class World:
    """The jobs and machines, and their time.

    Args:
        jobs: All jobs, in order of arrival.
        specs: All machines; all are off.
        seed: For what is drawn.
    """

    def __init__(self, jobs: Sequence[Job], specs: Sequence[Spec], seed: int = 0) -> None:
        self.jobs = jobs
        self.lines: dict[frozenset[str], list[int]] = {}
        self.gpus = {
            spec.name: Gpu(spec, Random(f"{seed}-{spec.name}"), sorted(spec.boots)[len(spec.boots) // 2])
            for spec in specs
        }
        self._all = frozenset(self.gpus)
        self._number = count()
        self._due: list[tuple[float, int, str, str, int]] = [
            (job.at, next(self._number), "arrive", "", number) for number, job in enumerate(jobs)
        ]
        self._open = len(jobs)
        self._waits = [0.0] * len(jobs)
        self._boots = 0
        self.now = 0.0

    @property
    def waiting(self) -> list[int]:
        """The numbers of the jobs that wait, in order of arrival."""
        return sorted(chain.from_iterable(self.lines.values()))

    def run(self, policy: Policy) -> Outcome:
        """Run until all jobs are done and all machines are off, or are only kept on, or nothing is done for long."""
        asked = inf
        end = self.jobs[-1].at if self.jobs else 0.0
        while self._open or any(gpu.phase != "off" for gpu in self.gpus.values()):
            due = self._due[0][0] if self._due else inf
            self.now = min(due, asked)
            if self.now == inf or self.now > end + (LONGEST if self._open else DAY):
                break
            while self._due and self._due[0][0] <= self.now:
                _, _, kind, name, number = heapq.heappop(self._due)
                _HAPPENS[kind](self, name, number)
            moves, after = policy.step(self, self.now)
            asked = self.now + max(1e-3, after)
            for number, name in moves.grants:
                self._line(number).remove(number)
                self.gpus[name].held.append(number)
                self._begin(self.gpus[name])
            for name in moves.wakes:
                self._wake(self.gpus[name])
            for name in moves.stops:
                self._off(self.gpus[name])
        cost: dict[int, float] = {}
        for gpu in self.gpus.values():
            self._off(gpu)
            for day, amount in gpu.cost.items():
                cost[day] = cost.get(day, 0.0) + amount
        for number in self.waiting if self.now < inf else ():
            self._waits[number] = self.now - self.jobs[number].at
        waits = [(int(job.at // DAY), wait) for job, wait in zip(self.jobs, self._waits, strict=True)]
        return Outcome(cost, waits, sum(job.work for job in self.jobs), self._boots)

    def spent(self, gpu: Gpu, first: float) -> float:
        """What a machine cost since this day."""
        running = 0.0 if gpu.phase == "off" else (self.now - max(gpu.paid, first * DAY)) / 3600 * gpu.spec.price
        return running + sum(amount for day, amount in gpu.cost.items() if day >= first)

    def _later(self, seconds: float, kind: str, gpu: Gpu, number: int) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._number), kind, gpu.spec.name, number))

    def _line(self, number: int) -> list[int]:
        """The waiting jobs that the same machines can do."""
        fits = self.jobs[number].fits
        return self.lines.setdefault(self._all if fits is None else fits, [])

    def _arrive(self, name: str, number: int) -> None:
        insort(self._line(number), number)

    def _wake(self, gpu: Gpu) -> None:
        if gpu.phase != "off":
            return
        gpu.phase, gpu.since, gpu.paid = "coming", self.now, self.now
        gpu.life += 1
        self._boots += 1
        seconds, fails = gpu.random.choice(gpu.spec.boots), gpu.random.random() < gpu.spec.fails
        self._later(seconds * (LATE if fails else 1), "fail" if fails else "online", gpu, gpu.life)

    def _online(self, name: str, life: int) -> None:
        gpu = self.gpus[name]
        if life == gpu.life and gpu.phase == "coming":
            gpu.phase, gpu.since, gpu.idle_since = "on", self.now, self.now
            if gpu.spec.lost:
                self._later(gpu.random.expovariate(gpu.spec.lost / 3600), "lose", gpu, life)

    def _fail(self, name: str, life: int) -> None:
        gpu = self.gpus[name]
        if life == gpu.life and gpu.phase == "coming":
            self._off(gpu)
            gpu.failed = self.now

    def _lose(self, name: str, life: int) -> None:
        gpu = self.gpus[name]
        if life == gpu.life and gpu.phase == "on":
            self._off(gpu)

    def _off(self, gpu: Gpu) -> None:
        """It is off; what it was given waits again, in its place."""
        if gpu.phase == "off":
            return
        at = gpu.paid
        while at < self.now:
            until = min(self.now, (at // DAY + 1) * DAY)
            day = int(at // DAY)
            gpu.cost[day] = gpu.cost.get(day, 0.0) + (until - at) / 3600 * gpu.spec.price
            at = until
        for number in (*gpu.held, *gpu.running):
            insort(self._line(number), number)
        gpu.held.clear()
        gpu.running.clear()
        gpu.phase, gpu.since = "off", self.now
        gpu.life += 1

    def _begin(self, gpu: Gpu) -> None:
        while gpu.held and len(gpu.running) < gpu.spec.slots:
            number = gpu.held.pop(0)
            work = self.jobs[number].work
            gpu.running[number] = self.now
            self._waits[number] = self.now - self.jobs[number].at
            self._later(work, "end", gpu, number)

    def _end(self, name: str, number: int) -> None:
        gpu = self.gpus[name]
        if gpu.running.get(number, inf) + self.jobs[number].work <= self.now:
            del gpu.running[number]
            self._open -= 1
            gpu.idle_since = self.now
            self._begin(gpu)


_HAPPENS: Final[dict[str, Callable[[World, str, int], None]]] = {
    "arrive": World._arrive,
    "online": World._online,
    "fail": World._fail,
    "lose": World._lose,
    "end": World._end,
}


@dataclass(slots=True)
class Placed:
    """The rules of `place`, the idle stop of the monitors, and the hours in which machines are kept on.

    Attributes:
        policy: The times of the rules.
        idle_stop: Seconds without a job after which a machine stops.
        work: What a job is expected to take.
        warm: Whether a machine is kept on at a time.
        budgets: What a day and a month may cost. Where that is spent, work that has begun goes on, and no other begins.
    """

    policy: PlacePolicy = field(default_factory=PlacePolicy)
    idle_stop: float = 300.0
    work: float = 120.0
    warm: Callable[[str, float], bool] | None = None
    budgets: Budgets = field(default_factory=dict)

    def step(self, world: World, now: float) -> tuple[Moves, float]:
        """See `Policy`."""
        shapes = [
            Shape(fits, len(line), fits, self.work, world.jobs[line[0]].at, world.jobs[line[-1]].at)
            for fits, line in world.lines.items()
            if line
        ]
        blocked = self._blocked(world, now)
        warm = {name for name in world.gpus if name not in blocked and self.warm and self.warm(name, now)}
        machines = [self._machine(gpu, now, gpu.spec.name not in blocked) for gpu in world.gpus.values()]
        placing = place(machines, shapes, self.policy, now)
        given: dict[Hashable, int] = {}
        grants = []
        for key, name in placing.grants:
            at = given[key] = given.get(key, -1) + 1
            grants.append((world.lines[key][at], name))  # type: ignore[index] # the keys are fits
        used = {name for _, name in placing.grants}
        stops = {*placing.unwanted, *placing.surplus} - warm
        after = WARM - now % WARM if self.warm else inf
        if len(blocked) == len(world.gpus):
            after = min(after, DAY - now % DAY)
        elif len(grants) < sum(map(len, world.lines.values())) and {gpu.phase for gpu in world.gpus.values()} != {"on"}:
            after = EVERY  # where all are on, only an event changes anything
        for name, gpu in world.gpus.items():
            if name in blocked and not gpu.jobs:
                stops.add(name)
            elif gpu.phase == "on" and not gpu.jobs and name not in used and name not in warm:
                idle = now - gpu.idle_since
                left = [limit - idle for limit in (self.policy.surplus_after, self.idle_stop) if idle < limit]
                after = min([after, *left])
                if idle >= self.idle_stop:
                    stops.add(name)
        wakes = [wake.gpu for wake in placing.wakes] + [
            name for name in sorted(warm) if world.gpus[name].phase == "off"
        ]
        return Moves(grants, wakes, sorted(stops)), after

    def _blocked(self, world: World, now: float) -> set[str]:
        """The machines whose budget is spent, or all if that of all of them is."""
        blocked: set[str] = set()
        today = int(now // DAY)
        firsts = today, today - date.fromordinal(EPOCH + today).day + 1
        for name, limits in self.budgets.items():
            named = [gpu for gpu in world.gpus.values() if name in ("", gpu.spec.name)]
            for first, limit in zip(firsts, limits, strict=True):
                if limit is not None and sum(world.spent(gpu, first) for gpu in named) >= limit:
                    blocked |= {gpu.spec.name for gpu in named}
        return blocked

    def _machine(self, gpu: Gpu, now: float, free: bool) -> Machine:
        spent = now - gpu.since
        coming, spec = gpu.phase == "coming", gpu.spec
        done = sum(min(now - begun, 0.9 * self.work) for begun in gpu.running.values())
        return Machine(
            spec.name, on=free and gpu.phase == "on", coming=coming, wakeable=free and gpu.phase == "off",
            backed_off=now - gpu.failed < AGAIN, price=spec.price, slots=spec.slots, held=gpu.jobs,
            backlog=gpu.jobs * self.work - done,
            boot=max(0.0, gpu.boot - spent) if coming else gpu.boot,
            late=coming and spent > LATE * gpu.boot, idle=0.0 if gpu.jobs else now - gpu.idle_since,
        )  # fmt: skip
