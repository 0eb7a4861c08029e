"""`wakestream redact LOG`: a copy of a recording or of a program's log without secrets, to send to others."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.replay.report import ReplayOutput
from wakestream.adapters.config import settings
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.runtime.known_secrets import hide, redacted, redacted_text
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.telemetry.recordings import MAX_LOG, SUFFIXES, find_one, output_beside, read, write
from wakestream.streams.recording.recording import UnusableLog

EXAMPLES = ("redact daemon.jsonl", "redact daemon.jsonl -o clean.jsonl", "redact hub.log")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("log", type=Path, metavar="LOG", help="a .jsonl or .jsonl.gz, or a log of --log-file")
    flags.add(parser, "-o --output OUT", "the clean log (default LOG.redacted.jsonl)", type=Path)


def run(args: argparse.Namespace) -> int:
    """Redact the log; the one given is left as it is. The secrets of the user's own settings are removed too."""
    hide(*settings.load({}).secrets)
    is_text = args.log.is_file() and not args.log.name.endswith(SUFFIXES)
    try:
        changed, lines, output = (_text if is_text else _recording)(args.log, args.output)
    except UnusableLog as error:
        return ReplayOutput(as_json=False).unusable(str(error))
    say(f"secrets taken out of {changed} of {lines} lines; written to {output}")
    if changed:
        say("delete the log that still holds them, and revoke the keys: wakestream license revoke ID")
    return exit_codes.DONE


def _recording(path: Path, given: Path | None) -> tuple[int, int, Path]:
    file = find_one(path)
    output = output_beside(file, given, "redacted")
    log = read(file, secrets=True)
    rows = tuple(dataclasses.replace(row, data=redacted(row.data)) for row in log.rows)
    header = dataclasses.replace(log.header, config=redacted(log.header.config))
    write(dataclasses.replace(log, header=header, rows=rows), output)
    changed = sum(was != now for was, now in zip(log.rows, rows, strict=True)) + (log.header != header)
    return changed, len(rows) + 1, output


def _text(path: Path, given: Path | None) -> tuple[int, int, Path]:
    output = given or path.with_name(f"{path.stem}.redacted{path.suffix}")
    if output.resolve() == path.resolve():
        raise UnusableLog(f"{path} is the input log; name another file with -o")
    with path.open("rb") as file:
        raw = file.read(MAX_LOG + 1)
    if len(raw) > MAX_LOG:
        raise UnusableLog(f"{path} has more than {MAX_LOG} bytes; split it")
    text = raw.decode(errors="replace")
    clean = redacted_text(text)  # as a whole: a private key has several lines
    write_atomic(output, clean.encode())
    before, after = text.splitlines(), set(clean.splitlines())
    return sum(line not in after for line in before), len(before), output
