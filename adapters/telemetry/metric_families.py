"""Builds metric families from a program's state, at each scrape.

Names follow Prometheus: `wakestream_<program>_<what>_<unit>`, counters end in `_total`. Labels have few values: they
never contain a job, a key or a file name.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from wakestream.adapters.disk.journal import StoredJournal

Labelled = Mapping[str, float] | Mapping[tuple[str, str], float]
"""A number for each value of the label, or for each pair of values of two labels."""

MANY = 50
"""Most values of one label; the others are summed up as `(others)`."""

OTHERS = "(others)"

SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
"""Bucket bounds for the waits of a job."""


gauge = GaugeMetricFamily
"""One value that goes up and down."""

counter = CounterMetricFamily
"""One value that only grows; its name ends in `_total`."""


def gauges(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """One value for each combination of `labels`."""
    return _filled(GaugeMetricFamily(name, text, labels=labels), values)


def counters(name: str, text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """One value for each combination of `labels`."""
    return _filled(CounterMetricFamily(name, text, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Labelled) -> Metric:
    # The first `MANY` values of the first label; the others are summed up.
    first: set[str] = set()
    sums: dict[tuple[str, ...], float] = {}
    for label, value in values.items():
        head, *rest = (label,) if isinstance(label, str) else label
        if head not in first and len(first) >= MANY:
            head = OTHERS
        else:
            first.add(head)
        sums[head, *rest] = sums.get((head, *rest), 0.0) + value
    for labels, value in sums.items():
        family.add_metric(labels, value)
    return family


def one_of(words: Sequence[str], now: str) -> dict[str, float]:
    """1 for the current state and 0 for the others; an unknown state counts as `other`."""
    now = now if now in words else "other"
    return {word: float(word == now) for word in (*words, "other")}


def histogram(name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS) -> Histogram:
    """A histogram of durations, for `observed`. It is in no registry, since programs in one process do not share it."""
    return Histogram(name, text, labels, registry=None, buckets=buckets)


def observed(noted: Histogram) -> Iterator[Metric]:
    """The histogram's samples, without the unused `_created` ones."""
    for family in noted.collect():
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield family


def build(program: str) -> Metric:
    """The version of the program."""
    text, labels = "1; the labels say what runs.", ("program", "version", "python")
    family = GaugeMetricFamily("wakestream_build_info", text, labels=labels)
    family.add_metric((program, version("wakestream"), platform.python_version()), 1.0)
    return family


def disk(program: str, folder: Path) -> Iterator[Metric]:
    """The free space of the disk with `folder`; nothing when the system does not report it."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    yield gauge(f"wakestream_{program}_disk_free_bytes", "Free bytes on the disk of the program's folder.", free)


def journal(program: str, kept: StoredJournal[Any]) -> Iterator[Metric]:
    """Commits and length of the journal."""
    yield counter(f"wakestream_{program}_journal_commits_total", "Commits, each synced to the disk.", kept.commits)
    yield gauge(f"wakestream_{program}_journal_facts", "Facts in the journal; cut down as it grows.", kept.facts)


def refusals(program: str, refused: Mapping[str, int]) -> Metric:
    """Refusals by reason."""
    text = "What was refused, by reason (a word of the program's own)."
    return counters(f"wakestream_{program}_refusals_total", text, ("reason",), dict(refused))
