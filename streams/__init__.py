"""The standard pipeline, the world it runs in, and logs. `replay.replay` runs a log again.

Each name is imported from its module when it is first used, so that a program loads only what it needs.
"""

# ruff: noqa: I001 - one name a line would bury the list
# fmt: off
from __future__ import annotations

from typing import TYPE_CHECKING

from wakestream.operators.lazy_names import lazy_names

if TYPE_CHECKING:
    from wakestream.streams.jobs.effects import recorded as recorded
    from wakestream.streams.jobs.hub_client import HubClient as HubClient
    from wakestream.streams.jobs.hub_replies import reply_to as reply_to
    from wakestream.streams.jobs.stages import guarded as guarded
    from wakestream.streams.jobs.job_runner import Daemon as Daemon, job_random as job_random
    from wakestream.streams.jobs.keyed_subject import KeyedSubject as KeyedSubject
    from wakestream.streams.jobs.stages import Stages as Stages, job_pipeline as job_pipeline, pipeline as pipeline
    from wakestream.streams.jobs.world import Build as Build, Direct as Direct, Events as Events, World as World
    from wakestream.streams.monitor.power_machine import PowerPolicy as PowerPolicy
    from wakestream.streams.protocol.wire import Malformed as Malformed, decode as decode, encode as encode
    from wakestream.streams.recording.config_json import (
        changed as changed, config_from as config_from, plain_config as plain_config,
    )
    from wakestream.streams.recording.event_json import kind as kind, plain_event as plain_event
    from wakestream.streams.recording.recording import (
        Header as Header, Log as Log, MemoryTap as MemoryTap, Row as Row, Tap as Tap, UnusableLog as UnusableLog,
        header_line as header_line, read_log as read_log, row_line as row_line, untapped as untapped,
    )
    from wakestream.streams.recording.secrets import redact as redact
    from wakestream.streams.recording.timeline import STAGES as STAGES, stage_times as stage_times
    from wakestream.streams.replay.divergence import Divergence as Divergence, divergences as divergences
    from wakestream.streams.replay.replay import Replayed as Replayed
else:  # type checkers would accept any name
    __getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
