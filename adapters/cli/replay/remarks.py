"""What a replay's reader has to know beside its result: an option that is missing, answers that may not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import units
from wakestream.streams.jobs.daemon_pipeline import OWN, own_effects
from wakestream.streams.recording.recording import Log
from wakestream.streams.replay.recorded_ports import EffectCall
from wakestream.streams.triage.replay_attempt import Trial

UNKNOWN = "MODULE:NAME"


@dataclass(frozen=True, slots=True)
class Remarks:
    """`own_effects` are those of a `pipeline` that was not given, `otherwise` is what a setting made a job ask."""

    own_effects: tuple[str, ...] = ()
    pipeline: str = UNKNOWN
    otherwise: EffectCall | None = None

    def lines(self, settings: str) -> list[str]:
        """As sentences; `settings` are those that were changed."""
        said = []
        if self.own_effects:
            said.append(t("replay.own_effects", effects=", ".join(self.own_effects), pipeline=self.pipeline))
        if self.otherwise is not None:
            ask = self.otherwise
            time = units.duration(ask.t)
            said.append(t("replay.asks", settings=settings, job=ask.job, label=ask.label, time=time))
        return said

    def plain(self) -> Mapping[str, Any]:
        """As an object, with what there is."""
        effects = {"own_effects": list(self.own_effects)} if self.own_effects else {}
        return effects if self.otherwise is None else {**effects, "asks_otherwise": asdict(self.otherwise)}


NONE = Remarks()


def remarks(log: Log, trial: Trial, named: str | None, otherwise: EffectCall | None) -> Remarks:
    """Those on one log's replay through the pipeline `named`, None where it was the standard one."""
    missing = named is None and trial.result != "same"
    pipeline = str(log.header.config.get(OWN, UNKNOWN))
    return Remarks(own_effects(log) if missing else (), pipeline, otherwise)
