"""`wakestream replay --reorder`: the same messages in other legal orders, until one makes something worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.replay_show import Show, plain_outcome, trouble
from wakestream.adapters.logs_on_disk import LogFile, output_beside, write
from wakestream.streams.event_json import plain_text
from wakestream.streams.recording import Log, UnusableLog
from wakestream.streams.reorder import SPREAD, failing, reordered, worse
from wakestream.streams.trial import Trial

Run = Callable[[Log], Trial]


def chaos(args: argparse.Namespace, file: LogFile, log: Log, run: Run, show: Show) -> int:
    """Try the orders asked for; the first that fails is printed and written. The exit code is 1 if there is one.

    `run` replays a log.
    """
    try:
        return _Chaos(args, file, log, run, show).run()
    except UnusableLog as error:
        return show.unusable(f"{file.name}: {error}")


class _Chaos:
    def __init__(self, args: argparse.Namespace, file: LogFile, log: Log, replay: Run, show: Show) -> None:
        self.file, self.log, self.replay, self.show = file, log, replay, show
        self.seeds = range(args.seed, args.seed + args.runs)
        self.spread = SPREAD if args.spread is None else args.spread
        self.output: Path | None = args.output

    def run(self) -> int:
        before = self.replay(self.log)
        if before.trouble is not None:
            return self.tell(None, before, None, f"fails as it is: {trouble(before)}")
        for seed in self.seeds:
            perturbed = reordered(self.log, seed, self.spread)
            after = self.replay(perturbed)
            if after.trouble is not None or worse(before, after):
                return self.found(seed, before, perturbed, after)
        tried = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        return self.tell(None, None, None, f"no order makes anything worse ({tried})")

    def found(self, seed: int, before: Trial, perturbed: Log, after: Trial) -> int:
        path = output_beside(self.file, self.output, f"seed-{seed}")
        write(failing(perturbed, before, after), path)
        code = self.tell(seed, after, path, f"seed {seed} fails")
        if after.trouble is not None:
            self.show.note(f"  {trouble(after)}")
        for each in worse(before, after):
            self.show.note(f"  {each.job}: {each.then} then, {each.now} now ({each.now.why})")
        self.show.note(f"  written to {path}; look at it with: wakestream replay {path}")
        return code

    def tell(self, seed: int | None, trial: Trial | None, path: Path | None, why: str) -> int:
        result: dict[str, Any] = {"log": [plain_text(part) for part in self.file.parts], "reorder": True, "why": why}
        result |= {"seed": seed, "written": None if path is None else plain_text(path)}
        if trial is not None and trial.report is not None:
            result["jobs"] = {job: plain_outcome(each.outcome) for job, each in trial.report.now.items()}
        self.show.result(result, f"{self.file.name}: {why}")
        return exit_codes.DONE if trial is None else exit_codes.FAILED
