"""`wakestream monitor`: starts one GPU machine when a job needs it and stops it when idle."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from loguru import logger

from wakestream.adapters.cli import exit_on_refusal, flags
from wakestream.adapters.cli.exit_on_refusal import Refusal
from wakestream.adapters.cli.service import begin, run_program, serve_metrics
from wakestream.adapters.cli.waits import seconds_of
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.monitor.metrics import MonitorMetrics, PowerWatch
from wakestream.adapters.monitor.program import MonitorConfig, running_monitor
from wakestream.adapters.power.providers import PROVIDERS
from wakestream.streams.monitor.power_machine import PowerPolicy

EXAMPLES = (
    'monitor --gpu studio --power command --start "cloud on 1" --stop "cloud off 1" --inspect "cloud state 1"',
    'monitor --gpu studio --power process --program "wakestream worker --state worker --exit-with-stdin"',
    "monitor --gpu studio --power process --program ./start.sh --idle-after 10min --max-uptime 8h",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the monitor's flags."""
    flags.connection(parser)
    flags.gpu(parser)
    power = parser.add_argument_group("power")
    power.add_argument(
        "--power",
        choices=tuple(PROVIDERS),
        required=True,
        help="process: a program on this machine; command: three commands that start, stop and inspect",
    )
    power.add_argument(
        "--program", metavar="CMD", dest="power_program", help="the program that --power process starts and stops"
    )
    power.add_argument(
        "--start", metavar="CMD", dest="power_start", help="starts the machine; exit code 75: no capacity"
    )
    power.add_argument("--stop", metavar="CMD", dest="power_stop", help="stops the machine")
    power.add_argument(
        "--inspect",
        metavar="CMD",
        dest="power_inspect",
        help="prints running, stopped, starting, stopping, no_capacity or failed",
    )
    power.add_argument(
        "--call-timeout", metavar="TIME", dest="power_timeout", help="time limit of each command (default 60)"
    )
    parser.add_argument("--worker-url", metavar="URL", dest="worker", help="the worker's address (HEYGEM_SERVER_URL)")
    parser.add_argument(
        "--idle-after", metavar="TIME", help="stop after this idle time (WAKESTREAM_IDLE_AFTER; default 30min)"
    )
    parser.add_argument("--boot-timeout", metavar="TIME", default="600", help="longest boot (default 10min)")
    parser.add_argument("--max-uptime", metavar="TIME", help="always stop after this time (default: never)")
    parser.add_argument(
        "--orphans",
        choices=("adopt", "stop", "report"),
        default="adopt",
        help="a machine that runs without a request: adopt it (default), stop it, or only report it",
    )
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        help="folder of the journal for --power command (default: the user's data folder)",
    )
    exit_on_refusal.flag(parser)
    flags.program(parser)


def run(args: argparse.Namespace) -> int:
    """Manage the GPU until the user stops it."""
    settings = begin(args)
    settings.needs_hub()
    policy = _policy(args, settings)
    power = PROVIDERS[args.power](settings, policy.call_timeout)
    _warn_of_missing(args, settings)

    async def serve(stop: asyncio.Event) -> None:
        refused = Refusal(stop, args)
        config = MonitorConfig(policy, power, _memory(args, policy.gpu), refused.listen)
        watch = PowerWatch() if settings.metrics is not None else None
        async with AsyncExitStack() as stack:
            monitor = await stack.enter_async_context(running_monitor(config, settings, watch))
            if settings.metrics is not None and watch is not None:
                journal = (monitor.journal, config.memory) if monitor.journal and config.memory else None
                await serve_metrics(stack, settings.metrics, MonitorMetrics(monitor.program, watch, journal))
            await monitor.program.run(stop)
        refused.check()

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)


def _warn_of_missing(args: argparse.Namespace, settings: Settings) -> None:
    """Report a mistyped path at the start, not when the first job waits for the GPU."""

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


def _memory(args: argparse.Namespace, gpu: str) -> Path | None:
    """The journal's file of this GPU; None for --power process, whose program ends with the monitor."""
    if args.power == "process":
        return None

    folder = args.state.expanduser() if args.state is not None else data_folder("monitor")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", gpu)[:40]
    return Path(folder) / f"{plain}-{hashlib.sha256(gpu.encode()).hexdigest()[:8]}.sqlite3"


def _policy(args: argparse.Namespace, settings: Settings) -> PowerPolicy:

    return PowerPolicy(
        gpu=settings.gpu or flags.GPU,
        idle_after=settings.idle_after or 1800.0,
        boot_timeout=seconds_of("--boot-timeout", args.boot_timeout),
        max_uptime=seconds_of("--max-uptime", args.max_uptime) if args.max_uptime is not None else None,
        call_timeout=settings.power_timeout or 60.0,
        checks_health=settings.worker_url is not None,
        orphans=args.orphans,
    )
