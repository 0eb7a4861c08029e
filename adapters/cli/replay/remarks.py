"""Remarks on the result of a replay: an option is missing, or recorded answers may not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.config import units
from wakestream.streams.jobs.daemon_pipeline import OWN, own_effects
from wakestream.streams.recording.recording import Log
from wakestream.streams.replay.recorded_ports import EffectCall
from wakestream.streams.triage.replay_attempt import Trial

UNKNOWN = "MODULE:NAME"


@dataclass(frozen=True, slots=True)
class Remarks:
    """`own_effects` are those of a `pipeline` that was not given; `otherwise` is a call that only a setting caused."""

    own_effects: tuple[str, ...] = ()
    pipeline: str = UNKNOWN
    otherwise: EffectCall | None = None

    def lines(self, settings: str) -> list[str]:
        """As sentences; `settings` are those that were changed."""
        said = []
        if self.own_effects:
            said.append(t("replay.own_effects", effects=", ".join(self.own_effects), pipeline=self.pipeline))
        if self.otherwise is not None:
            call, time = self.otherwise, units.duration(self.otherwise.t)
            said.append(t("replay.asks", settings=settings, job=call.job, label=call.label, time=time))
        return said

    def plain(self) -> Mapping[str, Any]:
        """As an object, with what there is."""
        otherwise = self.otherwise and asdict(self.otherwise)
        parts = {"own_effects": list(self.own_effects), "asks_otherwise": otherwise}
        return {name: part for name, part in parts.items() if part}


NONE = Remarks()


def remarks(log: Log, trial: Trial, named: str | None, otherwise: EffectCall | None) -> Remarks:
    """The remarks on a replay with the pipeline `named`; None is the standard one."""
    missing = named is None and trial.result != "same"
    return Remarks(own_effects(log) if missing else (), str(log.header.config.get(OWN, UNKNOWN)), otherwise)
