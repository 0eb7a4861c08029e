"""The engines, by the names that `--engine` takes: entry points of the group `wakestream.engines`."""

from __future__ import annotations

from wakestream.adapters.engines.config import ENGINES, EngineConfig
from wakestream.operators.model.engine import Engine

DEFAULT = "ffmpeg"

installed = ENGINES.installed


def make_engine(name: str | None, config: EngineConfig) -> Engine:
    """Make an engine.

    Args:
        name: Its name, or `MODULE:FUNCTION` of a factory that is importable; None for the default.
        config: Its configuration.

    Returns:
        The engine. Nothing is started or opened yet.

    Raises:
        SettingsError: There is no such engine, it cannot be imported, or an option is wrong.
    """
    made: Engine = ENGINES.make(name or DEFAULT, config)
    return made
