"""Work that a cancel does not interrupt."""

import asyncio
import gc
from typing import Any

import pytest

from wakestream.adapters.runtime.tasks import finish_despite_cancel


@pytest.mark.parametrize("fault", [None, OSError("the disk is gone")])
async def test_a_cancelled_caller_waits_for_the_end_and_ignores_its_error(fault: OSError | None) -> None:
    go_on, done, complaints = asyncio.Event(), [], list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def work() -> None:
        await go_on.wait()
        done.append("done")
        if fault is not None:
            raise fault

    task = asyncio.create_task(finish_despite_cancel(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait((task,))
    assert (task.cancelled(), done) == (True, ["done"])
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_without_a_cancel_the_error_is_raised() -> None:
    async def work() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        await finish_despite_cancel(work())
