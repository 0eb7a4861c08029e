"""The standard pipeline, the world it runs in, and logs. `replay.replay` runs a log again.

Each name is imported from its module when it is first used, so that a program loads only what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from typing import TYPE_CHECKING

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.streams.recording.config_json import changed, config_from, plain_config
    from wakestream.streams.jobs.job_runner import Daemon, job_random
    from wakestream.streams.replay.divergence import Divergence, divergences
    from wakestream.streams.jobs.effects import recorded
    from wakestream.streams.recording.event_json import kind, plain_event
    from wakestream.streams.jobs.hub_client import HubClient, reply_to
    from wakestream.streams.jobs.job import guarded
    from wakestream.streams.jobs.world import Build, Direct, Events, World
    from wakestream.streams.jobs.stages import job_pipeline
    from wakestream.streams.monitor.power_machine import PowerPolicy
    from wakestream.streams.recording.recording import (
        Header, Log, MemoryTap, Row, Tap, UnusableLog, header_line, read_log, row_line, untapped,
    )
    from wakestream.streams.replay.replay import Replayed
    from wakestream.streams.jobs.stages import Stages, pipeline
    from wakestream.streams.jobs.keyed_subject import KeyedSubject
    from wakestream.streams.recording.secrets import redact
    from wakestream.streams.recording.timeline import STAGES, stage_times
    from wakestream.streams.protocol.wire import Malformed, decode, encode

__all__ = [
    "STAGES", "Build", "Daemon", "Direct", "Divergence", "Events", "Header", "HubClient", "KeyedSubject", "Log",
    "Malformed", "MemoryTap", "PowerPolicy", "Replayed", "Row", "Stages", "Tap", "UnusableLog", "World", "changed",
    "config_from", "decode", "divergences", "encode", "guarded", "header_line", "job_pipeline", "job_random",
    "kind", "pipeline", "plain_config", "plain_event", "read_log", "recorded", "redact", "reply_to", "row_line",
    "stage_times", "untapped",
]

_HOMES = {
    "jobs.effects": "recorded",
    "jobs.hub_client": "HubClient reply_to",
    "jobs.job": "guarded",
    "jobs.world": "Build Direct Events World",
    "jobs.job_runner": "Daemon job_random",
    "jobs.keyed_subject": "KeyedSubject",
    "jobs.stages": "Stages job_pipeline pipeline",
    "monitor.power_machine": "PowerPolicy",
    "protocol.wire": "Malformed decode encode",
    "recording.config_json": "changed config_from plain_config",
    "recording.event_json": "kind plain_event",
    "recording.recording": "Header Log MemoryTap Row Tap UnusableLog header_line read_log row_line untapped",
    "recording.secrets": "redact",
    "recording.timeline": "STAGES stage_times",
    "replay.divergence": "Divergence divergences",
    "replay.replay": "Replayed",
}
if not TYPE_CHECKING:  # type checkers would accept any name
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
