"""`wakestream join HOST CODE`: sets this machine up for a hub, with a code of `wakestream invite`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import begin
from wakestream.adapters.cli.setup import options, present
from wakestream.adapters.cli.setup.joining import Joined, join
from wakestream.adapters.runtime.printing import say

EXAMPLES = (
    "join hub.example:8765 7F3K-92QD",
    "join hub.example:8765 4MXD-81WA --gpu studio --service",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The hub, the code, and the answers that its role needs."""
    parser.add_argument("hub", metavar="HOST", help="the hub: HOST, HOST:PORT or its URL")
    parser.add_argument("code", metavar="CODE", help="the code that `wakestream invite` printed")
    options.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Get a key by the code, and write the settings."""
    address, args.hub = args.hub, None
    begin(args)

    def settings_of(role: str) -> dict[str, Any]:
        return options.settings_of(role, args)

    joined = asyncio.run(join(address, args.code, settings_of, args.folder, gpu=args.gpu, as_service=args.service))
    return told(joined, args.folder)


def told(joined: Joined, folder: Path | None) -> int:
    """Say what was done."""
    role, hub = joined.paired.role, joined.paired.hub_url
    if joined.done is None:
        say(t("join.key", role=role, hub=hub), error=True)
        say(joined.paired.key)
        return exit_codes.DONE
    say(t(f"join.done.{role}", hub=hub))
    if joined.replaced:
        say(t("leave.license", license=joined.replaced))
    say(*present.lines(role, joined.done, folder))
    return exit_codes.DONE
