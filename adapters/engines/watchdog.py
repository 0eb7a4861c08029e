"""Ends a work whose engine hangs: nothing new came for too long."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from loguru import logger

from wakestream.adapters.engines.run_process import run_program
from wakestream.operators.model.engine import Engine, Frame, Line, Made, Preview, Waits, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed

RESTART_WITHIN = 120.0
"""Seconds for the restart command."""

CANCEL_WITHIN = 30.0
"""Seconds for an engine to answer a cancel."""


@dataclass(frozen=True, slots=True)
class Watchdog:
    """How a hanging engine is noticed, and what is done.

    Args:
        stall: Seconds without anything new; the same progress again is nothing new. None: it is never stopped.
        restart: The command that restarts the engine; empty: none.
    """

    stall: float | None = None
    restart: Sequence[str] = ()

    async def watch(self, engine: Engine, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        """Do the work as `engine.render` does.

        Raises:
            TaskFailed: The engine hangs and there is no restart command.
            EngineUnreachable: It was restarted: do the work again when it is ready.
        """
        async with aclosing(engine.render(work)) as items:
            last: object = None
            deadline = None if self.stall is None else asyncio.get_running_loop().time() + self.stall
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        item = await anext(items)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if deadline is None or asyncio.get_running_loop().time() < deadline:
                        raise  # the engine's own
                    break
                if isinstance(item, Waits):
                    deadline = None
                elif (item != last or isinstance(last, Waits)) and self.stall is not None:
                    deadline = asyncio.get_running_loop().time() + self.stall
                last = item
                yield item
        await cancel_engine(engine, work)
        hangs = f"the engine has not reported anything new for {self.stall:g} s"
        if not self.restart:
            raise TaskFailed(f"{hangs}; restart it (a command for that: --engine-restart)")
        await self.restarted(hangs)
        raise EngineUnreachable(f"{hangs}; it was restarted")

    async def restarted(self, why: str) -> None:
        """Run the restart command. Raises `TaskFailed` if it fails."""
        logger.warning("{}; it is restarted: {}", why, shlex.join(self.restart))
        async with aclosing(run_program(self.restart, limit=RESTART_WITHIN, merge=True)) as lines:
            async for line in lines:
                logger.info("restart: {}", line)


async def cancel_engine(engine: Engine, work: Work) -> None:
    """Cancel a work, and return in any case: a plugin may raise or hang, and the next work must not wait for it."""
    try:
        async with asyncio.timeout(CANCEL_WITHIN):
            await engine.cancel(work)
    except TimeoutError:
        logger.warning("the engine did not answer a cancel within {:g} s; it may still work on it", CANCEL_WITHIN)
    except Exception as error:
        logger.opt(exception=error).error("the engine's cancel raised an error; it may still work on it")
