"""What a scrape is answered with, family by family, built anew each time from what a program knows.

Names follow Prometheus: `wakestream_<program>_<what>_<unit>`, counters end in `_total`. Labels have few values: never
a job, a key or the name of a file.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Labelled = Mapping[str, float] | Mapping[tuple[str, str], float]
"""A value for each value of the label, or of both labels."""

MANY = 50
"""Values of one label that are told apart; the others are one, `(others)`."""

OTHERS = "(others)"

SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
"""Bounds of the buckets of all that a job waits for."""


class Counted(Protocol):
    """A journal, as far as its numbers go."""

    @property
    def commits(self) -> int:
        """Syncs so far."""
        ...

    @property
    def facts(self) -> int:
        """Facts that it holds."""
        ...


def gauge(name: str, text: str, value: float) -> Metric:
    """One value that goes up and down."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """The same, for each value of `labels`."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label, value in _bounded(values):
        family.add_metric(label, value)
    return family


def counter(name: str, text: str, value: float) -> Metric:
    """One value that only grows; `name` ends in `_total`."""
    return CounterMetricFamily(name, text, value=value)


def counters(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """The same, for each value of `labels`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for label, value in _bounded(values):
        family.add_metric(label, value)
    return family


def _bounded(values: Labelled) -> Iterable[tuple[tuple[str, ...], float]]:
    """The first `MANY` values of the first label; all others are summed up as one."""
    first: set[str] = set()
    found: dict[tuple[str, ...], float] = {}
    for label, value in values.items():
        head, *rest = (label,) if isinstance(label, str) else label
        if head not in first and len(first) >= MANY:
            head = OTHERS
        else:
            first.add(head)
        found[head, *rest] = found.get((head, *rest), 0.0) + value
    return found.items()


def one_of(words: Sequence[str], now: str) -> dict[str, float]:
    """1 for what is so now, 0 for the others; a word that is none of them counts as `other`."""
    now = now if now in words else "other"
    return {word: float(word == now) for word in (*words, "other")}


def histogram(name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS) -> Histogram:
    """Durations that are noted as they end, to be told by `observed`. In no registry: programs do not share it."""
    return Histogram(name, text, labels, registry=None, buckets=buckets)


def observed(noted: Histogram) -> Iterator[Metric]:
    """What was noted, without the times at which that began, of which nobody asks."""
    for family in noted.collect():
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield family


def build(program: str) -> Metric:
    """Which version this is."""
    family = GaugeMetricFamily("wakestream_build_info", "1; the labels say what runs.", labels=_BUILD)
    family.add_metric((program, version("wakestream"), platform.python_version()), 1.0)
    return family


_BUILD = ("program", "version", "python")


def disk(program: str, folder: Path) -> Iterator[Metric]:
    """Room on the disk of `folder`; nothing where that cannot be told."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    yield gauge(f"wakestream_{program}_disk_free_bytes", "Free bytes on the disk of the program's folder.", free)


def journal(program: str, kept: Counted) -> Iterator[Metric]:
    """How much the journal works, and how long it has become."""
    yield counter(f"wakestream_{program}_journal_commits_total", "Commits, each synced to the disk.", kept.commits)
    yield gauge(f"wakestream_{program}_journal_facts", "Facts in the journal; cut down as it grows.", kept.facts)


def refusals(program: str, refused: Mapping[str, int]) -> Metric:
    """What was refused, by the word for why."""
    text = "What was refused, by reason (a word of the program's own)."
    return counters(f"wakestream_{program}_refusals_total", text, ("reason",), dict(refused))
