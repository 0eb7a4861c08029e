"""`wakestream replay --reorder`: the same messages in other legal orders, until one makes something worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.replay.report import ReplayOutput, plain_outcome, trouble
from wakestream.adapters.telemetry.recordings import LogFile, output_beside, write
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.triage.reorder import SPREAD, failing, reordered, worse
from wakestream.streams.triage.replay_attempt import Trial

Run = Callable[[Log], Trial]


def chaos(args: argparse.Namespace, file: LogFile, log: Log, run: Run, show: ReplayOutput) -> int:
    """Try the orders asked for; the first that fails is printed and written. The exit code is 1 if there is one.

    `run` replays a log.
    """
    try:
        return _search(args, file, log, run, show)
    except UnusableLog as error:
        return show.unusable(f"{file.name}: {error}")


def _search(args: argparse.Namespace, file: LogFile, log: Log, run: Run, show: ReplayOutput) -> int:
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
        result["jobs"] = {job: plain_outcome(each.outcome) for job, each in trial.report.now.items()}
    return result
