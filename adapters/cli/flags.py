"""Flags that several commands share. Their values stay text: `settings.load(vars(args))` checks them."""

from __future__ import annotations

import argparse

from wakestream.adapters import addresses


def connection(parser: argparse.ArgumentParser) -> None:
    """`--hub`, `--key-file` and `--record`, for whatever connects to a hub."""
    parser.add_argument("--hub", metavar="URL", help="the hub's address (API_SERVER_URL)")
    parser.add_argument("--key-file", metavar="FILE", help="a file with this program's key (or WAKESTREAM_KEY)")
    record(parser)


def record(parser: argparse.ArgumentParser) -> None:
    """`--record DIR`."""
    parser.add_argument("--record", metavar="DIR", help="record every message and outcome into this folder")


def waits(parser: argparse.ArgumentParser) -> None:
    """`--online-timeout` and its like: how long a job waits for each thing."""
    from wakestream.adapters.settings import WAITS

    group = parser.add_argument_group("waits", "in seconds, or with a unit: 90, 30min, 2h")
    for name in WAITS.values():
        group.add_argument(f"--{name.replace('_', '-')}", metavar="TIME")


def program(parser: argparse.ArgumentParser) -> None:
    """`--exit-with-stdin`, for long-lived programs."""
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="stop when standard input closes (when the parent ends)"
    )


def listen(parser: argparse.ArgumentParser, default: str) -> None:
    """`--listen HOST:PORT`, parsed into a pair in `args.listen`."""
    parser.add_argument(
        "--listen", metavar="HOST:PORT", type=_address, default=default, help=f"where to listen (default {default})"
    )


def _address(text: str) -> tuple[str, int]:
    try:
        return addresses.listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
