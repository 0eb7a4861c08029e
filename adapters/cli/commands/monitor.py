"""`wakestream monitor`: switches one GPU machine on when a job needs it, and off when nobody does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wakestream.adapters.cli import exit_on_refusal as refusal
from wakestream.adapters.cli import flags

if TYPE_CHECKING:
    import asyncio

    from wakestream.adapters.config.settings import Settings
    from wakestream.adapters.monitor.metrics import PowerWatch
    from wakestream.adapters.power import CommandPower, ProcessPower
    from wakestream.streams.monitor.power_machine import PowerPolicy
    from wakestream.streams.protocol import messages as m

HELP = "switch a GPU on when a job needs it, and off when nobody holds it"
EXAMPLES = (
    'monitor --gpu studio --power command --start "cloud on 1" --stop "cloud off 1" --inspect "cloud state 1"',
    'monitor --gpu studio --power process --program "wakestream worker --state worker --exit-with-stdin"',
    "monitor --gpu studio --power process --program ./start.sh --idle-after 10min --max-uptime 8h",
)

MEMORIES = 1000
"""Facts after which the monitor's memory is cut down to the newest."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the monitor's flags."""
    flags.connection(parser)
    flags.gpu(parser)
    power = parser.add_argument_group("power")
    power.add_argument(
        "--power",
        choices=("process", "command"),
        required=True,
        help="process: a program on this machine; command: three command lines that switch it",
    )
    power.add_argument(
        "--program", metavar="CMD", dest="power_program", help="the program that --power process starts and stops"
    )
    power.add_argument("--start", metavar="CMD", dest="power_start", help="powers on; exit code 75: no capacity")
    power.add_argument("--stop", metavar="CMD", dest="power_stop", help="powers off")
    power.add_argument(
        "--inspect",
        metavar="CMD",
        dest="power_inspect",
        help="prints running, stopped, starting, stopping, no_capacity or failed",
    )
    power.add_argument(
        "--call-timeout", metavar="TIME", dest="power_timeout", help="longest time of each of these (default 60)"
    )
    parser.add_argument("--worker-url", metavar="URL", dest="worker", help="the worker's address (HEYGEM_SERVER_URL)")
    parser.add_argument("--idle-after", metavar="TIME", help="off after so long (WAKESTREAM_IDLE_AFTER; default 30min)")
    parser.add_argument("--boot-timeout", metavar="TIME", default="600", help="longest boot (default 10min)")
    parser.add_argument("--max-uptime", metavar="TIME", help="stop in any case after so long (default: never)")
    parser.add_argument(
        "--orphans",
        choices=("adopt", "stop", "report"),
        default="adopt",
        help="a machine found running though nobody asked: taken over (default), stopped, or left alone and reported",
    )
    parser.add_argument(
        "--state", metavar="DIR", type=Path, help="where --power command remembers (default: the user's data folder)"
    )
    refusal.flag(parser)
    flags.program(parser)


def run(args: argparse.Namespace) -> int:
    """Watch over the GPU until told to stop."""

    from wakestream.adapters.cli.service import begin, run_program

    settings = begin(args)
    settings.needs_hub()
    policy = _policy(args, settings)
    power = _power(args, settings, policy.call_timeout)
    _warn_of_missing(args, settings)

    async def watch(stop: asyncio.Event) -> None:
        refused = refusal.Refusal(stop, args)
        try:
            await _watch(settings, policy, power, stop, _memory(args, policy.gpu), refused)
        finally:
            await power.close()
        refused.check()

    return run_program(watch, exit_with_stdin=args.exit_with_stdin)


async def _watch(
    settings: Settings,
    policy: PowerPolicy,
    power: ProcessPower | CommandPower,
    stop: asyncio.Event,
    memory: Path | None,
    refused: refusal.Refusal,
) -> None:
    import time
    from contextlib import AsyncExitStack
    from random import Random

    from wakestream.adapters.cli.service import serve_metrics
    from wakestream.adapters.client.worker import HttpWorkers
    from wakestream.adapters.disk.journal import open_journal
    from wakestream.adapters.disk.state_folder import make_private
    from wakestream.adapters.monitor.runner import MonitorProgram
    from wakestream.adapters.net.hub_link import open_link
    from wakestream.adapters.net.tls import client_context
    from wakestream.adapters.telemetry.recorder import recording
    from wakestream.streams.monitor.monitor import Monitor
    from wakestream.streams.monitor.persistence import MachineKept, ages
    from wakestream.streams.recording.config_json import plain_config
    from wakestream.streams.recording.recording import TapPair

    ca = client_context(settings.ca)
    async with AsyncExitStack() as stack:
        health = None
        if settings.worker_url is not None:
            workers = HttpWorkers(settings.worker_url, ca=ca)
            stack.push_async_callback(workers.close)
            health = workers.at(None).health
        seed = Random().getrandbits(32)
        journal, known = None, None
        if memory is not None:
            make_private(memory.parent)
            journal = await stack.enter_async_context(
                open_journal(memory, MachineKept, program="monitor", limit=MEMORIES)
            )
            known = ages(journal.read(), time.time())
        config = {"policy": plain_config(policy), "recalled": known}
        tap = stack.enter_context(recording(settings.record, "monitor", seed, config))
        watch = _power_watch(settings)
        if watch is not None:
            tap = TapPair(tap, watch)
        random = Random(seed)
        link = open_link(settings.needs_hub(), lambda: _register(settings, policy.gpu), tap=tap, random=random, ca=ca)
        stack.push_async_callback(link.close)
        refused.listen(link.events)
        program = MonitorProgram(Monitor(policy, random), link, power, health, tap=tap, journal=journal, known=known)
        if journal is not None:
            journal.snapshot = lambda: [program.remembered]
        if settings.metrics is not None and watch is not None:
            from wakestream.adapters.monitor.metrics import MonitorMetrics

            kept = (journal, memory) if journal is not None and memory is not None else None
            await serve_metrics(stack, settings.metrics, MonitorMetrics(program, watch, kept))
        await program.run(stop)


def _warn_of_missing(args: argparse.Namespace, settings: Settings) -> None:
    """A job that waits for the GPU is the worst moment to learn of a mistyped path."""
    import shutil

    from loguru import logger

    if args.power == "process":
        commands = {"--program": settings.power_program}
    else:
        commands = {
            "--start": settings.power_start, "--stop": settings.power_stop, "--inspect": settings.power_inspect
        }  # fmt: skip
    for flag, command in commands.items():
        if command is not None and shutil.which(command[0]) is None:
            logger.warning(
                "{}: {!r} is not a program that can be started here; give the full path of the program",
                flag,
                command[0],
            )


def _power_watch(settings: Settings) -> PowerWatch | None:
    """What counts the provider's answers, where somebody wants to know."""
    if settings.metrics is None:
        return None
    from wakestream.adapters.monitor.metrics import PowerWatch

    return PowerWatch()


def _memory(args: argparse.Namespace, gpu: str) -> Path | None:
    """Where this GPU's monitor remembers. A machine that is a program of its own ends with it: there is nothing to."""
    if args.power == "process":
        return None
    import hashlib
    import re

    from wakestream.adapters.disk.path_key import data_folder

    folder = args.state.expanduser() if args.state is not None else data_folder("monitor")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", gpu)[:40]
    return Path(folder) / f"{plain}-{hashlib.sha256(gpu.encode()).hexdigest()[:8]}.sqlite3"


def _register(settings: Settings, gpu: str) -> m.Register:
    from wakestream.streams.monitor.transitions import FEATURE
    from wakestream.streams.protocol import messages as m

    return m.Register(role="gpu_monitor", token=settings.key, gpus=(gpu,), features=(FEATURE,))


def _policy(args: argparse.Namespace, settings: Settings) -> PowerPolicy:
    from wakestream.streams.monitor.power_machine import PowerPolicy

    return PowerPolicy(
        gpu=settings.gpu or flags.GPU,
        idle_after=settings.idle_after or 1800.0,
        boot_timeout=_seconds("--boot-timeout", args.boot_timeout),
        max_uptime=_seconds("--max-uptime", args.max_uptime) if args.max_uptime is not None else None,
        call_timeout=settings.power_timeout or 60.0,
        checks_health=settings.worker_url is not None,
        orphans=args.orphans,
    )


def _seconds(flag: str, text: str) -> float:
    from wakestream.adapters.config.settings import SettingsError, seconds

    try:
        return seconds(text)
    except ValueError as error:
        raise SettingsError(f"{flag} {error}") from None


def _power(args: argparse.Namespace, settings: Settings, timeout: float) -> ProcessPower | CommandPower:
    from wakestream.adapters.config.settings import SettingsError
    from wakestream.adapters.power import CommandPower, ProcessPower

    if args.power == "process":
        if settings.power_program is None:
            raise SettingsError("--power process needs --program CMD, the program that is started and stopped")
        return ProcessPower(settings.power_program)
    start, stop, inspect = settings.power_start, settings.power_stop, settings.power_inspect
    if start is None or stop is None or inspect is None:
        raise SettingsError("--power command needs --start CMD, --stop CMD and --inspect CMD")
    # The commands have the time limit of the call; a little less, so that they are killed by what knows their name.
    return CommandPower(start, stop, inspect, timeout=0.95 * timeout)
