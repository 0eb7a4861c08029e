"""`wakestream up`: runs what is set up on this machine, or everything at once, in one terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.commands import hub
from wakestream.adapters.cli.demo.processes import DemoBroken, Programs, house
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import Stop, begin, run_program
from wakestream.adapters.cli.setup.files import ROLES, folder_of, recorded
from wakestream.adapters.config.settings import USER_FOLDER, SettingsError
from wakestream.adapters.disk.file_lock import HeldElsewhereError, file_lock
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.runtime.tasks import first_of

EXAMPLES = ("up", "up --gpu studio", "up --price-per-hour 1.20 --currency EUR")

MONEY = ("price_per_hour", "budget_per_day", "currency")

AGAIN = (1.0, 30.0)
"""Seconds before the programs are started again after one has ended; doubled each time, up to the second."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The GPU's name, where everything runs on this machine."""
    flags.add(parser, "--gpu NAME", "the GPU of this machine, where nothing was set up (default gpu)", default="gpu")
    flags.add(parser, "--folder DIR", "the folder of the settings (default: the user's own)", type=Path)
    text = "stop the worker after this idle time, where nothing was set up (default 5min)"
    flags.add(parser, "--idle-after TIME", text, type=flags.time, default=300.0)
    flags.slots(parser)
    given = parser.add_argument_group("money, where nothing was set up")
    text = "price of the GPU per hour, in any currency, such as 1.20"
    flags.add(given, "--price-per-hour PRICE", text, type=_text_of(hub.price_flag))
    text = "do not wake the GPU when a day has cost this much"
    flags.add(given, "--budget-per-day AMOUNT", text, type=_text_of(hub.amount))
    flags.add(given, "--currency NAME", "the money of prices and budgets, for people, such as EUR")
    flags.add(parser, "--exit-with-stdin", "end when standard input closes")


def _text_of(read: Callable[[str], object]) -> Callable[[str], str]:
    """Check an argument that is passed on to the hub as it was given."""

    def checked(text: str) -> str:
        read(text)
        return text

    return checked


def run(args: argparse.Namespace) -> int:
    """Run the programs until the user stops them; each end of one starts them again."""
    idle_after, args.idle_after = args.idle_after, None
    money = [f"--{name.replace('_', '-')}={value}" for name in MONEY if (value := getattr(args, name)) is not None]
    slots = begin(args).slots
    setups = {role: setup for role in ROLES if (setup := recorded(folder_of(role, args.folder))) is not None}
    programs = [({"client": "daemon"}.get(role, role), setup.arguments) for role, setup in setups.items()]

    def running() -> AbstractAsyncContextManager[asyncio.Future[None]]:
        return _set_up(programs, args.folder) if programs else _everything(args.gpu, idle_after, money, slots)

    lock = data_folder("up") / "up.lock" if args.folder is None else args.folder.expanduser() / "up.lock"
    try:
        with file_lock(lock, within=1.0):
            return run_program(lambda stop: _keep_up(running, stop), exit_with_stdin=args.exit_with_stdin)
    except HeldElsewhereError:
        raise SettingsError(t("up.twice")) from None


async def _keep_up(running: Callable[[], AbstractAsyncContextManager[asyncio.Future[None]]], stop: Stop) -> int:
    first, most = AGAIN
    pause, now = first, asyncio.get_running_loop().time
    while not stop.is_set():
        began = now()
        try:
            async with running() as broken:
                await first_of(stop.wait(), broken)
                if broken.done() and not stop.is_set():
                    broken.result()
        except DemoBroken as error:
            pause = first if now() - began > most else pause
            say(*f"wakestream: {error}".splitlines(), error=True)
            say(t("up.again", time=f"{pause:g} s"), error=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
            pause = min(most, 2 * pause)
    return exit_codes.DONE


def _show(name: str, line: str) -> None:
    say(f"{name:8}{line}")


@asynccontextmanager
async def _set_up(programs: list[tuple[str, list[str]]], folder: Path | None) -> AsyncIterator[asyncio.Future[None]]:
    """The programs that were set up on this machine."""
    own = {} if folder is None else {USER_FOLDER: str(folder.expanduser())}
    running = Programs(_show, {**os.environ, **own, "PYTHONUNBUFFERED": "1"}, Path())
    try:
        for name, given in programs:
            await running.start(name, given)
        yield running.broken
    finally:
        await running.stop()


@asynccontextmanager
async def _everything(
    gpu: str, idle_after: float, money: Sequence[str], slots: int
) -> AsyncIterator[asyncio.Future[None]]:
    """Hub, depot, monitor, worker and daemon, all on this machine; the worker runs while there are jobs."""
    folder = data_folder("up")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    running = house(
        folder, _show, boot_seconds=0.0, idle_after=idle_after, gpu=gpu, hub_flags=money, slots=slots, depot=True
    )
    async with running as all_of_it:
        await all_of_it.start_daemon()
        say(t("up.hub", hub=all_of_it.settings.hub_url))
        say(t("up.ready"), t("up.stay"))
        yield all_of_it.programs.broken
