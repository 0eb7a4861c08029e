"""What other settings would have cost, and how long jobs would have waited: recorded arrivals, simulated. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from random import Random
from typing import Any, Final, NamedTuple

from wakestream.streams.placement.place import PlacePolicy
from wakestream.streams.placement.simulate import DAY, Budgets, Job, Outcome, Placed, Spec, World

LEAST_JOBS: Final = 30
LEAST_DAYS: Final = 7
"""With fewer jobs, or fewer days with jobs, nothing is recommended."""

SURE: Final = 0.9
"""The share of resamples in which a setting must be better."""

RESAMPLES: Final = 500
MOST_JOBS: Final = 3000
"""The newest jobs are simulated."""

CHEAPER, FASTER = 0.95, 0.8
"""At most this share of the cost, or of the wait, makes a setting better."""

LONGER, DEARER = 1.1, 1.02
SPARE: Final = 5.0
"""A cheaper one may have jobs wait this much longer, and these seconds; a faster one may cost this much more."""

IDLES: Final = (60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
PATIENCES: Final = (0.0, 60.0, 300.0, 900.0)
WARM_HOURS: Final = 8

BOOT: Final = 120.0
"""Seconds of a boot, until one was seen."""

MOST_FAILED: Final = 0.9
"""The share of boots that fail at most in a simulation, which would not end otherwise."""

IDLE: Final = 1800.0
"""Seconds of idle time of a monitor that does not tell it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run the machines: `name` and `value` say what is different. `warm`: is a machine kept on at a time?"""

    name: str
    value: str
    machines: tuple[Spec, ...]
    policy: PlacePolicy = field(default_factory=PlacePolicy)
    idle_stop: float = 300.0
    warm: Callable[[str, float], bool] | None = None
    budgets: Budgets = field(default_factory=dict)


class Row(NamedTuple):
    """What a setting would have come to; `sure`: the share of resamples in which it is better than the present one."""

    setting: Setting
    outcome: Outcome
    cost: float
    mean: float
    p95: float
    sure: float


class Plan(NamedTuple):
    """All settings, the present one first; `best` is recommended, if one is. `enough`: there was enough to say so.

    `jobs` are simulated, `left_out` is how many older ones are not.
    """

    jobs: int
    left_out: int
    days: int
    rows: list[Row]
    enough: bool
    best: Row | None

    def plain(self) -> dict[str, Any]:
        """As JSON: all settings, and the recommended one."""
        rows = [
            {
                "setting": row.setting.name, "value": row.setting.value, "cost": round(row.cost, 2),
                "wait_s": round(row.mean, 1), "wait_p95_s": round(row.p95, 1), "sure": round(row.sure, 3),
            }
            for row in self.rows
        ]  # fmt: skip
        best = None if self.best is None else rows[self.rows.index(self.best)]
        counts = {"jobs": self.jobs, "left_out": self.left_out, "days": self.days, "enough": self.enough}
        return {**counts, "recommended": best, "rows": rows}


def recorded(history: Mapping[str, Any]) -> Iterator[Job]:
    """The jobs of a part of the hub's history that a GPU can do."""
    if not history["gpus"]:
        return
    fits = [None if len(names) == len(history["gpus"]) else frozenset(names) for names in history["fits"]]
    for number, flat in history["days"]:
        for n in range(0, len(flat), 3):
            names = fits[flat[n + 2]] if flat[n + 2] >= 0 else None
            if names is None or names:
                yield Job(number * DAY + flat[n], max(1.0, flat[n + 1]), names)


def as_now(
    gpus: Iterable[Mapping[str, Any]],
    history: Mapping[str, Any],
    warm: Callable[[str, float], bool] | None = None,
) -> Setting:
    """How the machines are run now, by what the hub tells of its GPUs and by its history; `warm`: the hours of it."""
    told = {gpu["gpu"]: gpu for gpu in gpus}
    priced = any("price_per_hour" in gpu for gpu in told.values())
    machines = tuple(
        Spec(
            name,
            _price(told.get(name, {}).get("price_per_hour")) if priced else 1.0,
            tuple(gpu["boots"]) or (BOOT,),
            gpu["slots"],
            min(MOST_FAILED, gpu.get("failed", 0.0)),
        )
        for name, gpu in history["gpus"].items()
    )
    idles = sorted(gpu["idle_after_s"] for gpu in told.values() if gpu.get("idle_after_s") is not None)
    idle = idles[len(idles) // 2] if idles else IDLE
    budgets = history.get("budgets", {}) if priced else {}
    return Setting("now", "", machines, PlacePolicy(**history["place"]), idle, warm, budgets)


def _price(told: object) -> float:
    """The price of an hour; 0 without a price, as for costs, and for a number that is no price."""
    return float(told) if isinstance(told, int | float) and 0 <= told < math.inf else 0.0


def is_enough(jobs: Sequence[Job]) -> bool:
    """Whether there are enough jobs and days with jobs to recommend a setting."""
    return len(jobs) >= LEAST_JOBS and len({int(job.at // DAY) for job in jobs}) >= LEAST_DAYS


def plan(jobs: Sequence[Job], present: Setting, seed: int = 0) -> Plan:
    """Simulate recorded jobs with the present setting and with others.

    Args:
        jobs: In order of arrival, at UNIX seconds; at least one.
        present: How the machines are run now.
        seed: For what is drawn: boots and resamples.

    Returns:
        The plan. A setting is recommended if it is cheaper and jobs do not wait much longer, or if jobs wait less and
        it costs hardly more, in nine of ten resamples of the days.
    """
    left_out, jobs = max(0, len(jobs) - MOST_JOBS), jobs[-MOST_JOBS:]
    days = range(int(jobs[0].at // DAY), int(jobs[-1].at // DAY) + 1)
    used = len({int(job.at // DAY) for job in jobs})
    base = _run(jobs, present, seed)
    rows = [_row(present, base, 0.0)]
    for setting in others(jobs, present):
        outcome = _run(jobs, setting, seed)
        rows.append(_row(setting, outcome, _sure(days, base, outcome, Random(seed))))
    enough = is_enough(jobs)
    better = [row for row in rows[1:] if row.sure >= SURE and better_than(row[2:4], rows[0][2:4])]
    best = min(better, key=lambda row: (row.cost > CHEAPER * rows[0].cost, row.cost, row.mean), default=None)
    return Plan(len(jobs), left_out, used, rows, enough, best if enough else None)


def others(jobs: Sequence[Job], present: Setting) -> Iterator[Setting]:
    """The other settings: of each kind, those that are not the present one."""
    for idle in IDLES:
        if idle != present.idle_stop:
            yield replace(present, name="idle", value=f"{idle:g}", idle_stop=idle)
    for patience in PATIENCES:
        if patience != present.policy.patience:
            policy = replace(present.policy, patience=patience)
            yield replace(present, name="patience", value=f"{patience:g}", policy=policy)
    machines = present.machines
    for spec in machines if 1 < len(machines) <= 4 else ():
        left = tuple(other for other in machines if other is not spec)
        if all(job.fits is None or job.fits.intersection(machine.name for machine in left) for job in jobs):
            yield replace(present, name="fewer", value=spec.name, machines=left)
    cheapest = min(machines, key=lambda spec: (spec.price, spec.name))
    more = cheapest._replace(name=f"{cheapest.name} (2)")
    yield replace(present, name="more", value=cheapest.name, machines=(*machines, more))
    for price in sorted({spec.price for spec in machines})[:-1]:
        left = tuple(spec for spec in machines if spec.price <= price)
        if len(left) < len(machines) - 1 and all(
            job.fits is None or job.fits.intersection(machine.name for machine in left) for job in jobs
        ):
            yield replace(present, name="price", value=f"{price:g}", machines=left)
    hours = Counter(int(job.at % DAY // 3600) for job in jobs)
    begin = max(range(24), key=lambda first: (sum(hours[(first + n) % 24] for n in range(WARM_HOURS)), -first))
    end = (begin + WARM_HOURS) % 24

    def busiest(name: str, now: float) -> bool:
        return name == cheapest.name and (now % DAY // 3600 - begin) % 24 < WARM_HOURS

    yield replace(present, name="warm", value=f"{begin:02}:00-{end:02}:00", warm=busiest)
    if present.warm is not None:
        yield replace(present, name="cold", warm=None)
    if present.budgets:
        yield replace(present, name="unlimited", budgets={})


def better_than(proposed: Sequence[float], present: Sequence[float]) -> bool:
    """Whether a cost and mean wait are better than the present ones."""
    (cost, wait), (cost_now, wait_now) = proposed, present
    cheaper = cost <= CHEAPER * cost_now and wait <= LONGER * wait_now + SPARE
    return cheaper or (wait <= FASTER * wait_now and cost <= DEARER * cost_now)


def _run(jobs: Sequence[Job], setting: Setting, seed: int) -> Outcome:
    work = sum(job.work for job in jobs) / len(jobs)
    known = {spec.name for spec in setting.machines}
    more = frozenset(known - {name for job in jobs for name in job.fits or ()})
    fitting = [job if job.fits is None else job._replace(fits=(job.fits & known) | more) for job in jobs]
    policy = Placed(setting.policy, setting.idle_stop, work, setting.warm, setting.budgets)
    return World(fitting, setting.machines, seed).run(policy)


def _row(setting: Setting, outcome: Outcome, sure: float) -> Row:
    return Row(setting, outcome, outcome.total, outcome.mean, outcome.p95, sure)


def _sure(days: range, base: Outcome, other: Outcome, random: Random) -> float:
    """The share of resamples of the days in which the other one is better."""
    parts = [{day: [outcome.cost.get(day, 0.0), 0.0, 0.0] for day in days} for outcome in (base, other)]
    for part, outcome in zip(parts, (base, other), strict=True):
        for day, wait in outcome.waits:
            part[day][1] += wait
            part[day][2] += 1

    def of(part: dict[int, list[float]], drawn: Sequence[int]) -> tuple[float, float]:
        cost, wait, jobs = (sum(part[day][n] for day in drawn) for n in range(3))
        return cost, wait / max(1.0, jobs)

    better = 0
    for _ in range(RESAMPLES):
        drawn = random.choices(days, k=len(days))
        better += better_than(of(parts[1], drawn), of(parts[0], drawn))
    return better / RESAMPLES


def picture(rows: Sequence[Row], labels: Sequence[str], axes: tuple[str, str], best: Row | None = None) -> str:
    """An SVG: for each setting a bar of its cost and one of its mean wait.

    Args:
        rows: The settings, the present one first.
        labels: What each row is called.
        axes: What cost and wait are called.
        best: The recommended one.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {24 * len(rows) + 40}" font-family="sans-serif" '
        'font-size="13" fill="#777">',
        *(f'<text x="{x}" y="20">{escape(axis)}</text>' for x, axis in zip((250, 540), axes, strict=True)),
    ]
    most = max(row.cost for row in rows) or 1.0, max(row.mean for row in rows) or 1.0
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        colour, y = "#2a7" if row is best else "#c50" if number == 0 else "#58c", 32 + 24 * number
        parts.append(f'<g fill="{colour}"><text x="240" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        bars = (250, row.cost / most[0], f"{row.cost:.2f}"), (540, row.mean / most[1], f"{row.mean:.0f} s")
        for x, share, text in bars:
            width = 200 * share
            parts.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="16"/>')
            parts.append(f'<text x="{x + width + 6:.0f}" y="{y + 13}">{text}</text>')
        parts.append("</g>")
    return "\n".join((*parts, "</svg>\n"))
