"""The in-memory network: order, latency, and what is kept of the recorded run."""

import asyncio

import pytest

from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Row
from wakestream.streams.replay.network import SLACK, USUAL, Channel, Delay, Hop, Network, Past

Arrivals = list[tuple[float, str, Row | None]]
ROW = Row(7, 0.0, "in", "gpu.job.done", {})


def done(request_id: str) -> m.JobDone:
    return m.JobDone(request_id=request_id)


def past(request_id: str, sent: float, arrived: float | None) -> Past:
    return Past(("gpu.job.done", request_id), sent, arrived, None if arrived is None else ROW)


async def carried(sends: list[tuple[float, str]], known: list[Past], delay: Delay | None = None) -> Arrivals:
    """When each message came in, and as which recorded row."""
    net, arrived = Network(delay), Arrivals()
    channel = Channel(
        net,
        "daemon",
        "hub",
        lambda message, row: arrived.append((net.now, str(message.request_id), row)),
        known,  # type: ignore[attr-defined]
    )
    for at, request_id in sends:
        net.at(at, channel.send, done(request_id))
    net.at(1000.0, net.finish)
    await net.over
    return arrived


async def test_a_repeated_message_comes_in_when_it_did_though_computing_takes_no_time_now() -> None:
    assert await carried([(1.0, "a")], [past("a", 1.0 + SLACK, 1.5)]) == [(1.5, "a", ROW)]


async def test_a_message_sent_at_another_time_takes_as_long() -> None:
    known = [past("a", 3.0, 3.25), past("b", 4.0, 4.5)]
    assert await carried([(1.0, "a"), (5.0, "b")], known) == [(1.25, "a", None), (5.5, "b", None)]


async def test_a_lost_message_is_lost_again_and_a_new_one_has_the_usual_latency() -> None:
    known = [past("lost", 1.0, None), past("a", 2.0, 2.25)]
    assert await carried([(1.0, "lost"), (8.0, "new")], known) == [(8.25, "new", None)]
    assert await carried([(8.0, "new")], []) == [(pytest.approx(8.0 + USUAL), "new", None)]


async def test_no_message_overtakes_another() -> None:
    slow_first = {"a": 2.0, "b": 0.1}
    arrived = await carried([(1.0, "a"), (1.5, "b")], [], lambda hop: slow_first[str(hop.message.request_id)])  # type: ignore[attr-defined]
    assert arrived == [(3.0, "a", None), (3.0, "b", None)]


async def test_a_delay_function_gets_the_messages_latency() -> None:
    hops: list[Hop] = []
    await carried([(1.0, "a")], [past("a", 5.0, 5.25)], lambda hop: hops.append(hop) or 0.0)  # type: ignore[func-returns-value]
    assert hops == [Hop("daemon", "hub", done("a"), 1.0, 0.25)]


async def test_an_error_in_a_program_ends_the_replay() -> None:
    net = Network(None)

    def broken() -> None:
        raise KeyError("fd")

    net.at(1.0, broken)
    net.at(2.0, net.finish)
    with pytest.raises(KeyError):
        await net.over
    assert asyncio.get_running_loop().time() == 1.0
