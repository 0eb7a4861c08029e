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

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.serve import Refusal, serve_metrics
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.config.setting_files import naming
from wakestream.adapters.config.setting_values import gpu_name
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.monitor.program import MonitorConfig, MonitorMetrics, PowerWatch, open_monitor
from wakestream.adapters.power.config import commands, make_power, power_config
from wakestream.streams.monitor.power_machine import PowerPolicy

EXAMPLES = (
    'monitor --gpu studio --power command --start "cloud on 1" --stop "cloud off 1" --inspect "cloud state 1"',
    'monitor --gpu studio --power process --program "wakestream worker --state worker --exit-with-stdin"',
    "monitor --gpu studio --power runpod --machine 7h9k2m4n6p --idle-after 10min",
    "monitor --gpu studio --power process --program ./start.sh --idle-after 10min --max-uptime 8h",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the monitor's flags."""
    flags.connection(parser)
    text = f"this GPU's name at the hub (WAKESTREAM_GPU; default {flags.GPU}); again for each other GPU in the machine"
    flags.add(parser, "--gpu NAME", text, action="append")
    flags.labels(parser)
    power = parser.add_argument_group("power")
    flags.machine(power)
    flags.add(power, "--call-timeout TIME", "time limit of each command (default 60)", dest="power_timeout")
    flags.add(parser, "--worker-url URL", "the worker's address (HEYGEM_SERVER_URL)", dest="worker")
    flags.add(parser, "--idle-after TIME", "stop after this idle time (WAKESTREAM_IDLE_AFTER; default 30min)")
    flags.add(parser, "--boot-timeout TIME", "longest boot (default 10min)", type=flags.time, default=600.0)
    text = "a start that takes longer than this until the machine runs counts as no capacity (default 5min)"
    flags.add(parser, "--start-within TIME", text, type=flags.time, default=300.0)
    flags.add(parser, "--max-uptime TIME", "always stop after this time (default: never)", type=flags.time)
    text = "a machine that runs without a request: adopt it (default), stop it, or only report it"
    parser.add_argument("--orphans", choices=("adopt", "stop", "report"), default="adopt", help=text)
    flags.add(parser, "--state DIR", "folder of the journal (default: the user's data folder)", type=Path)
    flags.exit_on_refusal(parser)
    flags.program(parser)


def run(args: argparse.Namespace) -> int:
    """Manage the GPU until the user stops it."""
    gpus = list(dict.fromkeys(args.gpu or ()))
    for name in gpus[1:]:  # the first one is a setting
        with naming("--gpu"):
            gpu_name(name)
    args.gpu = gpus[0] if gpus else None
    settings = begin(args)
    settings.needs_hub()
    power = make_power(settings.needs_power(), power_config(settings))
    follows = settings.worker_url is None and len(gpus) < 2  # one address is not that of several workers
    policy = PowerPolicy(
        gpu=settings.gpu or flags.GPU,
        idle_after=settings.idle_after or 1800.0,
        boot_timeout=args.boot_timeout,
        max_uptime=args.max_uptime,
        call_timeout=settings.power_timeout or 60.0,
        checks_health=settings.worker_url is not None,
        follows_address=follows,
        expects_address=follows and bool(getattr(power, "reports_address", False)),
        start_within=args.start_within,
        orphans=args.orphans,
        more=tuple(gpus[1:]),
    )
    # Report a mistyped path at the start, not when the first job waits for the GPU.
    used = {"process": ("program",), "command": ("start", "stop", "inspect")}.get(settings.power or "", ())
    for name, command in commands(settings).items():
        if name in used and shutil.which(command[0]) is None:
            logger.warning(
                "--{}: {!r} is not a program that can be started here; give the full path of the program",
                name,
                command[0],
            )

    async def serve(stop: asyncio.Event) -> None:
        refused = Refusal(stop, args)
        journal, watch = _journal(args, settings), PowerWatch()
        config = MonitorConfig(settings, policy, power, journal, watch, refused.listen)
        async with AsyncExitStack() as stack:
            program = await stack.enter_async_context(open_monitor(config))
            if settings.metrics is not None:
                metrics = MonitorMetrics(program, watch, journal.parent)
                await serve_metrics(stack, settings.metrics, metrics)
            await program.run(stop)
        refused.check()

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)


def _journal(args: argparse.Namespace, settings: Settings) -> Path:
    """The journal's file of this GPU."""
    gpu = settings.gpu or flags.GPU
    folder = args.state.expanduser() if args.state is not None else data_folder("monitor")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", gpu)[:40]
    return Path(folder) / f"{plain}-{hashlib.sha256(gpu.encode()).hexdigest()[:8]}.sqlite3"
