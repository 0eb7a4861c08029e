"""The rows that are inputs in a replay of several logs: those that no other replayed program causes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.replay.input_rows import LINK_FRAMES
from wakestream.streams.simulation.log_alignment import Alignment, links

Place = tuple[int, int]
"""A log's place among the logs, and a row's seq in it."""


def recorded_rows(logs: Sequence[Log], alignment: Alignment) -> Iterator[tuple[int, Row]]:
    """The input rows of an exact replay, each with its log's place."""
    received = _received(alignment)
    return ((place, row) for place, row in _all(logs) if (place, row.seq) not in received)


def changed_rows(logs: Sequence[Log], alignment: Alignment, simulated: Collection[int]) -> Iterator[tuple[int, Row]]:
    """The input rows of a changed run: commands of users, link events, and frames of programs that are not replayed.

    Left out are frames between two replayed programs, rows of simulated workers (`simulated` has their connections),
    the last disconnect of each peer, which now stays until its jobs are done, and the ticks of the hub's log.
    """
    received = _received(alignment) | set(_between_replayed(logs, alignment))
    last = _last(logs, alignment)
    for place, row in _all(logs):
        of_hub = logs[place].header.program == "hub"
        fd = row.data.get("fd") if of_hub else None
        left = row.label == "tick" or fd in simulated or (row.label == "closed" and fd in last)
        if (place, row.seq) not in received and not (of_hub and left):
            yield place, row


def _all(logs: Sequence[Log]) -> Iterator[tuple[int, Row]]:
    return ((place, row) for place, log in enumerate(logs) for row in log.rows)


def _received(alignment: Alignment) -> set[Place]:
    """The received frames whose sending is in another log."""
    up = ((session.hub, pair.received) for session in alignment.sessions for pair in session.up)
    down = ((session.log, pair.received) for session in alignment.sessions for pair in session.down)
    return {(log, row.seq) for log, row in (*up, *down) if row.label not in LINK_FRAMES}


def _between_replayed(logs: Sequence[Log], alignment: Alignment) -> Iterator[Place]:
    """The received frames on connections whose two ends are both replayed."""
    fds = {(session.hub, session.fd) for session in alignment.sessions}
    firsts = {(session.log, session.first) for session in alignment.sessions}
    for place, log in enumerate(logs):
        if log.header.program == "hub":
            of_peers = (row for row in log.rows if (place, row.data.get("fd")) in fds)
        else:
            of_peers = (row for link in links(log) if (place, link[0].seq) in firsts for row in link)
        yield from ((place, row.seq) for row in of_peers if row.dir == "in" and row.label not in LINK_FRAMES)


def _last(logs: Sequence[Log], alignment: Alignment) -> set[int]:
    """The last connection of each peer, by the hub's number."""
    last = {place: links(log)[-1][0].seq for place, log in enumerate(logs) if log.rows and links(log)}
    return {session.fd for session in alignment.sessions if last[session.log] == session.first}
