"""A loop in which waiting costs nothing, every run is the same, and the real world is out of reach."""

import asyncio
import contextvars
import math
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wakestream.adapters.testing.virtual_loop import RealWorldTouched, VirtualDeadlock, VirtualLoop, run_virtual

pytestmark = pytest.mark.virtual

STARTS = [0.0, 1.5, 12_345.678, 1_760_000_000.123456]


@pytest.mark.parametrize("seconds", [1800.0, 365 * 86_400.0])
def test_waits_are_one_jump(seconds: float) -> None:
    async def waits() -> float:
        await asyncio.sleep(seconds)
        return asyncio.get_running_loop().time()

    assert run_virtual(waits()) == seconds  # the limit of a test is a minute


def test_time_moves_only_when_everything_waits() -> None:
    async def works() -> float:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(works(), start=5.0) == 5.0


@pytest.mark.parametrize("start", STARTS)
@given(delays=st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_timers_fire_at_their_very_moment_ties_in_order_of_creation(start: float, delays: list[float]) -> None:
    async def main() -> list[tuple[float, float, int]]:
        loop, fired = asyncio.get_running_loop(), list[tuple[float, float, int]]()
        done = loop.create_future()

        def fire(due: float, number: int) -> None:
            fired.append((loop.time(), due, number))
            if len(fired) == len(delays):
                done.set_result(None)

        for number, delay in enumerate(delays):
            due = start + delay
            loop.call_at(due, fire, due, number)
        await done
        return fired

    fired = run_virtual(main(), start=start)
    assert [now for now, _, _ in fired] == [due for _, due, _ in fired]
    assert [(due, number) for _, due, number in fired] == sorted((due, number) for _, due, number in fired)


def test_a_thousand_ties_keep_the_order_of_creation_though_some_are_cancelled() -> None:
    async def main() -> list[int]:
        loop, fired, numbers = asyncio.get_running_loop(), list[int](), list(range(1_000))
        timers = [loop.call_later(10, fired.append, number) for number in numbers]
        Random(1).shuffle(numbers)
        for number in numbers[:600]:
            timers[number].cancel()
        await asyncio.sleep(20)
        assert sorted(fired) == sorted(numbers[600:])
        return fired

    fired = run_virtual(main())
    assert fired == sorted(fired)


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        jobs = [asyncio.create_task(waits_for_ever(), name=name) for name in ("job b", "job a")]
        await asyncio.sleep(5)
        await asyncio.gather(*jobs)

    with pytest.raises(VirtualDeadlock, match=r"deadlock at 5 s; these tasks wait: .*job a, job b"):
        run_virtual(main())


def test_an_endless_sleep_is_a_deadlock_too() -> None:
    async def main() -> None:
        await asyncio.sleep(math.inf)

    with pytest.raises(VirtualDeadlock):
        run_virtual(main())


def test_a_deadlock_cancels_the_tasks_and_lets_them_clean_up() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    with pytest.raises(VirtualDeadlock):
        run_virtual(main())
    assert seen == ["cleaned up"]


async def test_a_timeout_fires_in_virtual_time() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1_800):
            await asyncio.Event().wait()
    assert loop.time() == 1_800
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 30)
    assert loop.time() == 1_830
    async with asyncio.timeout(5):
        await asyncio.sleep(4)
    assert loop.time() == 1_834


async def test_a_callback_that_raises_goes_to_the_loops_handler_and_starves_no_other() -> None:
    loop, reported, fired = asyncio.get_running_loop(), list[Any](), list[str]()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def raises() -> None:
        raise ValueError("callback")

    loop.call_later(1, raises)
    loop.call_later(1, fired.append, "fired")
    await asyncio.sleep(1)
    assert [str(error) for error in reported] == ["callback"]
    assert fired == ["fired"]


def test_async_generators_are_shut_down() -> None:
    seen: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            seen.append("closed")

    async def main() -> AsyncIterator[int]:
        kept = items()
        async for _ in kept:
            break
        return kept

    kept = run_virtual(main())
    assert seen == ["closed"]
    del kept


async def test_a_context_goes_with_its_timer() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    context, seen = contextvars.copy_context(), list[str]()
    context.run(variable.set, "inside")
    loop = asyncio.get_running_loop()
    loop.call_later(1, lambda: seen.append(variable.get()), context=context)
    loop.call_later(1, lambda: seen.append(variable.get()))
    await asyncio.sleep(1)
    assert seen == ["inside", "outside"]


async def test_a_jump_fires_late_what_was_due_meanwhile() -> None:
    loop, fired = asyncio.get_running_loop(), list[float]()
    assert isinstance(loop, VirtualLoop)
    loop.call_later(10, lambda: fired.append(loop.time()))
    loop.jump(100)
    await asyncio.sleep(1)
    assert fired == [100.0]


def test_a_closed_loop_takes_no_timer() -> None:
    loop = VirtualLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)


# ---------------------------------------------------------------- the real world


TOUCHES: dict[str, Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[object] | None]] = {
    "executor": lambda loop, _: loop.run_in_executor(None, print),
    "thread": lambda *_: asyncio.to_thread(print),
    "connect": lambda *_: asyncio.open_connection("127.0.0.1", 9),
    "connect by name": lambda *_: asyncio.open_connection("localhost", 9),
    "listen": lambda *_: asyncio.start_server(print, "127.0.0.1", 0),
    "look up": lambda loop, _: loop.getaddrinfo("localhost", 80),
    "look up an address": lambda loop, _: loop.getnameinfo(("127.0.0.1", 80)),
    "datagram": lambda loop, _: loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)),
    "program": lambda *_: asyncio.create_subprocess_exec(sys.executable, "-c", "pass", stdout=subprocess.PIPE),
    "shell": lambda *_: asyncio.create_subprocess_shell("exit 0"),
    "socket connects": lambda loop, real: loop.sock_connect(real, ("127.0.0.1", 9)),
    "socket receives": lambda loop, real: loop.sock_recv(real, 1),
    "reader": lambda loop, real: loop.add_reader(real, print),
    "pipe": lambda loop, _: loop.connect_read_pipe(asyncio.Protocol, sys.stdin),
}


@pytest.mark.parametrize("touch", TOUCHES)
async def test_the_real_world_is_refused_with_a_way_out_and_no_thread_is_started(touch: str) -> None:
    before = threading.enumerate()
    with (
        socket.socket() as real,
        pytest.raises(RealWorldTouched, match=r"use the fakes of wakestream\.adapters\.testing"),
    ):
        await (TOUCHES[touch](asyncio.get_running_loop(), real) or asyncio.sleep(0))
    assert threading.enumerate() == before
