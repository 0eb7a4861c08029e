"""`wakestream replay LOG…`: what was recorded runs again, in virtual time, and is compared with what it was."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.marbles.svg import svg
from wakestream.adapters.cli.marbles.text import terminal
from wakestream.adapters.cli.replay import pipeline_option as pipelines
from wakestream.adapters.cli.replay.report import ReplayOutput, plain_outcome, remarks, trouble
from wakestream.adapters.config.numbers import seconds
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.telemetry.recordings import LogFile, find, output_beside, read, write
from wakestream.adapters.testing.replay_runner import run_log, run_together
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.recorded_ports import EffectCall
from wakestream.streams.replay.replay import PROGRAMS, policy_of
from wakestream.streams.triage.reorder import SPREAD, failing, reordered, worse
from wakestream.streams.triage.replay_attempt import Trial, asks_otherwise

EXAMPLES = ("replay night", "replay night/daemon-*.jsonl --marbles", "replay night --set online_timeout=60")
_NUMBER = flags.number(sys.float_info.max, "is no number from 0 on")

EXITS = "exit codes: 0 the same as recorded, 1 something differs, 2 a log that cannot be used or wrong usage"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a .jsonl or .jsonl.gz, or a folder of them")
    how = parser.add_mutually_exclusive_group()
    flags.add(how, "--strict", "every field must be as recorded (default)")
    flags.add(how, "--lenient", "ignore fields that were added after the recording")
    flags.add(parser, "--ignore-time", "do not compare when the jobs act")
    text = "what if: replay under another setting, such as online_timeout=60, poll_every=5s or again.max_retries=2"
    flags.add(parser, "--set NAME=VALUE", text, dest="changes", action="append", default=[])
    text = "show events at the recorded speed (1), ten times as fast (10), or at once (0, default)"
    flags.add(parser, "--speed N", text, type=_NUMBER, default=0.0)
    flags.add(parser, "--json", "the results as JSON lines")
    flags.add(parser, "--together", "replay the logs of one run against each other")
    flags.add(parser, "--marbles", "draw each log as a marble diagram")
    flags.add(parser, "--svg FILE", "draw one log as a marble diagram into an SVG file", type=Path)
    pipelines.flag(parser)
    chaos = parser.add_argument_group("chaos")
    flags.add(chaos, "--reorder", "replay in other valid orders and look for a worse outcome")
    flags.add(chaos, "--seed N", "the first order to try (default 0)", type=flags.whole(), default=0)
    flags.add(chaos, "--runs K", "how many orders to try (default 1)", type=flags.whole(), default=1)
    flags.add(chaos, "--spread SECONDS", "how far a message may move (default 2)", type=_NUMBER, default=None)
    flags.add(chaos, "-o --output OUT", "file for the failing log (default: next to LOG)", type=Path)


def run(args: argparse.Namespace) -> int:
    """Replay each log, or all of them together."""
    show = ReplayOutput(as_json=args.json, speed=args.speed)
    wrong = _contradiction(args)
    if wrong is not None:
        return show.unusable(wrong)
    try:
        files = find(args.logs)
    except UnusableLog as error:
        return show.unusable(str(error))
    logs: list[tuple[LogFile, Log]] = []
    worst = exit_codes.DONE
    for file in files:
        try:
            logs.append((file, read(file)))
        except UnusableLog as error:
            worst = show.unusable(str(error))
    logs = _replayable(logs, None if args.json else show)
    if logs:
        worst = max(worst, _replay(args, logs, show))
        show.summary()
    return worst


def _replayable(logs: list[tuple[LogFile, Log]], show: ReplayOutput | None) -> list[tuple[LogFile, Log]]:
    """The logs without those that are records only, unless there are no others."""
    replayable = [pair for pair in logs if pair[1].header.program in PROGRAMS]
    for file, log in logs:
        if replayable and show is not None and log.header.program not in PROGRAMS:
            say(t("replay.left_out", name=file.parts[0], program=log.header.program))
    return replayable or logs


def _contradiction(args: argparse.Namespace) -> str | None:
    """What cannot be had at once, or None."""
    if args.reorder and (args.together or args.marbles or args.svg or args.speed):
        return "--reorder looks for a failure; replay the log that it writes with --together, --marbles, --svg, --speed"
    if args.output and not args.reorder:
        return "-o is where --reorder writes a failing log; without it nothing is written"
    if args.reorder and not args.runs:
        return "--runs 0 tries nothing; give 1 or more"
    return None


def _replay(args: argparse.Namespace, logs: Sequence[tuple[LogFile, Log]], show: ReplayOutput) -> int:
    if args.svg and len(logs) > 1:
        return show.unusable(f"--svg draws one log into {args.svg}, and these are {len(logs)}; name one")
    try:
        settings = what_if(args.changes, [log for _, log in logs])
        make = pipelines.pipeline(args.pipeline)
    except (BadSetting, pipelines.NoPipeline) as error:
        return show.unusable(str(error))
    replays = _Replays(args, settings, make, show)
    if args.together:
        how = {"lenient": args.lenient, "ignore_time": args.ignore_time, "build": make()}
        try:
            trials = run_together([log for _, log in logs], settings=settings.all, **how)
        except UnusableLog as error:
            return show.unusable(f"--together: {error}")
        if len(trials) != len(logs):
            show.trial(*logs[0], trials[0], {})
            return exit_codes.FAILED
        return max(replays.shown(file, log, trial) for (file, log), trial in zip(logs, trials, strict=True))
    worst = exit_codes.DONE
    for file, log in logs:
        try:
            code = replays.in_other_orders(file, log) if args.reorder else replays.alone(file, log)
        except UnusableLog as error:
            code = show.unusable(f"{file.name}: {error}")
        worst = max(worst, code)
    return worst


@dataclass(frozen=True, slots=True)
class _Replays:
    """Replays logs as the arguments say, and shows what comes of it. Each method returns an exit code."""

    args: argparse.Namespace
    settings: WhatIf
    make: pipelines.Make
    show: ReplayOutput

    def alone(self, file: LogFile, log: Log) -> int:
        """Replay one log."""
        asked, args = self.settings.of(log), self.args
        trial = run_log(log, settings=asked, lenient=args.lenient, ignore_time=args.ignore_time, build=self.make())
        otherwise = asks_otherwise(run_log(log, build=self.make()), trial) if asked else None
        return self.shown(file, log, trial, otherwise)

    def shown(self, file: LogFile, log: Log, trial: Trial, otherwise: EffectCall | None = None) -> int:
        """Show a replay."""
        asked = self.settings.all if self.args.together else self.settings.of(log)
        self.show.pace(trial)
        self.show.trial(file, log, trial, asked, remarks(log, trial, self.args.pipeline, otherwise))
        drawn = self._drawn(log, trial, as_asked=bool(asked))
        if drawn != exit_codes.DONE:
            return drawn
        if trial.trouble is not None:
            return exit_codes.FAILED
        return exit_codes.DONE if asked or not trial.divergences else exit_codes.FAILED

    def _drawn(self, log: Log, trial: Trial, *, as_asked: bool) -> int:
        """The diagrams that were asked for: of the log with its divergences, or of what would have been."""
        picture: Path | None = self.args.svg
        again = trial.replayed.again if as_asked and trial.replayed is not None else None
        drawn, divergences = (log, trial.divergences) if again is None else (again, ())
        if self.args.marbles and not self.args.json:
            self.show.drawing(lambda width, colour: terminal(drawn, divergences, width=width, colour=colour))
        if picture is not None:
            try:
                picture.write_text(svg(drawn, divergences), encoding="utf-8")
            except OSError as error:
                return self.show.unusable(f"{picture}: cannot be written: {error.strerror or error}")
            self.show.note(t("replay.drawn", path=picture))
        return exit_codes.DONE

    def in_other_orders(self, file: LogFile, log: Log) -> int:
        """Try the orders asked for; the first that fails is shown and written. The exit code is 1 if there is one."""
        args, show = self.args, self.show

        def run(tried: Log) -> Trial:
            return run_log(tried, settings=self.settings.of(log), build=self.make())

        before = run(log)
        if before.trouble is not None:
            why = trouble(before)
            said = t("replay.as_it_is", name=file.name, why=why)
            show.result(_plain(file, f"fails as it is: {why}", trial=before), said)
            return exit_codes.FAILED
        first, last = args.seed, args.seed + args.runs - 1
        for seed in range(first, last + 1):
            perturbed = reordered(log, seed, SPREAD if args.spread is None else args.spread)
            after = run(perturbed)
            if after.trouble is not None or worse(before, after):
                path = output_beside(file, args.output, f"seed-{seed}")
                write(failing(perturbed, before, after), path)
                plain = _plain(file, f"seed {seed} fails", seed=seed, trial=after, path=path)
                show.result(plain, t("replay.seed", name=file.name, seed=seed))
                if after.trouble is not None:
                    show.note(f"  {trouble(after)}")
                for each in worse(before, after):
                    show.note("  " + t("replay.worse", job=each.job, then=each.then, now=each.now, why=each.now.why))
                show.note("  " + t("replay.written", path=path))
                return exit_codes.FAILED
        one = first == last
        said = t("replay.no_order", name=file.name, seeds=first if one else f"{first}-{last}")
        seeds = f"seed {first}" if one else f"seeds {first} to {last}"
        show.result(_plain(file, f"no order makes anything worse ({seeds})"), said)
        return exit_codes.DONE


def _plain(
    file: LogFile, why: str, *, seed: int | None = None, trial: Trial | None = None, path: Path | None = None
) -> dict[str, Any]:
    result: dict[str, Any] = {"log": [plain_text(part) for part in file.parts], "reorder": True, "why": why}
    result |= {"seed": seed, "written": path and plain_text(path)}
    if trial is not None and trial.report is not None:
        result["jobs"] = {job: plain_outcome(report.outcome) for job, report in trial.report.now.items()}
    return result


SHORTEST = 0.01
"""Minimum in seconds: with zero, a wait would repeat endlessly while virtual time stands."""


class BadSetting(ValueError):
    """No program of these logs has it, or not with this value; `str()` says what there is."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The settings asked for, by the program that knows them."""

    by_program: Mapping[str, Mapping[str, float | None]]

    def of(self, log: Log) -> Mapping[str, float | None]:
        """Those that concern this log."""
        return self.by_program.get(log.header.program, {})

    @property
    def all(self) -> Mapping[str, float | None]:
        """All of them, for programs that are replayed together."""
        return {name: value for settings in self.by_program.values() for name, value in settings.items()}


def what_if(changes: Sequence[str], logs: Sequence[Log]) -> WhatIf:
    """The settings in `changes`. In the logs of one run each goes to the programs that have it; one has to."""
    by_program: dict[str, dict[str, float | None]] = {}
    for change in changes:
        name, sign, text = change.partition("=")
        if not sign or not name.strip() or not text.strip():
            raise BadSetting(f"--set {change[:60]!r}: write NAME=VALUE, such as online_timeout=60")
        unknown: dict[str, str] = {}
        for log in logs:
            try:
                by_program.setdefault(log.header.program, {})[name.strip()] = _value(log, name.strip(), text.strip())
            except _Unknown as error:
                unknown[log.header.program] = str(error)
            except UnusableLog:
                unknown[log.header.program] = "it cannot be replayed"
        if len(unknown) == len({log.header.program for log in logs}):
            raise BadSetting("--set: " + "; ".join(f"{program}: {why}" for program, why in unknown.items()))
    return WhatIf(by_program)


class _Unknown(ValueError):
    """This program has no such setting."""


def _value(log: Log, name: str, text: str) -> float | None:
    """The value, as its setting takes it."""
    try:
        policy_of(log, {name: 1.0})
    except ValueError as error:
        raise (error if isinstance(error, UnusableLog) else _Unknown(str(error))) from None
    policy = policy_of(log)
    inner = "." in name
    kind, today = _field(policy, name)
    if text == "none":
        if type(None) not in typing.get_args(kind):
            raise BadSetting(f"--set {name}: cannot be none; give a number")
        return None
    if not any(each in (int, float) for each in (kind, *typing.get_args(kind))):
        what = "a function" if callable(today) else f"{today!r} in this log"
        raise BadSetting(f"--set {name}: is {what}, and no number; only numbers can be changed")
    least = 0.0 if inner else SHORTEST
    try:
        number = int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        try:
            number = seconds(text)
        except ValueError as error:
            raise BadSetting(f"--set {name}: {text[:40]!r} {error}") from None
    if not least <= number < 1e9:
        raise BadSetting(f"--set {name}: {text[:40]!r} is not between {least:g} and 1e9")
    return number


def _field(policy: Any, name: str) -> tuple[Any, Any]:
    """The annotation and today's value of a setting."""
    first, _, rest = name.partition(".")
    hints = typing.get_type_hints(type(policy))
    first = first if first in hints else first.removesuffix("_timeout")
    value = getattr(policy, first)
    return _field(value, rest) if rest and dataclasses.is_dataclass(value) else (hints[first], value)
