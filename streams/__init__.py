"""WHAT happens: the world that a pipeline runs in, the standard pipeline, and logs. `replay.replay` runs a log again.

Each name is imported from its module when it is first used: a program pays only for what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wakestream.streams.config_json import changed, config_from, plain_config
    from wakestream.streams.daemon import Build, Daemon, job_random
    from wakestream.streams.divergence import Divergence, divergences
    from wakestream.streams.effects import recorded
    from wakestream.streams.event_json import kind, plain_event
    from wakestream.streams.hub_client import HubClient, reply_to
    from wakestream.streams.job import Direct, World, guarded, job_pipeline
    from wakestream.streams.power_machine import PowerPolicy
    from wakestream.streams.recording import (
        Header, Log, MemoryTap, Row, Tap, UnusableLog, header_line, read_log, redact, row_line, untapped,
    )
    from wakestream.streams.replay import Replayed
    from wakestream.streams.stages import Events, Stages, pipeline
    from wakestream.streams.switchboard import Switchboard
    from wakestream.streams.timeline import STAGES, stage_times
    from wakestream.streams.wire import Malformed, decode, encode

__all__ = [
    "STAGES", "Build", "Daemon", "Direct", "Divergence", "Events", "Header", "HubClient", "Log", "Malformed",
    "MemoryTap", "PowerPolicy", "Replayed", "Row", "Stages", "Switchboard", "Tap", "UnusableLog", "World", "changed",
    "config_from", "decode", "divergences", "encode", "guarded", "header_line", "job_pipeline", "job_random", "kind",
    "pipeline", "plain_config", "plain_event", "read_log", "recorded", "redact", "reply_to", "row_line",
    "stage_times", "untapped",
]

_HOMES = {
    "config_json": "changed config_from plain_config",
    "daemon": "Build Daemon job_random",
    "divergence": "Divergence divergences",
    "effects": "recorded",
    "event_json": "kind plain_event",
    "hub_client": "HubClient reply_to",
    "job": "Direct World guarded job_pipeline",
    "power_machine": "PowerPolicy",
    "recording": "Header Log MemoryTap Row Tap UnusableLog header_line read_log redact row_line untapped",
    "replay": "Replayed",
    "stages": "Events Stages pipeline",
    "switchboard": "Switchboard",
    "timeline": "STAGES stage_times",
    "wire": "Malformed decode encode",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # which would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
