"""`wakestream logs [FILE]`: what a program wrote with --log-file, filtered and in colour."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.text import Text

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli import parser as parsing
from wakestream.adapters.cli.render.log_reader import Line, Tail, followed, line, text, wanted
from wakestream.adapters.cli.service import begin
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.daemon.discovery import folder
from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.runtime.printing import console, say_json
from wakestream.adapters.telemetry.logs import pieces
from wakestream.streams.protocol.printable import printable

EXAMPLES = (
    "logs /var/log/wakestream/hub.log --level WARNING",
    "logs daemon.log --job ws-0123456789abcdef --follow",
    "logs --last 50",
)

DAEMONS = "daemon.log"
LOOK_EVERY = 0.25
"""Seconds between two looks at a log that is followed."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    text = f"a log file, or - for standard input (default: WAKESTREAM_LOG_FILE, or {DAEMONS} in the daemon's folder)"
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help=text)
    flags.add(parser, "--job ID", "only lines of this job; the beginning of its id is enough")
    parser.add_argument(
        "--level", type=str.upper, choices=parsing.LEVELS, default="DEBUG", help="only lines of this level and above"
    )
    flags.add(parser, "--last N", "only the last N lines", type=flags.whole())
    flags.add(parser, "--follow", "follow new lines until Ctrl-C")
    flags.add(parser, "--json", "one JSON object for each line")
    flags.daemon(parser)


def run(args: argparse.Namespace) -> int:
    """Show them."""
    set_ = begin(args).log_file
    path: Path = args.file or (set_ if args.state is None else None) or folder(args.state) / DAEMONS
    if path != Path("-") and not path.is_file():
        raise SettingsError(
            f"there is no log file {path}; name the one that the program was started with (--log-file FILE)"
        )
    tail = Tail(path)
    show = _printer(as_json=args.json)
    lines = wanted(map(line, _written(path, tail, whole=not args.follow)), job=args.job, level=args.level)
    for each in lines if args.last is None else deque(lines, args.last):
        show(each)
    if args.follow and path != Path("-"):
        new = followed(tail, lambda: time.sleep(LOOK_EVERY))
        for each in wanted(map(line, new), job=args.job, level=args.level):
            show(each)
    return exit_codes.DONE


def _written(path: Path, tail: Tail, *, whole: bool) -> Iterator[str]:
    """All lines so far, those of older pieces first; also the last, if nothing is to come (`whole`)."""
    if path == Path("-"):
        yield from map(text, sys.stdin.buffer)
        return
    for older in pieces(path)[:-1]:
        with older.open("rb") as file:
            yield from map(text, file)
    yield from tail.lines()
    if whole and tail.rest:
        yield text(tail.rest)


_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


def _printer(*, as_json: bool) -> Callable[[Line], None]:
    out = console(soft_wrap=True)

    def show(line: Line) -> None:
        if as_json:
            # Redacted before it is JSON: what is hidden may not take a quotation mark with it.
            say_json({name: text and redacted_text(text) for name, text in line.plain().items()})
            return
        shown = f"{line.time} {line.level:<7} {line.job} {line.stage}  {line.message}" if line.level else line.text
        text = printable(shown) + (f"\n{printable(line.trace, layout=True)}" if line.trace else "")
        out.print(Text(redacted_text(text), _STYLES.get(line.level, "")))

    return show
