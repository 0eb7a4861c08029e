"""`wakestream worker`: the program on the GPU machine, with the engine of your choice behind the field's HTTP calls."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
from pathlib import Path

from loguru import logger

from wakestream.adapters.cli import flags
from wakestream.adapters.cli.serve import Refusal, announce, caller_room, listening, serve_metrics
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.config import setting_values
from wakestream.adapters.config.setting_files import key_in, naming
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.engines.config import DEFAULT, EngineConfig, make_engine
from wakestream.adapters.engines.model_files import models_in
from wakestream.adapters.engines.models import Models, WithModels
from wakestream.adapters.engines.run_process import Box, machine_memory
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.net.tls import client_context, server_tls, warn_unless_private
from wakestream.adapters.runtime.known_secrets import hide
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.worker.config import DeadMan, Retention, WorkerConfig
from wakestream.adapters.worker.metrics import WorkerMetrics
from wakestream.adapters.worker.program import hub_link, running_worker
from wakestream.operators.model.engine import Engine

EXAMPLES = (
    "worker --state /var/lib/wakestream --gpu studio --public-url http://gpu.example:8383",
    'worker --state work --engine command --command "python run.py {video} {audio} {output}"',
    "worker --state work --engine command --engine-option manifest=kinds.toml",
)
DEFAULT_LISTEN = "127.0.0.1:8383"

_GIB = flags.number(1_000_000, "is no number of GiB; write 0 or more, such as 2")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the worker's flags."""
    flags.listen(parser, DEFAULT_LISTEN)
    flags.tls(parser)
    flags.behind_proxy(parser)
    flags.add(parser, "--state DIR", "folder for files, tasks and results (default: the user's data folder)", type=Path)
    text = "accept requests without a secret, from anyone who can reach the port; only in a closed network"
    flags.add(parser, "--no-secret", text)
    flags.connection(parser)
    engine = parser.add_argument_group("the engine")
    flags.add(engine, "--engine NAME", "WAKESTREAM_ENGINE; default ffmpeg")
    text = 'the engine\'s command line, e.g. "python run.py {video} {audio} {output}"'
    flags.add(engine, "--command TEMPLATE", text, dest="engine_command")
    text = "an option of the engine, such as manifest=kinds.toml; may be given several times"
    engine.add_argument("--engine-option", metavar="KEY=VALUE", action="append", help=text)
    flags.add(
        engine, "--engine-stall TIME", "stop the work if the engine reports nothing new for this long", type=flags.time
    )
    flags.add(engine, "--engine-restart COMMAND", "restart the engine with this command when it is stopped")
    flags.add(engine, "--engine-timeout TIME", "time limit of the engine (default 4h)")
    flags.add(engine, "--engine-network", "let the engine use the network (default: no)")
    text = "memory limit of the engine (default: 3/4 of the memory for ffmpeg, no limit for a command)"
    flags.add(engine, "--engine-memory GIB", text, type=_GIB)
    text = "the engine's folder of models, into which those of the manifest are fetched"
    flags.add(engine, "--models DIR", text, type=Path)
    flags.add(engine, "--models-max GIB", "the most that the models may have (default: no limit)", type=_GIB)
    text = "a file with the token for gated models; it is sent to this host only, to be given if there are several"
    flags.add(engine, "--models-token [HOST=]FILE", text)
    flags.add(parser, "--gpu NAME", f"this GPU's name at the hub (WAKESTREAM_GPU; default {flags.GPU})")
    flags.labels(parser)
    flags.slots(parser)
    flags.add(parser, "--public-url URL", "the address at which clients reach this worker (WAKESTREAM_PUBLIC_URL)")
    text = "report 'not initialized' for this long after the start, for tests"
    flags.add(engine, "--warm-up TIME", text, type=flags.time_or_zero, default=0.0)
    text = "remove files and results that were not used for this long (default 168h)"
    flags.add(parser, "--keep TIME", text, type=flags.time, default="168h")
    text = "remove files unused for over an hour, oldest first, while less than this is free (default 2)"
    flags.add(parser, "--spare-disk GIB", text, type=_GIB, default=2.0)
    text = "switch this machine off without hub or monitor, task and transfer for this long; needs --poweroff"
    flags.add(parser, "--poweroff-after TIME", text, type=flags.time)
    flags.add(parser, "--poweroff COMMAND", 'the command for that, such as "systemctl poweroff"')
    flags.exit_on_refusal(parser)
    flags.program(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until the user stops it."""
    settings = begin(args)
    tls = server_tls(settings.tls_cert, settings.tls_key)
    if settings.api_secret is None and not args.no_secret:
        raise SettingsError(
            "no secret is set; set HEYGEM_API_SECRET in the environment or in .env, as the clients do "
            "(where they have none: --no-secret)"
        )
    if settings.api_secret is not None and args.no_secret:
        raise SettingsError("--no-secret contradicts HEYGEM_API_SECRET; remove one of the two")
    host, port = flags.listen_on(settings, DEFAULT_LISTEN)
    stall: float | None = args.engine_stall
    engine, models = _engine(args, settings)
    config = WorkerConfig(
        state=(args.state or data_folder("worker")).expanduser().absolute(),  # an engine is given paths in it
        engine=engine,
        models=models,
        secret=settings.api_secret,
        host=host,
        port=port,
        gpu=settings.gpu or flags.GPU,
        public_url=settings.public_url,
        key=settings.key,
        warm_up=args.warm_up,
        retention=Retention(args.keep, int(args.spare_disk * 1024**3)),
        tls=tls,
        ca=client_context(settings.ca),
        proxies=tuple(args.behind_proxy),
        room=caller_room(),
        watchdog=Watchdog(stall, tuple(shlex.split(args.engine_restart or ""))),
        dead_man=_dead_man(args),
        labels=settings.label,
        slots=settings.slots,
    )
    return served(config, settings, args)


def served(config: WorkerConfig, settings: Settings, args: argparse.Namespace, program: str = "worker") -> int:
    """Run a worker or a depot until the user stops it."""
    warn_unless_private(config.host, config.tls)

    async def serve(stop: asyncio.Event) -> None:
        refused = Refusal(stop, args)
        async with contextlib.AsyncExitStack() as stack:
            watch = LinkWatch() if settings.metrics is not None and settings.hub_url is not None else None
            open_link = stack.enter_context(hub_link(settings, watch, refused.listen, program))
            with listening(config.host, config.port):
                worker = await stack.enter_async_context(running_worker(config, open_link))
            if settings.metrics is not None:
                await serve_metrics(stack, settings.metrics, WorkerMetrics(worker, watch))
            announce(program, worker.address)
            await stop.wait()
        refused.check()

    return run_program(serve, exit_with_stdin=args.exit_with_stdin)


def _engine(args: argparse.Namespace, settings: Settings) -> tuple[Engine, Models | None]:
    """The engine, and the models that its manifest names."""
    limit, name = settings.engine_timeout or 4 * 3600.0, settings.engine or DEFAULT
    with naming("--engine-option"):
        options = setting_values.options(args.engine_option or [])
    given: float | None = args.engine_memory
    usual = machine_memory() * 3 // 4 // settings.slots if name == DEFAULT else None
    memory = int(given * 1024**3) if given else usual
    box = Box(network=args.engine_network, memory=memory, seconds=limit)
    if (missing := box.missing()) is not None:
        logger.warning("{}", missing)
    folder = (args.state or data_folder("worker")).expanduser().absolute() / "engine"
    engine = make_engine(name, EngineConfig(options, tuple(settings.engine_command or ()), limit, box, folder))
    if settings.slots > 1 and not getattr(engine, "parallel", False):
        raise SettingsError(f"the engine {name} does one task at a time; leave --slots out")
    manifest = options.get("manifest")
    needs = models_in(Path(manifest).expanduser()) if manifest else {}
    if not needs:
        return engine, None
    if args.models is None:
        raise SettingsError(f"the manifest {manifest} names models; give the engine's folder for them: --models DIR")
    warnings: list[str] = []
    host, _, file = (args.models_token or "").rpartition("=")
    token = key_in(Path(file).expanduser(), "--models-token", warnings) if file else None
    hide(token or "")
    for warning in warnings:
        logger.warning("{}", warning)
    most = int(args.models_max * 1024**3) if args.models_max is not None else None
    models = Models(needs, args.models.expanduser().absolute(), most, token, host)
    return WithModels(engine, models), models


def _dead_man(args: argparse.Namespace) -> DeadMan | None:
    if args.poweroff_after is None and args.poweroff is None:
        return None
    command = tuple(shlex.split(args.poweroff or ""))
    if args.poweroff_after is None or not command:
        raise SettingsError("--poweroff-after TIME and --poweroff COMMAND belong together; give both")
    return DeadMan(args.poweroff_after, command)
