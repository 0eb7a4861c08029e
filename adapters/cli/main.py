"""The command `wakestream`: the visible list of its commands, and what is the same for all of them.

Each command is a module of commands/ with `arguments(parser)` and `run(args) -> exit code`. It is imported only when
that command runs: `wakestream --help` needs the table alone.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import cast

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli import parser as parsing
from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.runtime.printing import say
from wakestream.operators.model.errors import WakestreamError

COMMANDS = {
    "demo": "try the whole system on this machine, with a simulated GPU",
    "up": "run what is set up on this machine, or everything at once",
    "init": "set up a hub, or another role on its machine",
    "join": "set this machine up for a hub, with a code",
    "leave": "remove what `init` and `join` wrote on this machine",
    "submit": "submit a video and an audio file, and wait for the result",
    "daemon": "run jobs in the background; they survive restarts and lost connections",
    "console": "print a link that opens the web console",
    "jobs": "list the daemon's jobs",
    "watch": "follow one job of the daemon, or all of them",
    "open": "show the result of a job with the system's player",
    "cancel": "cancel jobs",
    "move": "change the order of jobs that wait",
    "retry": "retry jobs that are paused or have failed",
    "rerun": "do the work of a job again, as a new job",
    "hub": "run the hub: the always-on server that queues jobs and wakes the GPU",
    "monitor": "run the monitor: starts a GPU when a job needs it and stops it when idle",
    "machines": "list the machines of your account at a power provider",
    "gpu": "turn a GPU off now, keep it on for a while, hold its jobs back, or forget it",
    "worker": "run the worker on the GPU machine: receives files and renders",
    "depot": "run the depot, which keeps files while PC and GPU are off; list or remove its files",
    "kinds": "list the kinds of jobs that the GPUs can do, or add a ComfyUI workflow as one",
    "invite": "make a code with which another machine joins this hub",
    "license": "issue, import, list, rotate and revoke license keys",
    "audit": "list all licenses with their GPUs, last use and permissions",
    "token": "make, list and remove tokens of programs that use the daemon's API",
    "status": "show the GPUs: state, users and cost",
    "top": "show GPUs, queue, connections, costs and budgets of a hub, kept up to date",
    "why": "explain why a job waits, or why the GPU is on",
    "cost": "show how long the GPUs ran, what it cost and what was saved",
    "plan": "show what other settings would have cost, and how long jobs would have waited",
    "doctor": "check settings, license, hub, monitor, worker, disk and clock",
    "journal": "check the journal of a stopped program, or accept a restored one",
    "logs": "show or follow a log file, by job and level",
    "replay": "replay recorded logs in virtual time, also with other settings or another order",
    "shrink": "reduce a failing log to the smallest one that still fails",
    "redact": "copy a log without keys, tokens and passwords",
    "upgrade-check": "ask the package index whether there is a newer version; nothing else asks it",
    "completion": "print a completion script for your shell",
    "help": "show the help of a command",
}
"""Each command and its summary; `commands/NAME.py` (with `_` for `-`) holds its arguments and `run`."""

AFTER_HELP = f"""\
`wakestream help COMMAND` shows the flags and examples of a command; `wakestream demo` is a good start.

{exit_codes.HELP}"""

LASTING = ("daemon", "hub", "monitor", "worker", "depot")
"""Commands that run until the user stops them."""

_WITH_VALUE = ("--log-level", "--lang")
"""Flags before the command whose value is no command."""

_WITHOUT_VALUE = ("-q", "--quiet", "-v", "--verbose", "--log-json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (`SystemExit` for --help, --version and wrong usage, as argparse does)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Replace closed streams by /dev/null: a socket must not get their file descriptor.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the program
    as_json = "--json" in arguments
    # A Windows console with a legacy code page would end the program at the first character it lacks. And JSON is
    # UTF-8 wherever it is read.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace", **({"encoding": "utf-8"} if as_json or os.name == "nt" else {}))
    parsing.Parser.in_json = "--json" in arguments
    parsing.speak(arguments)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except WakestreamError as error:
        say(_last_word(error, arguments), error=True)
        return exit_codes.of_word(error.code)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return exit_codes.FAILED
    except OSError as error:
        # Whether to show the traceback: on request, and for long-running programs.
        asked = "-v" in arguments or "--verbose" in arguments
        if asked or (_command_name(arguments) in LASTING and error.errno != errno.ENOSPC):
            raise
        _forget_stdout()
        say(_last_word(_refused_by_system(error), arguments), error=True)
        return exit_codes.FAILED
    return status


def _run(arguments: list[str]) -> int:
    name = _command_name(arguments)
    if name is not None and name not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(COMMANDS)}"
        before = arguments[max(0, arguments.index(name) - 1)]
        if before.startswith("-") and before not in _WITHOUT_VALUE and not close:
            hint = f"if it belongs to {before}: a command's flags stand behind it, as in `wakestream status --hub URL`"
        raise SystemExit(parsing.unusable(f"there is no command {name!r}; {hint}", "usage"))
    parser = parser_of((name,)) if name else parser_of(COMMANDS, whole=False)
    args, left = parser.parse_known_args(arguments)
    if left:
        parsing.not_understood(parser, args, left)
    if name is None:
        parser.error("say what to do: wakestream COMMAND, or wakestream --help")
    parsing.settle(parser, args)
    return load(name).run(args)


def parser_of(names: Iterable[str] = COMMANDS, *, whole: bool = True) -> argparse.ArgumentParser:
    """The parser with the commands `names`; the others need not be imported for them. Without `whole`, no flags."""
    parser = parsing.Parser(
        prog="wakestream", description="Make a GPU that is usually switched off feel always on.", epilog=AFTER_HELP
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in names:
        own = commands.add_parser(name, help=COMMANDS[name], description=COMMANDS[name])
        if whole:
            parsing.declare(own, load(name))
    parsing.everywhere(parser)
    return parser


class _Version(argparse.Action):
    """Reads the version only on request: package metadata takes longer to read than --help to print."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        say(f"wakestream {version('wakestream')}")
        parser.exit()


def load(name: str) -> parsing.Command:
    """The module of a command, which is imported only now."""
    module = name.replace("-", "_")
    return cast("parsing.Command", importlib.import_module(f"wakestream.adapters.cli.commands.{module}"))


def _last_word(error: WakestreamError, arguments: Sequence[str]) -> str:
    """The final error message: JSON if the output or the log is JSON."""
    logs = sys.modules.get("wakestream.adapters.telemetry.logs")
    asked = "--log-json" in arguments or os.environ.get("WAKESTREAM_LOG_FORMAT", "").lower() == "json"
    logs_json = asked or (logs is not None and logs.in_json())
    if "--json" in arguments and not logs_json:
        return parsing.complaint(str(error), error.code)
    if not logs_json:
        from wakestream.adapters.cli.render.job_text import reason

        return redacted_text(f"wakestream: {reason(error.code, str(error))}")
    from wakestream.adapters.telemetry.logs import json_line

    line = json_line("ERROR", str(error), program=_command_name(arguments) or "").rstrip()
    return parsing.complaint(str(error), error.code, line) if "--json" in arguments else line


def _command_name(arguments: Sequence[str]) -> str | None:
    """The first argument that is neither a flag nor a global flag's value."""
    values = iter(arguments)
    for argument in values:
        if argument in _WITH_VALUE:
            next(values, None)
        elif not argument.startswith("-"):
            return argument
    return None


def _refused_by_system(error: OSError) -> WakestreamError:
    """An unexpected error of the system, such as a full disk or too many open files."""
    why = error.strerror or str(error) or type(error).__name__
    what = f"{error.filename}: {why}" if error.filename else why
    if error.errno == errno.ENOSPC:
        return WakestreamError(f"{what}; make room where the output or the files go", code="no_space")
    return WakestreamError(f"operating system error: {what}; -v shows where it came from", code="system")


def _forget_stdout() -> None:
    """If standard output is closed, let the interpreter flush to /dev/null at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        pass
    else:
        return
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as devnull:  # noqa: PTH123
        os.dup2(devnull.fileno(), sys.stdout.fileno())
