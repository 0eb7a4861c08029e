"""Which rows drive their own program when logs are replayed together: those that no other program accounts for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.simulation.log_alignment import Alignment, links

Place = tuple[int, int]
"""A log's place among the logs, and a row's seq in it."""

BY_LINK = frozenset({"register", "ping", "pong"})
"""Frames of a connection that its link sends by itself: they are as recorded, whoever is replayed."""


def recorded_rows(logs: Sequence[Log], alignment: Alignment) -> Iterator[tuple[int, Row]]:
    """Rows, each with its log's place, that drive a run which is to be repeated as it was."""
    heard = _heard(alignment)
    return ((place, row) for place, row in _all(logs) if (place, row.seq) not in heard)


def wishes(logs: Sequence[Log], alignment: Alignment, modelled: Collection[int]) -> Iterator[tuple[int, Row]]:
    """Rows that drive a disturbed run: what people wished for, what links did, and what comes from elsewhere.

    Two programs that are both replayed speak for themselves. No row is about a worker that is `modelled` (by its
    connections), nor the last farewell of a peer, who now stays until its jobs are done; nor does the hub's log tick.
    """
    heard = _heard(alignment) | set(_spoken(logs, alignment))
    last = _last(logs, alignment)
    for place, row in _all(logs):
        of_hub = logs[place].header.program == "hub"
        fd = row.data.get("fd") if of_hub else None
        left = row.label == "tick" or fd in modelled or (row.label == "closed" and fd in last)
        if (place, row.seq) not in heard and not (of_hub and left):
            yield place, row


def _all(logs: Sequence[Log]) -> Iterator[tuple[int, Row]]:
    return ((place, row) for place, log in enumerate(logs) for row in log.rows)


def _heard(alignment: Alignment) -> set[Place]:
    """What came in and is known to have gone out."""
    up = ((session.hub, pair.received) for session in alignment.sessions for pair in session.up)
    down = ((session.log, pair.received) for session in alignment.sessions for pair in session.down)
    return {(log, row.seq) for log, row in (*up, *down) if row.label not in BY_LINK}


def _spoken(logs: Sequence[Log], alignment: Alignment) -> Iterator[Place]:
    """What came in on a connection both of whose ends are replayed."""
    fds = {(session.hub, session.fd) for session in alignment.sessions}
    firsts = {(session.log, session.first) for session in alignment.sessions}
    for place, log in enumerate(logs):
        if log.header.program == "hub":
            of_peers = (row for row in log.rows if (place, row.data.get("fd")) in fds)
        else:
            of_peers = (row for link in links(log) if (place, link[0].seq) in firsts for row in link)
        yield from ((place, row.seq) for row in of_peers if row.dir == "in" and row.label not in BY_LINK)


def _last(logs: Sequence[Log], alignment: Alignment) -> set[int]:
    """The last connection of each peer, by the hub's number."""
    last = {place: links(log)[-1][0].seq for place, log in enumerate(logs) if log.rows and links(log)}
    return {session.fd for session in alignment.sessions if last[session.log] == session.first}
