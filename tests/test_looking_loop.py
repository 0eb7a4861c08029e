"""The loop of the tests in real time looks at what they wait for."""

import asyncio
import threading

import pytest

from tests.support.programs.our_peers import until


async def test_what_another_thread_changes_is_seen() -> None:
    changed: list[int] = []
    threading.Thread(target=lambda: changed.append(1)).start()
    await until(lambda: changed)


async def test_a_condition_that_fails_ends_the_wait_for_it_and_no_other() -> None:
    known = {"a": 0}
    other = asyncio.ensure_future(until(lambda: not known))
    asyncio.get_running_loop().call_later(0.01, known.clear)
    with pytest.raises(KeyError):
        await until(lambda: known["a"])
    await other
