"""`wakestream replay --reorder`: the same messages in other legal orders, until one makes something worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.replay.report import Show, plain_outcome, trouble
from wakestream.adapters.telemetry.recordings import LogFile, output_beside, write
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.triage.reorder import SPREAD, failing, reordered, worse
from wakestream.streams.triage.replay_attempt import Trial

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
            why = trouble(before)
            self.tell(t("replay.as_it_is", name=self.file.name, why=why), f"fails as it is: {why}", trial=before)
            return exit_codes.FAILED
        for seed in self.seeds:
            perturbed = reordered(self.log, seed, self.spread)
            after = self.replay(perturbed)
            if after.trouble is not None or worse(before, after):
                return self.found(seed, before, perturbed, after)
        first, last = str(self.seeds[0]), str(self.seeds[-1])
        one = first == last
        said = t("replay.no_order", name=self.file.name, seeds=first if one else f"{first}-{last}")
        self.tell(said, f"no order makes anything worse ({f'seed {first}' if one else f'seeds {first} to {last}'})")
        return exit_codes.DONE

    def found(self, seed: int, before: Trial, perturbed: Log, after: Trial) -> int:
        path = output_beside(self.file, self.output, f"seed-{seed}")
        write(failing(perturbed, before, after), path)
        said = t("replay.seed", name=self.file.name, seed=seed)
        self.tell(said, f"seed {seed} fails", seed=seed, trial=after, path=path)
        if after.trouble is not None:
            self.show.note(f"  {trouble(after)}")
        for each in worse(before, after):
            said = t("replay.worse", job=each.job, then=each.then, now=each.now, why=each.now.why)
            self.show.note(f"  {said}")
        self.show.note("  " + t("replay.written", path=path))
        return exit_codes.FAILED

    def tell(
        self, said: str, why: str, *, seed: int | None = None, trial: Trial | None = None, path: Path | None = None
    ) -> None:
        result: dict[str, Any] = {"log": [plain_text(part) for part in self.file.parts], "reorder": True, "why": why}
        result |= {"seed": seed, "written": None if path is None else plain_text(path)}
        if trial is not None and trial.report is not None:
            result["jobs"] = {job: plain_outcome(each.outcome) for job, each in trial.report.now.items()}
        self.show.result(result, said)
