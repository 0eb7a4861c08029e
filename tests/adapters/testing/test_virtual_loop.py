"""A loop in which waiting costs nothing, every run is the same, and the real world is out of reach."""

import asyncio
import contextlib
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


def test_half_an_hour_of_virtual_time_is_instant() -> None:
    async def waits() -> float:
        await asyncio.sleep(1_800)
        return asyncio.get_running_loop().time()

    assert run_virtual(waits()) == 1_800.0  # the limit of a test is a minute


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


def test_two_runs_are_the_same() -> None:
    async def main() -> list[tuple[float, int]]:
        seen, random = list[tuple[float, int]](), Random(7)

        async def worker(number: int) -> None:
            for _ in range(5):
                await asyncio.sleep(random.randrange(3))
                seen.append((asyncio.get_running_loop().time(), number))

        await asyncio.gather(*(worker(number) for number in range(50)))
        return seen

    assert run_virtual(main()) == run_virtual(main())


def test_waits_longer_than_a_day_are_one_jump() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400 * 365)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 86_400 * 365


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


async def test_cancellation_reaches_the_finally() -> None:
    seen: list[float] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append(asyncio.get_running_loop().time())

    task = asyncio.create_task(waits())
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [3.0]


def test_exceptions_pass_as_they_are() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        run_virtual(main())


async def test_a_task_group_fails_as_one() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as failed:
        await together()
    assert [str(error) for error in failed.value.exceptions] == ["broken"]
    assert asyncio.get_running_loop().time() == 1


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


async def test_queues_locks_and_events_work() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        for number in range(3):
            await asyncio.sleep(1)
            await queue.put(number)

    producing = asyncio.create_task(produce())
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]
    await producing
    assert asyncio.get_running_loop().time() == 3


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


async def executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def thread() -> None:
    await asyncio.to_thread(print)


async def connect() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def connect_by_name() -> None:
    await asyncio.open_connection("localhost", 9)


async def listen() -> None:
    await asyncio.start_server(print, "127.0.0.1", 0)


async def look_up() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def look_up_address() -> None:
    await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 80))


async def datagram() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


async def program() -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "pass", stdout=subprocess.PIPE)


async def shell() -> None:
    await asyncio.create_subprocess_shell("exit 0")


async def socket_connect() -> None:
    with socket.socket() as real:
        await asyncio.get_running_loop().sock_connect(real, ("127.0.0.1", 9))


async def socket_receive() -> None:
    with socket.socket() as real:
        await asyncio.get_running_loop().sock_recv(real, 1)


async def reader() -> None:
    with socket.socket() as real:
        asyncio.get_running_loop().add_reader(real, print)


async def pipe() -> None:
    await asyncio.get_running_loop().connect_read_pipe(asyncio.Protocol, sys.stdin)


@pytest.mark.parametrize(
    "touch",
    [
        executor, thread, connect, connect_by_name, listen, look_up, look_up_address, datagram, program, shell,
        socket_connect, socket_receive, reader, pipe,
    ],
)  # fmt: skip
async def test_the_real_world_is_refused_with_a_way_out(touch: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(RealWorldTouched, match=r"use the fakes of wakestream\.adapters\.testing"):
        await touch()


async def test_no_thread_is_ever_started() -> None:
    before = threading.enumerate()
    for touch in (executor, thread, connect_by_name, look_up):
        with contextlib.suppress(RealWorldTouched):
            await touch()
    await asyncio.sleep(1)
    assert threading.enumerate() == before
