"""A job of any kind on the command line: `--kind K --in NAME=FILE --param NAME=VALUE --out NAME=FILE`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from wakestream.adapters.cli import flags
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.api_client import Chain
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import Job
from wakestream.streams.protocol.kinds import check_bounds

NAMES = ("kind", "inputs", "params", "outputs")
"""The values of these flags in the arguments."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("another kind of job, instead of VIDEO and AUDIO")
    flags.add(group, "--kind KIND", "the kind of work, by the name that the GPU machine's engine gives it")
    what = "an input file, or @JOB:RESULT for a result of another job of the daemon; once for each"
    flags.add(group, "--in NAME=FILE", what, action="append", dest="inputs")
    flags.add(group, "--param NAME=VALUE", "a parameter; once for each", action="append", dest="params")
    flags.add(group, "--out NAME=FILE", "where a result goes; once for each", action="append", dest="outputs")
    flags.add(group, "--after JOB", "start when this job of the daemon is done; once for each", action="append")


def job_of_kind(
    job_id: str,
    kind: str,
    inputs: Sequence[str],
    params: Sequence[str],
    outputs: Sequence[str],
    after: Sequence[str] = (),
) -> tuple[Job, Chain]:
    """The job that the flags describe, and the jobs that it follows; its files are checked before any GPU is woken.

    Args:
        job_id: Its id.
        kind: Its kind.
        inputs: `NAME=FILE` of each input; `NAME=@JOB:RESULT` for a result of another job.
        params: `NAME=VALUE` of each parameter. A value that is valid JSON (5, 0.5, true, null, [1]) is that, other
            values are text.
        outputs: `NAME=FILE` of each output.
        after: The ids of other jobs that it waits for.

    Raises:
        SettingsError: A flag is not of that form, or a name is given twice.
        WrongInput: A name or a value is not allowed; the message names the field.
        FileUnusable: A file cannot be used.
    """
    files = pairs("--in", inputs)
    sources = {name: text[1:] for name, text in files.items() if text.startswith("@")}
    given = {name: Path(text) for name, text in files.items() if name not in sources}
    values = {name: _value(text) for name, text in pairs("--param", params).items()}
    wanted = {name: Path(text) for name, text in pairs("--out", outputs).items()}
    check_bounds(files, values, wanted)
    for path in given.values():
        check_readable(path)
        check_named(path)
    taken: dict[Path, str] = {}
    for name, path in wanted.items():
        check_writable(path, keep=tuple(given.values()))
        other = taken.setdefault(path.absolute(), name)
        if other != name:
            raise WrongInput(
                f"outputs.{name}", f"outputs {other} and {name} have the same path {path}; give each its own"
            )
    return Job(job_id, given, wanted, kind, values), Chain(tuple(dict.fromkeys(after)), sources)


def pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """The `NAME=VALUE` of a flag that is given once for each name. Raises `SettingsError`."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise SettingsError(f"{flag} {text[:60]!r}: write NAME=VALUE, such as {flag} image=a.png")
        if name in found:
            raise SettingsError(f"{flag} {name} is given twice; leave one out")
        found[name] = value
    return found


def _value(text: str) -> Any:
    if text in ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"):
        return float(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
