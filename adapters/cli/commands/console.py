"""`wakestream console`: a link that opens the running daemon's web console."""

from __future__ import annotations

import argparse
import asyncio
import sys

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import run_at_daemon
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup.service import opens_console
from wakestream.adapters.daemon.api_client import DaemonClient
from wakestream.adapters.daemon.console.sessions import address, in_browser
from wakestream.adapters.runtime.desktop import notify
from wakestream.adapters.runtime.printing import say
from wakestream.operators.model.errors import WakestreamError

EXAMPLES = ("console --open", "console", "console --install")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--open", "open it in a browser instead of showing the link")
    flags.add(parser, "--install", "add an entry to the start menu that opens it")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for a link; show it, or open it."""
    if not args.install:
        return run_at_daemon(args, _link)
    begin(args)
    say(t("console.installed", path=opens_console(args.state)))
    return exit_codes.DONE


async def _link(client: DaemonClient, args: argparse.Namespace) -> int:
    try:
        code = (await client.call("POST", "/console/links"))["code"]
    except WakestreamError as error:
        if args.open and not sys.stderr.isatty():  # opened from the start menu, where nobody reads what it prints
            await asyncio.to_thread(notify, "wakestream", str(error))
        raise
    link = address(client.url, code)
    if not args.open or not in_browser(client.state, link):
        say(link)
    return exit_codes.DONE
