"""`wakestream console`: a link that opens the running daemon's web console."""

from __future__ import annotations

import argparse

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.service import begin, run_program
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.daemon.console.open_browser import address, in_browser
from wakestream.adapters.runtime.printing import say

EXAMPLES = ("console --open", "console")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--open", "open it in a browser instead of showing the link")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for a link; show it, or open it."""
    begin(args)
    return run_program(lambda _: _link(args))


async def _link(args: argparse.Namespace) -> int:
    async with open_daemon_client(args.state) as client:
        code = (await client.call("POST", "/console/links"))["code"]
        link = address(client.url, code)
    if not args.open or not in_browser(client.state, link):
        say(link)
    return exit_codes.DONE
