"""Running a long-lived program: settings and logs at its start, and the three ways to ask it to stop.

Ctrl-C, a termination signal, or (when asked for) the end of standard input set an event; a second Ctrl-C cancels the
program (or does what `Stop.again` is for), a third ends the process where it stands.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

from loguru import logger

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.parser import QUIET
from wakestream.adapters.config import settings
from wakestream.adapters.net.acceptor import in_one_line
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.adapters.runtime.tasks import first_of, tasks_of_block
from wakestream.adapters.runtime.windows_loop import loop_factory
from wakestream.adapters.telemetry import logs

OF_A_MACHINE = ("hub", "monitor", "worker", "depot")
"""Programs whose settings may be in a folder of their own, below the user's."""


class Stop(asyncio.Event):
    """Set when the user asked to stop.

    Attributes:
        interrupted: Whether it was by Ctrl-C.
        again: Set by a second Ctrl-C, if there is something that it does; otherwise that cancels the program.
        task: The program's task.
        asked: How often the user asked to stop.
    """

    interrupted = False
    again: asyncio.Event | None = None
    task: asyncio.Task[Any] | None = None
    asked = 0

    @property
    def cancels(self) -> bool:
        """Whether Ctrl-C cancels the work, and does not only leave it to the daemon."""
        return self.interrupted and (self.again is None or self.again.is_set())

    def ask(self, *, interrupted: bool) -> None:
        """Called in the loop, once for each signal."""
        self.asked += 1
        self.interrupted = self.interrupted or interrupted
        self.set()
        if self.asked == 2 and self.again is not None:
            self.again.set()
        elif self.asked == 2 and self.task is not None:
            self.task.cancel()


Main = Callable[[Stop], Coroutine[Any, Any, int | None]]


def begin(args: argparse.Namespace, *, usual_level: str | None = None) -> settings.Settings:
    """Load the settings, set the logs up and warn of what the settings gave cause for.

    `usual_level` is that of a command which says itself what is wrong, unless the user asks for another; `-q` does not.
    """
    command, runs = getattr(args, "command", ""), getattr(args, "action", "run") == "run"
    loaded = settings.load(vars(args), program=command if runs and command in OF_A_MACHINE else "")
    asked = usual_level is None or ("log_level" in args and not (flags.is_quiet(args) and args.log_level == QUIET))
    lasting = loaded.log_file is not None and "log_file" in args
    if lasting:
        os.environ.pop("WAKESTREAM_LOG_FILE", None)  # what this program starts shall not write into the same
    hide(*loaded.secrets)
    logs.configure(
        loaded.log_level if asked else str(usual_level),
        json=loaded.log_format == "json",
        program=getattr(args, "command", ""),
        file=loaded.log_file if lasting else None,
        file_level="INFO" if flags.is_quiet(args) else None,  # `-q` is for the screen alone
    )
    for warning in loaded.warnings:
        logger.warning(warning)
    return loaded


def run_program(main: Main, *, exit_with_stdin: bool = False) -> int:
    """Run `main(stop)` to its end and return the exit code.

    What `main` returns is the exit code; None means 0, or 130 when Ctrl-C was what stopped it.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_supervise(main, exit_with_stdin))
    except asyncio.CancelledError:
        return exit_codes.INTERRUPTED


async def unless_stopped(stop: Stop, work: Coroutine[Any, Any, int]) -> int:
    """Return the exit code of the work, or 130 if the user asks to stop first, which cancels it."""
    async with tasks_of_block() as start:
        task = start(work)
        await first_of(stop.wait(), task)
        return task.result() if task.done() else exit_codes.INTERRUPTED


async def _supervise(main: Main, exit_with_stdin: bool) -> int:
    loop, stop = asyncio.get_running_loop(), Stop()
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(in_one_line)
    stop.task = asyncio.current_task()
    with _signals(loop, stop):
        if exit_with_stdin:

            def watch() -> None:
                # The descriptor, not sys.stdin: a daemon thread that holds its lock breaks the interpreter's shutdown.
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    descriptor = sys.stdin.fileno()
                    while os.read(descriptor, 4096):
                        pass
                with contextlib.suppress(RuntimeError):  # the loop is closed already: the program has stopped anyhow
                    loop.call_soon_threadsafe(stop.set)

            threading.Thread(target=watch, name="stdin", daemon=True).start()
        status = await main(stop)
    if status is not None:
        return status
    return exit_codes.INTERRUPTED if stop.interrupted else exit_codes.DONE


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: Stop) -> Iterator[None]:
    # signal.signal rather than loop.add_signal_handler, which Windows lacks; call_soon_threadsafe wakes the loop.
    received = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received > 2:
            os._exit(exit_codes.INTERRUPTED)
        loop.call_soon_threadsafe(lambda: stop.ask(interrupted=number == signal.SIGINT))

    if threading.current_thread() is not threading.main_thread():
        yield  # signals can only be handled in the main thread; other threads stop the program by other means
        return
    before = {number: signal.signal(number, handle) for number in _stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _stop_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
