"""`wakestream why JOB|gpu`: one sentence on why a job waits, or why a GPU is on or off."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.hub_answers import hub_status
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import why_text as why_words
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.runtime.printing import answer

EXAMPLES = ("why ws-0123456789abcdef", "why gpu", "why gpu:studio --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", metavar="JOB|gpu", help=f"{flags.JOB}; gpu for all GPUs, gpu:NAME for one")
    flags.add(parser, "--json", "one JSON object for each sentence")
    flags.question(parser)
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask the daemon or the hub, and print the answer."""
    found = begin(args, usual_level="CRITICAL")
    kind, _, name = args.what.partition(":")
    sentences = asyncio.run(_gpus(found, args.state, name or None) if kind == "gpu" else _job(args))
    for sentence in sentences:
        answer({"what": args.what, "why": sentence}, sentence, as_json=args.json)
    return exit_codes.DONE


async def _job(args: argparse.Namespace) -> Sequence[str]:
    async with open_daemon_client(args.state) as client:
        return [why_words.job(await client.job(args.what), time.time())]


async def _gpus(found: Settings, state: str | None, name: str | None) -> Sequence[str]:
    told = await hub_status(found, state)
    said = why_words.gpus(told, name)
    if name is not None and not said:
        known = ", ".join(gpu["gpu"] for gpu in told.gpus) or "none at all"
        raise SettingsError(f"the hub knows no GPU {name!r}; it knows {known}")
    return said or [t("why.no_gpu")]
