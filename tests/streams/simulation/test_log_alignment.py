"""Logs of one run are joined by the messages that are in two of them."""

import time
from dataclasses import replace

import pytest

from tests.support.streams.log_library import log
from wakestream.streams.recording.recording import Header, Log, Row, UnusableLog
from wakestream.streams.simulation.log_alignment import align

DAEMON, HUB, MONITOR = (log(f"system/{program}.jsonl") for program in ("daemon", "hub", "monitor"))
SYSTEM = (DAEMON, HUB, MONITOR)


def clock_ahead(recorded: Log, seconds: float) -> Log:
    """The same log from a machine whose clock is ahead by so much."""
    return replace(recorded, header=replace(recorded.header, epoch=recorded.header.epoch + seconds))


def part(recorded: Log, first: int = 0, last: int | None = None) -> Log:
    return replace(recorded, rows=recorded.rows[first:last])


class Talk:
    """A hub and clients on clocks of their own; `say` and `hear` put one message into both logs."""

    def __init__(self, *clocks: float) -> None:
        self.clocks = clocks
        self.hub: list[Row] = []
        self.peers: list[list[Row]] = [[] for _ in clocks]

    def say(self, peer: int, at: float, took: float, **frame: object) -> None:
        self._peer(peer, at, "out", frame)
        self.hub.append(Row(0, at + took, "in", str(frame["type"]), {"fd": 10 + peer, "now": 0.0, "frame": frame}))

    def hear(self, peers: tuple[int, ...], at: float, took: float, **frame: object) -> None:
        to = [10 + peer for peer in peers]
        self.hub.append(Row(0, at, "out", str(frame["type"]), {"to": to, "old": False, "frame": frame}))
        for peer in peers:
            self._peer(peer, at + took, "in", frame)

    def _peer(self, peer: int, at: float, way: str, frame: dict[str, object]) -> None:
        row = Row(0, at + self.clocks[peer], "out" if way == "out" else "in", str(frame["type"]), frame)
        self.peers[peer].append(row)

    def logs(self) -> tuple[Log, ...]:
        programs = ("hub", *("daemon" for _ in self.peers))
        return tuple(
            Log(Header(program, 1000.0, 0), tuple(replace(row, seq=n) for n, row in enumerate(rows, 1)))
            for program, rows in zip(programs, (self.hub, *self.peers), strict=True)
        )


def test_every_frame_of_a_recorded_run_is_found_at_both_ends() -> None:
    found = align(SYSTEM)
    assert found.hubs == (1,)
    assert [(session.log, session.fd, session.lost_up, session.lost_down) for session in found.sessions] == [
        (0, 2, (), ()),
        (2, 1, (), ()),
    ]
    for session in found.sessions:
        frames = [row for row in SYSTEM[session.log].rows if row.data.get("type") == row.label]
        assert len(session.up) + len(session.down) == len(frames)
        assert all(pair.sent.label == pair.received.label for pair in (*session.up, *session.down))


def test_an_older_name_that_the_hub_sends_as_well_is_found_too() -> None:
    (client, _) = align(SYSTEM).sessions
    online = [pair for pair in client.down if pair.sent.label == "gpu.power.online"]
    assert len(online) >= 2
    assert len({pair.sent.seq for pair in online}) == len(online) / 2


def test_messages_tell_how_long_they_took_in_each_direction() -> None:
    found = align(SYSTEM)
    for place in (0, 2):
        for spread in found.latency(place):
            assert spread is not None
            assert 0 <= spread.least <= spread.middle <= spread.most < 0.2
    assert found.latency(1) == (None, None)


@pytest.mark.parametrize("ahead", [-600.0, -0.25, 75.5, 86400.0])
def test_clocks_that_differ_are_aligned_by_the_messages(ahead: float) -> None:
    straight = align(SYSTEM)
    skewed = align((clock_ahead(DAEMON, ahead), HUB, clock_ahead(MONITOR, -2 * ahead)))
    assert skewed.skews == pytest.approx((ahead, 0.0, -2 * ahead), abs=0.001)
    assert skewed.offsets == pytest.approx(straight.offsets, abs=1e-5)


def test_a_message_never_comes_in_before_it_went_out() -> None:
    found = align((clock_ahead(DAEMON, 300.0), HUB, MONITOR))
    for session in found.sessions:
        mine, hubs = found.offsets[session.log], found.offsets[session.hub]
        assert all(hubs + pair.received.t >= mine + pair.sent.t for pair in session.up)
        assert all(mine + pair.received.t >= hubs + pair.sent.t for pair in session.down)


def test_with_messages_in_one_direction_only_the_quickest_is_taken_to_take_no_time() -> None:
    mute = replace(DAEMON, rows=tuple(row for row in DAEMON.rows if row.dir != "in"))
    found = align((clock_ahead(mute, 60.0), HUB, MONITOR))
    assert found.skews[0] == pytest.approx(60.0, abs=0.01)
    up, down = found.latency(0)
    assert down is None
    assert up is not None
    assert up.least == pytest.approx(0.0, abs=1e-6)


def test_a_log_that_begins_late_is_recognized_by_what_it_has() -> None:
    found = align((part(DAEMON, first=20), HUB, MONITOR))
    assert [session.fd for session in found.sessions if session.log == 0] == [2]
    assert found.skews[0] == pytest.approx(0.0, abs=0.001)


def test_a_log_that_ends_early_lacks_what_came_later() -> None:
    (session, _) = align((part(DAEMON, last=40), HUB, MONITOR)).sessions
    assert session.fd == 2
    assert session.lost_down
    assert min(row.t for row in session.lost_down) > max(pair.sent.t for pair in session.down)


def test_a_hub_that_ends_early_never_got_what_was_sent_later() -> None:
    (client, _) = align((DAEMON, part(HUB, last=30), MONITOR)).sessions
    assert [row.label for row in client.lost_up][-1] == "gpu.job.done"


def test_both_lives_of_a_hub_are_told_apart() -> None:
    names = ("daemon", "hub-2", "hub", "monitor")
    found = align(tuple(log(f"hub_restart/{name}.jsonl") for name in names))
    assert found.hubs == (2, 1)
    assert {(session.log, session.hub) for session in found.sessions} == {(0, 2), (0, 1), (3, 2), (3, 1)}


def test_clients_that_heard_the_same_broadcasts_are_told_apart_by_their_jobs() -> None:
    talk = Talk(-5.0, 90.0)
    for number, job in ((0, "a"), (1, "b")):
        talk.say(number, 1.0 + number, 0.010, type="gpu.job.submit", request_id=job)
    talk.hear((0, 1), 3.0, 0.010, type="gpu.power.booted", gpu="g")
    talk.hear((0, 1), 4.0, 0.010, type="gpu.power.online", gpu="g")
    hub, first, second = talk.logs()
    found = align((second, hub, first))
    assert {session.log: session.fd for session in found.sessions} == {0: 11, 2: 10}
    assert found.skews == pytest.approx((90.0, 0.0, -5.0), abs=1e-6)


def test_a_slow_way_up_and_a_quick_way_down_are_told_apart_but_for_half_their_difference() -> None:
    talk = Talk(0.0)
    for n in range(5):
        talk.say(0, n, 0.3, type="gpu.job.submit", request_id=f"job-{n}")
        talk.hear((0,), n + 0.4, 0.1, type="ack", request_id=f"job-{n}")
    found = align(talk.logs())
    up, down = found.latency(1)
    assert up is not None
    assert down is not None
    assert (up.middle, down.middle) == pytest.approx((0.2, 0.2))  # only the sum of both can be known


def test_a_repeated_frame_is_matched_in_its_place() -> None:
    talk = Talk(7.0)
    for n in range(3):
        talk.say(0, 10.0 * n, 0.01, type="gpu.job.submit", request_id=f"job-{n}")
        talk.hear((0,), 10.0 * n + 1, 0.01, type="gpu.power.booted", gpu="g")
        talk.hear((0,), 10.0 * n + 2, 0.01, type="ack", request_id=f"job-{n}")
    hub, client = talk.logs()
    (session,) = align((hub, part(client, first=3))).sessions
    assert [pair.sent.t for pair in session.down] == [11.0, 12.0, 21.0, 22.0]
    assert [pair.received.t for pair in session.down] == pytest.approx([18.01, 19.01, 28.01, 29.01])


EQUAL, OWN = "heard again", "heard once"


@pytest.mark.parametrize(
    ("shape", "first", "last"),
    [
        ([EQUAL] * 20_000, 0, 20_000),
        ([EQUAL] * 20_000, 10, 19_990),
        ([OWN, *[EQUAL] * 19_998, OWN], 1, 19_999),
        ([EQUAL, OWN] * 10_000, 101, 19_900),
        ([*[EQUAL] * 9_000, OWN, *[EQUAL] * 10_999], 5_000, 20_000),
    ],
)
def test_a_long_log_of_equal_frames_is_aligned_in_two_seconds(shape: list[str], first: int, last: int) -> None:
    talk = Talk(7.0)
    for number, kind in enumerate(shape):
        own = {"type": "ack", "request_id": f"{number}"}
        talk.hear((0,), float(number), 0.01, **({"type": "gpu.power.online", "gpu": "g"} if kind == EQUAL else own))
    hub, client = talk.logs()
    began = time.process_time()
    (session,) = align((hub, part(client, first, last))).sessions
    assert time.process_time() - began < 2.0
    assert len(session.down) == last - first
    assert [pair.received for pair in session.down] == [*client.rows[first:last]]
    assert all(pair.sent.label == pair.received.label for pair in session.down)
    if OWN in shape[first:last]:
        assert {round(pair.received.t - pair.sent.t, 6) for pair in session.down} == {7.01}


def test_without_a_hub_there_is_nothing_to_join_logs_by() -> None:
    with pytest.raises(UnusableLog, match="log of the hub is missing or empty"):
        align((DAEMON, MONITOR))
    with pytest.raises(UnusableLog, match="is missing or empty"):
        align((DAEMON, part(HUB, last=0)))


def test_a_log_of_another_run_is_named() -> None:
    other = replace(log("many_jobs/daemon.jsonl.gz"), name="runs/daemon.jsonl")
    with pytest.raises(UnusableLog, match=r"runs/daemon.jsonl: this log of 'daemon' shares no connection"):
        align((HUB, other))
