"""Align the logs of one run: find each message in both logs, and the difference between their clocks. Pure.

A hub's log has each frame with the number of its connection. The log of a client or a monitor has the other end of one
connection after another. Frames arrive in the order in which they were sent, so a connection is recognized by its
frames. Since no frame arrives before it was sent, the pairs also give the difference of the clocks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from statistics import median
from typing import Any

import orjson

from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import Log, Row, UnusableLog, frame_row
from wakestream.streams.replay.input_rows import KEEPALIVE, links, row_errors

ENOUGH = 0.3
"""The share of equal frames, of the shorter of two connections, from which they are taken for the same one."""


AT_ONCE = 1_000_000
"""Pairs of frames that are compared at once, however often each frame comes."""

RUN = 8
"""How many frames at each end of a run of equal frames are matched first. Those between follow them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One message: its row at the sender and its row at the receiver."""

    sent: Row
    received: Row


@dataclass(frozen=True, slots=True)
class Session:
    """One connection that is in two logs: the peer's (`log` is its place) and that of `hub`, where its number is `fd`.

    `first` is the seq of its first row in the peer's log. `up` went to the hub, `down` came from it. `lost_up` and
    `lost_down` are not in the receiver's log.
    """

    log: int
    hub: int
    fd: int
    first: int
    up: tuple[Pair, ...]
    down: tuple[Pair, ...]
    lost_up: tuple[Row, ...] = ()
    lost_down: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds that `count` messages took in one direction: least, median and most."""

    count: int
    least: float
    middle: float
    most: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the logs fit together.

    `hubs` are the places of the hubs' logs, in order: one for each start of a hub, or for each time that it leads.

    A row at `t` of log i happened at `offsets[i] + t` on the shared clock: the first hub's, which is 0 at the earliest
    row. `skews[i]` are the seconds by which the clock of log i is ahead of it.
    """

    hubs: tuple[int, ...]
    sessions: tuple[Session, ...]
    offsets: tuple[float, ...]
    skews: tuple[float, ...]

    def latency(self, log: int) -> tuple[Spread | None, Spread | None]:
        """The latency of this log's messages to the hub and from it; None where there were none."""
        mine = [session for session in self.sessions if session.log == log]
        up = [self._took(pair, log, session.hub) for session in mine for pair in session.up]
        down = [self._took(pair, session.hub, log) for session in mine for pair in session.down]
        return _spread(up), _spread(down)

    def _took(self, pair: Pair, sender: int, receiver: int) -> float:
        return self.offsets[receiver] + pair.received.t - self.offsets[sender] - pair.sent.t


def align(logs: Sequence[Log]) -> Alignment:
    """Align the logs of one run: the hub's (several if it was restarted), and those of clients and monitors.

    Raises:
        UnusableLog: There is no log of a hub, or a log has no connection in common with it.
    """
    hubs = _hubs(logs)
    sessions = _sessions(logs, hubs)
    skews = [0.0] * len(logs)
    for number, hub in enumerate(hubs):  # another hub may have another clock: its peers compare both
        here, before = ([session for session in sessions if session.hub in some] for some in ((hub,), hubs[:number]))
        both = sorted({session.log for session in here} & {session.log for session in before})
        apart = [_skew(logs, peer, before, skews) - _skew(logs, peer, here, skews) for peer in both]
        skews[hub] = median(apart) if apart else 0.0
    skews = [skews[place] if place in hubs else _skew(logs, place, sessions, skews) for place in range(len(logs))]
    epoch = logs[hubs[0]].header.epoch
    starts = [log.header.epoch - epoch - skew for log, skew in zip(logs, skews, strict=True)]
    zero = min(start + log.rows[0].t for start, log in zip(starts, logs, strict=True) if log.rows)
    return Alignment(hubs, tuple(sessions), tuple(start - zero for start in starts), tuple(skews))


def _hubs(logs: Sequence[Log]) -> tuple[int, ...]:
    hubs = [place for place, log in enumerate(logs) if log.header.program == "hub" and log.rows]
    if not hubs:
        raise UnusableLog("the log of the hub is missing or empty: add it to the logs that are replayed together")
    began = {place: logs[place].rows[0].data for place in hubs}
    if len(journals := {data["journal"]: place for place, data in began.items() if data.get("journal")}) > 1:
        names = " and ".join(logs[place].name for place in journals.values())
        raise UnusableLog(f"{names} are logs of hubs with different journals; give those of one hub or cluster")
    return tuple(sorted(hubs, key=lambda place: (began[place].get("seq", 0), logs[place].header.epoch)))


# --- the frames of each connection


_Frames = list[tuple[bytes, Row]]
"""Frames as (text, row)."""


@dataclass(slots=True)
class _Ends:
    """The frames at one end of a connection: those to the hub, and those from it."""

    up: _Frames
    down: _Frames

    @property
    def texts(self) -> Counter[bytes]:
        return Counter(text for text, _ in (*self.up, *self.down))

    def __len__(self) -> int:
        return len(self.up) + len(self.down)


def _text(frame: Any) -> bytes:
    return orjson.dumps(frame, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def _peer_ends(rows: Iterable[Row]) -> _Ends:
    ends = _Ends([], [])
    for row in rows:
        (ends.up if row.dir == "out" else ends.down).append((_text(row.data), row))
    return ends


def _hub_ends(log: Log) -> dict[int, _Ends]:
    ends_by_fd: defaultdict[int, _Ends] = defaultdict(lambda: _Ends([], []))
    for row in log.rows:
        frame = row.data.get("frame")
        if frame is None or row.label in KEEPALIVE:
            continue
        with row_errors(row, "hub"):
            if row.dir == "in":
                ends_by_fd[row.data["fd"]].up.append((_text(frame), row))
            else:
                said = [(_text(sent), row) for sent in said_as(row)]
                for fd in row.data["to"]:
                    ends_by_fd[fd].down += said
    return dict(ends_by_fd)


def said_as(row: Row) -> Iterator[Any]:
    """The frames that a hub's `out` row sent: one, and the same under its older name for old peers."""
    yield row.data["frame"]
    if row.data.get("old"):
        old = wire.encode_old(wire.from_frame(row.data["frame"], strict=False))
        if old is not None:
            yield frame_row(wire.decode(old, strict=False))[1]


# --- which connections are the same


def _sessions(logs: Sequence[Log], hubs: Sequence[int]) -> list[Session]:
    at_hubs = {(hub, fd): ends for hub in hubs for fd, ends in _hub_ends(logs[hub]).items()}
    peers = [
        (place, rows[0].seq, _peer_ends(rows))
        for place, log in enumerate(logs)
        if log.header.program != "hub"
        for rows in links(log)
    ]
    taken = _choose([ends for _, _, ends in peers], at_hubs)
    sessions = [
        _session(place, taken[number], first, ends, at_hubs[taken[number]])
        for number, (place, first, ends) in enumerate(peers)
        if number in taken
    ]
    for place in dict.fromkeys(place for place, _, _ in peers):
        if not any(session.log == place for session in sessions):
            raise UnusableLog(
                f"{logs[place].name}: this log of {logs[place].header.program!r} shares no connection with the hub's "
                "log; give logs that were recorded in one run"
            )
    return sessions


_Connection = tuple[int, int]
"""The place of a hub's log, and the number of a connection in it."""


def _choose(peers: Sequence[_Ends], at_hubs: Mapping[_Connection, _Ends]) -> dict[int, _Connection]:
    """Match each peer's connection with one of the hub's, the most similar first; each is used once."""
    scores = []
    for number, ends in enumerate(peers):
        for connection, other in at_hubs.items():
            alike = (ends.texts & other.texts).total() if _may_be(ends, connection[1]) else 0
            if alike and alike >= ENOUGH * min(len(ends), len(other)):
                scores.append((-alike, number, connection))
    taken: dict[int, _Connection] = {}
    for _, number, connection in sorted(scores):
        if number not in taken and connection not in taken.values():
            taken[number] = connection
    return taken


def _may_be(ends: _Ends, fd: int) -> bool:
    """Whether the connection's number fits: the hub sends it first, but a log that begins later does not have it."""
    said = [row.data.get("fd") for _, row in ends.down if row.label == "connected"]
    return not said or fd in said


def _session(log: int, connection: _Connection, first: int, peer: _Ends, hub: _Ends) -> Session:
    up, lost_up = _matched(peer.up, hub.up)
    down, lost_down = _matched(hub.down, peer.down)
    return Session(log, *connection, first, up, down, lost_up, lost_down)


def _matched(sent: _Frames, received: _Frames) -> tuple[tuple[Pair, ...], tuple[Row, ...]]:
    """Pair the frames that both ends have, and list those that only the sender has. Both are in the same order."""
    left, right = [text for text, _ in sent], [text for text, _ in received]
    matches: dict[int, int] = {}
    i = j = 0
    # In long logs rare frames come first, with those beside them: a matcher compares all equal frames with each other.
    rare_first = SequenceMatcher(None, left, right, autojunk=len(left) * len(right) > AT_ONCE)
    for next_i, next_j, size in rare_first.get_matching_blocks():
        a, b = _places(left, i, next_i), _places(right, j, next_j)
        between = SequenceMatcher(None, [left[i] for i in a], [right[j] for j in b], autojunk=False)
        matches |= {a[i + k]: b[j + k] for i, j, many in between.get_matching_blocks() for k in range(many)}
        i, j = next_i + size, next_j + size
        matches |= zip(range(next_i, i), range(next_j, j), strict=True)
    taken = {*matches.values()}
    for i, j in [*matches.items()]:  # and the middles of runs
        while (i := i + 1) < len(left) and i not in matches and (j := j + 1) < len(right) and j not in taken:
            if left[i] != right[j]:
                break
            matches[i] = j
    pairs = tuple(Pair(sent[i][1], received[j][1]) for i, j in sorted(matches.items()))
    return pairs, tuple(row for i, (_, row) in enumerate(sent) if i not in matches)


def _places(texts: Sequence[bytes], begin: int, end: int) -> list[int]:
    """The places of these frames, without the middles of long runs of equal ones."""
    runs = ([*run] for _, run in groupby(range(begin, end), texts.__getitem__))
    return [place for run in runs for place in (run if len(run) <= 2 * RUN else run[:RUN] + run[-RUN:])]


# --- clock differences


def _skew(logs: Sequence[Log], place: int, sessions: Sequence[Session], skews: Sequence[float]) -> float:
    """Seconds by which a log's clock is ahead of the first hub's, from its sessions with hubs that have these skews.

    A message to the hub appears to take its latency minus the skew, one from the hub its latency plus the skew. The
    fastest message of each direction is assumed to have the same latency; with one direction only, none.
    """
    epochs = {session.hub: logs[session.hub].header.epoch - skews[session.hub] for session in sessions}
    mine = [(session, epochs[session.hub] - logs[place].header.epoch) for session in sessions if session.log == place]
    up = sorted(pair.received.t - pair.sent.t + ahead for session, ahead in mine for pair in session.up)
    down = sorted(pair.received.t - pair.sent.t - ahead for session, ahead in mine for pair in session.down)
    if not up or not down:
        return -up[0] if up else down[0] if down else 0.0
    for rank in range(max(len(up), len(down))):  # a round trip takes no negative time: skip such a pair
        to, back = up[min(rank, len(up) - 1)], down[min(rank, len(down) - 1)]
        if to + back >= 0:
            break
    return (back - to) / 2


def _spread(seconds: Sequence[float]) -> Spread | None:
    return Spread(len(seconds), min(seconds), median(seconds), max(seconds)) if seconds else None
