"""Disorder in every Python program that has this folder on its PYTHONPATH: `make disorder`.

What asyncio leaves open comes out differently each time: callbacks begin late, sockets that are ready together come in
any order, and what is given to a thread begins late. DISORDER is the seed; each process draws its own numbers from it.
"""

import asyncio
import os
import random
import time
from asyncio import selector_events
from concurrent.futures import thread
from typing import Any

SHARE, MOST = 0.02, 0.03
"""Of so many callbacks one begins late, and by so many seconds at most."""

OF_THREADS, MOST_OF_THREADS = 0.3, 0.1

dice = random.Random()


def sow() -> None:
    """Draw other numbers than the parent process."""
    dice.seed(f"{os.environ['DISORDER']} {os.getpid()}")


def install() -> None:
    """Patch asyncio and the thread pools of this process."""
    run, sort, work = asyncio.Handle._run, selector_events.BaseSelectorEventLoop._process_events, thread._WorkItem.run

    def late(handle: Any) -> None:
        if dice.random() < SHARE:
            time.sleep(dice.random() ** 3 * MOST)
        run(handle)

    def shuffled(loop: Any, events: Any) -> None:
        sort(loop, dice.sample(events, len(events)))

    def late_in_thread(item: Any) -> None:
        if dice.random() < OF_THREADS:
            time.sleep(dice.random() ** 2 * MOST_OF_THREADS)
        work(item)

    sow()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=sow)
    asyncio.Handle._run = asyncio.TimerHandle._run = late
    selector_events.BaseSelectorEventLoop._process_events = shuffled
    thread._WorkItem.run = late_in_thread


if "DISORDER" in os.environ:
    install()
