"""Combine the lanes of many jobs, or of many connections of one role, into few lanes. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from wakestream.streams.diagram.marbles import STAGES, TIMES, Diagram, Lane, LaneKind

JOBS = 12
"""Up to this many jobs have their own lanes."""

CONNECTIONS = 6
"""Up to this many connections of one role have their own lanes."""


def gathered(picture: Diagram) -> Diagram:
    """Combine similar lanes of the diagram. A lane with a divergence stays separate, so that it can be found."""
    rest = [lane for lane in picture.lanes if lane.kind not in ("connection", "job")]
    connections = [lane for lane in picture.lanes if lane.kind == "connection"]
    jobs = [lane for lane in picture.lanes if lane.kind == "job"]
    return replace(picture, lanes=(*rest, *_by_role(connections), *_by_course(jobs)))


def course(lane: Lane) -> tuple[tuple[str, ...], str]:
    """The stages of a job, each once, whether it tried again, and its outcome."""
    words = [span.word for span in lane.spans]
    again = ("again",) if len(words) > len(set(words)) else ()
    return (*dict.fromkeys(words), *again), lane.outcome


def diverged(lane: Lane) -> bool:
    """Whether this lane has a divergence."""
    return any(mark.kind == "divergence" for mark in lane.marks)


def spread(values: Iterable[float]) -> tuple[float, float, float]:
    """The median, the minimum and the maximum."""
    ordered = sorted(values)
    return median(ordered), ordered[0], ordered[-1]


def flow(lane: Lane, times: Sequence[float]) -> list[tuple[str, list[int]]]:
    """How many jobs of a group have ended, and are in each stage, at each of `times`; the last stage first."""
    spans = [span for member in lane.members for span in member.spans]
    layers = [("over", _count([member.end for member in lane.members if member.spans], [], times))]
    for word in reversed(STAGES):
        own = [span for span in spans if span.word == word]
        if own:
            layers.append((word, _count([span.start for span in own], [span.end for span in own], times)))
    return layers


def _count(starts: Iterable[float], ends: Iterable[float], times: Sequence[float]) -> list[int]:
    began, ended = sorted(starts), sorted(ends)
    return [bisect_right(began, t) - bisect_right(ended, t) for t in times]


def _by_role(lanes: Sequence[Lane]) -> Iterable[Lane]:
    roles: dict[str, list[Lane]] = defaultdict(list)
    for lane in lanes:
        roles[lane.title.rpartition(" ")[0]].append(lane)
    for role, alike in roles.items():
        alone = [lane for lane in alike if diverged(lane)][:CONNECTIONS] if len(alike) > CONNECTIONS else alike
        yield from alone
        yield from _one("connection", f"{role}s", [lane for lane in alike if lane not in alone])


def _by_course(lanes: Sequence[Lane]) -> Iterable[Lane]:
    if len(lanes) <= JOBS:
        return lanes
    alone = [lane for lane in lanes if diverged(lane)][: JOBS // 2]
    chosen = {id(lane) for lane in alone}
    groups: dict[tuple[tuple[str, ...], str], list[Lane]] = defaultdict(list)
    for lane in lanes:
        if id(lane) not in chosen:
            groups[course(lane)].append(lane)
    ordered = sorted(groups.values(), key=len, reverse=True)
    room = JOBS - len(alone)
    kept, others = (ordered, []) if len(ordered) <= room else (ordered[: room - 1], ordered[room - 1 :])
    grouped = [lane for group in kept for lane in _one("jobs", "jobs", group)]
    return [*grouped, *_one("jobs", "other jobs", [lane for group in others for lane in group]), *alone]


def _one(kind: LaneKind, title: str, lanes: Sequence[Lane]) -> list[Lane]:
    """One lane for all of them; a single lane stays as it is."""
    if len(lanes) <= 1:
        return list(lanes)
    marks = sorted((mark for lane in lanes for mark in lane.marks), key=lambda mark: (mark.t, mark.seq))
    ids = tuple(job for lane in lanes for job in lane.ids)
    outcomes = {lane.outcome for lane in lanes}
    outcome = outcomes.pop() if len(outcomes) == 1 else ""
    return [Lane(kind, f"{TIMES}{len(lanes)} {title}", tuple(marks), (), ids, outcome, tuple(lanes))]
