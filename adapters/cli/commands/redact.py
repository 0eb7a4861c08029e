"""`wakestream redact LOG`: a log without the secrets that it should never have held."""

from __future__ import annotations

import argparse
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.replay.report import ReplayOutput
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.telemetry.recordings import one, output_beside, read, write
from wakestream.streams.recording.log_edit import redacted
from wakestream.streams.recording.recording import UnusableLog

EXAMPLES = ("redact daemon.jsonl", "redact daemon.jsonl -o clean.jsonl")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("log", type=Path, metavar="LOG", help="a .jsonl or .jsonl.gz")
    flags.add(parser, "-o --output OUT", "the clean log (default LOG.redacted.jsonl)", type=Path)


def run(args: argparse.Namespace) -> int:
    """Redact the log; the one given is left as it is."""
    show = ReplayOutput(as_json=False)
    try:
        file = one(args.log)
        output = output_beside(file, args.output, "redacted")
        log = read(file, secrets=True)
        clean = redacted(log)
        write(clean, output)
    except UnusableLog as error:
        return show.unusable(str(error))
    changed = sum(was != now for was, now in zip(log.rows, clean.rows, strict=True))
    changed += log.header != clean.header
    say(f"secrets taken out of {changed} of {len(log.rows) + 1} lines; written to {output}")
    if changed:
        say("delete the log that still holds them, and revoke the keys: wakestream license revoke ID")
    return exit_codes.DONE
