"""`wakestream gpu`: a person's orders for one GPU: turn it off, keep it on, hold it for maintenance, forget it."""

from __future__ import annotations

import argparse
import asyncio
import uuid

from msgspec.structs import replace

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.hub_answers import order
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.job_text import clock_time
from wakestream.adapters.cli.service import begin
from wakestream.adapters.runtime.printing import agrees, say
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.hub.admin import WANTED
from wakestream.streams.protocol import messages as m

EXAMPLES = (
    "gpu stop studio",
    "gpu hold studio",
    "gpu keep studio --for 30min",
    "gpu remove studio --key-file admin.key",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The things to do with a GPU."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stop = actions.add_parser("stop", help="turn a GPU off now, if no job needs it")
    keep = actions.add_parser("keep", help="keep a GPU on for a while, although no job needs it")
    flags.add(keep, "--for TIME", "how long (default 1h, at most 24h)", dest="seconds", type=flags.time, default=3600.0)
    remove = actions.add_parser("remove", help="forget a GPU that is gone, with its costs (needs a key of role admin)")
    flags.add(remove, "--yes", "also if jobs wait for it, without a question")
    hold = actions.add_parser("hold", help="give a GPU no more jobs, for maintenance; those that it has continue")
    resume = actions.add_parser("resume", help="give a GPU work again that was held")
    for action in (stop, keep, remove, hold, resume):
        action.add_argument("name", metavar="NAME", help="the GPU's name, as `wakestream status` shows it")
        flags.question(action)


def run(args: argparse.Namespace) -> int:
    """Give the order to the hub, and say what it leads to."""
    settings = begin(args, usual_level="CRITICAL")
    seconds = round(args.seconds) if args.action == "keep" else None
    force = (args.action == "remove" and args.yes) or None
    wanted = m.GpuAdmin(
        request_id=f"gpu-{uuid.uuid4().hex}", gpu=args.name, action=args.action, seconds=seconds, force=force
    )
    try:
        done = asyncio.run(order(settings, args.state, wanted, m.GpuAdminDone))
    except WakestreamError as error:
        if error.code != WANTED or not agrees(t("gpu.remove.ask", why=str(error))):
            raise
        done = asyncio.run(order(settings, args.state, replace(wanted, force=True), m.GpuAdminDone))
    say(t(f"gpu.{args.action}", gpu=done.gpu, time=clock_time(done.until or 0)))
    return exit_codes.DONE
